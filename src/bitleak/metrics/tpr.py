"""The TPR of one target at a given FPR, with an interval that includes the error of the threshold.

The threshold whose true FPR is exactly alpha is unknown, but how many of the n non-members lie
above it is not: K ~ Binomial(n, alpha) for every distribution of the scores. So it lies between
the K-th and the (K+1)-th largest non-member score. Given the threshold, the number M of members
above it is binomial, and Jeffreys' Beta(M + 1/2, members - M + 1/2) is a distribution for the TPR.
Mixing both,

    P(TPR <= x) = sum_k Binomial(k; n, alpha) [ F(x; lower_k) + F(x; upper_k) ] / 2,

where lower_k and upper_k count the members above the K-th and above the (K+1)-th largest non-member
score (between which M is unknown), and F(.; M) is the Beta distribution. The interval runs from the
2.5 % to the 97.5 % quantile of this mixture. Clopper-Pearson at the observed threshold leaves out
the sum over k and covers 44 to 64 % instead of 95 %.

Deviations. F is computed on the arcsine scale,

    arcsin sqrt(x) ~ N(arcsin sqrt((M + 3/8) / (members + 3/4)), 1 / (4 members + 2))

(Anscombe 1948), which agrees with the Beta quantiles to about 2 % of the interval's width even at
M = 0 and is twenty times faster. If K = 0 has a chance of 2.5 % or more (fewer than 3.7 expected
false positives), the interval reaches down to 0, and with fewer than 1 no difference is claimed
either. The *centre* is the mixture's mean: the rule "last point with FPR <= alpha" uses a threshold
whose FPR is on average (n alpha + 1) / (n + 1), a bias that would not average out over targets.

Influence of the centre: with a_r the chance under K that record r lies above the threshold,

    (a_r - mean of a over the members) / members                     for a member,
    -slope (a_r - mean of a over the non-members) / non-members      for a non-member,

the slope of the ROC at alpha being the secant over one standard deviation of K on either side. The
centre's error is that of the influence, up to 20 % smaller than the mixture's reach, which a single
target needs because K is a whole number. In differences the reach is brought halfway to it (their
geometric mean) if it is known from below.

With clusters the numbers of members and of non-members are effective ones, by the design effects of
the two shares above the threshold (`clusters`). One cluster of members, or of non-members, says nothing:
the interval is then open.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr

from bitleak.core.checks import integer_in, number_in
from bitleak.metrics.clusters import clustered_figure, design_effect
from bitleak.metrics.estimates import Estimate, Z
from bitleak.metrics.roc import Roc
from bitleak.metrics.ties import step_at

NODES = 64
"""Ranks of the threshold that the mixture is computed at, at most."""

TPR_STEPS = 60
_EXACT = 1e-9
"""Newton's steps at most, and the step on the arcsine scale at which they end."""

ENOUGH_FALSE_POSITIVES = 10
"""Expected false positives from which on a TPR at an FPR is fit for a headline."""


def tpr_at(curve: Roc, fpr: float) -> float:
    """Return the true-positive rate at the last point with FPR <= `fpr`, in [0, 1].

    Raises:
        ValueError: `fpr` is not a number in [0, 1].
    """
    return float(curve.tpr[curve.last_point(number_in("fpr", fpr, 0.0, 1.0))])


def why_unmeasurable(fpr: int | float, non_members: int) -> str | None:
    """Return why the TPR at this FPR cannot be measured; None if it can.

    It takes at least one expected false positive: below that the rule "last point with FPR <=
    alpha" allows none, and the TPR it gives is that of an FPR which is not known.

    Args:
        fpr: False-positive rate, in (0, 1).
        non_members: Non-members of a target.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> why_unmeasurable(0.001, 1000) is None
        True
        >>> why_unmeasurable(1e-5, 25_000)
        'an FPR of 1e-05 needs at least 100,000 non-members, got 25,000'
    """
    number_in("fpr", fpr, 0.0, 1.0, ends="()")
    if fpr * integer_in("non_members", non_members, 1) >= 1 - 1e-9:
        return None
    needed = math.ceil(1 / fpr - 1e-9 / fpr)
    return f"an FPR of {fpr:g} needs at least {needed:,} non-members, got {non_members:,}"


