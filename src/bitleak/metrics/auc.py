"""The AUC of one target: its value, DeLong's interval, and the smallest one that would be noticed.

With members' scores X_i and non-members' Y_j, the placements are V_i = P(Y < X_i) and
W_j = P(X > Y_j), a tie counting half. Their means are both the AUC, and

    var(AUC) = var(V) / members + var(W) / non-members

(DeLong, DeLong and Clarke-Pearson 1988, eq. 5; in O(n log n) by counting instead of comparing all
pairs, Sun and Xu 2014). The influence of a member is (V_i - AUC) / members, of a non-member
(W_j - AUC) / non-members, so DeLong's variance is the infinitesimal jackknife's but for
n / (n - 1).

The interval is symmetric on the log-odds of the AUC, which keeps it inside (0, 1) and covers better
near the ends (Pepe 2003, section 5.2). If every member outscores every non-member, the variance is
0 and says nothing. Then m = min(members, non-members) disjoint pairs were all won, which has chance
AUC^m, so the lower end is 0.025^(1/m) and the upper end 1; mirrored for AUC = 0.

With fewer than `FEW` members or non-members DeLong's variance is itself too uncertain: placements of
two or three members may lie near each other by chance. There the interval has Student's quantile for
m - 1 degrees of freedom, and reaches at least as far as that of Newcombe (2006, method 5), all A with

    |AUC - A| <= z sqrt(A (1 - A) (1 + (N - 1) ((1 - A) / (2 - A) + A / (1 + A))) / (members non-members)),

N being the mean of the two numbers: Hanley and McNeil's (1982) variance, taken at A. If more than half
of the records have the same score, the interval reaches at least as far as rare scores may move it
(`ties`), all scores being equal included.

*The smallest AUC that would be noticed* bounds a leak that "no leak was found" may hide. If the
scores say nothing, the AUC of one target with m members and n non-members has the mean 1/2 and,
without ties,

    var_0 = (m + n + 1) / (12 m n)

(Mann and Whitney 1947; Hanley and McNeil's 1982 and DeLong's variance at 1/2 tend to it). A test at
level a with power b notices

    AUC = 1/2 + (z(1 - a / 2) + z(b)) sqrt(var_0),

the variance being taken at 1/2 under both hypotheses, right to first order: an AUC of this size is
near it. The mean over T targets has the variance var_0 (1 + (T - 1) rho) / T, where rho is the mean
correlation between two targets' AUCs: 0 for independent halves of the records, also if
the records' scores depend on each other.

For models trained anew (`trainings`) the deviation s over targets is estimated and its quantile is
Student's, so that with A the mean's variance and reach(s) that of the interval, the power is

    E[ Phi((AUC - 1/2 - reach(s)) / sqrt(A)) ],    s^2 = var_0 (1 - rho) chi^2(T - 1) / (T (T - 1)),

computed over `POWER_NODES` quantiles of s. The trainings are taken to add no variance: if they do,
less is noticed.
"""

import math

import numpy as np
from scipy.special import expit, gammaincinv, logit, ndtr, ndtri, stdtrit

from bitleak.core.checks import integer_in, number_in
from bitleak.core.types import About
from bitleak.metrics.clusters import clustered_figure
from bitleak.metrics.estimates import Estimate, Z
from bitleak.metrics.roc import Roc
from bitleak.metrics.ties import rare_reach
from bitleak.metrics.trainings import FEWEST_TARGETS

FEW = 100
"""Members or non-members below which DeLong's interval is widened."""

POWER_NODES = 400
"""Quantiles of the deviation over targets that a power is averaged over."""


def auc(curve: Roc) -> float:
    """Return the area under the curve: the chance that a member outscores a non-member, ties half.

    Example:
        >>> from bitleak.metrics.roc import roc
        >>> auc(roc(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False])))
        0.875
    """
    false_steps = np.diff(curve.false_positives)
    doubled = false_steps @ (curve.true_positives[1:] + curve.true_positives[:-1])
    return float(doubled / (2 * curve.members * curve.non_members))


