"""TPR, FPR and precision at thresholds chosen beforehand, as rows of the results table.

A target's rates at its threshold have Clopper and Pearson's exact intervals (`thresholds`).
Their means over the targets of a population are treated as every other mean: the intervals combined
with the correlation of the records' influences, which for a rate are (called - rate) / group for
the records of the group and 0 for all others; over dedicated targets as in `trainings`.

The precision over all targets is that of their pooled guesses, not the mean of their precisions,
which does not exist if no record is called a member (and follows from the two rates, so that each
of several targets has no precision):

    logit precision = logit prior + log mean TPR - log mean FPR,

its interval the paired one of the difference of the two logs; over dedicated targets that of the
mean of TPR / mean TPR - FPR / mean FPR (delta method). If one of the means is 0, there is no
reach on that scale; the two means' 97.5 % intervals are combined instead (Bonferroni), which is
cautious. So is an interval of a mean that reaches down to a rate of 0: the interval of the
precision then reaches to the end of its range.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import expit, logit

from bitleak.core.metric_names import Metric
from bitleak.core.types import Measure, SplitMode
from bitleak.metrics.clusters import Clusters, cluster_sums, dense_clusters
from bitleak.metrics.estimates import Estimate
from bitleak.metrics.intervals import difference_over_records, mean_over_records
from bitleak.metrics.measures import TotalAndTargets
from bitleak.metrics.thresholds import AtThreshold, Rate, at_threshold, precision
from bitleak.metrics.tpr import why_unmeasurable
from bitleak.metrics.trainings import (
    mean_over_trainings,
    reach_over_trainings,
    verdict_about,
    widening,
)

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
    clusters: Int64[np.ndarray, "records"] | None = None,
) -> TotalAndTargets:
    """Return the metrics `tpr_chosen@FPR`, `fpr_chosen@FPR` and `precision@FPR,priorP`.

    Args:
        scores: Larger = more likely a member.
        member: The truth, for the same targets and records.
        thresholds: One per target, chosen without its membership; scores of at least this are
            called members.
        fpr: FPR that the thresholds were chosen for; it only names the metrics.
        priors: Shares of members among the records that are judged, in (0, 1).
        mode: As in `measure`.
        clusters: As in `measure`.

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
    dense = dense_clusters(clusters)
    targets, tprs, fprs = [], [], []
    for row, truth, threshold in zip(scores, member, thresholds.tolist(), strict=True):
        rates = at_threshold(row, truth, threshold, dense)
        called = row >= rates.threshold
        targets.append(rates)
        tprs.append(_estimate(rates.tpr, called, truth, dense))
        fprs.append(_estimate(rates.fpr, called, ~truth, dense))
    measures: dict[str, tuple[Measure | None, ...]] = {
        str(Metric("tpr_chosen", fpr)): (_total(tprs, mode), *map(_measure, tprs)),
        str(Metric("fpr_chosen", fpr)): (_total(fprs, mode), *map(_measure, fprs)),
    }

    # one target's precision has an exact interval; several have that of their pooled guesses alone
    if len(targets) == 1:
        for prior in priors:
            measures[str(Metric("precision", fpr, prior))] = (_precision(targets[0], prior),) * 2
        return measures
    pooled = pooled_precisions(tprs, fprs, priors, mode=mode)
    for prior, of_all in zip(priors, pooled, strict=True):
        measures[str(Metric("precision", fpr, prior))] = (of_all, *[None] * len(targets))
    return measures


def measure_at_thresholds(
    scores: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    thresholds: Float64[np.ndarray, "targets fprs"],
    *,
    fprs: Sequence[float],
    priors: Sequence[float],
    mode: SplitMode = "population",
    clusters: Int64[np.ndarray, "records"] | None = None,
) -> TotalAndTargets:
    """Return `measure_at_threshold` at several FPRs.

    An FPR is left out if a target has no threshold for it (NaN) or too few non-members.
    """
    fewest = int((~member).sum(axis=1).min())
    measures: dict[str, tuple[Measure | None, ...]] = {}
    for fpr, column in zip(fprs, thresholds.T, strict=True):
        if not np.isnan(column).any() and why_unmeasurable(fpr, fewest) is None:
            rows = measure_at_threshold(
                scores, member, column, fpr=fpr, priors=priors, mode=mode, clusters=clusters
            )
            measures |= rows
    return measures


