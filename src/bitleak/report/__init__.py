"""From rows, curves and a summary to tables, figures and one HTML page that needs no network."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from bitleak.core.errors import StoreError
from bitleak.core.types import Row
from bitleak.report.console import compact_table, sentences
from bitleak.report.figures import draw, write_figures
from bitleak.report.headline import headline
from bitleak.report.output_folder import CONFIG, FIGURES, OURS, as_one, check_out, complete, write_atomically
from bitleak.report.page import page
from bitleak.report.power_file import PowerRow, read_power, write_power
from bitleak.report.record_exposure import Exposed, Records, VariantRecords, exposed, variant_records, write_records
from bitleak.report.results_table import ALL, Table, tabulate
from bitleak.report.row_files import RocCurve, read_curves, read_rows, write_curves, write_rows
from bitleak.report.sections.exposed_records import pictured, read_pictures, write_pictures
from bitleak.report.summary import Summary, VariantSummary, read_summary, write_summary

__all__ = [
    "Exposed",
    "PowerRow",
    "Records",
    "RocCurve",
    "Summary",
    "Table",
    "VariantRecords",
    "VariantSummary",
    "as_one",
    "check_out",
    "compact_table",
    "exposed",
    "headline",
    "pictured",
    "read_curves",
    "read_power",
    "read_rows",
    "read_summary",
    "sentences",
    "tabulate",
    "variant_records",
    "write_all",
    "write_curves",
    "write_report",
    "write_rows",
    "write_summary",
]


def write_report(folder: Path) -> None:
    """Draw the figures and the page of an audit from the files in its output folder.

    Reads `results.parquet`, `roc.parquet`, `summary.json` and, where there are such, `power.parquet` and `gallery/*`;
    writes `figures/*` and `report.html`.
    The same input gives the same bytes.

    Args:
        folder: What `bitleak audit --out` was given.

    Raises:
        StoreError: A file is missing or broken, or the summary does not fit the rows.
    """
    complete(folder)
    rows, curves, summary = read_rows(folder, target=ALL), read_curves(folder), read_summary(folder)
    pictures = read_pictures(summary.exposed, folder)
    powered = read_power(folder)
    with as_one(folder, replaced=FIGURES) as new:
        _draw_and_write(rows, curves, summary, powered, pictures, new)


def _draw_and_write(
    rows: Sequence[Row],
    curves: Sequence[RocCurve],
    summary: Summary,
    powered: Sequence[PowerRow],
    pictures: Mapping[int, bytes],
    folder: Path,
) -> None:
    table = tabulate(rows)
    _check(table, summary, folder)
    drawn = draw(table, curves, summary, powered)
    write_figures(drawn, folder)
    svgs = {name: svg for name, (svg, _) in drawn.items()}
    document = page(table, summary, svgs, powered=powered, pictures=pictures)
    write_atomically(folder / "report.html", document.encode())


def write_all(
    rows: Iterable[Row],
    curves: Iterable[RocCurve],
    summary: Summary,
    folder: Path,
    *,
    records: Records | None = None,
    powered: Sequence[PowerRow] = (),
    pictures: Mapping[int, bytes] = MappingProxyType({}),
    config: str | None = None,
) -> None:
    """Write everything that an audit leaves, as one: config, tables, curves, summary, figures and page.

    What an earlier run left in the folder and this one does not leave goes; files of other names stay.

    Args:
        rows: The results table.
        curves: The ROC curves.
        summary: What was audited and how.
        folder: Where it goes.
        records: What is said of single records; None leaves no such file.
        powered: The attacks by number of references; none leaves no such file.
        pictures: PNG of the records that the summary lists, by number.
        config: The text of `config.yaml`; None leaves no such file.

    Raises:
        StoreError: The folder cannot be written to, or the summary does not fit the rows; what was in it is as it was.
    """
    listed, all_curves = list(rows), list(curves)
    with as_one(folder, replaced=OURS) as new:
        if config is not None:
            write_atomically(new / CONFIG, config.encode())
        write_rows(listed, new)
        write_curves(all_curves, new)
        write_summary(summary, new)
        write_power(powered, new)
        write_pictures(pictures, new)
        if records is not None:
            write_records(records, new)
        _draw_and_write(listed, all_curves, summary, powered, pictures, new)


def _check(table: Table, summary: Summary, folder: Path) -> None:
    """The summary's headline must be in the table."""
    known = {(attack, kind) for attack in table.attacks for kind in table.references(attack)}
    wanted = (summary.headline_attack, summary.headline_reference)
    if wanted not in known:
        raise StoreError(
            f"{folder / 'summary.json'}: the headline is attack {wanted[0]!r} with reference {wanted[1]!r}, but "
            f"results.parquet has rows of {sorted(known)}; run `bitleak audit CONFIG --out DIR` again"
        )
