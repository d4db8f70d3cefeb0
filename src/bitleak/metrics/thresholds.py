"""What an attack does at a threshold that was fixed beforehand: TPR, FPR and precision.

A TPR at a given FPR is a property of the target's ROC: its threshold is found with the target's own membership,
which no adversary has. A real adversary sets the threshold where the truth is known, on reference models that
play the target or on population records, and takes what comes. With n such non-members and k = floor(alpha n),

    threshold = the k-th largest of their scores, moved up past a tie with the next,

so that the expected FPR on another non-member, if it is exchangeable with them, is at most k / (n + 1) <= alpha.

At a threshold that does not depend on the target's membership the numbers of members and of non-members called
are binomial, and Clopper and Pearson's (1934) intervals are exact. Precision at a prior p (the share of members
among the records an adversary asks about) is

    precision = p TPR / (p TPR + (1 - p) FPR)      (Jayaraman et al. 2021, arXiv 2005.10881)

or logit precision = logit p + log TPR - log FPR. Its interval combines the reaches of the two exact intervals on the
log scale by the method of variance estimates recovery (Zou and Donner 2008), low = value - sqrt(l_TPR^2 + u_FPR^2)
and so on; by enumeration it covers 95.4 to 99.0 % for 300 and 2,000 records a side, TPRs from 0.02 to 0.9 and FPRs
from 0.003 to 0.1. Where no member or no non-member is called there is no reach on that scale, and a 97.5 %
interval for each rate is used (Bonferroni), which is cautious.

Cost: O(records log records) for a threshold, O(records) for the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import expit, logit

from bitleak.core.checks import number_in
from bitleak.core.types import Scores
from bitleak.metrics.proportions import clopper_pearson
from bitleak.metrics.tpr import why_unmeasurable


@dataclass(frozen=True)
class Rate:
    """A share of records at a threshold fixed beforehand.

    Attributes:
        called: How many records scored at least the threshold.
        records: Of how many.
        value: The share.
        low: Lower end of Clopper and Pearson's 95 % interval.
        high: Upper end.
    """

    called: int
    records: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class AtThreshold:
    """What a threshold does on one target.

    Attributes:
        threshold: Scores of at least this are called members.
        tpr: Share of the members called so.
        fpr: Share of the non-members called so.
    """

    threshold: float
    tpr: Rate
    fpr: Rate


@dataclass(frozen=True)
class Precision:
    """The share of members among those called members.

    Attributes:
        prior: Share of members among all records asked about.
        value: The precision.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    prior: float
    value: float
    low: float
    high: float


def threshold_for(scores: Float64[np.ndarray, "*axes"], fpr: int | float) -> float:
    """The lowest threshold whose FPR on these known non-members is at most `fpr`.

    Args:
        scores: The attack's scores of records that the attacked model was certainly not trained on: the population
            records', or those of the non-members of reference models that played the target; finite. Never of
            the target's own non-members.
        fpr: In (0, 1).

    Returns:
        One of the scores; infinity where ties leave none.

    Raises:
        ValueError: There are too few scores for this FPR, or one is not finite.

    Example:
        >>> threshold_for(np.arange(100.0), 0.05)
        95.0
        >>> threshold_for(np.array([0.0, 1.0, 1.0, 2.0]), 0.5)
        2.0
    """
    if scores.size == 0 or not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite, and at least one, got {scores.size} with one that is not finite"
                         if scores.size else "scores must be finite, and at least one, got none")  # fmt: skip
    if refusal := why_unmeasurable(fpr, scores.size):
        raise ValueError(refusal)
    descending = np.sort(scores, axis=None)[::-1]
    allowed = int(np.floor(fpr * scores.size * (1 + 1e-12)))
    above = descending[descending > descending[allowed]] if allowed < scores.size else descending
    return float(above[-1]) if len(above) else float(np.inf)


def thresholds_for(scores: Float64[np.ndarray, "*axes"], fprs: Sequence[float]) -> Float64[np.ndarray, "fprs"]:
    """`threshold_for` at several FPRs; NaN where there are too few scores for one."""
    return np.array([np.nan if why_unmeasurable(fpr, scores.size) else threshold_for(scores, fpr) for fpr in fprs])


def at_threshold(scores: Scores, member: Bool[np.ndarray, "records"], threshold: int | float) -> AtThreshold:
    """TPR and FPR of one target at a threshold that was fixed without its membership, with exact 95 % intervals.

    Args:
        scores: Larger = more likely a member.
        member: True for the members; at least one member and one non-member.
        threshold: Scores of at least this are called members; may be infinite.

    Raises:
        ValueError: The lengths differ, a score or the threshold is NaN, or one of the two groups is empty.

    Example:
        >>> found = at_threshold(np.arange(200.0), np.arange(200) >= 100, 150.0)
        >>> found.tpr.value, found.fpr.value, round(found.fpr.high, 4)
        (0.5, 0.0, 0.0362)
    """
    if scores.shape != member.shape:
        raise ValueError(f"scores and member must have the same length, got {len(scores)} and {len(member)}")
    if np.isnan(scores).any() or np.isnan(threshold):
        raise ValueError("scores and threshold must be numbers, got NaN")
    if member.all() or not member.any():
        raise ValueError(f"rates need members and non-members, got {int(member.sum())} members of {len(member)}")
    called = scores >= threshold
    return AtThreshold(float(threshold), _rate(called[member]), _rate(called[~member]))


def precision(tpr: Rate, fpr: Rate, prior: int | float) -> Precision | None:
    """The precision at a prior, with a 95 % interval.

    Args:
        tpr: From `at_threshold`.
        fpr: Of the same target at the same threshold.
        prior: Share of members among the records asked about, in (0, 1).

    Returns:
        None where nobody was called a member.

    Raises:
        ValueError: The prior is out of range.

    Example:
        >>> found = at_threshold(np.arange(200.0), np.arange(200) >= 100, 90.0)
        >>> [round(precision(found.tpr, found.fpr, prior).value, 3) for prior in (0.5, 0.1, 0.01)]
        [0.909, 0.526, 0.092]
    """
    prior = number_in("prior", prior, 0, 1, ends="()")
    if tpr.called + fpr.called == 0:
        return None
    if tpr.called and fpr.called:
        low, high = (float(expit(logit(prior) + ratio)) for ratio in _log_ratio(tpr, fpr))
    else:
        (tpr_low, tpr_high), (fpr_low, fpr_high) = (
            clopper_pearson(rate.called, rate.records, confidence=0.975) for rate in (tpr, fpr)
        )
        low, high = _share(tpr_low, fpr_high, prior), _share(tpr_high, fpr_low, prior)
    return Precision(prior, _share(tpr.value, fpr.value, prior), low, high)


def _log_ratio(tpr: Rate, fpr: Rate) -> tuple[float, float]:
    """The 95 % interval of log TPR / FPR, neither of them 0."""
    ratio = np.log(tpr.value / fpr.value)
    below = np.hypot(np.log(tpr.value / tpr.low), np.log(fpr.high / fpr.value))
    above = np.hypot(np.log(tpr.high / tpr.value), np.log(fpr.value / fpr.low))
    return float(ratio - below), float(ratio + above)


def _rate(called: Bool[np.ndarray, "records"]) -> Rate:
    count = int(called.sum())
    return Rate(count, len(called), count / len(called), *clopper_pearson(count, len(called)))


def _share(tpr: float, fpr: float, prior: float) -> float:
    return prior * tpr / (prior * tpr + (1 - prior) * fpr)
