"""The figures of a run that two runs are compared by, with every record's influence on them."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.core.types import Measure, Row, SplitMode
from bitleak.core.variants import FULL, NAMED, STRONGEST, question_of
from bitleak.metrics import Estimate, estimate_metrics
from bitleak.report.influence_file import FigureKey, figure_columns
from bitleak.report.results_table import ALL

FigureCell = tuple[str, str, str]
"""Variant, attack and kind of references."""

ScoresOfTarget = Callable[[FigureCell, int], Float64[np.ndarray, "records"]]
"""Returns the scores of one attack on a target, by the target's place."""


def adversary_columns(
    rows: Iterable[Row],
    named: tuple[str, str],
    scores_of: ScoresOfTarget,
    member: Bool[np.ndarray, "targets records"],
    *,
    targets: Sequence[int],
    fprs: Sequence[float],
    mode: SplitMode,
    clusters: Int64[np.ndarray, "records"] | None,
) -> dict[FigureKey, Estimate]:
    """Return the columns of the strongest adversary and of the named one, variant by variant.

    Args:
        rows: The results table.
        named: Attack and references of the pair that is named beforehand.
        scores_of: Returns the scores of an attack on one target.
        member: Membership of the targets.
        targets: Rows of the targets.
        fprs: False-positive rates.
        mode: How the targets' training sets were drawn.
        clusters: As `metrics.dense_clusters` returns them.
    """
    measures = _measures_by_cell(rows)
    columns: dict[FigureKey, Estimate] = {}
    for cell, by_metric in measures.items():
        if cell[1] != STRONGEST and not _is_named(cell, named):
            continue

        # The estimates of every target, by the pair that was chosen for it.
        estimates: list[Mapping[str, Estimate]] = []
        for place, target in enumerate(targets):
            scores = scores_of(_cell_of_target(cell, by_metric["auc"], target), place)
            of_target = estimate_metrics(
                scores[None], member[place][None], fprs=fprs, balanced=False, clusters=clusters
            )
            estimates.append({metric: figures[0] for metric, figures in of_target.items()})
        for metric in set.intersection(*(set(of_target) for of_target in estimates)):
            if metric in by_metric:
                figures = [of_target[metric] for of_target in estimates]
                columns |= figure_columns(
                    cell, metric, figures, by_metric[metric], targets=targets, mode=mode
                )
    return dict(sorted(columns.items(), key=lambda item: _order(item[0], measures)))


def _measures_by_cell(rows: Iterable[Row]) -> dict[FigureCell, dict[str, dict[str, Measure]]]:
    """Return the measures of plain variants by attack and reference, metric and target."""
    measures: dict[FigureCell, dict[str, dict[str, Measure]]] = {}
    for row in rows:
        if row.attack and question_of(row.variant, row.attack) == "plain":
            by_metric = measures.setdefault((row.variant, row.attack, row.reference), {})
            by_metric.setdefault(row.metric, {})[row.target] = row.measure
    return {cell: by_metric for cell, by_metric in measures.items() if "auc" in by_metric}


def _is_named(cell: FigureCell, named: tuple[str, str]) -> bool:
    """Whether it is the named pair; a full-precision target has the same references under all kinds."""
    variant, attack, reference = cell
    return attack == named[0] and (
        reference == named[1] or (variant == FULL and reference == FULL and named[1] != "")
    )


def _cell_of_target(cell: FigureCell, areas: Mapping[str, Measure], target: int) -> FigureCell:
    """Return the cell of the chosen pair, whose scores a target's figure is made from."""
    variant, attack, _ = cell
    if attack != STRONGEST:
        return cell
    measure = areas.get(str(target), areas[ALL])
    attack, _, reference = measure.chosen.removesuffix(f" {NAMED}").partition("/")
    return variant, attack, reference


def _order(key: FigureKey, cells: Mapping[FigureCell, object]) -> tuple[int, str, int]:
    place = list(cells).index((key.variant, key.attack, key.reference))
    return place, key.metric, int(key.target) if key.target != ALL else -1
