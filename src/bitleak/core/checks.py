"""Checks whose messages state the expected value, the given one, and the remedy."""

import difflib
import math
from collections.abc import Iterable

import numpy as np


def unknown_name(kind: str, name: object, known: Iterable[str]) -> str:
    """Return the message for an unknown name, with the nearest known one and the full list.

    Example:
        >>> unknown_name("quantizer", "adarond", ["rtn", "adaround"])
        "unknown quantizer 'adarond': did you mean 'adaround'? Known: adaround, rtn"
    """
    names = sorted(set(known))
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    hint = f" did you mean '{near[0]}'?" if near else ""
    return f"unknown {kind} {name!r}:{hint} Known: {', '.join(names)}"


def integer_in(name: str, value: object, low: int, high: int | None = None) -> int:
    """Return `value` as an integer in [low, high]; `high=None` is no upper bound.

    Raises:
        ValueError: It is not an integer, or it is out of range.

    Example:
        >>> integer_in("levels", 300, 2, 256)
        Traceback (most recent call last):
        ...
        ValueError: levels must be an integer from 2 to 256, got 300
    """
    span = f"of at least {low}" if high is None else f"from {low} to {high}"
    # bool is a subclass of int, but `levels: true` is a slip
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_integer or value < low or (high is not None and value > high):  # type: ignore[operator]
        raise ValueError(f"{name} must be an integer {span}, got {value!r}")
    return int(value)  # type: ignore[call-overload]


def number_in(
    name: str, value: object, low: int | float, high: int | float, *, ends: str = "[]"
) -> float:
    """Return `value` as a finite number in the interval; `ends` has a bracket per included end.

    Raises:
        ValueError: It is not a number, not finite, or out of range.

    Example:
        >>> number_in("fpr", 0.0, 0, 1, ends="(]")
        Traceback (most recent call last):
        ...
        ValueError: fpr must be a number in (0, 1], got 0.0
    """
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    number = float(value) if is_number else math.nan  # type: ignore[arg-type]
    # every comparison with NaN is false, so no number fails here too
    above = number >= low if ends[0] == "[" else number > low
    below = number <= high if ends[1] == "]" else number < high
    if not (above and below and math.isfinite(number)):
        raise ValueError(
            f"{name} must be a number in {ends[0]}{low}, {high}{ends[1]}, got {value!r}"
        )
    return number


def one_of(name: str, value: object, known: Iterable[str]) -> str:
    """Return `value` if it is one of the known names.

    Raises:
        ValueError: It is unknown; the message names the nearest.
    """
    names = list(known)
    if value not in names:
        raise ValueError(unknown_name(name, value, names))
    return str(value)


def number_array(name: str, values: object) -> np.ndarray:
    """Return scores as an array of floats: lists and integers become float64, floats stay as they are.

    Unsigned integers cannot be negated, and those of votes or ranks are scores too.

    Raises:
        ValueError: They are no real numbers.

    Example:
        >>> -number_array("scores", np.array([0, 255], np.uint8))
        array([  -0., -255.])
    """
    array = np.asarray(values)
    if array.dtype.kind in "biu":
        return array.astype(np.float64)
    if array.dtype.kind != "f":
        raise ValueError(f"{name} must be real numbers, got {array.dtype}; write astype(float)")
    return array


def truth_array(name: str, values: object) -> np.ndarray:
    """Return a membership as an array of truth values; the numbers 1 and 0 are taken for them.

    Raises:
        ValueError: There are other numbers, or texts.

    Example:
        >>> truth_array("member", [1, 0])
        array([ True, False])
        >>> truth_array("member", [1, -1])
        Traceback (most recent call last):
        ...
        ValueError: member must be True and False, or 1 and 0, got -1; write member == 1 if 1 stands for a member
    """
    array = np.asarray(values)
    if array.dtype == bool:
        return array
    if array.dtype.kind not in "iuf":
        first = repr(array.flat[0].item()) if array.size else "none"
        raise ValueError(
            f"{name} must be True and False, or 1 and 0, got {array.dtype} such as {first}; write {name} == "
            "'...' with the text of a member"
        )
    others = array[(array != 0) & (array != 1)]
    if others.size:
        raise ValueError(
            f"{name} must be True and False, or 1 and 0, got {others.flat[0].item()}; write {name} == 1 if 1 stands "
            "for a member"
        )
    return array == 1


LONGEST_LABEL = 60
"""Largest number of letters of a title or a label: more does not fit tables and figures."""

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First letters of a spreadsheet's formula, with the wide ones of Asian keyboards."""


def label_text(name: str, value: str, *, longest: int | None = LONGEST_LABEL) -> str:
    """Return `value` if tables, figures, pages and spreadsheets can show it as it is.

    Args:
        name: Name for the message.
        value: Title or label; may be empty.
        longest: Largest number of letters; None if there is no limit.

    Raises:
        ValueError: It holds a letter that is not printable (control characters, line breaks, lone
            surrogates, marks that turn the direction of writing), is too long, or begins as a
            formula does in a spreadsheet.

    Example:
        >>> label_text("label", "=1+1")
        Traceback (most recent call last):
        ...
        ValueError: label must not begin with '=', which spreadsheets take for a formula, got '=1+1'
    """
    hidden = next((letter for letter in value if not letter.isprintable()), None)
    if hidden is not None:
        raise ValueError(f"{name} must be printable text, got {hidden!a} in {value!a}")
    if longest is not None and len(value) > longest:
        raise ValueError(f"{name} must have at most {longest} letters, got {len(value)}: {value!r}")
    if value.lstrip().startswith(_FORMULA):
        first = value.lstrip()[0]
        raise ValueError(
            f"{name} must not begin with {first!r}, which spreadsheets take for a formula, got {value!r}"
        )
    return value
