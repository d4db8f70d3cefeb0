"""References that are quantized as a target is, but for the preset: a cheaper recipe for an adversary."""

from collections.abc import Sequence
from dataclasses import MISSING, fields, replace
from typing import Any

from bitleak import registry
from bitleak.config.fields import plain_values, section
from bitleak.config.schema import FILE, TOOL, QuantizeConfig
from bitleak.core.checks import unknown_name

EXAMPLE_PRESET = "{kind: other, preset: quick}"


def entries_by_preset(entries: Sequence[QuantizeConfig], preset: str) -> dict[str, QuantizeConfig]:
    """Return how references are quantized for each variant that a preset makes otherwise.

    Quantizer, levels, layers and calibration images are the target's. Every field that its own
    preset or the other one sets has the value of the other preset, or its default.

    Args:
        entries: The section `quantize`.
        preset: Name of the other preset.

    Returns:
        Entries by the target's variant, with the label `LABEL:PRESET`. Variants whose quantizer has
        no such preset are left out, and those that it does not change: their references are matched.

    Raises:
        ValueError: A quantizer refuses its fields together with those of the preset.
    """
    made = {}
    for entry in entries:
        presets = presets_of(entry)
        if preset not in presets:
            continue
        kind = registry.resolve(registry.audit_quantizers(), entry.name, kind="quantizer")
        options = dict(entry.options)
        for name in {**presets.get(entry.preset, {}), **presets[preset]}:
            options[name] = presets[preset].get(name, _default(kind, name))
        errors: list[str] = []
        where = f"{entry.variant} with preset {preset}"
        scheme = section(kind, {**options, "levels": entry.levels}, where, errors)
        if errors:
            raise ValueError("; ".join(errors))
        options = plain_values(scheme)
        del options["levels"]
        if options != entry.options:
            label = f"{entry.label}:{preset}"
            made[entry.variant] = replace(entry, label=label, preset=preset, options=options)
    return made


def presets_of(entry: QuantizeConfig) -> dict[str, Any]:
    """Return the presets of an entry's quantizer; empty for tools and files."""
    if entry.name in (TOOL, FILE):
        return {}
    kind = registry.resolve(registry.audit_quantizers(), entry.name, kind="quantizer")
    return dict(getattr(kind, "PRESETS", {}))


def _default(kind: Any, name: str) -> Any:
    """Return the default of a quantizer's field."""
    for item in fields(kind):
        if item.name == name:
            return item.default if item.default_factory is MISSING else item.default_factory()
    raise ValueError(f"{kind.__name__} has no field {name!r}, which a preset sets")


def check_presets(
    presets: Sequence[str], entries: Sequence[QuantizeConfig], errors: list[str]
) -> None:
    """Check that references can be quantized by every named preset.

    Args:
        presets: Names of presets.
        entries: The section `quantize`.
        errors: Mistakes are added to it.
    """
    known: dict[str, None] = {}
    for entry in entries:
        known |= dict.fromkeys(presets_of(entry))
    for preset in presets:
        if preset not in known:
            problem = (
                unknown_name("preset", preset, list(known))
                if known
                else "no entry of quantize has a quantizer with presets"
            )
            errors.append(f"references: {EXAMPLE_PRESET}: {problem}")
            continue
        if any(entry.variant == preset for entry in entries):
            errors.append(
                f"references: {preset} is a preset and a variant; give the variant a label of its own"
            )
        try:
            changed = entries_by_preset(entries, preset)
        except ValueError as error:
            errors.append(f"references: {error}; leave the preset or the field out")
            continue
        if not changed:
            errors.append(
                f"references: the preset {preset} changes no entry of quantize, so that such references are "
                "matched; write matched, or name another preset"
            )