def estimate_auc(curve: Roc) -> Estimate:
    """Return the AUC with its DeLong interval and the influence of every record.

    Args:
        curve: One target's ROC.

    Returns:
        An `Estimate` whose `centre` is its `value`; with clusters, of Obuchowski's variance
        (`clusters`), and with an influence per cluster.

    Example:
        >>> from bitleak.metrics.roc import roc
        >>> scores, member = np.arange(40) % 7 + 0.0, np.arange(40) % 3 == 0
        >>> estimate = estimate_auc(roc(scores, member))
        >>> estimate.low < estimate.value < estimate.high
        True
    """
    area, members, non_members = auc(curve), curve.members, curve.non_members
    below = 1 - (curve.fpr[1:] + curve.fpr[:-1]) / 2  # share of non-members outscored, ties half
    above = (curve.tpr[1:] + curve.tpr[:-1]) / 2  # share of members that outscore
    group = curve.point - 1
    placement = np.where(curve.member, below[group], above[group]) - area
    influence = placement / np.where(curve.member, members, non_members)
    if curve.clusters is None:
        # n / (n - 1): from the infinitesimal jackknife's variance to DeLong's
        member_inflation = members / max(members - 1, 1)
        inflation = np.where(curve.member, member_inflation, non_members / max(non_members - 1, 1))
        variance = float((influence**2 * inflation).sum())
        low, high = auc_interval(area, np.sqrt(variance), members, non_members)
    else:
        figure = clustered_figure(influence, curve.member, curve.clusters)
        influence = figure.influence
        inside, outside = figure.members.clusters, figure.non_members.clusters
        low, high = auc_interval(area, np.sqrt(figure.unbiased), inside, outside)
    if 0.0 < area < 1.0:
        below_area, above_area = rare_reach(curve)
        low, high = min(low, area - below_area), max(high, area + above_area)
    return Estimate(area, area, low, high, influence, "delong")


def auc_interval(
    area: float, deviation: float, members: int, non_members: int
) -> tuple[float, float]:
    """Return the interval of an AUC.

    Args:
        area: The AUC.
        deviation: Its standard error; not used at 0 and 1, where it says nothing.
        members: Independent members, at least 1; their clusters if there are any.
        non_members: Independent non-members, likewise.

    Example:
        >>> [round(end, 2) for end in auc_interval(0.9, 0.02, 1000, 1000)]
        [0.85, 0.93]
        >>> [round(end, 2) for end in auc_interval(0.9, 0.02, 3, 1000)]
        [0.58, 0.98]
    """
    pairs = min(members, non_members)  # disjoint ones: all won if the AUC is 1, all lost if it is 0
    if area == 1.0:
        return float(0.025 ** (1 / pairs)), 1.0
    if area == 0.0:
        return 0.0, float(1 - 0.025 ** (1 / pairs))
    if pairs == 1:
        return 0.0, 1.0
    quantile = Z if pairs >= FEW else float(stdtrit(pairs - 1, 0.975))
    reach = quantile * deviation / (area * (1 - area))
    low, high = float(expit(logit(area) - reach)), float(expit(logit(area) + reach))
    if pairs >= FEW:
        return low, high
    return (
        min(low, _newcombe_end(area, 0.0, members, non_members)),
        max(high, _newcombe_end(area, 1.0, members, non_members)),
    )


def _newcombe_end(area: float, limit: float, members: int, non_members: int) -> float:
    """Return the end of Newcombe's interval between the AUC and a limit, to 1e-12."""
    mean = (members + non_members) / 2
    inside, outside = area, limit
    while abs(outside - inside) > 1e-12:
        middle = (inside + outside) / 2
        shape = 1 + (mean - 1) * ((1 - middle) / (2 - middle) + middle / (1 + middle))
        error = math.sqrt(middle * (1 - middle) * shape / (members * non_members))
        if abs(area - middle) <= Z * error:
            inside = middle
        else:
            outside = middle
    return inside


