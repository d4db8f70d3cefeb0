"""Averages over targets and paired differences, the same way for every metric.

*Over records* (the targets of one population share records and references): the interval is that of
resampling records with the same draw for all targets, and holds for these models. With centres e_t, reaches l_t
below and u_t above of the targets' own intervals, and the correlation R_ts of their influences,

    h_t = (u_t + l_t) / 2,   h = sqrt(sum_ts R_ts h_t h_s) / targets,   q = h / mean(h_t),
    low = mean(e) - h + q^2 mean((u_t - l_t) / 2),    high = mean(e) + h + q^2 mean((u_t - l_t) / 2).

The half-widths are combined by the method of variance estimates recovery (Zou and Donner 2008, eq. 4). Deviation:
that method combines l and u each in this way, so that the asymmetry shrinks as the deviation does (q). But an
interval is asymmetric because the variance depends on the value, or the estimate is skewed, and both make it
asymmetric by an amount that goes with the variance (q^2), as 1 / n in Wilson's interval. With q the mean of eight
accuracies of 0.99 lay above the interval in 5.8 % of audits and below it in 1.5 %; with q^2 it is 2.5 % and 2.6 %.
With one target it is that target's interval. For a paired difference a - b,

    low = e_a - e_b - sqrt(l_a^2 + u_b^2 - 2 R l_a u_b),    high = ... + sqrt(u_a^2 + l_b^2 - 2 R u_a l_b),

which for two shares with Wilson's intervals is Newcombe's (1998) method 10.

*Over targets* (dedicated targets on independent halves): Student's t over the targets' centres, which
holds for new trainings too.

The p-value of a difference (two-sided, for no difference) is that of the confidence level at which the interval would
end at 0, its reach being proportional to the quantile of the normal (of Student's t over targets): it is below 0.05
where the 95 % interval leaves out 0.

No bootstrap is run: it costs 400 passes for what the influences give in one, and it puts ties into the
scores. The variance that is no sum over records (of a best threshold) is that of noise near the threshold, where two
figures have less in common than they have as a whole. It is taken to correlate as

    min(R^2, 1 - 0.6 (1 - R^2)^(1/4)),

where R is the correlation of the influences: fitted to simulated changes, whose R was 0.64 to 0.96. (With R^2 alone,
changes between variants with R from 0.94 on were covered by 92.3 to 93.9 %.) Where a figure has no variance (every
member above every non-member), its correlation with others is unknown: 1 is used in a mean and 0 in a difference, both
on the wide side.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr, stdtr, stdtrit

from bitleak.metrics.estimates import Estimate, Z

NEAR = 0.6
"""Of the noise near a threshold, how little two figures share that have nearly all records' influence in common."""


class Difference(NamedTuple):
    """First minus second: value, 95 % interval, and the p-value of no difference (two-sided)."""

    value: float
    low: float
    high: float
    p_value: float


