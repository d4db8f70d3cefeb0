"""From rows, curves and a summary to tables, figures and one HTML page that needs no network."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from bitleak.core.errors import StoreError
from bitleak.core.output_folder import CONFIG, as_one, complete, write_atomically
from bitleak.core.types import Row
from bitleak.report.absent_figures import absence_notes
from bitleak.report.audit_files import audit_files, figure_files
from bitleak.report.conclusions import compact_table, sentences
from bitleak.report.exposure_by_variant import (
    Exposures,
    exposures_of,
    most_exposed_records,
    read_exposures,
)
from bitleak.report.figures import FigureData, ReportFigure, draw, load_figures, write_figures
from bitleak.report.headline import headline, headline_key, in_headline
from bitleak.report.influence_columns import adversary_columns
from bitleak.report.influence_file import (
    FigureKey,
    Influences,
    cluster_digests,
    figure_columns,
    read_influences,
    record_digests,
    write_influences,
)
from bitleak.report.plain_words import plain_answer
from bitleak.report.power_file import PowerRow, read_power, write_power
from bitleak.report.record_exposure import (
    Exposed,
    RecordResults,
    VariantRecords,
    exposed,
    variant_records,
    write_records,
)
from bitleak.report.results_table import ALL, Table, tabulate
from bitleak.report.row_files import (
    RocCurve,
    named_curves,
    read_curves,
    read_rows,
    write_curves,
    write_rows,
)
from bitleak.report.sections.most_exposed import pictured, read_pictures, write_pictures
from bitleak.report.summary import FileSummary, Summary, VariantSummary, read_summary, write_summary
from bitleak.report.terminal_table import terminal_table

__all__ = [
    "Exposed",
    "FigureData",
    "FigureKey",
    "FileSummary",
    "Influences",
    "PowerRow",
    "RecordResults",
    "ReportFigure",
    "RocCurve",
    "Summary",
    "Table",
    "VariantRecords",
    "VariantSummary",
    "absence_notes",
    "adversary_columns",
    "cluster_digests",
    "compact_table",
    "exposed",
    "figure_columns",
    "headline",
    "headline_key",
    "in_headline",
    "load_figures",
    "named_curves",
    "pictured",
    "plain_answer",
    "read_curves",
    "read_influences",
    "read_power",
    "read_rows",
    "read_summary",
    "record_digests",
    "sentences",
    "tabulate",
    "terminal_table",
    "variant_records",
    "write_all",
    "write_curves",
    "write_influences",
    "write_report",
    "write_rows",
    "write_summary",
]


def write_report(folder: Path, *, figures: Sequence[str] = (), pdf: bool = False) -> None:
    """Draw the figures and the page of an audit from the files in its output folder.

    Reads `results.parquet`, `roc.parquet`, `summary.json` and, if there are any, `power.parquet`
    and `gallery/*`; writes `figures/*` and `report.html`. The same input gives the same bytes.

    Args:
        folder: Output folder of an audit.
        figures: Further figures, each a `ReportFigure` as `package.module:NAME`.
        pdf: Whether to write the figures as PDF, too.

    Raises:
        StoreError: A file is missing or broken, or the summary does not fit the rows.
        ValueError: A further figure is not known, or has the name of another one.
    """
    complete(folder)
    chosen = load_figures(figures)
    rows, summary = read_rows(folder, target=ALL), read_summary(folder)
    data = FigureData(tabulate(rows), read_curves(folder), summary, read_power(folder))
    pictures = read_pictures(summary.exposed, folder)
    exposures = read_exposures(folder, most_exposed_records(summary.exposed))
    with as_one(folder, replaced=figure_files()) as new:
        _draw_and_write(data, chosen, pictures, exposures, new, pdf=pdf)


def write_all(
    rows: Iterable[Row],
    curves: Iterable[RocCurve],
    summary: Summary,
    folder: Path,
    *,
    records: RecordResults | None = None,
    powered: Sequence[PowerRow] = (),
    pictures: Mapping[int, bytes] = MappingProxyType({}),
    config: str | None = None,
    figures: Sequence[str] = (),
    influences: Influences | None = None,
) -> None:
    """Write all files of an audit together: config, tables, curves, summary, figures and page.

    Files of an earlier run in the same folder that this run does not write are removed; files of
    other names stay.

    Args:
        rows: The results table.
        curves: The ROC curves.
        summary: The audited data and models.
        folder: The output folder.
        records: The figures of single records; None = no `records.parquet`.
        powered: The attacks by number of references; empty = no `power.parquet`.
        pictures: PNG of the records that the summary lists, by number.
        config: Content of `config.yaml`; None = no such file.
        figures: Further figures, see `write_report`.
        influences: Influences of records, by which runs are compared; None = no
            `influences.parquet`.

    Raises:
        StoreError: The folder cannot be written to, or the summary does not fit the rows; its
            content is unchanged.
        ValueError: See `write_report`.
    """
    listed, all_curves, chosen = list(rows), list(curves), load_figures(figures)
    # Everything is renamed into place at the end: a killed process leaves the previous run.
    with as_one(folder, replaced=audit_files()) as new:
        if config is not None:
            write_atomically(new / CONFIG, config.encode())
        write_rows(listed, new)
        write_curves(all_curves, new)
        write_summary(summary, new)
        write_power(powered, new)
        write_pictures(pictures, new)
        if records is not None:
            write_records(records, new)
        if influences is not None:
            write_influences(influences, new)
        data = FigureData(tabulate(listed), all_curves, summary, powered)
        exposures = exposures_of(records, most_exposed_records(summary.exposed))
        _draw_and_write(data, chosen, pictures, exposures, new)


def _draw_and_write(
    data: FigureData,
    figures: Sequence[ReportFigure],
    pictures: Mapping[int, bytes],
    exposures: Exposures,
    folder: Path,
    *,
    pdf: bool = False,
) -> None:
    from bitleak.report.page import page  # here, since jinja2 takes long

    _check_headline(data.table, data.summary, folder)
    drawn = draw(data, figures, pdf=pdf)
    write_figures(drawn, folder)
    document = page(
        data.table,
        data.summary,
        drawn,
        powered=data.power,
        pictures=pictures,
        curves=data.curves,
        exposures=exposures,
    )
    write_atomically(folder / "report.html", document.encode())


def _check_headline(table: Table, summary: Summary, folder: Path) -> None:
    """Refuse a summary whose headline is not in the table."""
    headline_row = (summary.headline_attack, summary.headline_reference)
    present = set()
    for attack in table.attacks:
        for kind in table.references(attack):
            present.add((attack, kind))
    if headline_row not in present:
        attack, reference = headline_row
        raise StoreError(
            f"{folder / 'summary.json'}: the headline is attack {attack!r} with reference "
            f"{reference!r}, but results.parquet has rows of {sorted(present)}; run `bitleak audit "
            "CONFIG --out DIR` again"
        )
