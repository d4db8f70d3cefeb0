"""The data of the page's script: charts, outcomes at every pair of limits, and sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from bitleak.core.metric_names import AUC, TEST_ACCURACY
from bitleak.core.variants import FULL, STRONGEST
from bitleak.report import format as text
from bitleak.report.charts import adversaries_chart, curves_chart, limits_chart
from bitleak.report.limit_grid import LimitGrid
from bitleak.report.plain_words import in_short, smallest_first, variant_bytes
from bitleak.report.release_gate import LimitCheck, data_needed
from bitleak.report.results_table import Table
from bitleak.report.row_files import RocCurve
from bitleak.report.summary import Summary

SIGNS = {"pass": "\u2713", "fail": "\u2717", "inconclusive": "?", "not evaluable": "\u2013"}
"""Sign of an outcome, which stands with its word."""

OUTCOME_TITLES = {
    "pass": "Satisfies the limits",
    "fail": "Exceeds a limit",
    "inconclusive": "Not decided by this audit",
    "not evaluable": "Not evaluable",
}
"""Outcomes of a check as the page names them."""

LETTERS = {"pass": "p", "fail": "f", "inconclusive": "i", "not evaluable": "n"}


def page_data(
    table: Table, summary: Summary, grid: LimitGrid | None, curves: Sequence[RocCurve]
) -> dict[str, Any]:
    """Return the data as JSON values.

    Args:
        table: The aggregated rows.
        summary: The audit.
        grid: The outcomes; None if there are no limits to set.
        curves: The ROC curves.
    """
    data: dict[str, Any] = {"charts": {}}
    adversaries = adversaries_chart(table, summary)
    if adversaries is not None:
        data["charts"]["adversaries"] = adversaries
    roc = curves_chart(table, curves, summary)
    if roc is not None:
        data["charts"]["curves"], data["curves"] = roc
    if grid is not None:
        data["limits"] = _limits(table, summary, grid)
        tradeoff = limits_chart(table, grid)
        if tradeoff is not None:
            data["charts"]["tradeoff"] = tradeoff
    return data


def limit_texts(grid: LimitGrid) -> tuple[list[str], list[str]]:
    """Return the limits on loss and on leakage as people read them."""
    losses = [text.count_points(100 * loss) for loss in grid.losses]
    if all(round(1000 * limit, 6) % 1 == 0 for limit in grid.leakages):
        return losses, [f"{100 * limit:.1f} %" for limit in grid.leakages]
    return losses, [text.percent(round(limit, 5)) for limit in grid.leakages]


def check_arguments(grid: LimitGrid) -> dict[str, str]:
    """Return the arguments of `bitleak check` besides the limits, by the place they have."""
    adversary = (
        "" if grid.attack == STRONGEST else "/".join(filter(None, (grid.attack, grid.reference)))
    )
    return {
        "metric": grid.metric,
        "adversary": f" --adversary {adversary}" if adversary else "",
        "variant": f" --variant {FULL}" if grid.variants == (FULL,) else "",
    }


def groups_at(
    table: Table, summary: Summary, grid: LimitGrid, loss: int, leakage: int
) -> Mapping[str, list[str]]:
    """Return the variants by outcome at a pair of limits, the smallest first."""
    groups: dict[str, list[str]] = {outcome: [] for outcome in LETTERS}
    for index in order_of_size(table, summary, grid):
        groups[grid.decisions[loss][leakage][index].outcome].append(grid.variants[index])
    return groups


def order_of_size(table: Table, summary: Summary, grid: LimitGrid) -> list[int]:
    """Return the indices of the variants, the smallest first."""
    if not table.quantized:
        return list(range(len(grid.variants)))
    return [grid.variants.index(str(variant)) for variant in smallest_first(table, summary)]


def _limits(table: Table, summary: Summary, grid: LimitGrid) -> dict[str, Any]:
    # One entry per variant: its outcome at every pair of limits, a letter each.
    losses, leakages = limit_texts(grid)
    quantized = {str(variant): variant for variant in table.quantized}
    variants = []
    for index, name in enumerate(grid.variants):
        size = variant_bytes(table, summary, name)
        variant = quantized.get(name)
        outcomes = []
        for by_leakage in grid.decisions:
            outcomes.append("".join(LETTERS[place[index].outcome] for place in by_leakage))
        variants.append(
            {
                "name": name,
                "size": "" if size is None else text.size(size),
                "sentence": "" if variant is None else in_short(table, summary, variant),
                "outcomes": outcomes,
                "loss": _needs(summary, [by[0][index][0] for by in grid.checks] if losses else []),
                "leakage": _needs(summary, [place[index][-1] for place in grid.checks[0]]),
            }
        )
    # Numbers for the command, texts for people.
    return {
        "losses": [f"{loss:g}" for loss in grid.losses],
        "leakages": [f"{limit:g}" for limit in grid.leakages],
        "lossTexts": losses,
        "leakageTexts": leakages,
        "first": list(grid.first),
        "order": order_of_size(table, summary, grid),
        "check": check_arguments(grid),
        "accuracy": str(TEST_ACCURACY),
        "isAuc": grid.metric == str(AUC),
        "variants": variants,
    }


def _needs(summary: Summary, checks: Sequence[LimitCheck]) -> list[list[Any]]:
    """Return, by limit, how open it is and the data that would decide it."""
    needs: list[list[Any]] = []
    for check in checks:
        factor = min(check.factor, 1e12)
        needs.append([float(f"{factor:.9g}"), data_needed(summary, [check])])
    return needs
