"""Tied scores: the step that they make of a TPR, and rare scores next to one that nearly all have.

*A step.* The ROC jumps over a group of equal scores, so a TPR at an FPR alpha inside the jump, or
nearer to it than the n non-members can tell, is not one number: the rule "last point with FPR <=
alpha" takes one end or the other by chance. The number of non-members above the true threshold is
K ~ Binomial(n, alpha), with deviation s = sqrt(n alpha (1 - alpha)). A group of ties is a step if

- it lies in the central 95 % of K, or holds part of it, and
- it has more than max(2, s) non-members (max(2, s / 2) if alpha is inside the group), or more than
  half of the interval's width in members.

Smaller ties move the threshold by less than its own error, which the interval holds.

*Rare scores.* If more than half of the records have the same score, the others may be few: DeLong's
variance, which counts those that were seen, is 0 if there are none. A classifier with 1,000 right
answers of 1,000 is still wrong on up to 3.8 of 1,000. The AUC is, but for pairs of two rare scores,

    1/2 + sum over cuts (TPR_c - FPR_c) / 2,

with one cut above the largest group and one below it, as far as there are records on both sides of
the cut. Each difference of two shares has the reach of Newcombe's (1998) method 10, from Wilson's
intervals; the squares of the reaches add up. If all scores are equal, no score has crossed the
cut, and the reach is the larger of both. The same holds for a balanced accuracy.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from bitleak.metrics.clusters import effective_records
from bitleak.metrics.proportions import wilson_of_share
from bitleak.metrics.roc import Roc

FEW_TIES = 2
"""Non-members of a group of ties that is no step, whatever the FPR."""


class TiedStep(NamedTuple):
    """The other end of a step whose one end is the last ROC point at the FPR asked for."""

    fpr: float
    tpr: float


def step_at(
    curve: Roc, fpr: float, width: float, *, non_members: int | None = None
) -> TiedStep | None:
    """Return the other end of a step of the ROC at this FPR; None if there is no step.

    Args:
        curve: One target's ROC.
        fpr: False-positive rate, in (0, 1).
        width: Width of the TPR's interval.
        non_members: Effective number of them, if there are clusters.

    Example:
        >>> from bitleak.metrics.roc import roc
        >>> scores, member = np.arange(400) // 100, np.arange(400) % 2 == 0
        >>> step_at(roc(scores + 0.0, member), 0.1, width=0.1)
        TiedStep(fpr=0.25, tpr=0.25)
    """
    effective = curve.non_members if non_members is None else non_members
    least, most = _central_counts(effective, fpr)
    scale = curve.non_members / effective
    first = int(np.searchsorted(curve.false_positives, least * scale, side="right")) - 1
    end = int(np.searchsorted(curve.false_positives, most * scale, side="right"))
    window = slice(first, end + 1)
    called, wrongly_called = (
        np.diff(curve.true_positives[window]),
        _tied(curve, window, ~curve.member),
    )
    spread = math.sqrt(effective * fpr * (1 - fpr))
    point = curve.last_point(fpr)
    enough = np.full(len(called), max(FEW_TIES, spread))
    enough[point - first : point - first + 1] = max(FEW_TIES, spread / 2)

    # one cluster's records have one score, but its size may be that of many others
    large = np.diff(curve.false_positives[window]) / scale > 2 * enough
    several = (_tied(curve, window, curve.member) >= 2) & (wrongly_called >= 1)
    steep = several & (called > width / 2 * curve.members)
    steps = first + np.flatnonzero((wrongly_called > enough) | large | steep)
    if not len(steps):
        return None

    # a step goes from its point to the next: the one that the rule's point begins, else the nearest
    nearest = int(steps[np.abs(steps - point).argmin()])
    other = nearest if nearest < point else nearest + 1
    return TiedStep(float(curve.fpr[other]), float(curve.tpr[other]))


def _tied(
    curve: Roc, window: slice, counted: Bool[np.ndarray, "records"]
) -> Int64[np.ndarray, "groups"]:
    """Return the counted records, or their clusters, in each group of ties between the points."""
    if curve.clusters is None:
        counts = curve.true_positives if counted is curve.member else curve.false_positives
        return np.diff(counts[window])
    groups = max(0, len(curve.thresholds[window]) - 1)
    place = curve.point - window.start - 1
    inside = counted & (place >= 0) & (place < groups)
    pairs = np.unique(np.stack([place[inside], curve.clusters[inside]]), axis=1)
    return np.bincount(pairs[0], minlength=groups).astype(np.int64)


@lru_cache(maxsize=64)
def _central_counts(non_members: int, fpr: float) -> tuple[int, int]:
    """Return the ends of the central 95 % of the false positives of the true threshold."""
    from scipy.stats import binom  # here, since it takes long

    return int(binom.ppf(0.025, non_members, fpr)), int(binom.ppf(0.975, non_members, fpr))


def rare_reach(curve: Roc) -> tuple[float, float]:
    """Return how far the interval of an AUC must reach below and above, since scores are rare.

    Args:
        curve: One target's ROC.

    Returns:
        Lengths below and above the value; zeros if no score is that of more than half of the
        records.

    Example:
        >>> from bitleak.metrics.roc import roc
        >>> below, above = rare_reach(roc(np.zeros(2000), np.arange(2000) % 2 == 0))
        >>> round(below, 5), round(above, 5)
        (0.00191, 0.00191)
    """
    above_point = curve.true_positives + curve.false_positives
    sizes = np.diff(above_point)
    largest = int(sizes.argmax())
    if 2 * sizes[largest] <= len(curve.point):
        return 0.0, 0.0
    if len(sizes) == 1:
        reaches = [_cut_reach(curve, 0), _cut_reach(curve, 1)]
        return max(below for below, _ in reaches) / 2, max(above for _, above in reaches) / 2
    cuts = [cut for cut in (largest, largest + 1) if 0 < cut < len(sizes)]
    squares = np.square([_cut_reach(curve, cut) for cut in cuts]).sum(axis=0)
    return float(np.sqrt(squares[0])) / 2, float(np.sqrt(squares[1])) / 2


def _cut_reach(curve: Roc, point: int) -> tuple[float, float]:
    """Return the reaches of Newcombe's interval for TPR - FPR at a point of the curve."""
    tpr, fpr = float(curve.tpr[point]), float(curve.fpr[point])
    tpr_low, tpr_high = wilson_of_share(tpr, effective_records(curve.member, curve.clusters))
    fpr_low, fpr_high = wilson_of_share(fpr, effective_records(~curve.member, curve.clusters))
    below = math.hypot(tpr - tpr_low, fpr_high - fpr)
    above = math.hypot(tpr_high - tpr, fpr - fpr_low)
    return below, above
