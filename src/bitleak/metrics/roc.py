"""The ROC curve of an attack on one target, its points counted and its ties grouped.

A threshold c calls every record with score >= c a member. Sorting the distinct scores downwards
gives one point per distinct score, after the point (0, 0) that calls no record a member; records
with equal scores are never split, so the order of the records cannot matter.

    TPR(c) = #{members with score >= c} / members
    FPR(c) = #{non-members with score >= c} / non-members

Deviation from the usual staircase: the TPR at a given FPR alpha is that of the *last point with
FPR <= alpha*, never an interpolation, because an adversary cannot use a threshold between two ties.
Cost: one sort, O(records log records).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.core.checks import integer_in, number_array, truth_array
from bitleak.core.types import Curve, Scores
from bitleak.metrics.clusters import Clusters, dense_clusters


@dataclass(frozen=True)
class Roc:
    """A tie-grouped ROC curve that starts at (0, 0) and ends at (1, 1).

    Attributes:
        thresholds: Descending, infinity first; a point calls records that score at least this
            members.
        true_positives: Members called so at each point, ascending from 0.
        false_positives: Non-members called so at each point, ascending from 0.
        point: For each record, in the order it was given, the first point that calls it a member.
        member: The membership it was made from.
        order: Records by descending score; those with equal scores in any order.
        clusters: Number of each record's cluster, see `clusters`; None if all are independent.
    """

    thresholds: Float64[np.ndarray, "points"]
    true_positives: Int64[np.ndarray, "points"]
    false_positives: Int64[np.ndarray, "points"]
    point: Int64[np.ndarray, "records"]
    member: Bool[np.ndarray, "records"]
    order: Int64[np.ndarray, "records"]
    clusters: Clusters | None = None

    @property
    def members(self) -> int:
        """Number of members."""
        return int(self.true_positives[-1])

    @property
    def non_members(self) -> int:
        """Number of non-members."""
        return int(self.false_positives[-1])

    @cached_property
    def tpr(self) -> Float64[np.ndarray, "points"]:
        """True-positive rate at each point."""
        return self.true_positives / self.members

    @cached_property
    def fpr(self) -> Float64[np.ndarray, "points"]:
        """False-positive rate at each point."""
        return self.false_positives / self.non_members

    def last_points(self, fprs: Float64[np.ndarray, "fprs"]) -> Int64[np.ndarray, "fprs"]:
        """Index of the last point with FPR <= each of `fprs`."""
        allowed = np.floor(fprs * self.non_members * (1 + 1e-12))  # 0.07 * 100 is 7 in decimal only
        return np.searchsorted(self.false_positives, allowed, side="right") - 1

    def last_point(self, fpr: float) -> int:
        """Index of the last point with FPR <= `fpr`."""
        return int(self.last_points(np.array([fpr]))[0])


def roc(
    scores: Scores,
    member: Bool[np.ndarray, "records"],
    clusters: Int64[np.ndarray, "clustered"] | None = None,
) -> Roc:
    """Return the ROC curve of `scores` against the truth.

    Args:
        scores: Larger = more likely a member; finite.
        member: True for the members; at least one member and one non-member.
        clusters: Number of each record's cluster, for the intervals; None if all are independent.

    Raises:
        ValueError: A score is no number or not finite, a membership is neither true nor false, the lengths
            differ, or one of the two groups is empty.

    Example:
        >>> curve = roc(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False]))
        >>> curve.fpr.tolist(), curve.tpr.tolist()
        ([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0])
    """
    scores, member = number_array("scores", scores), truth_array("member", member)
    if scores.shape != member.shape:
        lengths = f"{len(scores)} and {len(member)}"
        raise ValueError(f"scores and member must have the same length, got {lengths}")
    if not np.isfinite(scores).all():
        first = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(f"scores must be finite, got {scores[first]} at record {first}")
    if member.all() or not member.any():
        counts = f"{int(member.sum())} members of {len(member)}"
        raise ValueError(f"a ROC needs members and non-members, got {counts}")
    if clusters is not None and clusters.shape != scores.shape:
        raise ValueError(f"clusters must be one per record, {len(scores)}, got {clusters.shape}")
    order = np.argsort(-scores)
    descending = scores[order]

    # a point is the last record of each group of ties
    last = np.flatnonzero(np.append(descending[1:] != descending[:-1], True))
    point = np.empty(len(scores), np.int64)
    point[order] = np.repeat(np.arange(1, len(last) + 1), np.diff(last, prepend=-1))
    true_positives = np.cumsum(member[order], dtype=np.int64)[last]
    return Roc(
        thresholds=np.concatenate([[np.inf], descending[last]]),
        true_positives=np.concatenate([[0], true_positives]),
        false_positives=np.concatenate([[0], last + 1 - true_positives]),
        point=point,
        member=member,
        order=order,
        clusters=dense_clusters(clusters),
    )


def best_balanced_accuracy(curve: Roc) -> float:
    """Return the balanced accuracy of the best threshold, max (TPR + 1 - FPR) / 2, in [0.5, 1].

    It is the best in hindsight, and so optimistic: see `estimate_balanced_accuracy`.
    """
    return float((1 + curve.tpr - curve.fpr).max() / 2)


def thin_curve(curve: Roc, points: int = 256) -> Curve:
    """Return the curve at `points` points at most, exact at its low end and ever sparser above.

    The points kept are the last ones with at most 0, 1, 2, ... false positives, the numbers spaced
    evenly on a log scale, and both ends.

    Args:
        curve: A ROC curve.
        points: At least 4.
    """
    counts = spaced_counts(curve.non_members, integer_in("points", points, 4) - 2)
    last = np.searchsorted(curve.false_positives, counts, side="right") - 1
    index = np.unique(np.concatenate([[0], last]))
    return np.stack([curve.fpr[index], curve.tpr[index]], axis=1)


@lru_cache(maxsize=256)
def spaced_counts(most: int, count: int) -> Float64[np.ndarray, "counts"]:
    """Return 0 and at most `count` whole numbers from 1 to `most`, spaced evenly on a log scale.

    Curves of all attacks share them, so they are computed once; the array is read-only.

    Example:
        >>> spaced_counts(100, 5).tolist()
        [0.0, 1.0, 3.0, 10.0, 32.0, 100.0]
    """
    counts = np.unique(np.append(np.geomspace(1, most, count).round(), 0))
    counts.setflags(write=False)
    return counts


def mean_curve(curves: Sequence[Roc], points: int = 256) -> Curve:
    """Return the targets' mean TPR at common FPRs, log-spaced from one false positive to 1.

    Args:
        curves: At least one.
        points: At least 4.
    """
    least = 1 / min(curve.non_members for curve in curves)
    spaced = np.geomspace(least, 1, integer_in("points", points, 4) - 2)
    fprs = np.unique(np.concatenate([[0.0], spaced]))
    fprs[-1] = 1.0  # geomspace may end a rounding error below
    tpr = np.mean([curve.tpr[curve.last_points(fprs)] for curve in curves], axis=0)
    return np.concatenate([[[0.0, 0.0]], np.stack([fprs, tpr], axis=1)])
