"""The error of a match in accuracy, as a part of the leakage at equal accuracy.

Noise is as accurate as a variant on the records on which it was matched; on the population its
accuracy is off by a difference d whose estimate there is 0, and whose error is that of a paired
difference of shares. Noise that is exactly as accurate as the variant would leak

    L_equal = L_noise - slope d.

The slope is that of the leakage at the accuracy of the noise, from the means over the targets. Two
are taken, and the steeper is used: the secant between full precision and the noise,

    (L_fp32 - L_noise) / (A_fp32 - A_noise),

and the tangent of the curve through both that is a straight line in normal deviates, z = Phi^-1,

    (z(L_fp32) - z(L_noise)) / (z(A_fp32) - z(A_noise)) * phi(z(L_noise)) / phi(z(A_noise)),

as where one damage lowers the means of two normal scores in proportion. (Leakage that is near its
maximum falls slowly at first: there the secant is a quarter too flat, and intervals covered 91 %.)

So every record's influence on L_noise changes by -slope times its influence on d, and a reach l of
the interval, with m = 1.96 |slope| sd(d) and the correlation R of both influences, becomes

    sqrt(l^2 + m^2 + 2 R l m).

The values stay: d's estimate is within the tolerance of the match. The slope's own error meets an
estimate of d near 0, and is of second order. The mean over the targets was matched; a
single target's accuracies may differ by more. Cost: a pass over the influences.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import ndtri

from bitleak.core.seeds import seed_for
from bitleak.core.types import Splits
from bitleak.metrics.estimates import Estimate, Estimates, Z, stacked_influences


class MatchedAccuracies(NamedTuple):
    """Accuracies of every target on the records on which noise was matched.

    Attributes:
        variant: Accuracy of the variant.
        noise: Accuracy under noise.
        full_precision: Accuracy at full precision.
    """

    variant: Sequence[Estimate]
    noise: Sequence[Estimate]
    full_precision: Sequence[Estimate]


def matching_records(
    split: Splits, targets: Sequence[int], *, records: int, seed: int
) -> Bool[np.ndarray, "targets records"]:
    """Return the records on which noise is matched: non-members of each target, no test records.

    Args:
        split: Membership.
        targets: Rows of the targets.
        records: Number of non-members of each target, at most.
        seed: The audit's seed.
    """
    chosen = np.zeros((len(targets), len(split.pool)), bool)
    for place, row in enumerate(targets):
        outside = np.flatnonzero(~split.member[row])
        order = np.random.default_rng(seed_for(seed, "match", row)).permutation(outside)
        chosen[place, order[:records]] = True
    return chosen


def at_equal_accuracy(
    noise: Estimates, full_precision: Estimates, accuracies: MatchedAccuracies
) -> Estimates:
    """Return the figures under noise with intervals that include the error of the match.

    Args:
        noise: Figures under noise.
        full_precision: Figures of the same targets at full precision, of at least these metrics.
        accuracies: Accuracies of the same targets, on the same axis of records.

    Returns:
        The same values; the figures themselves if noise is not less accurate than full precision.
    """
    lost = _mean(accuracies.full_precision) - _mean(accuracies.noise)
    if lost <= 0:
        return noise
    offs = []
    for under_noise, variant in zip(accuracies.noise, accuracies.variant, strict=True):
        offs.append(under_noise.influence - variant.influence)
    widened = {}
    for metric, figures in noise.items():
        slope = _slope(
            _mean(full_precision[metric]),
            _mean(figures),
            _mean(accuracies.full_precision),
            _mean(accuracies.noise),
        )
        pairs = zip(figures, offs, strict=True)
        widened[metric] = tuple(_widened(figure, -slope * off) for figure, off in pairs)
    return widened


def _slope(leakage: float, left: float, accuracy: float, kept: float) -> float:
    """Return the steeper of both slopes of the module.

    Args:
        leakage: Figure at full precision.
        left: Figure under noise.
        accuracy: Accuracy at full precision.
        kept: Accuracy under noise, which is lower.
    """
    secant = (leakage - left) / (accuracy - kept)
    if not all(0 < value < 1 for value in (leakage, left, accuracy, kept)):
        return secant
    deviates = ndtri([leakage, left, accuracy, kept])
    heights = np.exp(-(deviates**2) / 2)
    tangent = (deviates[0] - deviates[1]) / (deviates[2] - deviates[3]) * heights[1] / heights[3]
    return float(max(secant, tangent, key=abs))


def _widened(figure: Estimate, added: Float64[np.ndarray, "records"]) -> Estimate:
    """Return a figure with an influence added to its own, and with reaches to match."""
    influence, added = stacked_influences([figure.influence, added])
    own, match = float(np.linalg.norm(influence)), float(np.linalg.norm(added))
    alike = float(influence @ added) / (own * match) if own * match > 0 else 0.0
    # differences multiply the reach by `pairing`, which is about the figure's own error alone
    width = Z * match / figure.pairing
    below, above = (_joined(reach, width, alike) for reach in figure.reach)
    low, high = figure.centre - below, figure.centre + above
    return replace(figure, low=low, high=high, influence=influence + added)


def _joined(reach: float, added: float, correlation: float) -> float:
    if np.isinf(reach):
        return reach
    return float(np.sqrt(max(reach**2 + added**2 + 2 * correlation * reach * added, 0.0)))


def _mean(figures: Sequence[Estimate]) -> float:
    return float(np.mean([figure.value for figure in figures]))
