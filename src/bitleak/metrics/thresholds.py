"""TPR, FPR and precision at a threshold that was fixed beforehand.

A TPR at a given FPR is a property of the target's ROC: its threshold is found with the target's own
membership, which no adversary has. A real adversary sets the threshold where the truth is known, on
reference models that play the target or on population records, and accepts the outcome. With n such
non-members and k = floor(alpha n),

    threshold = the k-th largest of their scores, moved up past a tie with the next,

so that the expected FPR on another non-member, if it is exchangeable with them, is at most
k / (n + 1) <= alpha.

At a threshold that does not depend on the target's membership the numbers of members and of
non-members called are binomial, and Clopper and Pearson's (1934) intervals are exact. Precision at
a prior p (the share of members among the records that an adversary judges) is

    precision = p TPR / (p TPR + (1 - p) FPR)      (Jayaraman et al. 2021, arXiv 2005.10881)

or logit precision = logit p + log TPR - log FPR. Its interval combines the reaches of the two exact
intervals on the log scale by the method of variance estimates recovery (Zou and Donner 2008),

    low = value - sqrt(l_TPR^2 + u_FPR^2),    high = value + sqrt(u_TPR^2 + l_FPR^2);

by enumeration it covers 95.4 to 99.0 % for 300 and 2,000 members and as many non-members, TPRs from
0.02 to 0.9 and FPRs from 0.003 to 0.1. If no member or no non-member is called, there is no reach
on that scale, and a 97.5 % interval for each rate is used (Bonferroni), which is cautious.

Cost: O(records log records) for a threshold, O(records) for the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import expit, logit

from bitleak.core.checks import number_array, number_in, truth_array
from bitleak.core.types import Scores
from bitleak.metrics.clusters import Clusters, design_effect
from bitleak.metrics.proportions import clopper_pearson, exact_high, exact_low
from bitleak.metrics.tpr import why_unmeasurable


@dataclass(frozen=True)
class Rate:
    """A share of records at a threshold fixed beforehand.

    Attributes:
        called: Number of records that scored at least the threshold.
        records: Number of all records.
        value: The share, called / records.
        low: Lower end of Clopper and Pearson's 95 % interval.
        high: Upper end.
        design_effect: Records that count as an independent one (`clusters`), at least 1.
    """

    called: int
    records: int
    value: float
    low: float
    high: float
    design_effect: float = 1.0

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return Clopper and Pearson's interval at another confidence, with effective numbers."""
        effective = self.called / self.design_effect, self.records / self.design_effect
        tail, counts = (1 - confidence) / 2, np.array([effective[0]])
        low, high = (ends(counts, effective[1], tail)[0] for ends in (exact_low, exact_high))
        return float(low), float(high)


@dataclass(frozen=True)
class AtThreshold:
    """The rates of a threshold on one target.

    Attributes:
        threshold: Scores of at least this are called members.
        tpr: Share of the members that are called members.
        fpr: Share of the non-members that are called members.
    """

    threshold: float
    tpr: Rate
    fpr: Rate