def detectable_auc(
    members: int,
    non_members: int,
    *,
    targets: int = 1,
    correlation: int | float = 0.0,
    level: int | float = 0.05,
    power: int | float = 0.8,
    about: About = "records",
) -> float:
    """Return the smallest AUC above 1/2 that an audit of this size notices with the given power.

    Args:
        members: Members of each target.
        non_members: Non-members of each target.
        targets: Number of targets whose AUCs are averaged.
        correlation: Mean correlation between two targets' AUCs, in [0, 1].
        level: Level of the two-sided test, in (0, 1); 0.05 is a 95 % interval that excludes 1/2.
        power: Chance of noticing it, in (0, 1).
        about: `records`: these models on other records; `trainings`: models trained anew.

    Returns:
        In (0.5, 1]; 1 if no AUC is noticed with this power, as with fewer than `FEWEST_TARGETS`
        targets if it is about trainings.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> round(detectable_auc(1000, 1000), 4)
        0.5362
        >>> round(detectable_auc(25_000, 25_000, targets=8), 4)
        0.5026
        >>> round(detectable_auc(25_000, 25_000, targets=8, about="trainings"), 4)
        0.503
    """
    m, n = integer_in("members", members, 1), integer_in("non_members", non_members, 1)
    count = integer_in("targets", targets, 1)
    alike = number_in("correlation", correlation, 0, 1)
    level = number_in("level", level, 0, 1, ends="()")
    power = number_in("power", power, 0, 1, ends="()")
    single = (m + n + 1) / (12 * m * n)
    variance = single * (1 + (count - 1) * alike) / count
    if about == "trainings":
        if count < FEWEST_TARGETS:
            return 1.0
        student = single * (1 - alike) / count
        reach = _reach_over_trainings(student, single / count, variance, count, level, power)
    else:
        reach = float(ndtri(1 - level / 2) + ndtri(power)) * math.sqrt(variance)
    return min(1.0, 0.5 + max(reach, 0.0))


def _reach_over_trainings(
    between: float,
    unshared: float,
    variance: float,
    targets: int,
    level: float,
    power: float,
) -> float:
    """Return the distance from 1/2 that the interval over trainings notices with this power.

    Args:
        between: Expected s^2 of `trainings`.
        unshared: o^2.
        variance: r^2, the variance of the mean.
        targets: Number of targets, T.
        level: Level of the test.
        power: Chance of noticing it.
    """
    from scipy.optimize import brentq  # here, since it takes long

    # s^2 over its quantiles, and v with its degrees of freedom
    chances = (np.arange(POWER_NODES) + 0.5) / POWER_NODES
    squares = between * 2 * gammaincinv((targets - 1) / 2, chances) / (targets - 1)
    total = variance + np.maximum(0.0, squares - unshared)
    satterthwaite = total**2 * (targets - 1) / np.maximum(squares, 1e-300) ** 2
    freedom = np.where(squares > unshared, satterthwaite, np.inf)

    student = stdtrit(targets - 1, 1 - level / 2) * np.sqrt(squares)
    quantile = np.full(POWER_NODES, float(ndtri(1 - level / 2)))
    finite = np.isfinite(freedom)
    quantile[finite] = stdtrit(freedom[finite], 1 - level / 2)
    reaches = np.maximum(student, quantile * np.sqrt(total))

    def lacking(distance: float) -> float:
        return power - float(ndtr((distance - reaches) / deviation).mean())

    deviation = math.sqrt(variance)
    span = float(reaches.max()) + 10 * deviation
    return float(brentq(lacking, -span, span))


def doubling_counts(largest: int) -> list[int]:
    """Return 1, 2, 4, ... and `largest`: the numbers of references at which power is measured.

    Example:
        >>> doubling_counts(7), doubling_counts(2)
        ([1, 2, 4, 7], [1, 2])
    """
    counts: list[int] = []
    while 2 ** len(counts) < largest:
        counts.append(2 ** len(counts))
    return [*counts, largest]
