"""Means and differences over dedicated targets, as statements about models that are trained anew.

Dedicated targets are trained on independent halves of the same records, so that their mean is
uncertain for two reasons: other trainings, and other records. Student's t over the targets knows of
other records only as far as they differ between targets. It does not see the part that all targets
share (some records are easier to find than others), and its deviation is 0 if the targets' counts
happen to be equal. Let T be the number of targets and, for the mean of their figures,

    r^2 = its variance when the shared records are resampled (see `intervals`),
    o^2 = the same if the targets shared nothing: the sum of the targets' variances / T^2,
    s^2 = the variance of the targets' centres / T.

Trainings add s^2 - o^2, so the mean over new trainings on other records has the variance

    v = r^2 + max(0, s^2 - o^2),    with v^2 (T - 1) / s^4 degrees of freedom if s^2 > o^2,

infinitely many if not (Satterthwaite 1946). The interval reaches as far as the larger of t(T - 1) s
and t(freedom) sqrt(v). It is never narrower than the one over records, which speaks about these
models, nor than Student's, which speaks about new trainings on these records; r and o are taken
from the reaches of the targets' own intervals below and above, separately.

With fewer than `FEWEST_TARGETS` there is no such statement: the interval over records stays, which
speaks about these models on other records. The p-value is that of the level at which the interval
would end at 0. A TPR with fewer than 3.7 expected false positives has a centre that is biased
downwards, by up to half the chance of no false positive (see `tpr`); that does not average out, so
the mean reaches up to the mean of the targets' upper ends.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from bitleak.core.types import About, SplitMode
from bitleak.metrics.estimates import Estimate, Z
from bitleak.metrics.intervals import (
    Difference,
    correlated_difference,
    correlation_over_records,
    difference_over_records,
    mean_over_records,
)

FEWEST_TARGETS = 5
"""Dedicated targets from which on there is a statement about new trainings."""


def verdict_about(mode: SplitMode, targets: int) -> About:
    """Return the subject of the mean over targets.

    Example:
        >>> verdict_about("dedicated", 4), verdict_about("dedicated", 5)
        ('records', 'trainings')
    """
    return "trainings" if mode == "dedicated" and targets >= FEWEST_TARGETS else "records"


def mean_over_trainings(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of dedicated targets' figures, with an interval for models trained anew.

    Args:
        estimates: One figure of every target, all on the same records.

    Returns:
        An estimate with interval `t`; the one over records for fewer than `FEWEST_TARGETS`.
    """
    mean = mean_over_records(estimates)
    if not mean.bounded_below:
        # the bias of a centre with few false positives stays in the mean: so does the reach above
        high = float(np.mean([estimate.high for estimate in estimates]))
        mean = replace(mean, high=max(mean.high, high))
    if len(estimates) < FEWEST_TARGETS:
        return mean
    centres = np.array([estimate.centre for estimate in estimates])
    reaches = np.array([estimate.reach for estimate in estimates])
    below, above = reach_over_trainings(centres, mean.reach, reaches)
    return replace(mean, low=mean.centre - below, high=mean.centre + above, interval="t")


def difference_over_trainings(first: Sequence[Estimate], second: Sequence[Estimate]) -> Difference:
    """Return the mean of first minus second, target by target, for models trained anew.

    Args:
        first: A figure of every target.
        second: This figure of these targets at fp32.

    Returns:
        The difference over records for fewer than `FEWEST_TARGETS`.
    """
    whole = difference_over_records(mean_over_records(first), mean_over_records(second))
    if len(first) < FEWEST_TARGETS:
        return whole
    centres, reaches = [], []
    for variant, at_fp32 in zip(first, second, strict=True):
        pair = difference_over_records(variant, at_fp32)
        centre = variant.centre - at_fp32.centre
        centres.append(centre)
        reaches.append((centre - pair.low, pair.high - centre))
    values, sides = np.array(centres), np.array(reaches)
    centre = float(values.mean())
    below, above = centre - whole.low, whole.high - centre

    # the interval ends at 0 on the side of 0; nothing is claimed against the sign of the value
    p_value = 1.0
    if centre * whole.value > 0:
        side = 0 if centre > 0 else 1
        p_value = _p_value(abs(centre), values, (below, above)[side], sides[:, side])
    below, above = reach_over_trainings(values, (below, above), sides)
    return Difference(whole.value, centre - below, centre + above, p_value)