def pooled_precisions(
    tprs: Sequence[Estimate],
    fprs: Sequence[Estimate],
    priors: Sequence[float],
    *,
    mode: SplitMode,
) -> list[Measure | None]:
    """Return the precision of all targets' guesses by prior; None if no record was called a member.

    Args:
        tprs: True-positive rate of each target, with its interval and influence.
        fprs: False-positive rates of the same targets.
        priors: Shares of members among the records that are judged, in (0, 1).
        mode: As in `measure`.
    """
    tpr, fpr = _over_targets(tprs, mode), _over_targets(fprs, mode)
    if tpr.value == 0 and fpr.value == 0:
        return [None] * len(priors)
    about = verdict_about(mode, len(tprs))
    ends = _log_ratio(tprs, fprs, mode) if tpr.value > 0 and fpr.value > 0 else None
    factor = WIDER if about == "records" else widening(0.975, about, len(tprs))
    (tpr_low, tpr_high), (fpr_low, fpr_high) = _wider(tpr, factor), _wider(fpr, factor)
    measures: list[Measure | None] = []
    for prior in priors:
        value = _share(tpr.value, fpr.value, prior)
        if ends is not None:
            low, high = (float(expit(logit(prior) + end)) for end in ends)
        else:
            low, high = _share(tpr_low, fpr_high, prior), _share(tpr_high, fpr_low, prior)
        low, high = min(low, value), max(high, value)
        measures.append(Measure(value, low, high, interval=tpr.interval, about=about))
    return measures


def _log_ratio(
    tprs: Sequence[Estimate], fprs: Sequence[Estimate], mode: SplitMode
) -> tuple[float, float]:
    """Return the interval of log mean TPR - log mean FPR, both means above 0."""
    tpr, fpr = _possible(mean_over_records(tprs)), _possible(mean_over_records(fprs))
    whole = difference_over_records(_log(tpr), _log(fpr))
    if verdict_about(mode, len(tprs)) == "records":
        return whole.low, whole.high

    # a target's two rates are of different records, so their reaches add as squares
    centres, reaches = [], []
    for called, wrong in zip(tprs, fprs, strict=True):
        centres.append(called.value / tpr.value - wrong.value / fpr.value)
        (tpr_below, tpr_above), (fpr_below, fpr_above) = called.reach, wrong.reach
        below = np.hypot(tpr_below / tpr.value, fpr_above / fpr.value)
        above = np.hypot(tpr_above / tpr.value, fpr_below / fpr.value)
        reaches.append((below, above))
    over_records = whole.value - whole.low, whole.high - whole.value
    below, above = reach_over_trainings(np.array(centres), over_records, np.array(reaches))
    return whole.value - below, whole.value + above


def _over_targets(rates: Sequence[Estimate], mode: SplitMode) -> Estimate:
    dedicated = mode == "dedicated" and len(rates) > 1
    return _possible(mean_over_trainings(rates) if dedicated else mean_over_records(rates))


def _possible(rate: Estimate) -> Estimate:
    return replace(rate, low=max(rate.low, 0.0), high=min(rate.high, 1.0))


def _total(rates: Sequence[Estimate], mode: SplitMode) -> Measure:
    std = float(np.std([rate.value for rate in rates], ddof=1)) if len(rates) > 1 else None
    total = _measure(_over_targets(rates, mode))
    return replace(total, std=std, about=verdict_about(mode, len(rates)))


def _measure(rate: Estimate) -> Measure:
    low, high = min(rate.low, rate.value), max(rate.high, rate.value)
    return Measure(rate.value, low, high, interval=rate.interval, about="records")


def _precision(rates: AtThreshold, prior: float) -> Measure | None:
    figure = precision(rates.tpr, rates.fpr, prior)
    if figure is None:
        return None
    low, high = figure.low, figure.high
    return Measure(figure.value, low, high, interval="clopper_pearson", about="records")


def _estimate(
    rate: Rate,
    called: Bool[np.ndarray, "records"],
    group: Bool[np.ndarray, "records"],
    clusters: Clusters | None,
) -> Estimate:
    influence = np.where(group, called - rate.value, 0.0) / rate.records
    influence = influence if clusters is None else cluster_sums(influence, clusters)
    return Estimate(rate.value, rate.value, rate.low, rate.high, influence, "clopper_pearson")


def _log(rate: Estimate) -> Estimate:
    """Return the logarithm of a rate above 0, by the delta method, with the ends' logarithms."""
    value, high = float(np.log(rate.value)), float(np.log(max(rate.high, rate.value)))
    low = float(np.log(min(rate.low, rate.value))) if rate.low > 0 else -np.inf
    return Estimate(value, value, low, high, rate.influence / rate.value, rate.interval)


def _wider(rate: Estimate, factor: float) -> tuple[float, float]:
    low = rate.value - factor * (rate.value - rate.low)
    return max(low, 0.0), min(rate.value + factor * (rate.high - rate.value), 1.0)


def _share(tpr: float, fpr: float, prior: float) -> float:
    called = prior * tpr + (1 - prior) * fpr
    return prior * tpr / called if called > 0 else 0.0
