"""Exposure of the most exposed records at every precision, for a table of the page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bitleak.report import format as text
from bitleak.report.page_tables import Cell, PageTable
from bitleak.report.record_exposure import RECORDS_SCHEMA, Exposed, RecordResults
from bitleak.report.row_files import from_parquet
from bitleak.report.sections.most_exposed import class_title

Exposures = Mapping[str, Mapping[int, float]]
"""Exposure by variant and record."""


def most_exposed_records(exposed: Exposed | None) -> list[int]:
    """Return the most exposed records at full precision."""
    return [] if exposed is None else [entry.record for entry in exposed.variants[0].most]


def exposures_of(results: RecordResults | None, records: Sequence[int]) -> Exposures:
    """Return the exposures of these records; empty without results."""
    if results is None or not records:
        return {}
    places = {int(record): index for index, record in enumerate(results.records)}
    by_variant = {}
    for entry in results.variants:
        mean = entry.exposure.mean
        by_variant[entry.variant] = {record: float(mean[places[record]]) for record in records}
    return by_variant


def read_exposures(folder: Path, records: Sequence[int]) -> Exposures:
    """Read the exposures of these records from `records.parquet`; empty if there is no such file.

    Raises:
        StoreError: The file is broken or has other columns.
    """
    path = folder / "records.parquet"
    if not records or not path.is_file():
        return {}
    lines = from_parquet(path, RECORDS_SCHEMA).select(["variant", "record", "exposure"])
    by_variant: dict[str, dict[int, float]] = {}
    import pyarrow.compute as pc  # here, since it takes long

    for line in lines.filter(pc.field("record").isin(list(records))).to_pylist():
        if line["exposure"] is not None:
            by_variant.setdefault(line["variant"], {})[line["record"]] = line["exposure"]
    return by_variant


def exposure_table(exposed: Exposed, exposures: Exposures) -> PageTable | None:
    """Make the table: a line per record, a column per variant; None without exposures."""
    if not exposures:
        return None
    lines = []
    for entry in exposed.variants[0].most:
        cells = [Cell(class_title(exposed, entry.label))]
        for values in exposures.values():
            value = values.get(entry.record)
            cells.append(Cell(text.DASH if value is None else f"{value:.3g}"))
        lines.append((str(entry.record), tuple(cells)))
    title = "The most exposed records at full precision, and their exposure at each precision"
    return PageTable(title, "", ("record", "class", *exposures), tuple(lines))
