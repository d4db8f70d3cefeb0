"""The test of membership against the class, and an attack's figures within classes.

A model that was never trained on one of the classes (a federated client, an increment of classes)
answers about it in a way that any attack sees, and an adversary who knows the class knows that its
records are no members. That is leakage of the class, not of records: attacks find it even if
nothing within a class depends on membership.

*The test.* Per target, members are counted class by class. There are two p-values, and chance is
no explanation if the smaller one is below `ALPHA` / 2:

- Fisher's exact test of each class against all others (hypergeometric, two-sided by doubling),
  times the classes;
- chi-square over the classes that expect at least `FEWEST_EXPECTED` members and non-members, which adds up
  deviations too small to stand out in any one class.

*Within classes.* With s the scores, the AUC is the share of pairs of a member i and a non-member j
*of the same class* that are in order, a tie counting half:

    auc_within_class = sum_c sum_ij [s_i > s_j] / sum_c m_c n_c,

classes weighing as their m_c n_c pairs; a class of members only, or of non-members only, has no
pair. For a single class it is the AUC, and its variance DeLong's. The influence of member i is
(wins_i - A n_c) / pairs, of non-member j (losses_j - A m_c) / pairs.

The TPR at an FPR is that of one threshold for all records, with the records weighted such that
class and membership are independent, each class by the information in its two groups:

    TPR(t) = sum_c w_c TPR_c(t),    FPR(t) = sum_c w_c FPR_c(t),
    w_c proportional to m_c n_c / (m_c + n_c),

at the last point with FPR <= alpha. A score that reveals the class and no more has TPR = FPR. The
figure is left out if the weighted non-members are worth fewer than 1 / alpha records, which is
(sum of weights)^2 / sum of squares. It has no interval.

Cost: O(records log records) per target.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import chdtrc

from bitleak.core.types import Scores
from bitleak.metrics.auc import auc_interval
from bitleak.metrics.clusters import Clusters, clustered_figure
from bitleak.metrics.estimates import Estimate
from bitleak.metrics.tpr import why_unmeasurable

ALPHA = 1e-6
"""Chance of calling membership dependent on the class if it is not."""

FEWEST_EXPECTED = 10
"""Expected members, and non-members, of a class from which chi-square may count it."""

_Labels = Int64[np.ndarray, "records"]
_Member = Bool[np.ndarray, "records"]
_Counts = Int64[np.ndarray, "classes"]


@dataclass(frozen=True)
class ClassDependence:
    """The dependence of one target's membership on the class.

    Attributes:
        p_value: The smaller of the two tests' p-values, doubled, at most 1.
        label: Class that deviates most by the exact test.
        members: Members of this class.
        records: Records of this class.
        one_sided: Classes of members only, or of non-members only, with at least 2 records.
    """

    p_value: float
    label: int
    members: int
    records: int
    one_sided: int

    @property
    def depends(self) -> bool:
        """Whether chance is no explanation."""
        return self.p_value < ALPHA


def class_dependence(member: _Member, labels: _Labels) -> ClassDependence:
    """Return the test of one target's membership against the class.

    Args:
        member: True for the target's members.
        labels: Class of each record, from 0.

    Example:
        >>> labels = np.arange(400) % 4
        >>> test = class_dependence((np.arange(400) // 4 % 2 == 0) & (labels != 3), labels)
        >>> test.depends, test.label, test.members, test.records
        (True, 3, 0, 100)
    """
    from scipy.stats import hypergeom  # here, since it takes long

    classes, class_index = np.unique(labels, return_inverse=True)
    total = np.bincount(class_index)
    inside = np.bincount(class_index, member).astype(np.int64)

    # exact, class by class: few or many members are both surprising
    members, records = int(member.sum()), len(member)
    at_most = hypergeom.cdf(inside, records, members, total)
    at_least = hypergeom.sf(inside - 1, records, members, total)
    exact = np.minimum(1.0, 2 * np.minimum(at_most, at_least))
    worst = int(exact.argmin())

    # chi-square of the counted classes alone, so that the expectations fit them
    share = members / max(records, 1)
    counted = total * min(share, 1 - share) >= FEWEST_EXPECTED
    together = 1.0
    if counted.sum() > 1:
        rate = inside[counted].sum() / total[counted].sum()
        if 0 < rate < 1:
            variance = total[counted] * rate * (1 - rate)
            squares = (inside[counted] - total[counted] * rate) ** 2 / variance
            together = float(chdtrc(counted.sum() - 1, squares.sum()))
    smallest = min(float(exact[worst]) * len(classes), together)
    one_sided = ((inside == 0) | (inside == total)) & (total > 1)
    return ClassDependence(
        p_value=min(1.0, 2 * smallest),
        label=int(classes[worst]),
        members=int(inside[worst]),
        records=int(total[worst]),
        one_sided=int(one_sided.sum()),
    )


def auc_within_class(
    scores: Scores, member: _Member, labels: _Labels, clusters: Clusters | None = None
) -> Estimate | None:
    """Return the AUC within classes, with its interval and the influence of every record.

    Args:
        scores: Larger = more likely a member.
        member: True for the members.
        labels: Class of each record.
        clusters: As `dense_clusters` returns them; None if all records are independent.

    Returns:
        None if no class has members and non-members.

    Example:
        >>> labels = np.arange(8) // 4
        >>> member = np.array([True, True, True, False, True, False, False, False])
        >>> auc_within_class(labels + 0.0, member, labels).value  # the class alone orders no pair
        0.5
    """
    members, non_members, class_index = _counts(member, labels)
    pairs = float((members * non_members).sum())
    if not pairs:
        return None
    wins = _wins(scores, member, class_index, members, non_members)
    area = float(wins[member].sum() / pairs)

    # (wins_i - A n_c) / pairs and (losses_j - A m_c) / pairs of the module's docstring
    opponents = np.where(member, non_members[class_index], members[class_index])
    outcomes = np.where(member, wins, opponents - wins)
    influence = (outcomes - area * opponents) / pairs

    # n / (n - 1), as DeLong's variance has it, over the records that have an opponent
    counted = opponents > 0
    inflation = np.ones(len(scores))
    for group in (member, ~member):
        count = int((counted & group).sum())
        inflation[group] = count / max(count - 1, 1)
    variance = float((influence**2 * inflation).sum())
    disjoint_pairs = int(np.minimum(members, non_members).sum())
    if clusters is not None:
        figure = clustered_figure(influence, member, clusters)
        influence, variance = figure.influence, figure.unbiased
        clustered = (figure.members.clusters, figure.non_members.clusters)
        disjoint_pairs = min(disjoint_pairs, *clustered)
    low, high = auc_interval(area, np.sqrt(variance), disjoint_pairs, disjoint_pairs)
    return Estimate(area, area, low, high, influence, "delong")


def tpr_within_class(
    scores: Scores,
    member: _Member,
    labels: _Labels,
    fprs: Sequence[float],
) -> dict[float, float]:
    """Return the TPR at each FPR, with weights that make class and membership independent.

    Args:
        scores: Larger = more likely a member.
        member: True for the members.
        labels: Class of each record.
        fprs: False-positive rates, in (0, 1).

    Returns:
        By FPR; without an FPR for which there are too few non-members.
    """
    members, non_members, class_index = _counts(member, labels)
    weight = members * non_members / (members + non_members)
    if not weight.sum():
        return {}
    share = weight / weight.sum()
    per_member = np.where(members > 0, share / np.maximum(members, 1), 0.0)
    per_non_member = np.where(non_members > 0, share / np.maximum(non_members, 1), 0.0)
    member_weights = per_member[class_index] * member
    non_member_weights = per_non_member[class_index] * ~member
    worth = 1 / float((non_member_weights**2).sum())

    # the weighted ROC, ties being one point
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    tpr = np.append(0.0, np.cumsum(member_weights[order])[last])
    fpr = np.append(0.0, np.cumsum(non_member_weights[order])[last])
    rates = {}
    for alpha in fprs:
        if why_unmeasurable(alpha, int(worth + 1e-9)) is None:
            point = int(np.searchsorted(fpr, alpha * (1 + 1e-12), side="right")) - 1
            rates[alpha] = float(min(tpr[point], 1.0))
    return rates


def _counts(
    member: _Member,
    labels: _Labels,
) -> tuple[_Counts, _Counts, Int64[np.ndarray, "records"]]:
    """Return members and non-members per class, and the index of every record's class."""
    _, class_index = np.unique(labels, return_inverse=True)
    inside = np.bincount(class_index, member).astype(np.int64)
    return inside, np.bincount(class_index) - inside, class_index.astype(np.int64)


def _wins(
    scores: Scores,
    member: _Member,
    class_index: Int64[np.ndarray, "records"],
    members: _Counts,
    non_members: _Counts,
) -> Float64[np.ndarray, "records"]:
    """Return how many of its class and the opposite group each record outscores, ties half."""
    from scipy.stats import rankdata  # here, since it takes long

    # ranks class after class: dense ranks of the scores, shifted so that classes do not meet
    dense = rankdata(scores, "dense").astype(np.float64)
    place = class_index * (len(scores) + 1.0) + dense
    both = members + non_members
    among_class = rankdata(place) - (np.cumsum(both) - both)[class_index]

    # a record's rank in its class, less its rank in its group of the class, counts its opponents
    among_group = np.empty(len(scores))
    for group, counts in ((member, members), (~member, non_members)):
        before = np.cumsum(counts) - counts
        among_group[group] = rankdata(place[group]) - before[class_index[group]]
    return among_class - among_group
