"""TPR, FPR and precision at thresholds chosen beforehand, as rows of the results table.

A target's rates at its threshold have Clopper and Pearson's exact intervals (`thresholds`).
Their means over the targets of a population are treated as every other mean: the intervals combined
with the correlation of the records' influences, which for a rate are (called - rate) / group for
the records of the group and 0 for all others; over dedicated targets by Student's t.

The precision over all targets is that of their pooled guesses, not the mean of their precisions,
which does not exist if no record is called a member (and follows from the two rates, so that each
of several targets has no precision):

    logit precision = logit prior + log mean TPR - log mean FPR,

its interval the paired one of the difference of the two logs. If one of the means is 0, there is no
reach on that scale; the two means' 97.5 % intervals are combined instead (Bonferroni), which is
cautious. So is an interval of a mean that reaches down to a rate of 0: the interval of the
precision then reaches to the end of its range.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import expit, logit

from bitleak.core.metric_names import Metric
from bitleak.core.types import Measure, SplitMode
from bitleak.metrics.estimates import Estimate
from bitleak.metrics.intervals import (
    difference_over_records,
    interval_over_targets,
    mean_over_records,
)
from bitleak.metrics.measures import TotalAndTargets
from bitleak.metrics.thresholds import AtThreshold, Rate, at_threshold, precision
from bitleak.metrics.tpr import why_unmeasurable

PRIORS = (0.01, 0.1, 0.5)
"""Shares of members that precision is reported for, unless others are named."""

WIDER = 2.241402728 / 1.959963985
"""Reach of a normal's 97.5 % interval relative to its 95 % interval."""


def measure_at_threshold(
    scores: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    thresholds: Float64[np.ndarray, "targets"],
    *,
    fpr: int | float,
    priors: Sequence[float],
    mode: SplitMode = "population",
) -> TotalAndTargets:
    """Return the metrics `tpr_chosen@FPR`, `fpr_chosen@FPR` and `precision@FPR,priorP`.

    Args:
        scores: Larger = more likely a member.
        member: The truth, for the same targets and records.
        thresholds: One per target, chosen without its membership; scores of at least this are
            called members.
        fpr: FPR that the thresholds were chosen for; it only names the metrics.
        priors: Shares of members among the records that are judged, in (0, 1).
        mode: `population`: targets share records, which are resampled; `dedicated`: t over targets.

    Raises:
        ValueError: Shapes differ, a number is NaN, or a target lacks members or non-members.

    Example:
        >>> scores = np.tile(np.arange(200.0), (2, 1))
        >>> member, thresholds = scores >= 100, np.array([90.0, 95.0])
        >>> measures = measure_at_threshold(scores, member, thresholds, fpr=0.1, priors=[0.5])
        >>> {metric: round(total.value, 3) for metric, (total, *_) in measures.items()}
        {'tpr_chosen@0.1': 1.0, 'fpr_chosen@0.1': 0.075, 'precision@0.1,prior0.5': 0.93}
    """
    alike = scores.ndim == 2 and scores.shape == member.shape and len(scores) == len(thresholds)
    if not alike or len(scores) == 0:
        raise ValueError(
            f"scores and member must be [targets records] with a threshold each, got "
            f"{scores.shape}, {member.shape} and {len(thresholds)} thresholds"
        )
    targets = list(map(at_threshold, scores, member, thresholds.tolist()))
    tprs, fprs = [], []
    for rates, truth, row in zip(targets, member, scores, strict=True):
        called = row >= rates.threshold
        tprs.append(_estimate(rates.tpr, called, truth))
        fprs.append(_estimate(rates.fpr, called, ~truth))
    mean_tpr, mean_fpr = _over_targets(tprs, mode), _over_targets(fprs, mode)
    measures: dict[str, tuple[Measure | None, ...]] = {
        str(Metric("tpr_chosen", fpr)): (_total(mean_tpr, tprs), *map(_measure, tprs)),
        str(Metric("fpr_chosen", fpr)): (_total(mean_fpr, fprs), *map(_measure, fprs)),
    }

    # one target's precision has an exact interval; several have that of their pooled guesses alone
    for prior in priors:
        metric = str(Metric("precision", fpr, prior))
        if len(targets) == 1:
            measures[metric] = (_precision(targets[0], prior),) * 2
        else:
            pooled = pooled_precision(mean_tpr, mean_fpr, prior)
            measures[metric] = (pooled, *[None] * len(targets))
    return measures


