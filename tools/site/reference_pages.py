"""The reference: public names, keys of a config, and the command line, each from the code itself."""

import dataclasses
import typing
from pathlib import Path
from typing import Any

import docstrings
import method_pages
import typer

import bitleak
from bitleak import cli, registry
from bitleak.config import (
    CalibrationConfig,
    Config,
    QuantizeConfig,
    ToolConfig,
    resolved,
    validate,
)
from bitleak.config.schema import FileConfig
from bitleak.config.validation import SECTIONS

GROUPS = {
    "Audits": ("bitleak.audit", "bitleak.core.errors"),
    "Training and quantizing": ("bitleak.train", "bitleak.quantizers", "bitleak.single_network"),
    "Data and answers": ("bitleak.core", "bitleak.data", "bitleak.query"),
    "Attacks": ("bitleak.attacks",),
    "Figures": ("bitleak.metrics",),
}
"""Groups of public names, by the modules that define them; the first that fits counts."""


CLASS_OPTIONS = """   :members:
   :special-members: __call__
   :exclude-members: uses_references, fewest_population, reads_one_signal
   :inherited-members: Exception, BaseException
"""
"""Shown parts of classes: those of every attack that only the package itself reads are left out."""


def public_names() -> dict[str, Any]:
    """Return the objects that `bitleak` exports, by name."""
    return {name: getattr(bitleak, name) for name in bitleak.__all__ if not name.startswith("_")}


def api_pages() -> dict[str, str]:
    """Return a page for each public name, and an index of them by group."""
    pages: dict[str, str] = {}
    groups: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
    explained = method_pages.pages_by_module()
    for name, value in public_names().items():
        directive = "autoclass" if isinstance(value, type) else "autofunction"
        options = CLASS_OPTIONS if directive == "autoclass" else ""
        title = f"bitleak.{name}"
        body = f".. {directive}:: bitleak.{name}\n{options}"
        more = explained.get(value.__module__)
        seen = f"\n:doc:`The method: formula, source, cost </{more}>`\n" if more else ""
        pages[f"reference/api/{name}.rst"] = f"{title}\n{'=' * len(title)}\n\n{body}{seen}"
        summary = " ".join(docstrings.paragraphs(value.__doc__ or "")[0].split())
        groups[_group(value)].append((f"[`{name}`]({name}.rst)", summary))
    lines = [
        "# Python\n",
        "All names are imported from `bitleak` itself, when they are first used.\n",
    ]
    for group, rows in groups.items():
        lines += [f"## {group}\n", docstrings.table(("name", "purpose"), rows)]
    names = "\n".join(public_names())
    lines.append(f"```{{toctree}}\n:hidden:\n\n{names}\n```\n")
    pages["reference/api/index.md"] = "\n".join(lines)
    return pages


def config_page() -> str:
    """Return the page of a config's keys: every section, its values, defaults and meaning."""
    defaults = resolved(validate({"data": {"name": "digits"}, "model": {"name": "cnn"}}))
    meanings = docstrings.field_meanings(Config)
    hints = typing.get_type_hints(Config, localns=_local_names())
    lines = [
        "# Keys of a config\n",
        "Written from the dataclasses that check a config. [Configs](../configs.md) has a whole example.\n",
    ]
    for section in SECTIONS:
        lines += [f"## `{section}`\n", _section_text(section, meanings, hints, defaults)]
    return "\n".join(lines)


def commands() -> dict[str, Any]:
    """Return the commands by name, `store export` and the like included."""
    found: dict[str, Any] = {}
    group = typer.main.get_command(cli.app)
    for name, command in group.commands.items():
        for inner, subcommand in getattr(command, "commands", {}).items():
            found[f"{name} {inner}"] = subcommand
        if not hasattr(command, "commands"):
            found[name] = command
    return found


def command_page() -> str:
    """Return the page of the command line: every command with its arguments and options."""
    lines = ["# Command line\n", f"{cli.app.info.help}\n"]
    lines.append("`bitleak --help` and `bitleak COMMAND --help` print the same.\n")
    for name, command in commands().items():
        arguments, options = [], []
        hints = typing.get_type_hints(command.callback)
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                metavar = parameter.metavar or parameter.name.upper()
                arguments.append((f"`{metavar}`", "", parameter.help or ""))
            elif "--help" not in parameter.opts:
                options.append(_option_row(parameter, hints[parameter.name]))
        usage = " ".join(["bitleak", name, "[OPTIONS]", *[row[0].strip("`") for row in arguments]])
        summary = " ".join((command.help or "").split())
        lines += [f"## `bitleak {name}`\n", f"{summary}\n", f"```text\n{usage}\n```\n"]
        if arguments or options:
            lines.append(docstrings.table(("name", "default", "meaning"), arguments + options))
    return "\n".join(lines)


