"""The options of a tool, compared with its function before anything is trained.

| option | compared with |
|---|---|
| a name | the parameters of the function, and the fields of the quantizer of the tool `export` |
| a value | the parameter's type, for tools of this package |
| a name of `runtime` | the options of all runtimes, since a tool may return any kind of file |
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from bitleak import registry
from bitleak.config.fields import entry_class, section, typed_value
from bitleak.core.checks import unknown_name
from bitleak.core.outside import is_outside

EXPORT = "export"
"""Name of the tool whose options are a quantizer's too."""

GIVEN = ("network", "images", "folder")
"""Arguments of every tool."""

_SPEC = "spec"
"""Parameter that gets the network's spec, if a tool has it."""


def tool_function(call: str, where: str, errors: list[str]) -> Callable[..., Any] | None:
    """Return a tool's function, or None with the mistake added to `errors`.

    Args:
        call: A name of the registry's `TOOLS`, or `package.module:function`.
        where: Dotted name of the entry.
        errors: Mistakes are added to it.
    """
    try:
        if not is_outside(call) and call not in registry.TOOLS:
            raise ValueError(unknown_name("tool", call, registry.TOOLS))
        function: Any = registry.resolve(registry.TOOLS, call, kind="tool")
        if not callable(function):
            raise ValueError(f"tool {call!r} must be a function ({', '.join(GIVEN)})")
    except ValueError as error:
        errors.append(f"{where}.call: {error}")
        return None
    checked: Callable[..., Any] = function
    return checked


def checked_options(
    call: str,
    function: Callable[..., Any],
    options: Mapping[str, Any],
    where: str,
    errors: list[str],
) -> dict[str, Any]:
    """Return the options of a tool, a preset of its quantizer replaced by the fields.

    Args:
        call: Name of the tool.
        function: Its function.
        options: Options as given.
        where: Dotted name of the entry.
        errors: Mistakes are added to it.
    """
    place = f"{where}.options"
    if call == EXPORT:
        return _export_options(options, place, errors)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin, which states none
        return dict(options)

    # The first three are handed over by place.
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    placed = [parameter for parameter in parameters if parameter.kind in kinds]
    any_place = any(item.kind is inspect.Parameter.VAR_POSITIONAL for item in parameters)
    if len(placed) < len(GIVEN) and not any_place:
        names = ", ".join(item.name for item in placed)
        errors.append(
            f"{where}.call: tool {call!r} must be a function ({', '.join(GIVEN)}), got ({names})"
        )
        return dict(options)

    # All others are options, by name.
    by_name = [item for item in parameters if item.kind is inspect.Parameter.KEYWORD_ONLY]
    known = {item.name: item for item in [*placed[len(GIVEN) :], *by_name] if item.name != _SPEC}
    any_name = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters)
    for name in options:
        if name not in known and not any_name:
            errors.append(f"{place}.{name}: {unknown_name('option', name, known)}")
    for name, item in known.items():
        if name not in options and item.default is inspect.Parameter.empty:
            errors.append(f"{place}.{name}: missing; it has no default")
    if not is_outside(call):
        hints = typing.get_type_hints(function)
        for name, value in options.items():
            if name in known:
                typed_value(hints[name], value, f"{place}.{name}", errors)
    return dict(options)


def check_runtime_options(options: Mapping[str, Any], where: str, errors: list[str]) -> None:
    """Refuse an option that no runtime has; arguments as for `checked_options`."""
    known: dict[str, None] = {}
    for name in registry.RUNTIMES if options else ():
        kind: Any = registry.resolve(registry.RUNTIMES, name, kind="runtime")
        known.update(dict.fromkeys(field.name for field in fields(kind)))
    for name in options:
        if name not in known:
            errors.append(f"{where}.runtime.{name}: {unknown_name('option', name, known)}")


def _export_options(options: Mapping[str, Any], place: str, errors: list[str]) -> dict[str, Any]:
    """Return the options of `export`: quantizer, levels and opset, and the quantizer's fields."""
    rest = dict(options)
    name, opset, preset = (rest.pop(key, None) for key in ("quantizer", "opset", "preset"))
    if not isinstance(name, str) or not (name in registry.QUANTIZERS or is_outside(name)):
        known = ", ".join(registry.QUANTIZERS)
        got = "missing" if name is None else unknown_name("quantizer", name, registry.QUANTIZERS)
        errors.append(f"{place}.quantizer: {got}" + (f". Known: {known}" if name is None else ""))
        return dict(options)
    quantizer = entry_class(
        registry.QUANTIZERS, name, place, "quantizer", errors, members=("levels",)
    )
    if quantizer is None:
        return dict(options)
    presets = getattr(quantizer, "PRESETS", {})
    if preset is not None and preset not in presets:
        errors.append(f"{place}.preset: {unknown_name('preset', preset, presets)}")
        return dict(options)
    if "levels" not in rest:
        errors.append(f"{place}.levels: missing; it has no default")
    merged = {**presets.get(preset, {}), **rest}
    section(quantizer, merged, place, errors, also=("quantizer", "opset", "preset"))
    if opset is not None:
        typed_value(int, opset, f"{place}.opset", errors)
    stated = {} if opset is None else {"opset": opset}
    return {"quantizer": name, **stated, **merged}
