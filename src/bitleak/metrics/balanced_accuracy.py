"""The balanced accuracy of the best threshold, with an interval for its value in the population.

The largest balanced accuracy over all thresholds is optimistic: on pure noise it is 0.5 plus half
the Kolmogorov-Smirnov distance, 0.514 at 2,000 records, and that bias does not average out over
targets.

So the records are halved at random, the threshold that is best on one half is measured on the
other, and the other way round, over several halvings. The mean C of these is exactly 0.5 on noise.
If the best threshold is well defined, C is too low by as much as half the records miss it by. Then,
with a threshold error of order n^(-1/3) (Kim and Pollard 1990), the optimism of the maximum at n
records is three times the loss of a threshold chosen on n records and used on others (both follow
from the scaling of max (sigma W(t) - a t^2)), and a threshold chosen on n / 2 loses 2^(2/3) as
much, so the truth lies (2^(2/3) / 3) / (1 + 2^(2/3) / 3) = 0.346 of the way from C to the maximum
M. Hence

    centre = C + 0.346 w (M - C),    w = clip((z - 1) / 2, 0, 1),    z = (C - 1/2) / se(C),

which is C if the attack finds nothing and the corrected value if it finds something. The interval
is centre +- 1.96 sqrt(se^2 + c (M - C)^2): by the envelope theorem the choice of threshold adds
nothing of first order to se; the second term is its effect at these sizes. Its factor is fitted
to simulations: 0.25 above, since C may be too low; below, 0.1 at w = 0, which rises to 0.25 at
w = 1. In differences both reaches are brought halfway to the smaller one.

*Scores of two values*, such as whether the target is right, have one threshold, and nothing is
chosen: C is its balanced accuracy on all records, without a halving. (With few errors a half often
chose the trivial threshold, which took a quarter of the excess, and the interval of a mean of 8
targets covered 88 %.)

Influence: (share of halvings in which the record is called a member - TPR) / (2 members) for a
member, -(that share - FPR) / (2 non-members) for a non-member. Cost: O(halvings records) after the
sort.

*Near 1/2*, the least value that the figure can have, the interval is a different one. The estimate,
normal around the truth, is below 1/2 half of the time on noise. The usual interval, cut at 1/2,
then misses on one side only and covers 97.5 % instead of 95 %, and if it lies below 1/2 as a whole,
nothing is left of it. Feldman and Cousins (1998, arXiv physics/9711021, section IV B) order the
values x that may be seen, in standard errors above the limit, by

    R(x) = P(x | mu) / P(x | max(x, 0))

and accept for every mu >= 0 the most likely ones by R until they have 95 %; the interval of x holds
the mu that accept it. It covers 95 % at every mu, starts at 0 for x <= 1.645, and is x +- 1.96 from
x = 3.92 on. For mu < 1.96 the accepted values run from (mu^2 - d^2) / (2 mu) to mu + d, where both
ends have the same R, with d solving Phi(d) - Phi((mu^2 - d^2) / (2 mu) - mu) = 0.95.

Cost: a table of `TABLE_POINTS` values, made once; an interval is two interpolations in it.
"""

from functools import cache

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import ndtr

from bitleak.metrics.clusters import Clusters, clustered_figure
from bitleak.metrics.estimates import Estimate, Z
from bitleak.metrics.roc import Roc, best_balanced_accuracy
from bitleak.metrics.ties import rare_reach

HALVINGS = 8
WAY_TO_MAXIMUM = (2 ** (2 / 3) / 3) / (1 + 2 ** (2 / 3) / 3)
CHOICE = (0.1, 0.25)
"""Share of (M - C)^2 in the variance from below: at w = 0 and at w = 1; from above the second."""

TABLE_POINTS = 4001
"""Means in the table of accepted estimates."""

LIMIT_BISECTIONS = 50

_Means = Float64[np.ndarray, "means"]


def random_halvings(
    records: int, seed: int, clusters: Clusters | None = None
) -> Bool[np.ndarray, "halvings records"]:
    """Return the halvings for `estimate_balanced_accuracy`, a function of the arguments alone.

    Args:
        records: Number of records.
        seed: Seed for the draw.
        clusters: Records that stay together; None if all are independent.
    """
    units = records if clusters is None else int(clusters.max()) + 1
    halves = np.random.default_rng(seed).random((HALVINGS, units)) < 0.5
    return halves if clusters is None else halves[:, clusters]


