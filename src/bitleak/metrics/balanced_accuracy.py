"""The balanced accuracy of the best threshold, with an interval for its value in the population.

The largest balanced accuracy over all thresholds is optimistic: on pure noise it is 0.5 plus half the
Kolmogorov-Smirnov distance, 0.514 at 2,000 records, and that bias does not average out over targets.

So the records are halved at random, the threshold that is best on one half is measured on the other,
and the other way round, over several halvings. The mean C of these is exactly 0.5 on noise. Where the best
threshold is well defined, C is too low by as much as half the records miss it by. There, with a
threshold error of order n^(-1/3) (Kim and Pollard 1990), the optimism of the maximum at n records
is three times the loss of a threshold chosen on n records and used on others (both follow from the scaling of
max (sigma W(t) - a t^2)), and a threshold chosen on n / 2 loses 2^(2/3) as much, so the truth lies
(2^(2/3) / 3) / (1 + 2^(2/3) / 3) = 0.346 of the way from C to the maximum M. Hence

    centre = C + 0.346 w (M - C),    w = clip((z - 1) / 2, 0, 1),    z = (C - 1/2) / se(C),

which is C where nothing is found and the corrected value where something is. The interval is
centre +- 1.96 sqrt(se^2 + c (M - C)^2): by the envelope theorem the choice of threshold adds nothing of first order
to se; the second term is what it adds at these sizes. Its factor is fitted to simulations: 0.25 above, where C may be
too low; 0.1 below where nothing is found (w = 0), which rises to 0.25 where something is (w = 1). In differences both
reaches are brought halfway to the smaller one. Near 1/2, the least that the figure can be, the interval is that of
`interval_near_limit`.

Influence: (share of halvings in which the record is called a member - TPR) / (2 members) for a member,
-(that - FPR) / (2 non-members) for a non-member. Cost: O(halvings records) after the sort.

Intervals for a figure that lies near the least value it can have.

The balanced accuracy of the best threshold is never below 1/2 in the population, but its estimate, normal around the
truth, is below 1/2 half of the time on noise. The usual interval, cut at 1/2, then misses on one side only and covers
97.5 % instead of 95 %, and where it lies below 1/2 as a whole nothing is left of it. Feldman and Cousins (1998,
arXiv physics/9711021, section IV B) order the values x that may be seen, in standard errors above the limit, by

    R(x) = P(x | mu) / P(x | max(x, 0))

and accept for every mu >= 0 the most likely ones by R until they have 95 %; the interval of x holds the mu that accept
it. It covers 95 % at every mu, starts at 0 for x <= 1.645, and is x +- 1.96 from x = 3.92 on. For mu < 1.96 the
accepted values run from (mu^2 - d^2) / (2 mu) to mu + d, where both ends have the same R, with d solving
Phi(d) - Phi((mu^2 - d^2) / (2 mu) - mu) = 0.95.

Cost: a table of `POINTS` values, made once; an interval is two interpolations in it.
"""

from functools import cache

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import ndtr

from bitleak.metrics.estimates import Estimate, Z
from bitleak.metrics.roc import Roc, best_balanced_accuracy

HALVINGS = 8
WAY_TO_MAXIMUM = (2 ** (2 / 3) / 3) / (1 + 2 ** (2 / 3) / 3)
CHOICE = (0.1, 0.25)
"""Share of (M - C)^2 in the variance, where nothing is found and from below, and otherwise."""


def random_halvings(records: int, seed: int) -> Bool[np.ndarray, "halvings records"]:
    """The halvings that `estimate_balanced_accuracy` wants: the same for the same number of records and seed."""
    return np.random.default_rng(seed).random((HALVINGS, records)) < 0.5


def estimate_balanced_accuracy(curve: Roc, halves: Bool[np.ndarray, "halvings records"]) -> Estimate:
    """The balanced accuracy of the best threshold, its optimism kept out of the interval.

    Args:
        curve: One target's ROC.
        halves: True for the records of one half; from `halvings`, the same for all that is compared.

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
    influence = np.where(curve.member, (called - tpr) / (2 * curve.members), -(called - fpr) / (2 * curve.non_members))
    crossed, maximum = (1 + tpr - fpr) / 2, best_balanced_accuracy(curve)
    variance = float((influence**2).sum())
    found = float(np.clip(((crossed - 0.5) / max(np.sqrt(variance), 1e-12) - 1) / 2, 0, 1))
    least, most = (float(share * (maximum - crossed) ** 2) for share in (np.interp(found, (0, 1), CHOICE), CHOICE[1]))
    below, above = (Z * float(np.sqrt(variance + choice)) for choice in (least, most))
    centre = float(crossed + WAY_TO_MAXIMUM * found * (maximum - crossed))
    return Estimate(
        value=maximum,
        centre=centre,
        low=centre - below,
        high=centre + above,
        influence=influence,
        interval="halvings",
        limits=(0.5, 1.0),
        choice_variance=least,
        pairing=float(np.sqrt(2 * below / (below + above))) if above > 0 else 1.0,
        reaches_limit=True,
    )


def _called_by_the_other_half(
    curve: Roc, halves: Bool[np.ndarray, "halvings records"]
) -> Float64[np.ndarray, "records"]:
    """In how many of the halvings the threshold that is best on the other half calls a record a member, as a share.

    Along the records by descending score, of which a threshold calls the first ones: everything is sums from the left.
    """
    all_members, all_others = (each.astype(np.int32) for each in (curve.true_positives, curve.false_positives))
    above, is_member = all_members + all_others, curve.member[curve.order]  # records above each point's threshold
    called = np.zeros(len(is_member), np.int32)
    members, both = (np.zeros(len(is_member) + 1, np.int32) for _ in range(2))
    for half in halves:
        inside = half[curve.order]
        np.cumsum(inside, out=both[1:])
        np.cumsum(inside & is_member, out=members[1:])
        found = members[above] if len(above) < len(both) else members  # with ties there are fewer points than records
        others = (both[above] if len(above) < len(both) else both) - found
        of_inside = above[_best_point(found, others)]
        of_outside = above[_best_point(all_members - found, all_others - others)]
        called[:of_outside] += inside[:of_outside]
        called[:of_inside] += ~inside[:of_inside]
    share = np.empty(len(called))
    share[curve.order] = called / len(halves)
    return share


def _best_point(true_positives: np.ndarray, false_positives: np.ndarray) -> int:
    tpr = true_positives / max(true_positives[-1], 1)
    return int(np.argmax(tpr - false_positives / max(false_positives[-1], 1)))


POINTS = 4001
BISECTIONS = 50


def interval_near_limit(above: float) -> tuple[float, float]:
    """The 95 % interval of a normal mean that is at least 0.

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
def _accepted() -> tuple[Float64[np.ndarray, "means"], Float64[np.ndarray, "means"], Float64[np.ndarray, "means"]]:
    """Means from near 0 to 1.96, and the least and the largest estimate that each accepts."""
    mean = np.linspace(0, Z, POINTS)[1:]
    low, high = np.zeros_like(mean), np.full_like(mean, Z)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        enough = ndtr(middle) - ndtr(_least(mean, middle) - mean) > 2 * ndtr(Z) - 1
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return mean, _least(mean, high), mean + high


def _least(mean: Float64[np.ndarray, "means"], reach: Float64[np.ndarray, "means"]) -> Float64[np.ndarray, "means"]:
    return (mean**2 - reach**2) / (2 * mean)