def headline_fpr(fprs: Sequence[float], non_members: int) -> float:
    """Return the smallest FPR with 10 or more expected false positives, else the largest.

    Example:
        >>> headline_fpr((0.001, 0.01), 2000), headline_fpr((0.001, 0.01), 500)
        (0.01, 0.01)
        >>> headline_fpr((0.001, 0.01), 25_000)
        0.001
    """
    enough = [fpr for fpr in fprs if fpr * non_members >= ENOUGH_FALSE_POSITIVES - 1e-9]
    return min(enough, default=max(fprs))


def estimate_tpr(curve: Roc, fpr: float) -> Estimate:
    """Return the TPR at `fpr` with an interval for the population's TPR at exactly that FPR.

    Args:
        curve: One target's ROC.
        fpr: False-positive rate, in (0, 1).

    Returns:
        An estimate with the FPR obtained. If tied scores make a step of the ROC there, it has the
        other end of the step, and its interval says nothing (see `ties`).

    Raises:
        ValueError: `fpr` is out of range.

    Example:
        >>> from bitleak.metrics.roc import roc
        >>> scores, member = np.arange(1000) / 1000, np.arange(1000) % 2 == 0
        >>> estimate = estimate_tpr(roc(scores, member), 0.1)
        >>> round(estimate.value, 2), estimate.low < 0.1 < estimate.high
        (0.1, True)
    """
    number_in("fpr", fpr, 0.0, 1.0, ends="()")
    effects = _design_effects(curve, fpr)
    non_members = max(1, round(curve.non_members / effects.non_members))
    ranks, chance = _ranks(non_members, fpr)
    above = ranks * (curve.non_members / non_members)
    lower, upper = _members_above(curve, above)
    counts = np.concatenate([lower, upper])
    weights = np.concatenate([chance, chance]) / 2
    low, high = _quantiles(counts / effects.members, weights, curve.members / effects.members)
    influence = _influence(curve, fpr, above, chance, non_members)
    centre = float(weights @ counts / curve.members)
    width = 2 * Z * np.sqrt(influence @ influence)
    known = True
    if curve.clusters is not None:
        # clusters with members and non-members move the TPR and its threshold together
        figure = clustered_figure(influence, curve.member, curve.clusters)
        width, influence = 2 * Z * np.sqrt(figure.variance), figure.influence
        low = centre - figure.shared_part * (centre - low)
        high = centre + figure.shared_part * (high - centre)
        known = min(figure.members.clusters, figure.non_members.clusters) > 1

    # P(K = 0): from 2.5 % on the data do not bound the threshold from above, nor the TPR from below
    none_above = (1 - fpr) ** non_members
    point = curve.last_point(fpr)
    step = step_at(curve, fpr, high - low, non_members=non_members)
    return Estimate(
        value=float(curve.tpr[point]),
        centre=centre,
        low=low if known and fpr * non_members >= 1 - 1e-9 else -np.inf,
        high=high if known else np.inf,
        influence=influence,
        interval="threshold_rank",
        pairing=_pairing(width, high - low) if known and none_above <= 0.025 else 1.0,
        bounded_below=none_above <= 0.025,
        fpr=float(curve.fpr[point]),
        step_fpr=math.nan if step is None else step.fpr,
        step_value=math.nan if step is None else step.tpr,
    )


class _DesignEffects(NamedTuple):
    """Records that count as an independent one, of the members and of the non-members."""

    members: float
    non_members: float


def _design_effects(curve: Roc, fpr: float) -> _DesignEffects:
    """Return the design effects of the shares above the threshold (`clusters`); 1 without clusters.

    The shares are those above a threshold that is uncertain by the rank of independent records.
    """
    if curve.clusters is None:
        return _DesignEffects(1.0, 1.0)
    above = _chance_above(curve, *_ranks(curve.non_members, fpr))
    members = design_effect(above, curve.member, curve.clusters)
    return _DesignEffects(members, design_effect(above, ~curve.member, curve.clusters))


