"""Averages over targets and paired differences, the same way for every metric.

*Over records* (the targets of one population share records and references): the interval is that of
resampling records with the same draw for all targets, and holds for these models. With centres e_t,
reaches l_t below and u_t above of the targets' own intervals, and the correlation R_ts of their
influences,

    h_t = (u_t + l_t) / 2,   h = sqrt(sum_ts R_ts h_t h_s) / targets,   q = h / mean(h_t),
    low = mean(e) - h + q^2 mean((u_t - l_t) / 2),   high = mean(e) + h + q^2 mean((u_t - l_t) / 2).

The half-widths are combined by the method of variance estimates recovery (Zou and Donner 2008,
equation 4). Deviation: that method combines l and u each in this way, so that the asymmetry shrinks
as the deviation does (q). But an interval is asymmetric because the variance depends on the value,
or the estimate is skewed, and both make it asymmetric by an amount that goes with the variance
(q^2), as 1 / n in Wilson's interval. With q the mean of eight accuracies of 0.99 lay above the
interval in 5.8 % of audits and below it in 1.5 %; with q^2 it is 2.5 % and 2.6 %. With one target
it is that target's interval. For a paired difference a - b,

    low  = e_a - e_b - sqrt(l_a^2 + u_b^2 - 2 R l_a u_b),
    high = e_a - e_b + sqrt(u_a^2 + l_b^2 - 2 R u_a l_b),

which for two shares with Wilson's intervals is Newcombe's (1998) method 10.

*Over trainings* (dedicated targets on independent halves): see `trainings`.

The p-value of a difference (two-sided, for no difference) is that of the confidence level at which
the interval would end at 0, its reach being proportional to the quantile of the normal: it is below
0.05 if the 95 % interval leaves out 0.

No bootstrap is run: it costs 400 passes for the variance that the influences give in one, and it
puts ties into the scores. The variance that is no sum over records (of a best threshold) is that of
noise near the threshold, where two figures have less in common than they have as a whole. It is
taken to correlate as

    min(R^2, 1 - 0.6 (1 - R^2)^(1/4)),

where R is the correlation of the influences: fitted to simulated changes, whose R was 0.64 to 0.96.
(With R^2 alone, changes between variants with R from 0.94 on were covered by 92.3 to 93.9 %.) If a
figure has no variance (every member above every non-member), its correlation with others is
unknown: 1 is used in a mean and 0 in a difference, both on the wide side.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr

from bitleak.metrics.estimates import Estimate, Z, stacked_influences

_NEAR = 0.6
"""The factor 0.6 above: noise near a threshold that two nearly equal figures do not share."""

_Figures = Float64[np.ndarray, "figures"]
_Matrix = Float64[np.ndarray, "figures figures"]


class Difference(NamedTuple):
    """First minus second: value, 95 % interval, and the p-value of no difference (two-sided)."""

    value: float
    low: float
    high: float
    p_value: float


def mean_over_records(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of several targets' figures, its interval by resampling their shared records.

    Args:
        estimates: Estimates of one figure for at least one target, on the same records.

    Returns:
        The estimate itself if there is one; else one with interval `records`.
    """
    if len(estimates) == 1:
        return estimates[0]
    correlation = _correlation(estimates, unknown=1.0)
    reaches = np.array([estimate.reach for estimate in estimates])
    below, above = _mean_reach(reaches, correlation)

    # the targets' choices of threshold are independent: the variance of their mean goes as 1 / n^2
    choice_variance = math.fsum(estimate.choice_variance for estimate in estimates)
    step_fpr, step_value = _mean_step(estimates)
    centre = float(np.mean([estimate.centre for estimate in estimates]))
    return Estimate(
        value=float(np.mean([estimate.value for estimate in estimates])),
        centre=centre,
        low=centre - below,
        high=centre + above,
        influence=_influences(estimates).mean(axis=0),
        interval="records",
        limits=estimates[0].limits,
        choice_variance=choice_variance / len(estimates) ** 2,
        pairing=float(np.mean([estimate.pairing for estimate in estimates])),
        bounded_below=all(estimate.bounded_below for estimate in estimates),
        reaches_limit=all(estimate.reaches_limit for estimate in estimates),
        fpr=float(np.mean([estimate.fpr for estimate in estimates])),
        step_fpr=step_fpr,
        step_value=step_value,
    )