def _option_row(parameter: Any, hint: Any) -> tuple[str, str, str]:
    # Flags take no value; others show the kind of value that they take.
    spellings = ", ".join(f"`{option}`" for option in parameter.opts)
    if not parameter.is_flag:
        metavar = parameter.metavar or _metavar(hint)
        spellings += f" `{metavar}`"
    default = parameter.default
    shown = "" if default in (None, False, (), []) or callable(default) else f"`{default}`"
    return spellings, shown, " ".join((parameter.help or "").split())


def _metavar(hint: Any) -> str:
    """Return the kind of value that an option takes, in capitals."""
    parts = [part for part in typing.get_args(hint) if part is not type(None)]
    kind = parts[0] if parts else hint
    kind = (typing.get_args(kind) or (kind,))[0]
    return {Path: "PATH", str: "TEXT", int: "NUMBER", float: "NUMBER"}[kind]


def _group(value: Any) -> str:
    for group, rooms in GROUPS.items():
        if value.__module__.startswith(rooms):
            return group
    raise ValueError(f"{value.__module__}.{value.__name__}: no group of the reference")


def _local_names() -> dict[str, Any]:
    from bitleak.config import TargetConfig
    from bitleak.config.canaries_section import CanariesConfig
    from bitleak.config.channels_section import ChannelsConfig

    sections = (TargetConfig, ChannelsConfig, CanariesConfig)
    return {section.__name__: section for section in sections}


def _section_text(
    section: str, meanings: dict[str, str], hints: dict[str, Any], defaults: dict[str, Any]
) -> str:
    """Return the text of one section.

    Raises:
        ValueError: The section has no meaning in the docstrings.
    """
    if section == "data":
        return _entries(registry.DATASETS, "data set") + _data_keys()
    if section == "model":
        return _entries(registry.MODELS, "model", skip=("classes", "channels", "size"))
    if section == "quantize":
        return _quantize_text()
    cls = CalibrationConfig if section == "calibration" else _dataclass_of(hints[section])
    if cls is not None:
        meaning = docstrings.paragraphs(cls.__doc__ or "")[0]
        return f"{meaning}\n\n{docstrings.field_table(cls)}"
    if section not in meanings:
        raise ValueError(f"section {section}: no meaning in the docstring of Config")
    default = defaults.get(section)
    shown = "" if default is None else f" Default: `{docstrings.spelling(default)}`."
    return f"{meanings[section]}{shown}\n"


def _dataclass_of(hint: Any) -> type | None:
    """Return the dataclass of a section's type, alone or beside None."""
    for part in typing.get_args(hint) or (hint,):
        if dataclasses.is_dataclass(part):
            return typing.cast(type, part)
    return None


def _data_keys() -> str:
    from bitleak.config import DataConfig

    keys = docstrings.field_table(DataConfig, skip=("name", "options"))
    return f"\nKeys that all data sets have:\n\n{keys}"


def _entries(lines: dict[str, str], kind: str, *, skip: tuple[str, ...] = ()) -> str:
    """Return each name of a registry's table with its fields or arguments."""
    parts = [f"`name` is one of these, and the other keys are those of the {kind}.\n"]
    for name in lines:
        value = registry.find(lines, name, kind=kind)
        parts += [f"### `name: {name}`\n", docstrings.paragraphs(value.__doc__ or "")[0] + "\n"]
        if isinstance(value, type):
            parts.append(docstrings.field_table(value) if dataclasses.fields(value) else "")
        else:
            parts.append(docstrings.argument_table(value, skip=skip))
    return "\n".join(parts)


def _quantize_text() -> str:
    names = [f"[`{name}`](../methods/quantizers/{name}.md)" for name in registry.QUANTIZERS]
    own = docstrings.field_meanings(QuantizeConfig)
    rows = [(f"`{key}`", own[key]) for key in ("name", "label", "levels", "preset", "calibration")]
    rows.insert(
        3,
        ("`bits`", "Precisions as base-2 logarithms, such as `[4, 2, 1.58]`, instead of `levels`."),
    )
    tools = ", ".join(f"`{name}`" for name in registry.TOOLS)
    return "\n".join(
        [
            "A list with an entry per quantizer; an entry with several `levels` stands for a variant each.\n",
            docstrings.table(("key", "meaning"), rows),
            f"Further keys are the fields of the quantizer: {', '.join(names)}.\n",
            f"### `name: tool`\n\nTools in the package: {tools} ([files](../files.md)).\n",
            docstrings.field_table(ToolConfig),
            "### `name: file`\n",
            docstrings.field_table(FileConfig),
        ]
    )
