"""What thresholds chosen beforehand do to all targets: TPR, FPR and precision as rows of the results table.

A target's rates at its threshold have Clopper and Pearson's exact intervals (`fixed_threshold`). Their means over the
targets of a population are treated as every other mean: the intervals combined with the correlation of the records'
influences, which for a rate are (called - rate) / group for the records of the group and 0 for all others; over
dedicated targets by Student's t.

The precision over all targets is that of their pooled guesses, not the mean of their precisions, which does not exist
where nobody is called (and follows from the two rates, so that several targets have none of their own):

    logit precision = logit prior + log mean TPR - log mean FPR,

its interval the paired one of the difference of the two logs. Where one of the means is 0 there is no reach on that
scale; the two means' 97.5 % intervals are combined instead (Bonferroni), which is cautious. So is an interval of a mean
that reaches down to a rate of 0: the precision's then reaches to the end of its range.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import expit, logit

from bitleak.core.metric_names import Metric
from bitleak.core.types import Measure, SplitMode
from bitleak.metrics.estimates import Estimate
from bitleak.metrics.intervals import difference_over_records, interval_over_targets, mean_over_records
from bitleak.metrics.measures import TotalAndTargets
from bitleak.metrics.thresholds import AtThreshold, Rate, at_threshold, precision
from bitleak.metrics.tpr import why_unmeasurable

WIDER = 2.241402728 / 1.959963985
"""From the reach of a normal's 95 % interval to that of its 97.5 % interval."""


def measure_at_threshold(
    scores: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    thresholds: Float64[np.ndarray, "targets"],
    *,
    fpr: int | float,
    priors: Sequence[float],
    mode: SplitMode = "population",
) -> TotalAndTargets:
    """The metrics `tpr_chosen@FPR`, `fpr_chosen@FPR` and `precision@FPR,priorP`.

    Args:
        scores: Larger = more likely a member.
        member: The truth, for the same targets and records.
        thresholds: Of each target, chosen without its membership; scores of at least this are called members.
        fpr: What the thresholds were chosen for; it only names the metrics.
        priors: Shares of members among the records asked about, in (0, 1).
        mode: `population`: targets share records, which are resampled; `dedicated`: t over targets.

    Raises:
        ValueError: Shapes differ, a number is NaN, or a target lacks members or non-members.

    Example:
        >>> scores, member = np.tile(np.arange(200.0), (2, 1)), np.tile(np.arange(200) >= 100, (2, 1))
        >>> found = measure_at_threshold(scores, member, np.array([90.0, 95.0]), fpr=0.1, priors=[0.5])
        >>> {name: round(total.value, 3) for name, (total, *_) in found.items()}
        {'tpr_chosen@0.1': 1.0, 'fpr_chosen@0.1': 0.075, 'precision@0.1,prior0.5': 0.93}
    """
    if scores.ndim != 2 or scores.shape != member.shape or len(scores) != len(thresholds) or len(scores) == 0:
        raise ValueError(
            f"scores and member must be [targets records] with a threshold each, got {scores.shape}, {member.shape} "
            f"and {len(thresholds)} thresholds"
        )
    sets = zip(scores, member, thresholds.tolist(), strict=True)
    found = [at_threshold(own, truth, threshold) for own, truth, threshold in sets]
    called = scores >= thresholds[:, None]
    true, false = (
        [_estimate(rate, who, group) for rate, who, group in zip(rates, called, groups, strict=True)]
        for rates, groups in (([one.tpr for one in found], member), ([one.fpr for one in found], ~member))
    )
    all_true, all_false = _over_targets(true, mode), _over_targets(false, mode)
    shown: dict[str, tuple[Measure | None, ...]] = {
        str(Metric("tpr_chosen", fpr)): (_total(all_true, true), *map(_measure, true)),
        str(Metric("fpr_chosen", fpr)): (_total(all_false, false), *map(_measure, false)),
    }
    for prior in priors:
        metric = str(Metric("precision", fpr, prior))
        if len(found) == 1:
            shown[metric] = (_precision(found[0], prior),) * 2
        else:
            shown[metric] = (pooled_precision(all_true, all_false, prior), *[None] * len(found))
    return shown