def mean_over_records(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of several targets' figures, its interval that of resampling their shared records.

    Args:
        estimates: The same figure of at least one target, on the same records.

    Returns:
        The estimate itself if there is one; else one with interval `records`.
    """
    if len(estimates) == 1:
        return estimates[0]
    correlation = _correlation(estimates, unknown=1.0)
    reaches = np.array([estimate.reach for estimate in estimates])
    below, above = _mean_reach(reaches, correlation)
    centre = float(np.mean([estimate.centre for estimate in estimates]))
    return Estimate(
        value=float(np.mean([estimate.value for estimate in estimates])),
        centre=centre,
        low=centre - below,
        high=centre + above,
        influence=np.mean([estimate.influence for estimate in estimates], axis=0),
        interval="records",
        limits=estimates[0].limits,
        choice_variance=math.fsum(estimate.choice_variance for estimate in estimates) / len(estimates) ** 2,
        pairing=float(np.mean([estimate.pairing for estimate in estimates])),
        bounded_below=all(estimate.bounded_below for estimate in estimates),
        reaches_limit=all(estimate.reaches_limit for estimate in estimates),
    )


def difference_over_records(first: Estimate, second: Estimate) -> Difference:
    """First minus second, on the same records, with a paired 95 % interval."""
    correlation = float(_correlation([first, second], unknown=0.0)[0, 1])
    first_below, first_above = (first.pairing * reach for reach in first.reach)
    second_below, second_above = (second.pairing * reach for reach in second.reach)
    apart = first.centre - second.centre
    below = _paired(first_below, second_above, correlation)
    above = _paired(first_above, second_below, correlation)
    p_value = 2 * float(ndtr(-Z * _reaches_to_zero(apart, below, above)))
    return _difference(first.value - second.value, apart, apart - below, apart + above, p_value)


def interval_over_targets(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """Student's 95 % interval for the mean over independent targets; at least 2."""
    low, high = _student(np.array([estimate.centre for estimate in estimates]))
    return (-np.inf if any(np.isinf(estimate.low) for estimate in estimates) else low), high


def difference_over_targets(first: Sequence[Estimate], second: Sequence[Estimate]) -> Difference:
    """Mean of first minus second, target by target, with Student's 95 % interval."""
    pairs = list(zip(first, second, strict=True))
    change = float(np.mean([one.value - other.value for one, other in pairs]))
    if any(np.isinf(estimate.low) for estimate in (*first, *second)):
        return Difference(change, -np.inf, np.inf, 1.0)
    apart = np.array([one.centre - other.centre for one, other in pairs])
    low, high = _student(apart)
    middle, free = float(apart.mean()), len(apart) - 1
    reaches = _reaches_to_zero(middle, middle - low, high - middle)
    return _difference(change, middle, low, high, 2 * float(stdtr(free, -stdtrit(free, 0.975) * reaches)))


def _difference(change: float, apart: float, low: float, high: float, p_value: float) -> Difference:
    """Where the value and the centre, which is free of the rule's bias, point different ways, nothing is claimed."""
    return Difference(change, low, high, p_value if change * apart > 0 else 1.0)


def _reaches_to_zero(apart: float, below: float, above: float) -> float:
    """How many of the interval's reaches lie between the centre and 0; 1 where the interval ends at 0."""
    reach = below if apart > 0 else above
    if apart == 0 or np.isinf(reach):
        return 0.0
    return abs(apart) / reach if reach > 0 else np.inf


def _student(values: Float64[np.ndarray, "targets"]) -> tuple[float, float]:
    if len(values) < 2:
        raise ValueError(f"a t interval needs at least 2 targets, got {len(values)}")
    reach = stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - reach), float(values.mean() + reach)


def _correlation(estimates: Sequence[Estimate], *, unknown: float) -> Float64[np.ndarray, "figures figures"]:
    influences = np.array([estimate.influence for estimate in estimates])
    own = np.sqrt([estimate.choice_variance for estimate in estimates])
    covariance = influences @ influences.T
    alike = _quotient(covariance, np.diag(covariance), 0.0)
    total = np.diag(covariance) + own**2
    shared = np.minimum(alike**2, 1 - NEAR * np.maximum(1 - alike**2, 0.0) ** 0.25)
    correlation = _quotient(covariance + shared * np.outer(own, own), total, unknown)
    np.fill_diagonal(correlation, 1.0)
    return np.clip(correlation, -1.0, 1.0)


def _quotient(
    covariance: Float64[np.ndarray, "figures figures"], variance: Float64[np.ndarray, "figures"], unknown: float
) -> Float64[np.ndarray, "figures figures"]:
    scale = np.sqrt(np.outer(variance, variance))
    return np.where(scale > 0, covariance / np.where(scale > 0, scale, 1.0), unknown)


def _mean_reach(
    reaches: Float64[np.ndarray, "targets 2"], correlation: Float64[np.ndarray, "targets targets"]
) -> tuple[float, float]:
    below, above = reaches.T
    if np.isinf(below).any():
        return np.inf, _norm(above, correlation) / len(reaches)
    half = (above + below) / 2
    reach = _norm(half, correlation) / len(reaches)
    shrunk = reach / half.mean() if reach > 0 else 0.0
    skew = float((above - below).mean() / 2 * shrunk**2)
    return reach - skew, reach + skew


def _norm(reach: Float64[np.ndarray, "targets"], correlation: Float64[np.ndarray, "targets targets"]) -> float:
    if np.isinf(reach).any():
        return np.inf
    return float(np.sqrt(max(reach @ correlation @ reach, 0.0)))


def _paired(one: float, other: float, correlation: float) -> float:
    if np.isinf(one) or np.isinf(other):
        return np.inf
    return float(np.sqrt(max(one**2 + other**2 - 2 * correlation * one * other, 0.0)))
