"""The section `references` of a config: the adversaries, by their reference models."""

import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bitleak.attacks import FEWEST_QUANTIZED
from bitleak.config.fields import name_list
from bitleak.config.preset_references import EXAMPLE_PRESET
from bitleak.config.schema import QuantizeConfig, SplitConfig
from bitleak.core.checks import unknown_name
from bitleak.core.types import ReferenceKind
from bitleak.core.variants import FULL

_KINDS: tuple[ReferenceKind, ...] = typing.get_args(ReferenceKind)
EXAMPLE_KIND = "{kind: matched, quantized: 16}"
EXAMPLE_OTHER = "{kind: other, variant: rtn-4}"


class References(NamedTuple):
    """The section, read.

    Attributes:
        kinds: Kinds of references that are all alike.
        partly_quantized: Numbers of partly quantized references, ascending.
        others: Variants that references of every target are quantized as, in the file's order.
        presets: Presets by which references are quantized in place of the target's, likewise.
    """

    kinds: tuple[ReferenceKind, ...]
    partly_quantized: tuple[int, ...]
    others: tuple[str, ...]
    presets: tuple[str, ...] = ()


def read_references(raw: Any, errors: list[str]) -> References:
    """Read the section.

    Args:
        raw: Names of kinds, and mappings such as `{kind: matched, quantized: 16}`,
            `{kind: other, variant: rtn-4}` and `{kind: other, preset: quick}`; None for all kinds.
        errors: Mistakes are added to it.

    Example:
        >>> read_references(["fp32", {"kind": "matched", "quantized": 16}], [])
        References(kinds=('fp32',), partly_quantized=(16,), others=(), presets=())
        >>> read_references(["fp32", {"kind": "other", "variant": "rtn-4"}], []).others
        ('rtn-4',)
    """
    if raw is None:
        return References(_KINDS, (), ())
    entries = list(raw) if isinstance(raw, list | tuple) else [raw]
    names, counts, others, presets = [], [], [], []
    for entry in entries:
        if not isinstance(entry, Mapping):
            names.append(entry)
        elif entry.get("kind") == "other" and "preset" in entry:
            presets += _preset(entry, errors)
        elif entry.get("kind") == "other":
            others += _other(entry, errors)
        else:
            counts += _count(entry, errors)
    if (counts or others or presets) and not names:
        errors.append(
            f"references: {EXAMPLE_KIND} and {EXAMPLE_OTHER} come beside the kinds of full references; "
            "add fp32, whose answers predictions are made from and other recipes are compared with"
        )
        return References(_KINDS, (), ())
    # an unknown name is a mistake that has been added, and no kind
    named = name_list(names, "references", _KINDS, errors)
    kinds = tuple(sorted((kind for kind in _KINDS if kind in named), key=named.index))
    return References(
        kinds,
        tuple(sorted(set(counts))),
        tuple(dict.fromkeys(others)),
        tuple(dict.fromkeys(presets)),
    )


def _preset(entry: Mapping[str, Any], errors: list[str]) -> list[str]:
    """Return the preset of an entry; empty if it is wrong."""
    preset = entry.get("preset")
    if set(entry) != {"kind", "preset"} or not isinstance(preset, str):
        errors.append(f"references: expected {EXAMPLE_PRESET}, got {dict(entry)!r}")
        return []
    return [preset]


def _other(entry: Mapping[str, Any], errors: list[str]) -> list[str]:
    """Return the variant of an entry; empty if it is wrong."""
    variant = entry.get("variant")
    if set(entry) != {"kind", "variant"} or not isinstance(variant, str):
        errors.append(
            f"references: expected {EXAMPLE_OTHER} or {EXAMPLE_PRESET}, got {dict(entry)!r}"
        )
        return []
    return [variant]


def _count(entry: Mapping[str, Any], errors: list[str]) -> list[int]:
    """Return the number of quantized references of an entry; empty if it is wrong."""
    count = entry.get("quantized")
    if set(entry) != {"kind", "quantized"} or entry["kind"] != "matched":
        errors.append(
            f"references: expected a kind, {EXAMPLE_KIND} or {EXAMPLE_OTHER}, got {dict(entry)!r}"
        )
        return []
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
        return []
    return [count]


def resolved_references(
    kinds: Sequence[ReferenceKind],
    counts: Sequence[int],
    others: Sequence[str],
    presets: Sequence[str] = (),
) -> list[Any]:
    """Return the section with every default written out."""
    partly = [{"kind": "matched", "quantized": count} for count in counts]
    named = [{"kind": "other", "variant": variant} for variant in others]
    return [*kinds, *partly, *named, *({"kind": "other", "preset": preset} for preset in presets)]


def check_others(
    others: Sequence[str], entries: Sequence[QuantizeConfig], errors: list[str]
) -> None:
    """Check that references can be quantized as every named variant is.

    Args:
        others: Names of variants.
        entries: The section `quantize`.
        errors: Mistakes are added to it.
    """
    makers = {entry.variant: entry for entry in entries}
    for variant in others:
        if variant == FULL:
            errors.append(
                "references: other references at full precision are the kind fp32; write fp32"
            )
        elif variant not in makers:
            problem = (
                unknown_name("variant", variant, list(makers)) if makers else "quantize is empty"
            )
            errors.append(f"references: {EXAMPLE_OTHER} names an entry of quantize: {problem}")
        elif not makers[variant].has_matched_references:
            errors.append(
                f"references: {variant} is a file without the tool that made it, so no reference is "
                "quantized as it is; name the file's tool, or another variant"
            )
        elif len(makers) == 1:
            errors.append(
                f"references: {variant} is the only variant, for which such references are matched; write "
                "matched, or add another entry to quantize"
            )


def check_quantized(counts: Sequence[int], split: SplitConfig, errors: list[str]) -> None:
    """Check that every target has as many references as are to be quantized, in pairs of complements.

    Args:
        counts: Numbers of quantized references.
        split: The section `split`.
        errors: Mistakes are added to it.
    """
    if counts and split.mode == "dedicated" and not split.pairs:
        errors.append(
            f"references: {EXAMPLE_KIND} needs references in pairs of complements, so that any of them hold "
            "every record equally often; shadows of dedicated targets are drawn so with split.pairs: true, "
            "which draws other training sets than without"
        )
        return
    available = split.shadows if split.mode == "dedicated" else split.models - 2
    for count in counts:
        if count >= available:
            errors.append(
                f"references: quantized is {count} of {available} references; lower it, or use "
                "matched, which quantizes all"
            )
