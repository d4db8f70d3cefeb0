"""The page's tables of AUC and TPR by number of references."""

from collections.abc import Sequence

from bitleak.core.metric_names import AUC, Metric
from bitleak.report import format as text
from bitleak.report.page_tables import Cell, PageTable, figure_cell
from bitleak.report.power_file import PowerRow
from bitleak.report.results_table import ALL
from bitleak.report.summary import Summary


def power_tables(rows: Sequence[PowerRow], summary: Summary) -> list[PageTable]:
    """Make one table per metric: attacks down, numbers of references across; none without rows."""
    fpr = summary.headline_fpr
    aggregated = [row for row in rows if row.target == ALL]
    measured = {row.metric for row in aggregated}
    tables = []
    if str(AUC) in measured:
        tables.append(_table(aggregated, AUC, "AUC", 3))
    rate = Metric("tpr", fpr)
    if str(rate) in measured:
        title = f"TPR @ {text.percent(fpr)} FPR"
        tables.append(_table(aggregated, rate, title, text.tpr_decimals(fpr)))
    return tables


def attacks_without_point(rows: Sequence[PowerRow]) -> dict[int, tuple[str, ...]]:
    """Return the attacks that need more references, by the number that was too small for them."""
    present = {(row.attack, row.references) for row in rows}
    attacks = list(dict.fromkeys(row.attack for row in rows))
    lacking = {}
    for count in _counts(rows):
        names = [attack for attack in attacks if (attack, count) not in present]
        if names:
            lacking[count] = tuple(names)
    return lacking


def _table(rows: Sequence[PowerRow], metric: Metric, title: str, decimals: int) -> PageTable:
    lines: dict[str, dict[int, Cell]] = {}
    for row in rows:
        cells = lines.setdefault(row.attack, {})
        if row.metric == str(metric):
            cells[row.references] = figure_cell(row.measure, decimals)
    counts = _counts(rows)
    missing = figure_cell(None, decimals)
    listed = []
    for attack, cells in lines.items():
        listed.append((attack, tuple(cells.get(count, missing) for count in counts)))
    header = ("attack", *[text.count(count, "reference") for count in counts])
    return PageTable(f"{title} by number of references per side", "", header, tuple(listed))


def _counts(rows: Sequence[PowerRow]) -> list[int]:
    return sorted({row.references for row in rows})
