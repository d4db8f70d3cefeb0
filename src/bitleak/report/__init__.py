"""From rows, curves and a summary to tables, figures and one HTML page that needs no network."""

from collections.abc import Iterable
from pathlib import Path

from bitleak.core.errors import StoreError
from bitleak.core.types import Row
from bitleak.report.console import compact_table, sentences
from bitleak.report.figures import draw, write_figures
from bitleak.report.files import check_out, write_atomically
from bitleak.report.headline import headline
from bitleak.report.page import page
from bitleak.report.rows import RocCurve, read_curves, read_rows, write_curves, write_rows
from bitleak.report.summary import Summary, VariantSummary, read_summary, write_summary
from bitleak.report.table import Table, tabulate

__all__ = [
    "RocCurve",
    "Summary",
    "Table",
    "VariantSummary",
    "check_out",
    "compact_table",
    "headline",
    "read_curves",
    "read_rows",
    "read_summary",
    "sentences",
    "tabulate",
    "write_all",
    "write_curves",
    "write_report",
    "write_rows",
    "write_summary",
]


def write_report(folder: Path) -> None:
    """Draw the figures and the page of an audit from the files in its output folder.

    Reads `results.parquet`, `roc.parquet` and `summary.json`; writes `figures/*` and `report.html`.
    The same input gives the same bytes.

    Args:
        folder: What `bitleak audit --out` was given.

    Raises:
        StoreError: A file is missing or broken, or the summary does not fit the rows.
    """
    table, curves, summary = tabulate(read_rows(folder)), read_curves(folder), read_summary(folder)
    _check(table, summary, folder)
    drawn = draw(table, curves, summary)
    write_figures(drawn, folder)
    write_atomically(
        folder / "report.html", page(table, summary, {name: svg for name, (svg, _) in drawn.items()}).encode()
    )


def write_all(rows: Iterable[Row], curves: Iterable[RocCurve], summary: Summary, folder: Path) -> None:
    """Write everything that an audit leaves but its config: tables, curves, summary, figures and page.

    Raises:
        StoreError: The folder cannot be written to, or the summary does not fit the rows.
    """
    write_rows(rows, folder)
    write_curves(curves, folder)
    write_summary(summary, folder)
    write_report(folder)


def _check(table: Table, summary: Summary, folder: Path) -> None:
    """The summary's headline must be in the table."""
    known = {(attack, kind) for attack in table.attacks for kind in table.references(attack)}
    wanted = (summary.headline_attack, summary.headline_reference)
    if wanted not in known:
        raise StoreError(
            f"{folder / 'summary.json'}: the headline is attack {wanted[0]!r} with reference {wanted[1]!r}, but "
            f"results.parquet has rows of {sorted(known)}; run `bitleak audit CONFIG --out DIR` again"
        )
