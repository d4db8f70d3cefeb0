"""Whether membership depends on the class, and what an attack finds within classes.

A model that was never trained on one of the classes (a federated client, an increment of classes) answers about it in a
way that any attack sees, and whoever knows the class knows that its records are no members. That is leakage of the
class, not of records: attacks find it where nothing within a class depends on membership.

*The test.* Per target, members are counted class by class. Two p-values, each of which must be below `ALPHA` / 2:

- Fisher's exact test of each class against all others (hypergeometric, two-sided by doubling), times the classes;
- chi-square over the classes that expect at least `EXPECTED` members and non-members, which adds up deviations too
  small to stand out in any one class.

*Within classes.* With s the scores, the AUC is the share of pairs of a member i and a non-member j *of the same class*
that are in order, a tie counting half:

    auc_within_class = sum_c sum_ij [s_i > s_j] / sum_c m_c n_c,

classes weighing as their m_c n_c pairs; a class of members only, or of non-members only, has no pair. For a single
class it is the AUC, and its variance DeLong's. The influence of member i is (wins_i - A n_c) / pairs, of non-member j
(losses_j - A m_c) / pairs.

The TPR at an FPR is that of one threshold for all records, with the records weighted such that class and membership are
independent, each class as much as its two groups allow to say:

    TPR(t) = sum_c w_c TPR_c(t),    FPR(t) = sum_c w_c FPR_c(t),    w_c proportional to m_c n_c / (m_c + n_c),

and the last point with FPR <= alpha. A score that tells the class and no more has TPR = FPR. It is left out where the
weighted non-members are worth fewer than 1 / alpha, (sum of weights)^2 / sum of squares. It has no interval.

Cost: O(records log records) per target.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import chdtrc
from scipy.stats import hypergeom, rankdata

from bitleak.core.types import Scores
from bitleak.metrics.auc import auc_interval
from bitleak.metrics.estimates import Estimate
from bitleak.metrics.tpr import why_unmeasurable

ALPHA = 1e-6
"""Chance of calling membership dependent on the class where it is not."""

EXPECTED = 10
"""Expected members, and non-members, of a class from which chi-square may count it."""

Labels = Int64[np.ndarray, "records"]


@dataclass(frozen=True)
class ClassDependence:
    """How one target's membership depends on the class.

    Attributes:
        p_value: The smaller of the two tests' p-values, doubled, at most 1.
        label: The class that deviates most by the exact test.
        members: Members of this class.
        records: Records of this class.
        whole: Classes of members only, or of non-members only, with at least 2 records.
    """

    p_value: float
    label: int
    members: int
    records: int
    whole: int

    @property
    def depends(self) -> bool:
        """Whether chance is no explanation."""
        return self.p_value < ALPHA


def class_dependence(member: Bool[np.ndarray, "records"], labels: Labels) -> ClassDependence:
    """The test of one target's membership against the class.

    Args:
        member: True for the target's members.
        labels: Class of each record, from 0.

    Example:
        >>> labels = np.arange(400) % 4
        >>> found = class_dependence((np.arange(400) // 4 % 2 == 0) & (labels != 3), labels)
        >>> found.depends, found.label, found.members, found.records
        (True, 3, 0, 100)
    """
    classes, which = np.unique(labels, return_inverse=True)
    total = np.bincount(which)
    inside = np.bincount(which, member).astype(np.int64)
    members, records = int(member.sum()), len(member)
    exact = np.minimum(1.0, 2 * np.minimum(
        hypergeom.cdf(inside, records, members, total), hypergeom.sf(inside - 1, records, members, total)
    ))  # fmt: skip
    share = members / max(records, 1)
    counted = total * min(share, 1 - share) >= EXPECTED
    deviating = 1.0
    if counted.sum() > 1:
        # of the counted classes alone, so that the expectations fit them
        rate = inside[counted].sum() / total[counted].sum()
        if 0 < rate < 1:
            squares = (inside[counted] - total[counted] * rate) ** 2 / (total[counted] * rate * (1 - rate))
            deviating = float(chdtrc(counted.sum() - 1, squares.sum()))
    worst = int(exact.argmin())
    smallest = min(float(exact[worst]) * len(classes), deviating)
    whole = int((((inside == 0) | (inside == total)) & (total > 1)).sum())
    return ClassDependence(min(1.0, 2 * smallest), int(classes[worst]), int(inside[worst]), int(total[worst]), whole)


def auc_within_class(scores: Scores, member: Bool[np.ndarray, "records"], labels: Labels) -> Estimate | None:
    """The AUC within classes, with its interval and the influence of every record.

    Args:
        scores: Larger = more likely a member.
        member: True for the members.
        labels: Class of each record.

    Returns:
        None if no class has members and non-members.

    Example:
        >>> labels = np.arange(8) // 4
        >>> member = np.array([True, True, True, False, True, False, False, False])
        >>> found = auc_within_class(labels + 0.0, member, labels)  # the class tells nothing within itself
        >>> found.value
        0.5
    """
    member_counts, other_counts, which = _counts(member, labels)
    pairs = float((member_counts * other_counts).sum())
    if not pairs:
        return None
    wins = _wins(scores, member, which, member_counts, other_counts)
    area = float(wins[member].sum() / pairs)
    opponents = np.where(member, other_counts[which], member_counts[which])
    influence = (np.where(member, wins - area * opponents, (opponents - wins) - area * opponents)) / pairs
    counted = opponents > 0
    inflation = np.ones(len(scores))
    for side in (member, ~member):
        count = int((counted & side).sum())
        inflation[side] = count / max(count - 1, 1)
    variance = float((influence**2 * inflation).sum())
    low, high = auc_interval(area, np.sqrt(variance), int(np.minimum(member_counts, other_counts).sum()))
    return Estimate(area, area, low, high, influence, "delong")


def tpr_within_class(
    scores: Scores, member: Bool[np.ndarray, "records"], labels: Labels, fprs: Sequence[float]
) -> dict[float, float]:
    """The TPR at each FPR, with the records weighted such that class and membership are independent.

    Args:
        scores: Larger = more likely a member.
        member: True for the members.
        labels: Class of each record.
        fprs: In (0, 1).

    Returns:
        By FPR; without those that the non-members are too few for.
    """
    member_counts, other_counts, which = _counts(member, labels)
    both = member_counts + other_counts
    weight = member_counts * other_counts / both
    if not weight.sum():
        return {}
    share = weight / weight.sum()
    per_member = np.where(member_counts > 0, share / np.maximum(member_counts, 1), 0.0)[which] * member
    per_other = np.where(other_counts > 0, share / np.maximum(other_counts, 1), 0.0)[which] * ~member
    worth = 1 / float((per_other**2).sum())
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # ties are one point
    tpr, fpr = (np.append(0.0, np.cumsum(weights[order])[last]) for weights in (per_member, per_other))
    rates = {}
    for alpha in fprs:
        if not why_unmeasurable(alpha, int(worth + 1e-9)):
            point = int(np.searchsorted(fpr, alpha * (1 + 1e-12), side="right")) - 1
            rates[alpha] = float(min(tpr[point], 1.0))
    return rates


def _counts(
    member: Bool[np.ndarray, "records"], labels: Labels
) -> tuple[Int64[np.ndarray, "classes"], Int64[np.ndarray, "classes"], Int64[np.ndarray, "records"]]:
    """Members and non-members of each class, and the class of each record as their index."""
    _, which = np.unique(labels, return_inverse=True)
    inside = np.bincount(which, member).astype(np.int64)
    return inside, np.bincount(which) - inside, which.astype(np.int64)


def _wins(
    scores: Scores,
    member: Bool[np.ndarray, "records"],
    which: Int64[np.ndarray, "records"],
    member_counts: Int64[np.ndarray, "classes"],
    other_counts: Int64[np.ndarray, "classes"],
) -> Float64[np.ndarray, "records"]:
    """Records of the other group and the same class that each record outscores, ties half."""
    starts = np.cumsum(member_counts + other_counts) - (member_counts + other_counts)
    # ranks of all records, class after class: scores as their dense ranks, shifted so that classes do not meet
    dense = rankdata(scores, "dense").astype(np.float64)
    among_all = rankdata(which * (len(scores) + 1.0) + dense) - starts[which]
    among_own = np.empty(len(scores))
    for side, counts in ((member, member_counts), (~member, other_counts)):
        before = np.cumsum(counts) - counts
        among_own[side] = rankdata(which[side] * (len(scores) + 1.0) + dense[side]) - before[which[side]]
    return among_all - among_own