def measure_at_thresholds(
    scores: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    thresholds: Float64[np.ndarray, "targets fprs"],
    *,
    fprs: Sequence[float],
    priors: Sequence[float],
    mode: SplitMode = "population",
) -> TotalAndTargets:
    """`measure_at_threshold` at several FPRs, without those for which a target has no threshold (NaN) or too few
    non-members.
    """
    fewest = int((~member).sum(axis=1).min())
    shown: dict[str, tuple[Measure | None, ...]] = {}
    for fpr, own in zip(fprs, thresholds.T, strict=True):
        if not np.isnan(own).any() and not why_unmeasurable(fpr, fewest):
            shown |= measure_at_threshold(scores, member, own, fpr=fpr, priors=priors, mode=mode)
    return shown


def pooled_precision(tpr: Estimate, fpr: Estimate, prior: float) -> Measure | None:
    """The precision at a prior from two rates with intervals and influences; None where nobody was called.

    Args:
        tpr: Of the members.
        fpr: Of the non-members.
        prior: Share of members among the records asked about, in (0, 1).
    """
    if tpr.value == 0 and fpr.value == 0:
        return None
    if tpr.value > 0 and fpr.value > 0:
        ratio = difference_over_records(_log(tpr), _log(fpr))
        low, high = (float(expit(logit(prior) + end)) for end in (ratio.low, ratio.high))
    else:
        (tpr_low, tpr_high), (fpr_low, fpr_high) = (_wider(rate) for rate in (tpr, fpr))
        low, high = _share(tpr_low, fpr_high, prior), _share(tpr_high, fpr_low, prior)
    value = _share(tpr.value, fpr.value, prior)
    return Measure(value, min(low, value), max(high, value), interval=tpr.interval)


def _over_targets(rates: Sequence[Estimate], mode: SplitMode) -> Estimate:
    mean = mean_over_records(rates)
    if mode == "dedicated" and len(rates) > 1:
        low, high = interval_over_targets(rates)
        mean = replace(mean, low=low, high=high, interval="t", influence=np.zeros_like(mean.influence))
    return replace(mean, low=max(mean.low, 0.0), high=min(mean.high, 1.0))


def _total(mean: Estimate, rates: Sequence[Estimate]) -> Measure:
    std = float(np.std([rate.value for rate in rates], ddof=1)) if len(rates) > 1 else None
    return replace(_measure(mean), std=std)


def _measure(rate: Estimate) -> Measure:
    return Measure(rate.value, min(rate.low, rate.value), max(rate.high, rate.value), interval=rate.interval)


def _precision(found: AtThreshold, prior: float) -> Measure | None:
    one = precision(found.tpr, found.fpr, prior)
    return None if one is None else Measure(one.value, one.low, one.high, interval="clopper_pearson")


def _estimate(rate: Rate, called: Bool[np.ndarray, "records"], group: Bool[np.ndarray, "records"]) -> Estimate:
    influence = np.where(group, called - rate.value, 0.0) / rate.records
    return Estimate(rate.value, rate.value, rate.low, rate.high, influence, "clopper_pearson")


def _log(rate: Estimate) -> Estimate:
    """The logarithm of a rate above 0, by the delta method; its ends are those of the rate."""
    value, high = float(np.log(rate.value)), float(np.log(max(rate.high, rate.value)))
    low = float(np.log(min(rate.low, rate.value))) if rate.low > 0 else -np.inf
    return Estimate(value, value, low, high, rate.influence / rate.value, rate.interval)


def _wider(rate: Estimate) -> tuple[float, float]:
    low = rate.value - WIDER * (rate.value - rate.low)
    return max(low, 0.0), min(rate.value + WIDER * (rate.high - rate.value), 1.0)


def _share(tpr: float, fpr: float, prior: float) -> float:
    called = prior * tpr + (1 - prior) * fpr
    return prior * tpr / called if called > 0 else 0.0