def _pairing(width_of_influence: float, width: float) -> float:
    ratio = width_of_influence / max(width, 1e-12)
    return float(np.sqrt(np.clip(ratio, 0.1, 1.0)))


@lru_cache(maxsize=64)
def _ranks(non_members: int, fpr: float) -> tuple[np.ndarray, np.ndarray]:
    """Return counts of non-members that may lie above the true threshold, and their chances."""
    from scipy.stats import binom  # here, since it takes long

    first, last = (int(binom.ppf(chance, non_members, fpr)) for chance in (1e-5, 1 - 1e-5))
    ranks = np.unique(np.linspace(first, last, min(NODES, last - first + 1)).round().astype(int))
    ends = np.append((ranks[1:] + ranks[:-1]) // 2, non_members)
    return ranks, np.diff(binom.cdf(ends, non_members, fpr), prepend=0.0)


def _members_above(curve: Roc, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the members above the k-th and above the (k+1)-th largest non-member score."""
    upper = curve.true_positives[np.searchsorted(curve.false_positives, ranks, side="right") - 1]
    lower = curve.true_positives[np.searchsorted(curve.false_positives, ranks, side="left")]
    return np.minimum(lower, upper), upper  # inside a tie the threshold lies above the tie


def _quantiles(
    counts: np.ndarray, weights: np.ndarray, members: int | float
) -> tuple[float, float]:
    """Return the mixture's 2.5 % and 97.5 % quantiles, by Newton's steps on the arcsine scale."""
    middles = np.arcsin(np.sqrt((counts + 3 / 8) / (members + 3 / 4)))
    precision = np.sqrt(4 * members + 2)
    goals = np.array([0.025, 0.975])
    low, high = np.zeros(2), np.full(2, np.pi / 2)
    mean = weights @ middles
    place = mean + np.array([-Z, Z]) * np.sqrt(weights @ (middles - mean) ** 2 + precision**-2)
    for _ in range(TPR_STEPS):
        # a step that leaves the bracket of the quantile is replaced by the bracket's middle
        place = np.where((low < place) & (place < high), place, (low + high) / 2)
        away = (place[:, None] - middles) * precision
        excess = ndtr(away) @ weights - goals
        low, high = np.where(excess > 0, low, place), np.where(excess > 0, place, high)
        density = np.exp(-(away**2) / 2) @ weights * (precision / np.sqrt(2 * np.pi))
        step = excess / np.maximum(density, 1e-300)
        place = place - step
        if np.abs(step).max() < _EXACT:
            break
    ends = np.sin(np.clip(place, low, high)) ** 2
    return float(ends[0]), float(ends[1])


def _chance_above(
    curve: Roc, ranks: np.ndarray, chance: np.ndarray
) -> Float64[np.ndarray, "records"]:
    """Return a_r of the module's docstring: the chance that the threshold lies below record r's point."""
    lasts = np.searchsorted(curve.false_positives, ranks, side="right") - 1
    ending = np.bincount(lasts, weights=chance, minlength=len(curve.thresholds))
    return ending[::-1].cumsum()[::-1][curve.point]


def _influence(
    curve: Roc,
    fpr: float,
    ranks: np.ndarray,
    chance: np.ndarray,
    non_members: int,
) -> Float64[np.ndarray, "records"]:
    above = _chance_above(curve, ranks, chance)

    # the slope at alpha: members per non-member, one standard deviation of K to either side
    middle = non_members * fpr
    spread = max(1.0, np.sqrt(non_members * fpr * (1 - fpr)))
    ends = np.clip(middle + np.array([-spread, spread]), 0, non_members).round()
    ends = ends * (curve.non_members / non_members)
    counts = curve.true_positives[np.searchsorted(curve.false_positives, ends, side="right") - 1]
    run = max((ends[1] - ends[0]) / curve.non_members, 1e-12)
    slope = (counts[1] - counts[0]) / curve.members / run

    member_part = (above - above[curve.member].mean()) / curve.members
    non_member_part = -slope * (above - above[~curve.member].mean()) / curve.non_members
    return np.where(curve.member, member_part, non_member_part)
