"""The entries of the section `quantize`: quantizers, tools of other kits, and files of one network."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from bitleak import registry
from bitleak.config.fields import (
    entry_class,
    label_value,
    name_and_rest,
    plain_values,
    section,
    value_text,
)
from bitleak.config.schema import (
    FILE,
    TOOL,
    CalibrationConfig,
    FileConfig,
    QuantizeConfig,
    ToolConfig,
    levels_of,
)
from bitleak.config.tool_options import check_runtime_options, checked_options, tool_function
from bitleak.core.checks import integer_in, unknown_name
from bitleak.core.outside import bare_name, is_outside, shown_name


def read_quantizers(
    raw: Any, calibration: CalibrationConfig | None, errors: list[str]
) -> tuple[QuantizeConfig, ...]:
    """Return the section's entries, one per precision.

    Args:
        raw: The section.
        calibration: The config's own, which an entry may change.
        errors: Mistakes are added to it.
    """
    if raw is None:
        return ()
    if not isinstance(raw, list):
        errors.append(f"quantize: expected a list of quantizers, got {value_text(raw)}")
        return ()
    variants: list[QuantizeConfig] = []
    for index, entry in enumerate(raw):
        variants += read_quantizer(entry, f"quantize.{index}", calibration, errors)
    return tuple(variants)


def read_quantizer(
    raw: Any, where: str, calibration: CalibrationConfig | None, errors: list[str]
) -> list[QuantizeConfig]:
    """Return one entry, once per precision; arguments as for `read_quantizers`.

    Args:
        raw: The entry.
        where: Its dotted name, for messages.
        calibration: The config's own.
        errors: Mistakes are added to it.
    """
    name, rest = name_and_rest(
        raw, where, {**registry.audit_quantizers(), TOOL: "", FILE: ""}, errors
    )
    if name is None:
        return []
    if name == FILE:
        return _file(rest, where, calibration, errors)
    if name == TOOL:
        return _tool(rest, where, calibration, errors)
    # The entry's own keys are taken out; the others are fields of the quantizer.
    before = len(errors)
    quantizer = entry_class(
        registry.audit_quantizers(), name, where, "quantizer", errors, members=("levels",)
    )
    if quantizer is None:
        return []
    presets = getattr(quantizer, "PRESETS", {})
    levels = _levels(rest, where, errors)
    preset = rest.pop("preset", "")
    if preset and preset not in presets:
        errors.append(f"{where}.preset: {unknown_name('preset', preset, presets)}")
    own_name = shown_name(name, quantizer)
    label = label_value(rest.pop("label", own_name), f"{where}.label", errors)
    if name in registry.TRAINED_QUANTIZERS:
        calibration = _no_calibration(name, rest, where, errors)
    else:
        calibration = _calibration(rest, where, calibration, errors)
    # A wrong field is wrong at every precision, so it is reported for the first only.
    options = {**presets.get(preset, {}), **rest}
    also = ["levels", "bits", "preset", "label", "calibration"]
    scheme = (
        section(quantizer, {**options, "levels": levels[0]}, where, errors, also=also)
        if levels
        else None
    )
    if scheme is not None and is_outside(name):
        from bitleak.quantizers.outside_quantizer import (
            why_not_called,  # torch, for outside code only
        )

        reason = why_not_called(scheme)
        if reason:
            errors.append(f"{where}: {name}: {reason}")
    if len(errors) > before or calibration is None:
        return []
    fields_ = plain_values(scheme)
    del fields_["levels"]
    looks = getattr(scheme, "looks_at_images", True)
    return [
        QuantizeConfig(name, label, count, preset, fields_, calibration, looks) for count in levels
    ]


def _tool(
    rest: dict[str, Any], where: str, calibration: CalibrationConfig | None, errors: list[str]
) -> list[QuantizeConfig]:
    """Return the entry of a tool; its function is imported, and called only by the audit."""
    before = len(errors)
    calibration = _calibration(rest, where, calibration, errors)
    label = rest.pop("label", None)
    tool = section(ToolConfig, rest, where, errors, also=("label", "calibration"))
    if tool is None:
        return []
    function = tool_function(tool.call, where, errors)
    if function is not None:
        options = checked_options(tool.call, function, tool.options, where, errors)
        tool = replace(tool, options=options)
    check_runtime_options(tool.runtime, where, errors)
    label = label_value(bare_name(tool.call) if label is None else label, f"{where}.label", errors)
    if len(errors) > before or calibration is None:
        return []
    return [QuantizeConfig(TOOL, label, None, "", asdict(tool), calibration)]


def _file(
    rest: dict[str, Any], where: str, calibration: CalibrationConfig | None, errors: list[str]
) -> list[QuantizeConfig]:
    """Return the entry of a file of the target; it is opened by the audit."""
    before = len(errors)
    raw_tool, label = rest.pop("tool", None), rest.pop("label", None)
    tool: Mapping[str, Any] | None = None
    if raw_tool is not None:
        entry = {"call": raw_tool} if isinstance(raw_tool, str) else raw_tool
        if not isinstance(entry, dict):
            errors.append(f"{where}.tool: expected a tool, got {value_text(raw_tool)}")
            return []
        made = _tool(dict(entry), f"{where}.tool", calibration, errors)
        tool, calibration = (made[0].options, made[0].calibration) if made else (None, calibration)
    # References are calibrated as the tool was, unless the file's entry has a calibration.
    calibration = _calibration(rest, where, calibration, errors)
    file = section(FileConfig, rest, where, errors, also=("label", "calibration", "tool"))
    if file is None:
        return []
    if Path(file.file).suffix.lower() not in registry.RUNTIME_OF_SUFFIX:
        known = ", ".join(registry.RUNTIME_OF_SUFFIX)
        errors.append(
            f"{where}.file: expected a file that a runtime executes ({known}), got {file.file!r}"
        )
    label = label_value(Path(file.file).stem if label is None else label, f"{where}.label", errors)
    if len(errors) > before or calibration is None:
        return []
    options = {**asdict(file), "tool": tool}
    return [QuantizeConfig(FILE, label, None, "", options, calibration)]


def _calibration(
    rest: dict[str, Any], where: str, calibration: CalibrationConfig | None, errors: list[str]
) -> CalibrationConfig | None:
    """Take an entry's calibration out of it, and return it on top of the config's."""
    if "calibration" not in rest:
        return calibration
    base = asdict(calibration) if calibration else {}
    changes = rest.pop("calibration")
    merged = {**base, **changes} if isinstance(changes, dict) else changes
    made: CalibrationConfig | None = section(
        CalibrationConfig, merged, f"{where}.calibration", errors
    )
    return made


def _no_calibration(
    name: str, rest: dict[str, Any], where: str, errors: list[str]
) -> CalibrationConfig:
    """Refuse a calibration of a quantizer that trains on all members."""
    if rest.pop("calibration", None) is not None:
        errors.append(
            f"{where}.calibration: {name} trains on all members of a model; leave calibration out"
        )
    return CalibrationConfig()


def _levels(rest: dict[str, Any], where: str, errors: list[str]) -> list[int]:
    if ("levels" in rest) == ("bits" in rest):
        errors.append(
            f"{where}: expected one of levels (such as [16, 4, 3]) and bits (such as [4, 2, 1.58])"
        )
        rest.pop("levels", None), rest.pop("bits", None)
        return []
    key = "levels" if "levels" in rest else "bits"
    values = rest.pop(key)
    levels = []
    for value in values if isinstance(values, list) else [values]:
        try:
            levels.append(
                integer_in("levels", value, 2, 256) if key == "levels" else levels_of(value)
            )
        except ValueError as error:
            errors.append(f"{where}.{key}: {error}")
    if isinstance(values, list) and not values:
        errors.append(f"{where}.{key}: expected at least one precision, got an empty list")
    return levels


def resolved_quantizer(entry: QuantizeConfig) -> dict[str, Any]:
    """Return the entry of one quantizer at one precision."""
    meant = _fields_without_none(entry)
    options = {}
    for key, value in entry.options.items():
        # Null and an empty mapping are left out where they are the default.
        if value != {} and (value is not None or key in meant):
            options[key] = value
    return {
        "name": entry.name,
        **({"label": entry.label} if entry.label != entry.name else {}),
        **({} if entry.levels is None else {"levels": entry.levels}),
        **({"preset": entry.preset} if entry.preset else {}),
        **options,
        **({} if entry.is_trained else {"calibration": plain_values(asdict(entry.calibration))}),
    }


def _fields_without_none(entry: QuantizeConfig) -> set[str]:
    """Return the fields of an entry's quantizer whose default, or whose value by the preset, is not None."""
    if entry.name in (TOOL, FILE):
        return set()
    kind = registry.resolve(registry.audit_quantizers(), entry.name, kind="quantizer")
    by_default = {field.name for field in fields(kind) if field.default is not None}
    return by_default.union(getattr(kind, "PRESETS", {}).get(entry.preset, ()))