def difference_of_trainings(first: Sequence[Estimate], second: Sequence[Estimate]) -> Difference:
    """Return the mean of first minus that of second, for trainings that share records alone.

    The variance that trainings add is independent, so that the correlation R of the means over
    records counts for the parts of the reaches that are due to records: with reaches h over records
    and g over trainings, the correlation is R (h_1 / g_1) (h_2 / g_2).

    Args:
        first: A figure of every target.
        second: This figure of other targets, whose influences are on the same records.

    Returns:
        The difference over records if either has fewer than `FEWEST_TARGETS`.
    """
    over_records = mean_over_records(first), mean_over_records(second)
    if min(len(first), len(second)) < FEWEST_TARGETS:
        return difference_over_records(*over_records)
    correlation = correlation_over_records(*over_records)
    means = []
    for mean, figures in zip(over_records, (first, second), strict=True):
        trained = replace(mean_over_trainings(figures), pairing=1.0)
        widths = sum(mean.reach), sum(trained.reach)
        if math.isfinite(widths[1]) and widths[1] > 0:
            correlation *= widths[0] / widths[1]
        means.append(trained)
    return correlated_difference(means[0], means[1], correlation)


def reach_over_trainings(
    centres: Float64[np.ndarray, "targets"],
    over_records: tuple[float, float],
    reaches: Float64[np.ndarray, "targets 2"],
) -> tuple[float, float]:
    """Return the reaches of the mean's 95 % interval below and above, over trainings and records.

    Args:
        centres: Figures of at least two targets.
        over_records: Reaches of the mean's interval over records, below and above.
        reaches: Reaches of the targets' own intervals, below and above.
    """
    below, above = over_records
    return _reach(centres, below, reaches[:, 0]), _reach(centres, above, reaches[:, 1])


def widening(level: float, about: About, targets: int) -> float:
    """Return the factor on the reach of a 95 % interval that gives one of another level.

    Over trainings the degrees of freedom are at least the targets less 1, for which it is largest.

    Args:
        level: The other level, in (0, 1).
        about: Subject of the interval.
        targets: Number of targets, at least 2 if it is about trainings.

    Example:
        >>> round(widening(0.999, "records", 8), 3), round(widening(0.999, "trainings", 8), 3)
        (1.679, 2.287)
    """
    if about == "records":
        return float(ndtri((1 + level) / 2)) / Z
    freedom = targets - 1
    return float(stdtrit(freedom, (1 + level) / 2) / stdtrit(freedom, 0.975))


def _reach(
    centres: Float64[np.ndarray, "targets"],
    over_records: float,
    reaches: Float64[np.ndarray, "targets"],
) -> float:
    """Return the reach of a 95 % interval to one side.

    Args:
        centres: Centres of the targets' figures.
        over_records: Reach of the mean over records to this side.
        reaches: Reaches of the targets' own intervals to this side.
    """
    if math.isinf(over_records):
        return math.inf
    student, total, freedom = _deviations(centres, over_records, reaches)
    quantile = Z if math.isinf(freedom) else float(stdtrit(freedom, 0.975))
    return max(float(stdtrit(len(centres) - 1, 0.975)) * student, quantile * total)


def _p_value(
    distance: float,
    centres: Float64[np.ndarray, "targets"],
    over_records: float,
    reaches: Float64[np.ndarray, "targets"],
) -> float:
    """Return the two-sided p-value of a centre at this distance from 0; the rest as in `_reach`."""
    if math.isinf(over_records):
        return 1.0
    student, total, freedom = _deviations(centres, over_records, reaches)
    chances = [0.0]
    if student > 0:
        chances.append(2 * float(stdtr(len(centres) - 1, -distance / student)))
    if total > 0:
        units = -distance / total
        tail = float(ndtr(units) if math.isinf(freedom) else stdtr(freedom, units))
        chances.append(2 * tail)
    return max(chances)


def _deviations(
    centres: Float64[np.ndarray, "targets"],
    over_records: float,
    reaches: Float64[np.ndarray, "targets"],
) -> tuple[float, float, float]:
    """Return s, sqrt(v) and its degrees of freedom."""
    count = len(centres)
    student = float(centres.std(ddof=1)) / math.sqrt(count)
    shared = over_records / Z
    unshared = float(np.sqrt((reaches**2).sum())) / (Z * count)
    added = max(0.0, student**2 - unshared**2)
    variance = shared**2 + added
    freedom = variance**2 * (count - 1) / student**4 if added > 0 else math.inf
    return student, math.sqrt(variance), freedom
