"""The page's tables of thresholds that an adversary can choose, and of lower bounds on epsilon."""

from bitleak.core.metric_names import EPSILON, Metric
from bitleak.core.variants import CONTROLS
from bitleak.report import format as text
from bitleak.report.page_tables import Cell, Column, PageTable, attack_cells, audited, figure_cell
from bitleak.report.results_table import Table
from bitleak.report.summary import Summary


def threshold_tables(table: Table, summary: Summary) -> list[PageTable]:
    """Make the tables of TPR, FPR and precision of the headline attack at chosen thresholds.

    There is one table per kind of reference, the headline's first, and none for a kind without such
    figures: there are too few references, or non-members, to choose a threshold on.
    """
    attack, fpr = summary.headline_attack, summary.headline_fpr
    decimals = text.tpr_decimals(fpr)
    aimed_at = f"FPR ({text.percent(fpr)} aimed at)"
    columns = [
        Column("TPR", Metric("tpr_chosen", fpr), decimals, figure_cell),
        Column(aimed_at, Metric("fpr_chosen", fpr), decimals, figure_cell),
    ]
    for prior in summary.priors:
        title = f"precision, {text.percent(prior)} members"
        columns.append(Column(title, Metric("precision", fpr, prior), decimals, figure_cell))
    header = ("variant", *[column.title for column in columns])

    tables = []
    for reference in headline_first(table, summary):
        lines = []
        for variant in audited(table):
            cells = attack_cells(table, variant, columns, attack, reference)
            if cells and str(variant) not in CONTROLS:
                lines.append((str(variant), tuple(cells)))
        if lines:
            title = f"{attack}, {text.REFERENCE_TITLES[reference]}"
            tables.append(PageTable(title, "", header, tuple(lines)))
    return tables


def headline_first(table: Table, summary: Summary) -> list[str]:
    """Return the kinds of reference of the headline attack, the headline's first."""
    kinds = table.references(summary.headline_attack)
    return sorted(kinds, key=lambda kind: kind != summary.headline_reference)


def epsilon_table(table: Table, summary: Summary) -> PageTable | None:
    """Make the table of each variant's largest lower bound on epsilon; None without bounds."""
    present: set[str] = set()
    for attack in table.attacks:
        present.update(table.references(attack))
    kinds = [kind for kind in text.REFERENCES if kind in present]
    lines = []
    for variant in audited(table):
        cells = [_largest_bound(table, str(variant), kind) for kind in kinds]
        if any(cell.main != text.DASH for cell in cells):
            lines.append((str(variant), tuple(cells)))
    header = ("variant", *[text.REFERENCE_TITLES[kind] for kind in kinds])
    return PageTable("", "", header, tuple(lines)) if lines else None


def _largest_bound(table: Table, variant: str, kind: str) -> Cell:
    """Return the bound with its attack.

    Full precision and the control are listed only under the kinds of reference that they were
    attacked with.
    """
    bounds = {}
    for attack in table.attacks:
        measure = table.cells.get((variant, attack, kind, str(EPSILON)))
        if measure is not None:
            bounds[attack] = measure.value
    if not bounds:
        return Cell(text.DASH)
    attack = max(bounds, key=bounds.__getitem__)
    return Cell(f"{bounds[attack]:.2f}", attack if bounds[attack] > 0 else "")
