"""A page for each attack and each quantizer of the registry, from the docstrings of its module.

The docstring has the test or the algorithm, its formula (indented), its source (an arXiv number), a
paragraph "Cost ..." and one that begins "Misleading".
"""

import dataclasses
import importlib
import inspect
from types import ModuleType
from typing import Any, NamedTuple

import docstrings

from bitleak import registry

HEADS = {
    "Deviations": "Deviations from the source",
    "Ties": "Ties",
    "Cost": "Cost",
    "Memory": "Cost",
    "Misleading": "When it misleads",
    "*Weights.*": "Weights",
}
"""Headings by the first words of a paragraph."""


class Method(NamedTuple):
    """An attack or a quantizer with a page of its own."""

    name: str  # of the page
    module: ModuleType
    words: tuple[str, ...]  # of a config, for all that the module defines

    @property
    def docstring(self) -> str:
        """Docstring of the module."""
        return inspect.cleandoc(self.module.__doc__ or "")


def attacks() -> list[Method]:
    """Return the attacks, one per module: several words may share one."""
    return _methods({**registry.ATTACKS, **registry.JOINT_ATTACKS})


def quantizers() -> list[Method]:
    """Return the quantizers of the registry."""
    return _methods(registry.audit_quantizers())


def missing_parts(method: Method) -> list[str]:
    """Return the parts that the docstring of a method lacks."""
    text = method.docstring
    parts = {
        "formula": bool(docstrings.formulas(text)),
        "source": bool(docstrings.sources(text)),
        "cost": "\nCost" in text or " Cost" in text,
        "when it misleads": "\nMisleading" in text,
    }
    return [name for name, present in parts.items() if not present]


def method_page(method: Method, details: str) -> str:
    """Return the page: the summary, the docstring under headings, and the details of a config.

    Raises:
        ValueError: The docstring lacks a part that every page has.
    """
    lacking = missing_parts(method)
    if lacking:
        raise ValueError(f"{method.name}: its module's docstring lacks {', '.join(lacking)}")
    first, *rest = docstrings.paragraphs(method.docstring)
    title, _, summary = first.partition(":")
    if not summary.strip():
        title, summary = method.name, first
    summary = " ".join(summary.split())
    lines = [f"# {title}\n", f"{summary[0].upper()}{summary[1:]}\n", "## How it works\n"]
    later: dict[str, list[str]] = {}
    current = ""
    # Everything after a known head belongs to its section until the next head.
    for paragraph in rest:
        head = next((head for head in HEADS if paragraph.startswith(head)), None)
        if head is not None:
            current = HEADS[head]
            later.setdefault(current, [])
            paragraph = _without_head(paragraph, head)
        if current:
            later[current].append(docstrings.markdown(paragraph))
        else:
            lines.append(docstrings.markdown(paragraph) + "\n")
    for heading in sorted(later, key=_place):
        lines += [f"## {heading}\n", "\n\n".join(later[heading]) + "\n"]
    lines += ["## In a config\n", details]
    return "\n".join(lines)


def attack_details(method: Method) -> str:
    """Return the words of a config, the forms, and the references and records that they need."""
    from bitleak.attacks import forms_by_word

    rows = []
    for word in method.words:
        for form in forms_by_word().get(word, ()):
            needs = "reference models" if form.uses_references else "the target alone"
            if form.fewest_population > 1:
                needs += f", {form.fewest_population} population records"
            elif form.fewest_population:
                needs += ", population records"
            rows.append((f"`{word}`", f"`{form.name}`", needs, f"`{form.signal}`"))
    if not rows:
        return (
            "In a config: `joint: [[fp32, brecq-2]]`, a list of the releases that are seen together, and "
            f"`joint_attacks: [{', '.join(registry.JOINT_ATTACKS)}]`; without it, `joint` alone.\n"
        )
    heads = ("word in a config", "form, as tables name it", "needs", "signal")
    return docstrings.table(heads, rows)


def quantizer_details(method: Method) -> str:
    """Return an entry of a config, and the tables of fields and presets."""
    (word,) = method.words
    cls = registry.find(registry.audit_quantizers(), word, kind="quantizer")
    parts = [f"```yaml\nquantize:\n  - {{name: {word}, levels: [16, 4, 3]}}\n```\n"]
    parts.append(docstrings.field_table(cls))
    presets = getattr(cls, "PRESETS", {})
    if presets:
        rows = [
            (f"`{name}`", _settings(fields) or "the defaults") for name, fields in presets.items()
        ]
        parts += ["## Presets\n", docstrings.table(("`preset`", "fields"), rows)]
    return "\n".join(parts)


def pages_by_module() -> dict[str, str]:
    """Return the paths of the pages, without suffix, by the names of their modules."""
    kinds = (("attacks", attacks()), ("quantizers", quantizers()))
    paths: dict[str, str] = {}
    for kind, methods in kinds:
        for method in methods:
            paths[method.module.__name__] = f"methods/{kind}/{method.name}"
    return paths


def pages() -> dict[str, str]:
    """Return the texts of all pages by path, and an index of each kind."""
    texts: dict[str, str] = {}
    kinds = (
        ("attacks", "Attacks, a page each", attacks(), attack_details),
        ("quantizers", "Quantizers, a page each", quantizers(), quantizer_details),
    )
    for kind, title, methods, details in kinds:
        rows = []
        for method in methods:
            texts[f"methods/{kind}/{method.name}.md"] = method_page(method, details(method))
            words = ", ".join(f"`{word}`" for word in method.words)
            rows.append((f"[{words}]({method.name}.md)", _summary(method)))
        intro = docstrings.table(("name", "question" if kind == "attacks" else "idea"), rows)
        names = "\n".join(method.name for method in methods)
        toctree = f"```{{toctree}}\n:hidden:\n\n{names}\n```\n"
        overview = f"The guide to choosing among them is [{kind}](../../{kind}.md).\n"
        texts[f"methods/{kind}/index.md"] = f"# {title}\n\n{intro}\n{overview}\n{toctree}"
    return texts


def _methods(lines: dict[str, str]) -> list[Method]:
    words: dict[str, list[str]] = {}
    for word, line in lines.items():
        words.setdefault(line.partition(":")[0], []).append(word)
    methods = []
    for path, names in words.items():
        methods.append(Method(names[0], importlib.import_module(path), tuple(names)))
    return methods


def _summary(method: Method) -> str:
    first = docstrings.paragraphs(method.docstring)[0]
    text = " ".join(first.partition(":")[2].split()) or " ".join(first.split())
    return text[0].upper() + text[1:]


def _without_head(paragraph: str, head: str) -> str:
    """Return a paragraph without a head that its heading repeats, such as `Cost:`."""
    if head == "Misleading":
        return f"It misleads{paragraph.removeprefix(head)}"
    text = paragraph.removeprefix(head).removeprefix(" from the published code")
    if not text.startswith((":", ".")):
        return paragraph
    text = text[1:].lstrip()
    return text[:1].upper() + text[1:]


def _place(heading: str) -> int:
    order = ["When it misleads", "Weights", "Ties", "Deviations from the source", "Cost"]
    return order.index(heading)


def _settings(fields: Any) -> str:
    if dataclasses.is_dataclass(fields):
        fields = dataclasses.asdict(fields)
    return ", ".join(f"`{key}: {docstrings.spelling(value)}`" for key, value in fields.items())