@dataclass(frozen=True)
class Precision:
    """The share of members among the records called members.

    Attributes:
        prior: Share of members among all records that are judged.
        value: The precision.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    prior: float
    value: float
    low: float
    high: float


def threshold_for(scores: Float64[np.ndarray, "*axes"], fpr: int | float) -> float:
    """Return the lowest threshold whose FPR on these known non-members is at most `fpr`.

    Args:
        scores: The attack's scores of records that the attacked model was certainly not trained on:
            population records, or non-members of reference models that played the target; finite.
            Never the target's non-members.
        fpr: False-positive rate, in (0, 1).

    Returns:
        One of the scores; infinity if ties leave none.

    Raises:
        ValueError: There are too few scores for this FPR, or one is not finite.

    Example:
        >>> threshold_for(np.arange(100.0), 0.05)
        95.0
        >>> threshold_for(np.array([0.0, 1.0, 1.0, 2.0]), 0.5)
        2.0
    """
    scores = number_array("scores", scores)
    if scores.size == 0:
        raise ValueError("scores must be finite, and at least one, got none")
    if not np.isfinite(scores).all():
        counts = f"{scores.size} with one that is not finite"
        raise ValueError(f"scores must be finite, and at least one, got {counts}")
    if refusal := why_unmeasurable(fpr, scores.size):
        raise ValueError(refusal)
    descending = np.sort(scores, axis=None)[::-1]
    allowed = int(np.floor(fpr * scores.size * (1 + 1e-12)))  # 0.07 * 100 is 7 in decimal only
    above = descending[descending > descending[allowed]] if allowed < scores.size else descending
    return float(above[-1]) if len(above) else float(np.inf)


def thresholds_for(
    scores: Float64[np.ndarray, "*axes"],
    fprs: Sequence[float],
) -> Float64[np.ndarray, "fprs"]:
    """Return `threshold_for` at several FPRs; NaN for an FPR with too few scores."""
    thresholds = np.full(len(fprs), np.nan)
    for index, fpr in enumerate(fprs):
        if why_unmeasurable(fpr, scores.size) is None:
            thresholds[index] = threshold_for(scores, fpr)
    return thresholds


def at_threshold(
    scores: Scores,
    member: Bool[np.ndarray, "records"],
    threshold: int | float,
    clusters: Clusters | None = None,
) -> AtThreshold:
    """Return TPR and FPR at a threshold fixed without this membership, with exact 95 % intervals.

    Args:
        scores: Larger = more likely a member.
        member: True for the members; at least one member and one non-member.
        threshold: Scores of at least this are called members; may be infinite.
        clusters: As `dense_clusters` returns them; None if all records are independent.

    Raises:
        ValueError: The lengths differ, a score or the threshold is NaN, or one of the two groups is
            empty.

    Example:
        >>> rates = at_threshold(np.arange(200.0), np.arange(200) >= 100, 150.0)
        >>> rates.tpr.value, rates.fpr.value, round(rates.fpr.high, 4)
        (0.5, 0.0, 0.0362)
    """
    scores, member = number_array("scores", scores), truth_array("member", member)
    if scores.shape != member.shape:
        lengths = f"{len(scores)} and {len(member)}"
        raise ValueError(f"scores and member must have the same length, got {lengths}")
    if np.isnan(scores).any() or np.isnan(threshold):
        raise ValueError("scores and threshold must be numbers, got NaN")
    if member.all() or not member.any():
        counts = f"{int(member.sum())} members of {len(member)}"
        raise ValueError(f"rates need members and non-members, got {counts}")
    called = scores >= threshold
    tpr, fpr = (_rate(called, group, clusters) for group in (member, ~member))
    return AtThreshold(float(threshold), tpr, fpr)


def precision(tpr: Rate, fpr: Rate, prior: int | float) -> Precision | None:
    """Return the precision at a prior, with a 95 % interval.

    Args:
        tpr: True-positive rate, from `at_threshold`.
        fpr: False-positive rate of the same target at the same threshold.
        prior: Share of members among the records that are judged, in (0, 1).

    Returns:
        None if no record was called a member.

    Raises:
        ValueError: The prior is out of range.

    Example:
        >>> rates = at_threshold(np.arange(200.0), np.arange(200) >= 100, 90.0)
        >>> [round(precision(rates.tpr, rates.fpr, prior).value, 3) for prior in (0.5, 0.1, 0.01)]
        [0.909, 0.526, 0.092]
    """
    prior = number_in("prior", prior, 0, 1, ends="()")
    if tpr.called + fpr.called == 0:
        return None
    if tpr.called and fpr.called:
        low, high = (float(expit(logit(prior) + ratio)) for ratio in _log_ratio(tpr, fpr))
    else:
        (tpr_low, tpr_high), (fpr_low, fpr_high) = tpr.interval(0.975), fpr.interval(0.975)
        low, high = _share(tpr_low, fpr_high, prior), _share(tpr_high, fpr_low, prior)
    return Precision(prior, _share(tpr.value, fpr.value, prior), low, high)


def _log_ratio(tpr: Rate, fpr: Rate) -> tuple[float, float]:
    """Return the 95 % interval of log TPR / FPR, neither of them 0."""
    ratio = np.log(tpr.value / fpr.value)
    below = np.hypot(np.log(tpr.value / tpr.low), np.log(fpr.high / fpr.value))
    above = np.hypot(np.log(tpr.high / tpr.value), np.log(fpr.value / fpr.low))
    return float(ratio - below), float(ratio + above)


def _rate(
    called: Bool[np.ndarray, "records"],
    group: Bool[np.ndarray, "records"],
    clusters: Clusters | None,
) -> Rate:
    count, records = int((called & group).sum()), int(group.sum())
    if clusters is None:
        return Rate(count, records, count / records, *clopper_pearson(count, records))
    effect = design_effect(called, group, clusters)
    rate = Rate(count, records, count / records, 0.0, 1.0, effect)
    low, high = rate.interval(0.95)
    return replace(rate, low=low, high=high)


def _share(tpr: float, fpr: float, prior: float) -> float:
    return prior * tpr / (prior * tpr + (1 - prior) * fpr)
