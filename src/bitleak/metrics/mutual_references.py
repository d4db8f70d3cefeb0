"""Intervals where every version of a target is attacked and serves as a reference for the others.

Let d_v be how far version v's members lie above its non-members. Where there is little evidence, LiRA's scores are,
up to what all records have in common, the target's answers times the shift that its references show, the mean of their
d; so the mean AUC over the versions goes as 1/2 + c sum_{v != w} d_v d_w. Each pair meets twice, once each way round:
where nothing is found, the mean over the versions has twice the variance of as many AUCs that are independent.
Resampling the records of given scores takes the references' shift for a constant, and sees one half of it. Where there
is something to find, the sign of the shift is certain, an AUC does not change with its size, and resampling sees all.

So an interval is widened by the square root of 2, unless the widened interval of the AUC leaves out 1/2.

Averages over figures whose records have nothing in common.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bitleak.core.types import Measure
from bitleak.metrics.estimates import Estimate
from bitleak.metrics.measures import Measures


def on_separate_records(estimates: Sequence[Estimate]) -> tuple[Estimate, ...]:
    """The same figures on records of their own, so that their errors are independent in every average.

    Example:
        >>> one = Estimate(0.6, 0.6, 0.5, 0.7, np.array([0.1, -0.1]), "delong")
        >>> [each.influence.tolist() for each in on_separate_records([one, one])]
        [[0.1, -0.1, 0.0, 0.0], [0.0, 0.0, 0.1, -0.1]]
    """
    lengths = [len(estimate.influence) for estimate in estimates]
    ends = np.cumsum(lengths)
    found = []
    for estimate, end, length in zip(estimates, ends, lengths, strict=True):
        influence = np.zeros(ends[-1])
        influence[end - length : end] = estimate.influence
        found.append(replace(estimate, influence=influence))
    return tuple(found)


TWICE = math.sqrt(2)

LEAST = {"balanced_accuracy": 0.5}
"""The least that a figure's truth can be; 0 for all others."""


def widen_for_mutual_references(measures: Measures) -> Measures:
    """The same figures of versions that were one another's references, with intervals that allow for it.

    Args:
        measures: Means over the versions of targets, with intervals that resample the records; among them `auc`.

    Example:
        >>> found = {"auc": Measure(0.53, 0.48, 0.58), "tpr@0.1": Measure(0.12, 0.08, 0.16)}
        >>> wide = widen_for_mutual_references(Measures({}, found)).aggregate
        >>> round(wide["auc"].low, 4), round(wide["tpr@0.1"].high, 4)
        (0.4593, 0.1766)
        >>> widen_for_mutual_references(Measures({}, {"auc": Measure(0.6, 0.55, 0.65)})).aggregate["auc"].low
        0.55
    """
    aggregate = _allowed(measures.aggregate)
    count = len(next(iter(measures.targets.values()), ()))
    targets = [_allowed({name: each[number] for name, each in measures.targets.items()}) for number in range(count)]
    return Measures({name: tuple(each[name] for each in targets) for name in measures.targets}, aggregate)


def _allowed(figures: Mapping[str, Measure]) -> dict[str, Measure]:
    area = _widened(figures["auc"], 0.0)
    if area.low is None or area.high is None or not area.low <= 0.5 <= area.high:
        return dict(figures)
    return {name: _widened(figure, LEAST.get(name, 0.0)) for name, figure in figures.items()}


def _widened(figure: Measure, least: float) -> Measure:
    if figure.low is None or figure.high is None:
        return figure
    low, high = (figure.value + TWICE * (end - figure.value) for end in (figure.low, figure.high))
    return replace(figure, low=max(low, least), high=min(high, 1.0))
