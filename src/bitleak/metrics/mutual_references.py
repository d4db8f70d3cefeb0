"""Figures where every version of a target is attacked and is a reference for the other versions.

Let d_v be the distance of version v's members above its non-members. With little evidence LiRA's
scores are, up to a part that all records have in common, the target's answers times the shift that
its references show, the mean of their d; so the mean AUC over the versions goes as

    1/2 + c sum_{v != w} d_v d_w.

Each pair meets twice, once each way round: if nothing is found, the mean over the versions has
twice the variance of as many AUCs that are independent. Resampling the records of given scores
takes the references' shift for a constant, and sees one half of it. If there is something to find,
the sign of the shift is certain, an AUC does not change with its size, and resampling sees all.

So an interval is widened by the square root of 2, unless the widened interval of the AUC leaves out
1/2.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bitleak.core.types import Measure
from bitleak.metrics.estimates import Estimate
from bitleak.metrics.measures import Measures

MUTUAL_WIDENING = math.sqrt(2)

LEAST_VALUES = {"balanced_accuracy": 0.5}
"""The least that a figure's truth can be; 0 for all others."""


def on_separate_records(estimates: Sequence[Estimate]) -> tuple[Estimate, ...]:
    """Return the same figures with disjoint records, so that their errors are independent.

    Example:
        >>> area = Estimate(0.6, 0.6, 0.5, 0.7, np.array([0.1, -0.1]), "delong")
        >>> [estimate.influence.tolist() for estimate in on_separate_records([area, area])]
        [[0.1, -0.1, 0.0, 0.0], [0.0, 0.0, 0.1, -0.1]]
    """
    records = sum(len(estimate.influence) for estimate in estimates)
    separate, start = [], 0
    for estimate in estimates:
        influence, end = np.zeros(records), start + len(estimate.influence)
        influence[start:end] = estimate.influence
        separate.append(replace(estimate, influence=influence))
        start = end
    return tuple(separate)


def widen_for_mutual_references(measures: Measures) -> Measures:
    """Return the figures with intervals that allow for versions as one another's references.

    Args:
        measures: Means over the versions of targets, with intervals that resample the records;
            among them `auc`.

    Example:
        >>> figures = {"auc": Measure(0.53, 0.48, 0.58), "tpr@0.1": Measure(0.12, 0.08, 0.16)}
        >>> wide = widen_for_mutual_references(Measures({}, figures)).aggregate
        >>> round(wide["auc"].low, 4), round(wide["tpr@0.1"].high, 4)
        (0.4593, 0.1766)
        >>> clear = Measures({}, {"auc": Measure(0.6, 0.55, 0.65)})
        >>> widen_for_mutual_references(clear).aggregate["auc"].low
        0.55
    """
    targets: dict[str, list[Measure]] = {metric: [] for metric in measures.targets}
    for target in range(len(next(iter(measures.targets.values()), ()))):
        figures = {metric: row[target] for metric, row in measures.targets.items()}
        for metric, figure in _widened_near_chance(figures).items():
            targets[metric].append(figure)
    widened = {metric: tuple(row) for metric, row in targets.items()}
    return Measures(widened, _widened_near_chance(measures.aggregate))


def _widened_near_chance(figures: Mapping[str, Measure]) -> dict[str, Measure]:
    area = _widened(figures["auc"], 0.0)
    if area.low is None or area.high is None or not area.low <= 0.5 <= area.high:
        return dict(figures)
    return {name: _widened(figure, LEAST_VALUES.get(name, 0.0)) for name, figure in figures.items()}


def _widened(figure: Measure, least: float) -> Measure:
    if figure.low is None or figure.high is None:
        return figure
    low = figure.value + MUTUAL_WIDENING * (figure.low - figure.value)
    high = figure.value + MUTUAL_WIDENING * (figure.high - figure.value)
    return replace(figure, low=max(low, least), high=min(high, 1.0))
