"""AUC by number of references, extrapolated: how much more references would find.

The error of a reference model's mean enters the score, and its variance falls with the number n of
references per side, so that to first order

    AUC(n) = A - B / n.

A and B are fitted by least squares to each target's own AUCs; limit and predictions are means over the
targets, with Student's t over the targets. So intervals are about models trained like these, and
include how the targets differ. One reference per side is left out: without a variance of its own the
attack is another one there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.stats import t as student_t

FEWEST_COUNTS = 3
"""Numbers of references per side, at least: two determine the curve, a third tests it."""

FEWEST_CURVES = 2
"""Targets, at least: one has no deviation between targets."""

WIDEST = 0.02
"""Width of the limit's interval above which the curve is not used."""


@dataclass(frozen=True)
class Extrapolated:
    """An AUC with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ReferenceCurve:
    """The fitted curves of several targets.

    Attributes:
        limits: A of the module, by target.
        losses: B of the module, by target.
    """

    limits: Float64[np.ndarray, "targets"]
    losses: Float64[np.ndarray, "targets"]

    @property
    def limit(self) -> Extrapolated:
        """AUC with any number of references."""
        return _mean(self.limits)

    def at(self, references: int) -> Extrapolated:
        """Return the AUC with a number of references per side, at least 1."""
        return _mean(self.limits - self.losses / references)


def fit_reference_curve(
    counts: Sequence[int], areas: Float64[np.ndarray, "targets counts"]
) -> ReferenceCurve:
    """Fit the curve to AUCs with few references.

    Args:
        counts: Numbers of references per side.
        areas: AUC of each target with each number.

    Raises:
        ValueError: There are fewer than `FEWEST_CURVES` targets, or fewer than `FEWEST_COUNTS`
            different numbers above 1.

    Example:
        >>> areas = np.array([[0.78, 0.79, 0.795], [0.79, 0.80, 0.805]])
        >>> curve = fit_reference_curve([2, 4, 8], areas)
        >>> round(curve.limit.value, 6), curve.losses.round(6).tolist()
        (0.805, [0.04, 0.04])
    """
    used = np.array([count > 1 for count in counts])
    numbers = np.array(counts, float)[used]
    if len(set(numbers.tolist())) < FEWEST_COUNTS:
        raise ValueError(
            f"a curve needs AUCs with at least {FEWEST_COUNTS} numbers of references above 1 per side, "
            f"got {', '.join(map(str, counts)) or 'none'}"
        )
    if len(areas) < FEWEST_CURVES:
        raise ValueError(f"a curve needs at least {FEWEST_CURVES} targets, got {len(areas)}")
    design = np.stack([np.ones(len(numbers)), -1 / numbers], axis=1)
    (limits, losses), *_ = np.linalg.lstsq(design, areas[:, used].T)
    return ReferenceCurve(limits, losses)


def _mean(values: Float64[np.ndarray, "targets"]) -> Extrapolated:
    """Return the mean with Student's t over the targets."""
    mean = float(values.mean())
    deviation = float(values.std(ddof=1)) / math.sqrt(len(values))
    reach = float(student_t.ppf(0.975, len(values) - 1)) * deviation
    return Extrapolated(mean, mean - reach, mean + reach)
