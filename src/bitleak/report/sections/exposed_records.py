"""The page's part about single records: the most and the least exposed, with their pictures where there are any."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bitleak.report import format as text
from bitleak.report.output_folder import write_atomically
from bitleak.report.page_tables import Cell, Grid
from bitleak.report.record_exposure import SHOWN, Exposed, ExposedRecord, ExposedVariant

FOLDER = "gallery"
"""Where the pictures of the listed records are, as `RECORD.png`."""


@dataclass(frozen=True)
class Picture:
    """One record of the gallery.

    Attributes:
        record: Its number.
        title: What is printed below it.
        source: The picture as a data URI.
    """

    record: int
    title: str
    source: str


def pictured(exposed: Exposed) -> list[int]:
    """The records that the page has pictures of: both ends at full precision."""
    full = exposed.variants[0]
    return [one.record for one in (*full.most, *full.least)]


def write_pictures(pictures: Mapping[int, bytes], folder: Path) -> None:
    """Write `gallery/RECORD.png`; pictures of an earlier run into the same folder go.

    Raises:
        StoreError: The folder cannot be written to.
    """
    for old in (folder / FOLDER).glob("*.png"):
        if old.stem not in map(str, pictures):
            old.unlink()
    for record, png in pictures.items():
        write_atomically(folder / FOLDER / f"{record}.png", png)


def read_pictures(exposed: Exposed | None, folder: Path) -> dict[int, bytes]:
    """The pictures that there are of the listed records."""
    paths = {} if exposed is None else {record: folder / FOLDER / f"{record}.png" for record in pictured(exposed)}
    return {record: path.read_bytes() for record, path in paths.items() if path.is_file()}


def strips(exposed: Exposed, pictures: Mapping[int, bytes]) -> list[tuple[str, list[Picture]]]:
    """The most and the least exposed records at full precision, with their pictures; none where there are none."""
    full = exposed.variants[0]
    ends = (("Most exposed", full.most), ("Least exposed", full.least))
    found = [(title, [_picture(exposed, one, pictures[one.record]) for one in some if one.record in pictures])
             for title, some in ends]  # fmt: skip
    return [(title, shown) for title, shown in found if shown]


def record_grids(exposed: Exposed) -> list[Grid]:
    """What became of the order in every variant, the records at both ends at full precision, and the classes."""
    return [grid for grid in (_variants(exposed), *_ends(exposed), _classes(exposed)) if grid.lines]


def label_of(exposed: Exposed, label: int | None) -> str:
    """The class by name, or by number where it has none."""
    if label is None:
        return text.DASH
    return exposed.class_names[label] if label < len(exposed.class_names) else str(label)


def _variants(exposed: Exposed) -> Grid:
    header = ("variant", "references", "mean exposure", "change from fp32", "order kept (rank correlation)",
              f"of fp32's {SHOWN} most exposed still among the {SHOWN}", "reliability of the order",
              "mean memorisation")  # fmt: skip
    lines = tuple((one.variant, _variant_cells(one)) for one in exposed.variants)
    return Grid("Exposure and memorisation by variant", "", header, lines)


def _variant_cells(one: ExposedVariant) -> tuple[Cell, ...]:
    return (
        Cell(one.reference or text.DASH),
        Cell(f"{one.mean:.3g}"),
        Cell(text.DASH if one.mean_change is None else f"{one.mean_change:+.3g}"),
        Cell(_decimals(one.rank_correlation)),
        Cell(text.DASH if one.kept is None else str(one.kept)),
        Cell(_decimals(one.reliability)),
        Cell(_decimals(one.memorisation, 3)),
    )


def _ends(exposed: Exposed) -> list[Grid]:
    full = exposed.variants[0]
    header = ("record", "class", "exposure", "deviation over targets", "targets trained on it", "memorisation")
    grids = []
    for title, some in (("The most exposed records at full precision", full.most),
                        ("The least exposed records at full precision", full.least)):  # fmt: skip
        lines = tuple((str(one.record), _record_cells(exposed, one)) for one in some)
        grids.append(Grid(title, "", header, lines))
    return grids


def _record_cells(exposed: Exposed, one: ExposedRecord) -> tuple[Cell, ...]:
    return (
        Cell(label_of(exposed, one.label)),
        Cell(f"{one.exposure:.3g}"),
        Cell(text.DASH if one.std is None else f"{one.std:.3g}"),
        Cell(str(one.targets)),
        Cell(_decimals(one.memorisation, 3)),
    )


def _classes(exposed: Exposed) -> Grid:
    header = ("class", "mean exposure", "most exposed records", "least exposed records")
    lines = [
        (
            label_of(exposed, one.label),
            (Cell(f"{one.mean:.3g}"), *[Cell(", ".join(map(str, some))) for some in (one.most, one.least)]),
        )
        for one in sorted(exposed.classes, key=lambda one: -one.mean)
    ]
    return Grid("By class, at full precision, the most exposed first", "", header, tuple(lines))


def _picture(exposed: Exposed, one: ExposedRecord, png: bytes) -> Picture:
    named = "" if one.label is None else f", {label_of(exposed, one.label)}"
    title = f"{one.record}{named}: {one.exposure:.2g}"
    return Picture(one.record, title, f"data:image/png;base64,{base64.b64encode(png).decode()}")


def _decimals(value: float | None, decimals: int = 2) -> str:
    return text.DASH if value is None else f"{value:.{decimals}f}"