def estimate_balanced_accuracy(
    curve: Roc,
    halves: Bool[np.ndarray, "halvings records"],
) -> Estimate:
    """Return the balanced accuracy of the best threshold, its optimism kept out of the interval.

    Args:
        curve: One target's ROC.
        halves: True for the records of one half; from `random_halvings`, and equal for all figures
            that are compared.

    Returns:
        An `Estimate` whose `value` is the plain maximum.

    Example:
        >>> from bitleak.metrics.roc import roc
        >>> noise, member = np.random.default_rng(0).random(2000), np.arange(2000) % 2 == 0
        >>> estimate = estimate_balanced_accuracy(roc(noise, member), random_halvings(2000, seed=0))
        >>> bool(estimate.value > 0.51), bool(estimate.low < 0.5 < estimate.high)
        (True, True)
    """
    called = _called_by_the_other_half(curve, halves)
    tpr, fpr = called[curve.member].mean(), called[~curve.member].mean()
    influence = np.where(
        curve.member,
        (called - tpr) / (2 * curve.members),
        -(called - fpr) / (2 * curve.non_members),
    )
    variance = float((influence**2).sum())
    if curve.clusters is not None:
        figure = clustered_figure(influence, curve.member, curve.clusters)
        influence, variance = figure.influence, figure.variance

    # C, M and w of the module's docstring
    out_of_half, maximum = (1 + tpr - fpr) / 2, best_balanced_accuracy(curve)
    excess = (out_of_half - 0.5) / max(np.sqrt(variance), 1e-12)
    weight = float(np.clip((excess - 1) / 2, 0, 1))
    centre = float(out_of_half + WAY_TO_MAXIMUM * weight * (maximum - out_of_half))

    optimism = (maximum - out_of_half) ** 2
    choice_below = float(np.interp(weight, (0, 1), CHOICE) * optimism)
    choice_above = float(CHOICE[1] * optimism)
    rare_below, rare_above = rare_reach(curve)
    below = max(Z * float(np.sqrt(variance + choice_below)), rare_below)
    above = max(Z * float(np.sqrt(variance + choice_above)), rare_above)
    return Estimate(
        value=maximum,
        centre=centre,
        low=centre - below,
        high=centre + above,
        influence=influence,
        interval="halvings",
        limits=(0.5, 1.0),
        choice_variance=choice_below,
        pairing=float(np.sqrt(2 * below / (below + above))) if above > 0 else 1.0,
        reaches_limit=True,
    )


def _called_by_the_other_half(
    curve: Roc, halves: Bool[np.ndarray, "halvings records"]
) -> Float64[np.ndarray, "records"]:
    """Return the share of halvings whose other half's best threshold calls a record a member."""
    # the first point calls no record a member, the last one every record
    if len(curve.true_positives) == 3:
        above_only = int(curve.true_positives[1] + curve.false_positives[1])
        called_alone = np.zeros(len(curve.order))
        called_alone[curve.order[:above_only]] = 1.0
        return called_alone
    # along the records by descending score a threshold calls the first ones: all is sums from left
    all_members = curve.true_positives.astype(np.int32)
    all_non_members = curve.false_positives.astype(np.int32)
    above = all_members + all_non_members  # records above each point's threshold
    is_member = curve.member[curve.order]
    called = np.zeros(len(is_member), np.int32)
    member_sums, record_sums = (np.zeros(len(is_member) + 1, np.int32) for _ in range(2))
    tied = len(above) < len(record_sums)  # with ties there are fewer points than records
    for half in halves:
        inside = half[curve.order]
        np.cumsum(inside, out=record_sums[1:])
        np.cumsum(inside & is_member, out=member_sums[1:])
        members = member_sums[above] if tied else member_sums
        non_members = (record_sums[above] if tied else record_sums) - members
        inside_best = above[_best_point(members, non_members)]
        outside_best = above[_best_point(all_members - members, all_non_members - non_members)]
        called[:outside_best] += inside[:outside_best]
        called[:inside_best] += ~inside[:inside_best]
    share = np.empty(len(called))
    share[curve.order] = called / len(halves)
    return share


def _best_point(true_positives: np.ndarray, false_positives: np.ndarray) -> int:
    tpr = true_positives / max(true_positives[-1], 1)
    return int(np.argmax(tpr - false_positives / max(false_positives[-1], 1)))


def interval_near_limit(above: float) -> tuple[float, float]:
    """Return the 95 % interval of a normal mean that is at least 0.

    Args:
        above: The estimate, in its standard errors; may be negative.

    Returns:
        Both ends, in standard errors.

    Example:
        >>> [tuple(round(end, 2) for end in interval_near_limit(x)) for x in (-1.0, 0.0, 2.0, 5.0)]
        [(0.0, 1.1), (0.0, 1.96), (0.35, 3.96), (3.04, 6.96)]
    """
    if above >= 2 * Z:
        return above - Z, above + Z
    mean, lowest, highest = _accepted()
    low = float(np.interp(above, highest, mean, left=0.0))
    return low, above + Z if above >= 0 else float(np.interp(above, lowest, mean))


@cache
def _accepted() -> tuple[_Means, _Means, _Means]:
    """Return means from near 0 to 1.96, and the least and the largest estimate each accepts."""
    mean = np.linspace(0, Z, TABLE_POINTS)[1:]
    low, high = np.zeros_like(mean), np.full_like(mean, Z)
    for _ in range(LIMIT_BISECTIONS):
        middle = (low + high) / 2
        enough = ndtr(middle) - ndtr(_least(mean, middle) - mean) > 2 * ndtr(Z) - 1
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return mean, _least(mean, high), mean + high


def _least(mean: _Means, reach: _Means) -> _Means:
    return (mean**2 - reach**2) / (2 * mean)