def _mean_step(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """Return the mean other end of the targets' steps; NaN if no target has one."""
    if not any(estimate.is_step for estimate in estimates):
        return math.nan, math.nan
    fprs, values = [], []
    for estimate in estimates:
        fprs.append(estimate.step_fpr if estimate.is_step else estimate.fpr)
        values.append(estimate.step_value if estimate.is_step else estimate.value)
    return float(np.mean(fprs)), float(np.mean(values))


def difference_over_records(first: Estimate, second: Estimate) -> Difference:
    """Return first minus second, on the same records, with a paired 95 % interval."""
    return correlated_difference(first, second, correlation_over_records(first, second))


def correlation_over_records(first: Estimate, second: Estimate) -> float:
    """Return R of the module for two figures on the same records."""
    return float(_correlation([first, second], unknown=0.0)[0, 1])


def correlated_difference(first: Estimate, second: Estimate, correlation: float) -> Difference:
    """Return first minus second with the 95 % interval of figures with this correlation."""
    first_below, first_above = (first.pairing * reach for reach in first.reach)
    second_below, second_above = (second.pairing * reach for reach in second.reach)
    centre = first.centre - second.centre
    below = _paired(first_below, second_above, correlation)
    above = _paired(first_above, second_below, correlation)
    p_value = 2 * float(ndtr(-Z * _reaches_to_zero(centre, below, above)))
    return _difference(first.value - second.value, centre, centre - below, centre + above, p_value)


def _difference(
    change: float,
    centre: float,
    low: float,
    high: float,
    p_value: float,
) -> Difference:
    # nothing is claimed if the value and the centre, free of the rule's bias, differ in sign
    return Difference(change, low, high, p_value if change * centre > 0 else 1.0)


def _reaches_to_zero(centre: float, below: float, above: float) -> float:
    """Return the distance from centre to 0 in units of the reach: 1 if the interval ends at 0."""
    reach = below if centre > 0 else above
    if centre == 0 or np.isinf(reach):
        return 0.0
    return abs(centre) / reach if reach > 0 else np.inf


def _influences(estimates: Sequence[Estimate]) -> Float64[np.ndarray, "figures records"]:
    return stacked_influences([estimate.influence for estimate in estimates])


def _correlation(estimates: Sequence[Estimate], *, unknown: float) -> _Matrix:
    influences = _influences(estimates)
    choice = np.sqrt([estimate.choice_variance for estimate in estimates])
    covariance = influences @ influences.T
    variance = covariance.diagonal()
    alike = _quotient(covariance, variance, 0.0)  # R of the module's docstring
    total = variance + choice**2
    shared = np.minimum(alike**2, 1 - _NEAR * np.maximum(1 - alike**2, 0.0) ** 0.25)
    correlation = _quotient(covariance + shared * (choice[:, None] * choice), total, unknown)
    np.fill_diagonal(correlation, 1.0)
    return np.minimum(np.maximum(correlation, -1.0), 1.0)


def _quotient(covariance: _Matrix, variance: _Figures, unknown: float) -> _Matrix:
    scale = np.sqrt(variance[:, None] * variance)
    return np.divide(covariance, scale, out=np.full_like(covariance, unknown), where=scale > 0)


def _mean_reach(
    reaches: Float64[np.ndarray, "figures 2"],
    correlation: _Matrix,
) -> tuple[float, float]:
    below, above = reaches.T
    if np.isinf(below).any():
        return np.inf, _norm(above, correlation) / len(reaches)
    half = (above + below) / 2
    reach = _norm(half, correlation) / len(reaches)
    shrunk = reach / half.mean() if reach > 0 else 0.0  # q of the module's docstring
    skew = float((above - below).mean() / 2 * shrunk**2)
    return reach - skew, reach + skew


def _norm(reach: _Figures, correlation: _Matrix) -> float:
    if np.isinf(reach).any():
        return np.inf
    return float(np.sqrt(max(reach @ correlation @ reach, 0.0)))


def _paired(first: float, second: float, correlation: float) -> float:
    if np.isinf(first) or np.isinf(second):
        return np.inf
    squares = first**2 + second**2 - 2 * correlation * first * second
    return float(np.sqrt(max(squares, 0.0)))
