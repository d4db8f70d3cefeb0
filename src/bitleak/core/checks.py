"""Checks whose messages say what was expected, what came, and what to do."""

import difflib
import math
from collections.abc import Iterable

import numpy as np


def unknown_name(kind: str, name: object, known: Iterable[str]) -> str:
    """The message for a name that is not known, with the nearest known one and the full list.

    Example:
        >>> unknown_name("quantizer", "adarond", ["rtn", "adaround"])
        "unknown quantizer 'adarond': did you mean 'adaround'? Known: adaround, rtn"
    """
    names = sorted(set(known))
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    hint = f" did you mean '{near[0]}'?" if near else ""
    return f"unknown {kind} {name!r}:{hint} Known: {', '.join(names)}"


def integer_in(name: str, value: object, low: int, high: int | None = None) -> int:
    """`value` as an integer in [low, high]; `high=None` is no upper bound.

    Raises:
        ValueError: It is not an integer, or it is out of range.

    Example:
        >>> integer_in("levels", 300, 2, 256)
        Traceback (most recent call last):
        ...
        ValueError: levels must be an integer from 2 to 256, got 300
    """
    span = f"of at least {low}" if high is None else f"from {low} to {high}"
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):  # type: ignore[operator]
        raise ValueError(f"{name} must be an integer {span}, got {value!r}")
    return int(value)  # type: ignore[call-overload]


def number_in(name: str, value: object, low: int | float, high: int | float, *, ends: str = "[]") -> float:
    """`value` as a finite number in the interval; `ends` says which ends belong to it.

    Raises:
        ValueError: It is not a number, not finite, or out of range.

    Example:
        >>> number_in("fpr", 0.0, 0, 1, ends="(]")
        Traceback (most recent call last):
        ...
        ValueError: fpr must be a number in (0, 1], got 0.0
    """
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    found = float(value) if number else math.nan  # type: ignore[arg-type]
    above = found >= low if ends[0] == "[" else found > low
    below = found <= high if ends[1] == "]" else found < high
    if not (above and below and math.isfinite(found)):
        raise ValueError(f"{name} must be a number in {ends[0]}{low}, {high}{ends[1]}, got {value!r}")
    return found


def one_of(name: str, value: object, known: Iterable[str]) -> str:
    """`value` if it is one of the known names.

    Raises:
        ValueError: It is not; the message names the nearest.
    """
    names = list(known)
    if value not in names:
        raise ValueError(unknown_name(name, value, names))
    return str(value)
