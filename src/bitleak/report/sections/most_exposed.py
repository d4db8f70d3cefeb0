"""The page's part about single records: the most and the least exposed, and their pictures.

Rows of a table have their largest deviations in the place of a picture.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bitleak.core.output_folder import write_atomically
from bitleak.report import format as text
from bitleak.report.page_tables import Cell, PageTable
from bitleak.report.record_exposure import SHOWN, Exposed, ExposedRecord, ExposedVariant

FOLDER = "gallery"
"""Folder of the pictures of the listed records, each `RECORD.png`."""


BY_CLASS = "By class, at full precision, the most exposed first"
"""Title of the table of classes, which has a part of its own."""


@dataclass(frozen=True)
class Picture:
    """The picture of one record.

    Attributes:
        record: Number of the record.
        title: Text below the picture.
        source: The picture as a data URI.
    """

    record: int
    title: str
    source: str


def pictured(exposed: Exposed) -> list[int]:
    """Return the records that the page shows pictures of: both ends at full precision."""
    full = exposed.variants[0]
    return [entry.record for entry in (*full.most, *full.least)]


def write_pictures(pictures: Mapping[int, bytes], folder: Path) -> None:
    """Write `gallery/RECORD.png`, and remove the pictures of other records.

    Raises:
        StoreError: The folder cannot be written to.
    """
    names = set(map(str, pictures))
    for path in (folder / FOLDER).glob("*.png"):
        if path.stem not in names:
            path.unlink()
    for record, png in pictures.items():
        write_atomically(folder / FOLDER / f"{record}.png", png)


def read_pictures(exposed: Exposed | None, folder: Path) -> dict[int, bytes]:
    """Read the pictures of the listed records, as far as there are any."""
    pictures = {}
    for record in [] if exposed is None else pictured(exposed):
        path = folder / FOLDER / f"{record}.png"
        if path.is_file():
            pictures[record] = path.read_bytes()
    return pictures


def picture_strips(
    exposed: Exposed,
    pictures: Mapping[int, bytes],
) -> list[tuple[str, list[Picture]]]:
    """Return the pictures of both ends at full precision, with a title each; no empty ends."""
    full = exposed.variants[0]
    strips = []
    for title, records in (("Most exposed", full.most), ("Least exposed", full.least)):
        strip = []
        for entry in records:
            if entry.record in pictures:
                strip.append(_picture(exposed, entry, pictures[entry.record]))
        if strip:
            strips.append((title, strip))
    return strips


def exposure_tables(exposed: Exposed) -> list[PageTable]:
    """Return the tables of variants, of the records at both ends, and of classes."""
    full = exposed.variants[0]
    tables = [
        _variants_table(exposed),
        _records_table(exposed, "The most exposed records at full precision", full.most),
        _records_table(exposed, "The least exposed records at full precision", full.least),
        _classes_table(exposed),
    ]
    return [table for table in tables if table.lines]


def class_title(exposed: Exposed, label: int | None) -> str:
    """Return the class by name, or by number if it has none."""
    if label is None:
        return text.DASH
    named = label < len(exposed.class_names)
    return exposed.class_names[label] if named else str(label)


def _variants_table(exposed: Exposed) -> PageTable:
    header = (
        "variant",
        "references",
        "mean exposure",
        "change from fp32",
        "order kept (rank correlation)",
        f"of fp32's {SHOWN} most exposed still among the {SHOWN}",
        "reliability of the order",
        "mean memorisation",
    )
    lines = [(entry.variant, _variant_cells(entry)) for entry in exposed.variants]
    return PageTable("Exposure and memorisation by variant", "", header, tuple(lines))


def _variant_cells(entry: ExposedVariant) -> tuple[Cell, ...]:
    return (
        Cell(entry.reference or text.DASH),
        Cell(f"{entry.mean:.3g}"),
        Cell(_formatted(entry.mean_change, "+.3g")),
        Cell(_formatted(entry.rank_correlation, ".2f")),
        Cell(_formatted(entry.kept, "d")),
        Cell(_formatted(entry.reliability, ".2f")),
        Cell(_formatted(entry.memorisation, ".3f")),
    )


def _records_table(exposed: Exposed, title: str, records: Sequence[ExposedRecord]) -> PageTable:
    header = ["record", "class", "exposure", "deviation over targets", "targets trained on it",
              "memorisation"]  # fmt: skip
    # A row of a table has no picture.
    rows = dict(exposed.rows)
    if rows:
        header.append("largest deviations from the mean, in standard deviations")
    lines = []
    for entry in records:
        cells = [*_record_cells(exposed, entry)]
        if rows:
            cells.append(Cell(rows.get(entry.record, text.DASH)))
        lines.append((str(entry.record), tuple(cells)))
    return PageTable(title, "", tuple(header), tuple(lines))


def _record_cells(exposed: Exposed, entry: ExposedRecord) -> tuple[Cell, ...]:
    return (
        Cell(class_title(exposed, entry.label)),
        Cell(f"{entry.exposure:.3g}"),
        Cell(_formatted(entry.std, ".3g")),
        Cell(str(entry.targets)),
        Cell(_formatted(entry.memorisation, ".3f")),
    )


def _classes_table(exposed: Exposed) -> PageTable:
    header = ("class", "mean exposure", "most exposed records", "least exposed records")
    lines = []
    for entry in sorted(exposed.classes, key=lambda entry: -entry.mean):
        most, least = (", ".join(map(str, records)) for records in (entry.most, entry.least))
        cells = (Cell(f"{entry.mean:.3g}"), Cell(most), Cell(least))
        lines.append((class_title(exposed, entry.label), cells))
    return PageTable(BY_CLASS, "", header, tuple(lines))


def _picture(exposed: Exposed, entry: ExposedRecord, png: bytes) -> Picture:
    label = "" if entry.label is None else f", {class_title(exposed, entry.label)}"
    title = f"{entry.record}{label}: {entry.exposure:.2g}"
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return Picture(entry.record, title, source)


def _formatted(number: float | int | None, spec: str) -> str:
    return text.DASH if number is None else format(number, spec)
