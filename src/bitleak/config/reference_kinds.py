"""The section `references` of a config: the adversaries, by their reference models."""

import typing
from collections.abc import Mapping, Sequence
from typing import Any

from bitleak.config.fields import name_list
from bitleak.core.types import ReferenceKind, SplitMode

_KINDS: tuple[ReferenceKind, ...] = typing.get_args(ReferenceKind)
FEWEST_QUANTIZED = 4
"""Fewest quantized references of an adversary: two per side of every record."""
EXAMPLE_KIND = "{kind: matched, quantized: 16}"


def read_references(
    raw: Any, errors: list[str]
) -> tuple[tuple[ReferenceKind, ...], tuple[int, ...]]:
    """Return the kinds of references, and the numbers of partly quantized ones, ascending.

    Args:
        raw: The section: names of kinds, and mappings such as `{kind: matched, quantized: 16}`;
            None for all kinds.
        errors: Mistakes are added to it.

    Example:
        >>> read_references(["fp32", {"kind": "matched", "quantized": 16}], [])
        (('fp32',), (16,))
    """
    if raw is None:
        return _KINDS, ()
    entries = list(raw) if isinstance(raw, list | tuple) else [raw]
    names = [entry for entry in entries if not isinstance(entry, Mapping)]
    counts = [_count(entry, errors) for entry in entries if isinstance(entry, Mapping)]
    if counts and not names:
        errors.append(
            f"references: {EXAMPLE_KIND} comes beside the kinds of full references; add fp32, whose "
            "answers the others' are predicted from"
        )
        return _KINDS, ()
    # an unknown name is a mistake that has been added, and no kind
    named = name_list(names, "references", _KINDS, errors)
    kinds = tuple(sorted((kind for kind in _KINDS if kind in named), key=named.index))
    return kinds, tuple(sorted({count for count in counts if count}))


def _count(entry: Mapping[str, Any], errors: list[str]) -> int:
    """Return the number of quantized references of an entry; 0 if it is wrong."""
    count = entry.get("quantized")
    if set(entry) != {"kind", "quantized"} or entry["kind"] != "matched":
        errors.append(f"references: expected a kind or {EXAMPLE_KIND}, got {dict(entry)!r}")
        return 0
    if (
        isinstance(count, bool)
        or not isinstance(count, int)
        or count < FEWEST_QUANTIZED
        or count % 2
    ):
        errors.append(
            f"references: quantized must be an even number of at least {FEWEST_QUANTIZED} (they come "
            f"in pairs of complements, two per side of every record), got {count!r}"
        )
        return 0
    return count


def resolved_references(kinds: Sequence[ReferenceKind], counts: Sequence[int]) -> list[Any]:
    """Return the section with every default written out."""
    return [*kinds, *({"kind": "matched", "quantized": count} for count in counts)]


def check_quantized(
    counts: Sequence[int], mode: SplitMode, available: int, errors: list[str]
) -> None:
    """Check that every target has as many references as are to be quantized.

    Args:
        counts: Numbers of quantized references.
        mode: Mode of the splits.
        available: References of every target.
        errors: Mistakes are added to it.
    """
    if counts and mode != "population":
        errors.append(
            f"references: {EXAMPLE_KIND} needs split.mode: population, whose models are pairs of "
            "complements; shadows of dedicated targets are not"
        )
        return
    for count in counts:
        if count >= available:
            errors.append(
                f"references: quantized is {count} of {available} references; lower it, or use "
                "matched, which quantizes all"
            )
