"""The page's tables of thresholds that an adversary can choose, and of lower bounds on epsilon."""

from collections.abc import Sequence

from bitleak.core.types import Measure
from bitleak.report import format as text
from bitleak.report.page_tables import Cell, Grid
from bitleak.report.results_table import CONTROL, FULL, Table
from bitleak.report.summary import Summary


def chosen_grids(table: Table, summary: Summary) -> list[Grid]:
    """TPR, FPR and precision of the headline attack at chosen thresholds, one table per kind of reference.

    A kind without such figures (there are too few references, or non-members, to choose on) has no table.
    """
    attack, metric = summary.headline_attack, f"{summary.headline_fpr:g}"
    kinds = sorted(table.references(attack), key=lambda kind: kind != summary.headline_reference)
    names = [
        f"tpr_chosen@{metric}",
        f"fpr_chosen@{metric}",
        *[f"precision@{metric},prior{p:g}" for p in summary.priors],
    ]
    decimals = text.tpr_decimals(summary.headline_fpr)
    header = ("variant", "TPR", f"FPR ({text.percent(summary.headline_fpr)} aimed at)",
              *[f"precision, {text.percent(prior)} members" for prior in summary.priors])  # fmt: skip
    grids = []
    for kind in kinds:
        lines = []
        for variant in (FULL, *[one.name for one in table.quantized]):
            found = [table.find(variant, name, attack, kind) for name in names]
            if any(found):
                lines.append((variant, tuple(_cell(measure, decimals) for measure in found)))
        if lines:
            grids.append(Grid(f"{attack}, {text.REFERENCE_TITLES[kind]}", "", header, tuple(lines)))
    return grids


def epsilon_grid(table: Table, summary: Summary) -> Grid | None:
    """The largest lower bound on epsilon of every variant by every kind of reference; None where there is none."""
    kinds = [kind for kind in text.REFERENCES if any(kind in table.references(attack) for attack in table.attacks)]
    lines = []
    for variant in (FULL, *[one.name for one in table.quantized], CONTROL):
        cells = tuple(_largest(table, variant, kind) for kind in kinds)
        if any(cell.main != text.DASH for cell in cells):
            lines.append((variant, cells))
    header = ("variant", *[text.REFERENCE_TITLES[kind] for kind in kinds])
    return Grid("", "", header, tuple(lines)) if lines else None


def _largest(table: Table, variant: str, kind: str) -> Cell:
    """Full precision and the control are listed under the kinds they were attacked with only."""
    found = {attack: table.cells.get((variant, attack, kind, "epsilon")) for attack in table.attacks}
    bounds = {attack: measure.value for attack, measure in found.items() if measure is not None}
    if not bounds:
        return Cell(text.DASH)
    attack = max(bounds, key=bounds.__getitem__)
    return Cell(f"{bounds[attack]:.2f}", attack if bounds[attack] > 0 else "")


def _cell(measure: Measure | None, decimals: int) -> Cell:
    return Cell(text.value(measure, decimals), text.interval(measure, decimals))


def power_grids(rows: Sequence[tuple[str, int, str, Measure]], metrics: Sequence[tuple[str, str, int]]) -> list[Grid]:
    """One table per metric: attacks down, numbers of references across.

    Args:
        rows: Attack, references a side, metric and figure, of all targets.
        metrics: Name in the rows, title, decimals.
    """
    attacks = list(dict.fromkeys(attack for attack, *_ in rows))
    counts = sorted({count for _, count, *_ in rows})
    cells = {(attack, count, metric): measure for attack, count, metric, measure in rows}
    grids = []
    for metric, title, decimals in metrics:
        lines = [
            (attack, tuple(_cell(cells.get((attack, count, metric)), decimals) for count in counts))
            for attack in attacks
        ]
        header = ("attack", *[text.count(count, "reference") for count in counts])
        grids.append(Grid(f"{title} by number of references a side", "", header, tuple(lines)))
    return grids