def measure_at_thresholds(
    scores: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    thresholds: Float64[np.ndarray, "targets fprs"],
    *,
    fprs: Sequence[float],
    priors: Sequence[float],
    mode: SplitMode = "population",
) -> TotalAndTargets:
    """Return `measure_at_threshold` at several FPRs.

    An FPR is left out if a target has no threshold for it (NaN) or too few non-members.
    """
    fewest = int((~member).sum(axis=1).min())
    measures: dict[str, tuple[Measure | None, ...]] = {}
    for fpr, column in zip(fprs, thresholds.T, strict=True):
        if not np.isnan(column).any() and why_unmeasurable(fpr, fewest) is None:
            rows = measure_at_threshold(scores, member, column, fpr=fpr, priors=priors, mode=mode)
            measures |= rows
    return measures


def pooled_precision(tpr: Estimate, fpr: Estimate, prior: float) -> Measure | None:
    """Return the precision at a prior from two rates; None if no record was called a member.

    Args:
        tpr: True-positive rate, with its interval and influence.
        fpr: False-positive rate on the same records.
        prior: Share of members among the records that are judged, in (0, 1).
    """
    if tpr.value == 0 and fpr.value == 0:
        return None
    if tpr.value > 0 and fpr.value > 0:
        ratio = difference_over_records(_log(tpr), _log(fpr))
        low, high = (float(expit(logit(prior) + end)) for end in (ratio.low, ratio.high))
    else:
        (tpr_low, tpr_high), (fpr_low, fpr_high) = _wider(tpr), _wider(fpr)
        low, high = _share(tpr_low, fpr_high, prior), _share(tpr_high, fpr_low, prior)
    value = _share(tpr.value, fpr.value, prior)
    return Measure(value, min(low, value), max(high, value), interval=tpr.interval)


def _over_targets(rates: Sequence[Estimate], mode: SplitMode) -> Estimate:
    mean = mean_over_records(rates)
    if mode == "dedicated" and len(rates) > 1:
        low, high = interval_over_targets(rates)
        # no influence: the two rates count as uncorrelated in the interval of their ratio
        influence = np.zeros_like(mean.influence)
        mean = replace(mean, low=low, high=high, interval="t", influence=influence)
    return replace(mean, low=max(mean.low, 0.0), high=min(mean.high, 1.0))


def _total(mean: Estimate, rates: Sequence[Estimate]) -> Measure:
    std = float(np.std([rate.value for rate in rates], ddof=1)) if len(rates) > 1 else None
    return replace(_measure(mean), std=std)


def _measure(rate: Estimate) -> Measure:
    low, high = min(rate.low, rate.value), max(rate.high, rate.value)
    return Measure(rate.value, low, high, interval=rate.interval)


def _precision(rates: AtThreshold, prior: float) -> Measure | None:
    figure = precision(rates.tpr, rates.fpr, prior)
    if figure is None:
        return None
    return Measure(figure.value, figure.low, figure.high, interval="clopper_pearson")


def _estimate(
    rate: Rate,
    called: Bool[np.ndarray, "records"],
    group: Bool[np.ndarray, "records"],
) -> Estimate:
    influence = np.where(group, called - rate.value, 0.0) / rate.records
    return Estimate(rate.value, rate.value, rate.low, rate.high, influence, "clopper_pearson")


def _log(rate: Estimate) -> Estimate:
    """Return the logarithm of a rate above 0, by the delta method, with the ends' logarithms."""
    value, high = float(np.log(rate.value)), float(np.log(max(rate.high, rate.value)))
    low = float(np.log(min(rate.low, rate.value))) if rate.low > 0 else -np.inf
    return Estimate(value, value, low, high, rate.influence / rate.value, rate.interval)


def _wider(rate: Estimate) -> tuple[float, float]:
    low = rate.value - WIDER * (rate.value - rate.low)
    return max(low, 0.0), min(rate.value + WIDER * (rate.high - rate.value), 1.0)


def _share(tpr: float, fpr: float, prior: float) -> float:
    called = prior * tpr + (1 - prior) * fpr
    return prior * tpr / called if called > 0 else 0.0
