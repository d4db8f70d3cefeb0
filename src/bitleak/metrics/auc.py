"""The AUC of one target and its DeLong interval.

With members' scores X_i and non-members' Y_j, the placements are V_i = P(Y < X_i) and W_j = P(X > Y_j),
a tie counting half. Their means are both the AUC, and

    var(AUC) = var(V) / members + var(W) / non-members

(DeLong, DeLong and Clarke-Pearson 1988, eq. 5; in O(n log n) by counting instead of comparing all
pairs, Sun and Xu 2014). The influence of a member is (V_i - AUC) / members, of a non-member
(W_j - AUC) / non-members, so DeLong's variance is the infinitesimal jackknife's but for n / (n - 1).

The interval is symmetric on the log-odds of the AUC, which keeps it inside (0, 1) and covers better
near the ends (Pepe 2003, section 5.2). Where every member outscores every non-member the variance is
0 and says nothing. Then m = min(members, non-members) disjoint pairs were all won, which has chance
AUC^m, so the lower end is 0.025^(1/m) and the upper end 1; mirrored for AUC = 0. Scores that are all
equal have an AUC of 0.5 for certain, and the interval is that point.
"""

import numpy as np
from scipy.special import expit, logit

from bitleak.metrics.estimate import Estimate, Z
from bitleak.metrics.roc import Roc, auc


def delong(curve: Roc) -> Estimate:
    """The AUC with its DeLong interval and the influence of every record.

    Args:
        curve: One target's ROC.

    Returns:
        An `Estimate` whose `centre` is its `value`.

    Example:
        >>> from bitleak.metrics.roc import roc
        >>> scores, member = np.arange(40) % 7 + 0.0, np.arange(40) % 3 == 0
        >>> estimate = delong(roc(scores, member))
        >>> estimate.low < estimate.value < estimate.high
        True
    """
    area, members, non_members = auc(curve), curve.members, curve.non_members
    below = 1 - (curve.fpr[1:] + curve.fpr[:-1]) / 2  # share of non-members outscored, ties half
    above = (curve.tpr[1:] + curve.tpr[:-1]) / 2  # share of members that outscore
    group = curve.point - 1
    placement = np.where(curve.member, below[group], above[group]) - area
    influence = placement / np.where(curve.member, members, non_members)
    inflation = np.where(curve.member, members / max(members - 1, 1), non_members / max(non_members - 1, 1))
    variance = float((influence**2 * inflation).sum())
    low, high = ends(area, np.sqrt(variance), min(members, non_members))
    return Estimate(area, area, low, high, influence, "delong")


def ends(area: float, deviation: float, pairs: int) -> tuple[float, float]:
    """The interval of an AUC with a deviation; `pairs`: disjoint pairs that were all won or lost if it is 1 or 0."""
    if area == 1.0:
        return float(0.025 ** (1 / pairs)), 1.0
    if area == 0.0:
        return 0.0, float(1 - 0.025 ** (1 / pairs))
    reach = Z * deviation / (area * (1 - area))
    return float(expit(logit(area) - reach)), float(expit(logit(area) + reach))
