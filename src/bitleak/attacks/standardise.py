"""Standardised confidences: the scale of a variant where its logits are not known.

Logits give the scale of a variant's answers exactly (`attacks.temperature`). Of ready confidences f only an affine map
can be divided out:

    f' = (f - mean) / deviation,

both over the population records and queries of the references, averaged over references as in `attacks.recalibrate`.
The same map is applied to the target, the references and the population, so that f and a f + b with a > 0 give the same
scores. `log_probability` follows as log sigmoid(f'). The other signals do not follow from f and are left as they are.
Other than a temperature, the map does not make f' a calibrated confidence: a standardised f' of 0 is the mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from bitleak.core.types import LOG_PROBABILITY, LOGIT_SCALED


@dataclass(frozen=True)
class ConfidenceMoments:
    """Mean and deviation of a variant's confidences on the population.

    Attributes:
        mean: In nats.
        deviation: In nats, > 0.
    """

    mean: float
    deviation: float


def confidence_moments(
    confidences: Sequence[Float64[np.ndarray, "population queries"]],
) -> ConfidenceMoments | None:
    """Return the moments, averaged over models; None if there are no answers or they do not vary.

    Args:
        confidences: Logit-scaled confidences of each model on the population records.
    """
    if not len(confidences) or not confidences[0].size:
        return None
    means = [float(values.mean()) for values in confidences]
    deviations = [float(values.std()) for values in confidences]
    deviation = float(np.mean(deviations))
    return ConfidenceMoments(float(np.mean(means)), deviation) if deviation > 0 else None


def standardised(
    signals: Float64[np.ndarray, "*axes signals"], moments: ConfidenceMoments
) -> Float64[np.ndarray, "*axes signals"]:
    """Return the signals with the confidence standardised, and the log-probability that follows from it.

    Example:
        >>> standardised(np.array([[-1.0, 3.0]]), ConfidenceMoments(3.0, 2.0)).round(3).tolist()
        [[-0.693, 0.0]]
    """
    mapped = np.array(signals)
    confidence = (mapped[..., LOGIT_SCALED] - moments.mean) / moments.deviation
    mapped[..., LOGIT_SCALED] = confidence
    mapped[..., LOG_PROBABILITY] = -np.logaddexp(0.0, -confidence)
    return mapped
