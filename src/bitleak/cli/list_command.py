"""`bitleak list`: every name that a config takes."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

OUTSIDE_NOTE = (
    "Code of your own needs no entry: data, quantize, attacks, metrics and figures take package.module:Name, and a "
    "network is {name: external, factory: package.module:make}."
)


class ListedName(NamedTuple):
    """One line of the list."""

    name: str
    meaning: str = ""


def list_names() -> int:
    """List every name that a config takes: data sets, networks, quantizers, attacks and more."""
    table = Table(box=None, pad_edge=False)
    table.add_column("kind", no_wrap=True)
    table.add_column("name", no_wrap=True)
    table.add_column("meaning")
    for kind, entries in _kinds().items():
        for entry in entries:
            table.add_row(kind, entry.name, entry.meaning)
    console = Console()
    console.print(table)
    console.print(OUTSIDE_NOTE)
    return 0


def _kinds() -> dict[str, Iterator[ListedName]]:
    """Return the entries by kind, in the order of a config."""
    from bitleak import registry

    return {
        "data sets": _documented(registry.DATASETS),
        "models": _documented(registry.MODELS),
        "quantizers": _documented(registry.QUANTIZERS),
        "training": _documented(registry.TRAINED_QUANTIZERS),
        "tools": _documented(registry.TOOLS),
        "presets": _presets(),
        "attacks": _attacks(),
        "joint attacks": _documented(registry.JOINT_ATTACKS),
        "metrics": _metrics(),
        "references": _references(),
        "augmentations": _augmentations(),
        "runtimes": _documented(registry.RUNTIMES),
        "executors": _documented(registry.EXECUTORS),
        "figures": _figures(),
    }


def _documented(table: Mapping[str, str]) -> Iterator[ListedName]:
    from bitleak.registry import find

    for name in table:
        yield ListedName(name, _first_line(find(table, name, kind="entry")))


def _presets() -> Iterator[ListedName]:
    from bitleak.registry import QUANTIZERS, find

    for name in QUANTIZERS:
        for preset, fields in getattr(
            find(QUANTIZERS, name, kind="quantizer"), "PRESETS", {}
        ).items():
            values = ", ".join(f"{key} {value}" for key, value in fields.items())
            yield ListedName(preset, f"of {name}: {values or 'its defaults'}")


def _attacks() -> Iterator[ListedName]:
    """Yield each word and, if it stands for several forms or for one of another name, the forms."""
    from bitleak.attacks import forms_by_word

    for word, forms in forms_by_word().items():
        yield ListedName(word, _first_line(type(forms[0])))
        for form in forms:
            if form.name != word:
                yield ListedName(f"  {form.name}")


def _metrics() -> Iterator[ListedName]:
    from bitleak.metrics import ALWAYS_MEASURED
    from bitleak.registry import METRICS

    yield from _documented(METRICS)
    yield ListedName("", f"in every table: {', '.join(ALWAYS_MEASURED)}")


def _references() -> Iterator[ListedName]:
    yield ListedName("fp32", "references at full precision, whatever the target's precision is")
    yield ListedName("matched", "references that are quantized as the target is")
    yield ListedName(
        "{kind: matched, quantized: K}", "K of them; the others' quantized answers are predicted"
    )
    yield ListedName(
        "{kind: other, variant: NAME}", "references that are quantized as that variant is"
    )
    yield ListedName(
        "recalibrated", "references at full precision, after an affine correction of the target"
    )


def _augmentations() -> Iterator[ListedName]:
    from bitleak.data.augmentation_names import AUGMENTS

    for augment in AUGMENTS:
        yield ListedName(augment, "random, for train.augment and calibration.augment")
    for name in ("identity", "flip", "shift:DX,DY"):
        yield ListedName(name, "fixed, for query.augment")


def _figures() -> Iterator[ListedName]:
    from bitleak.report.figures import load_figures

    for figure in load_figures():
        yield ListedName(figure.name, figure.caption.partition(": ")[0].partition(". ")[0])


def _first_line(documented: Any) -> str:
    return (documented.__doc__ or "").strip().partition("\n")[0]
