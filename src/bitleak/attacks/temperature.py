"""Temperature of a variant's answers: the scale of logits that anybody can divide out.

Logits z and 4 z rank the classes alike, but attacks on probabilities do not find the same in them. An adversary who
knows the models' kind calibrates them first: with b = 1 / T, the temperature minimises the mean negative
log-likelihood of the references' answers to records that no model was trained on,

    L(b) = mean over models, records and queries of logsumexp(b z) - b z_y,

which is convex in b: L'(b) = mean of E_p[z] - z_y and L''(b) = mean of Var_p[z], p = softmax(b z). Newton's method is
kept inside a bracket by bisection. Guo et al. 2017 (arXiv 1706.04599) calibrate one model so; here one temperature
serves all models of a variant, so that it divides every answer by the same number and moves no model against another.
Answers to audited records, and memberships, play no part.

With s the root mean square of the logits around each answer's mean, b s is kept within `SPREADS`: if all answers are
right, L falls without end as b grows, and if they are no better than a guess, as b falls to 0. The limits move with
the logits, so that T(c z) = c T(z) holds there too. Logits that do not vary have no scale, and T = 1.

Cost: O(models records queries classes) for each of about 10 steps, at most `MOST_NUMBERS` logits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64, Int64

SPREADS = (0.01, 10.0)
"""Least and largest root mean square of calibrated logits around each answer's mean."""

MOST_NUMBERS = 1 << 22
"""Most logits that a temperature is fitted to; of more population records, evenly spaced ones are taken."""

_TOLERANCE, _MOST_STEPS = 1e-10, 100
"""Relative change of b at which the fit ends (Newton squares the error), and steps at most."""

FitLimit = Literal["", "all right", "guesses", "constant"]


@dataclass(frozen=True)
class Temperature:
    """Divisor of a variant's logits.

    Attributes:
        value: T > 0.
        limit: Reason why the likelihood has no maximum within `SPREADS`: `all right`, `guesses` or `constant` logits;
            empty if it has one.
    """

    value: float
    limit: FitLimit = ""


def fit_temperature(
    logits: Sequence[Float[np.ndarray, "population queries classes"]],
    labels: Int64[np.ndarray, "population"],
) -> Temperature:
    """Return the temperature that minimises the mean negative log-likelihood over some models.

    Args:
        logits: One array per model, finite.
        labels: True classes of the population records.

    Raises:
        ValueError: There are no models or records, or a logit is not finite.

    Example:
        >>> z = np.log(np.array([[[3.0, 1.0]]] * 4))
        >>> round(fit_temperature([2 * z], np.array([0, 0, 0, 1])).value, 8)
        2.0
    """
    if not len(logits) or not len(labels):
        raise ValueError(
            f"a temperature needs answers, got {len(logits)} models and {len(labels)} records"
        )
    z, true = _columns(logits, labels)
    if not np.isfinite(z).all():
        raise ValueError("logits must be finite to fit a temperature")
    spread = float(np.sqrt(np.mean((z - z.mean(axis=0)) ** 2)))
    if not spread > 0:
        return Temperature(1.0, "constant")

    # Only differences to the largest logit matter, and exp of them does not overflow.
    largest = z.max(axis=0)
    z -= largest
    true -= largest
    low, high = (limit / spread for limit in SPREADS)
    if _slope(z, true, low)[0] >= 0:
        return Temperature(1 / low, "guesses")
    if _slope(z, true, high)[0] <= 0:
        return Temperature(1 / high, "all right")
    b = 2 / spread
    for _ in range(_MOST_STEPS):
        slope, curvature = _slope(z, true, b)
        low, high = (b, high) if slope < 0 else (low, b)
        following = b - slope / curvature if curvature > 0 else low
        if not low < following < high:
            following = (low + high) / 2
        if abs(following - b) <= _TOLERANCE * b:
            break
        b = following
    return Temperature(1 / following)


def _columns(
    logits: Sequence[Float[np.ndarray, "population queries classes"]],
    labels: Int64[np.ndarray, "population"],
) -> tuple[Float64[np.ndarray, "classes answers"], Float64[np.ndarray, "answers"]]:
    """Return the logits of all answers, class by class, and those of the true classes."""
    _, queries, classes = logits[0].shape
    records = min(len(labels), max(1, MOST_NUMBERS // (len(logits) * queries * classes)))
    chosen = np.unique(np.linspace(0, len(labels) - 1, records).astype(np.int64))
    z = np.empty((classes, len(logits), len(chosen), queries))
    for model, answers in enumerate(logits):
        z[:, model] = np.moveaxis(np.asarray(answers[chosen], np.float64), -1, 0)
    index = np.broadcast_to(labels[chosen][None, None, :, None], (1, *z.shape[1:]))
    true = np.take_along_axis(z, index, axis=0)[0]
    return z.reshape(classes, -1), true.ravel()


def _slope(
    z: Float64[np.ndarray, "classes answers"], true: Float64[np.ndarray, "answers"], b: float
) -> tuple[float, float]:
    """Return L'(b) and L''(b) of logits whose largest is 0."""
    weights = np.exp(b * z)
    total = weights.sum(axis=0)
    weights *= z
    mean = weights.sum(axis=0) / total
    weights *= z
    square = weights.sum(axis=0) / total
    return float(np.mean(mean - true)), float(np.mean(square - mean**2))
