"""Docstrings as Markdown: paragraphs, formulas, and the fields and arguments of their sections."""

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

SECTIONS = re.compile(
    r"^(Attributes|Args|Returns|Yields|Raises|Example|Examples|References):$", re.M
)
"""Heads of the sections of a docstring."""

ARXIV = re.compile(r"arXiv:? ?(\d{4}\.\d{4,5})")


def paragraphs(docstring: str) -> list[str]:
    r"""Return the paragraphs before the first section, formulas being paragraphs that are indented.

    Example:
        >>> paragraphs("A head.\n\n    y = x\n\nCost: 1.")
        ['A head.', '    y = x', 'Cost: 1.']
    """
    text = SECTIONS.split(inspect.cleandoc(docstring))[0]
    return [block.strip("\n") for block in re.split(r"\n\s*\n", text) if block.strip()]


def is_formula(paragraph: str) -> bool:
    """Return whether a paragraph is indented, as formulas are."""
    return all(line.startswith("    ") for line in paragraph.splitlines())


def formulas(docstring: str) -> list[str]:
    """Return the indented paragraphs of a docstring."""
    return [block for block in paragraphs(docstring) if is_formula(block)]


def sources(docstring: str) -> list[str]:
    """Return the numbers of the arXiv papers that a docstring cites, each once.

    Example:
        >>> sources("Li et al. (arXiv 2102.05426); see also arXiv 2004.10568 and arXiv 2102.05426.")
        ['2102.05426', '2004.10568']
    """
    return list(dict.fromkeys(ARXIV.findall(docstring)))


def markdown(paragraph: str) -> str:
    """Return a paragraph as Markdown: a formula as a block, papers as links."""
    if is_formula(paragraph):
        return f"```text\n{inspect.cleandoc(paragraph)}\n```"
    linked = ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", paragraph)
    return linked.replace("<", "&lt;") if "`" not in linked else linked


def section_entries(docstring: str, head: str) -> dict[str, str]:
    r"""Return the entries of a section by name, each in one line.

    Example:
        >>> section_entries("Head.\n\nArgs:\n    width: Channels\n        of a stage.\n    depth: Blocks.", "Args")
        {'width': 'Channels of a stage.', 'depth': 'Blocks.'}
    """
    parts = SECTIONS.split(inspect.cleandoc(docstring))
    entries: dict[str, str] = {}
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        if title != head:
            continue
        for entry in re.split(r"\n(?=    \S)", body):
            name, colon, meaning = entry.strip().partition(":")
            if colon and re.fullmatch(r"\*{0,2}\w+", name):
                entries[name] = " ".join(meaning.split())
    return entries


def field_meanings(cls: type) -> dict[str, str]:
    """Return the meanings of a dataclass's fields, those of its bases included."""
    meanings: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        meanings |= section_entries(base.__dict__.get("__doc__") or "", "Attributes")
    return meanings


def field_table(cls: type, *, skip: tuple[str, ...] = ()) -> str:
    """Return a dataclass's fields as a Markdown table: key, type, default, meaning.

    Raises:
        ValueError: A field has no meaning in the docstrings.
    """
    hints = typing.get_type_hints(cls)
    meanings = field_meanings(cls)
    rows = []
    for item in dataclasses.fields(cls):
        if item.name in skip:
            continue
        if item.name not in meanings:
            raise ValueError(
                f"{cls.__module__}.{cls.__name__}: no meaning of the field {item.name}"
            )
        kind = type_text(hints[item.name])
        meaning = re.sub(r"\bNone\b", "`null`", meanings[item.name])  # as a config spells it
        rows.append((f"`{item.name}`", kind, default_text(item), meaning))
    return table(("key", "values", "default", "meaning"), rows)


def argument_table(function: Callable[..., Any], *, skip: tuple[str, ...] = ()) -> str:
    """Return a function's arguments as a Markdown table: key, type, default, meaning."""
    meanings = section_entries(function.__doc__ or "", "Args")
    hints = typing.get_type_hints(function)
    rows = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in skip or name not in meanings:
            continue
        default = "" if parameter.default is parameter.empty else f"`{parameter.default}`"
        rows.append((f"`{name}`", type_text(hints[name]), default, meanings[name]))
    return table(("key", "values", "default", "meaning"), rows) if rows else ""


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table; bars in cells are escaped."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        cells = [re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def default_text(item: dataclasses.Field) -> str:
    """Return a field's default as a config spells it; empty if it must be given."""
    if item.default is not dataclasses.MISSING:
        default = item.default
    elif item.default_factory is not dataclasses.MISSING:
        default = item.default_factory()
    else:
        return ""
    return f"`{spelling(default)}`"


def spelling(value: Any) -> str:
    """Return a value as YAML spells it.

    Example:
        >>> [spelling(value) for value in (None, True, ("flip", "crop"), {}, "")]
        ['null', 'true', '[flip, crop]', '{}', '""']
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(spelling(entry) for entry in value) + "]"
    if value == "":
        return '""'
    return str(value)


def type_text(hint: Any) -> str:
    """Return a type in words: the values of a choice, or the kind of value.

    Example:
        >>> type_text(typing.Literal["a", "b"]), type_text(int | None), type_text(tuple[float, ...])
        ('`a`, `b`', 'integer', 'list of number')
    """
    plain = {int: "integer", float: "number", str: "text", bool: "`true`, `false`"}
    if hint in plain:
        return plain[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return ", ".join(f"`{spelling(value)}`" for value in arguments)
    if origin in (tuple, list):
        return f"list of {type_text(arguments[0])}"
    if arguments and origin is not None and type(None) in arguments:
        return " or ".join(type_text(part) for part in arguments if part is not type(None))
    if arguments and (str(hint).startswith("typing.Union") or "|" in str(hint)):
        return " or ".join(type_text(part) for part in arguments)
    name = getattr(origin or hint, "__name__", str(hint))
    return "mapping" if name in ("Mapping", "dict") else ("any" if name == "Any" else name)
