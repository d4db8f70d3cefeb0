"""The negative control: a target that knows nothing, which every attack must find at chance.

The target's logit-scaled confidences are replaced by normal draws with the average single reference's mean and
deviation on the population records, independent for every record and query. The other signals follow as for
a network with two classes whose true class has that confidence:

    p = sigmoid(f), hinge = f, entropy = -p log p - (1 - p) log(1 - p), modified entropy = -2 (1 - p) log p.

The references stay as they are. So an effect that an attack still finds is not in the target: it is a leak of
membership through the references, their counts or their means.
"""

import numpy as np
from jaxtyping import Float64
from scipy.special import expit

from bitleak.attacks.attack import RECALIBRATED_SIGNALS
from bitleak.attacks.recalibrate import average_reference
from bitleak.core.types import SIGNALS, AttackView


def negative_control(view: AttackView, generator: np.random.Generator) -> AttackView:
    """Return the view with noise in place of the target's answers; membership plays no part in it.

    Args:
        view: View of any target.
        generator: Source of the noise.
    """
    mean, std = average_reference(view)
    noise = generator.normal(mean, std, size=view.target.shape[:2])
    population = generator.normal(mean, std, size=view.population_target.shape[:2])
    signals = view.target.shape[-1]
    return view.of_target(two_class_signals(noise, signals), two_class_signals(population, signals))


def two_class_signals(
    confidence: Float64[np.ndarray, "*axes"], count: int = len(SIGNALS)
) -> Float64[np.ndarray, "*axes signals"]:
    """Return the first `count` signals of two-class answers with the given logit-scaled confidence, in nats.

    Example:
        >>> two_class_signals(np.zeros(1)).round(3).tolist()
        [[-0.693, 0.0, 0.0, 0.693, 0.693, 1.0]]
    """
    log_true = -np.logaddexp(0.0, -confidence)
    if count <= len(RECALIBRATED_SIGNALS):
        return np.stack([log_true, confidence][:count], axis=-1)
    log_other = -np.logaddexp(0.0, confidence)
    values = {
        "log_probability": log_true,
        "logit_scaled": confidence,
        "hinge": confidence,
        "entropy": -expit(confidence) * log_true - expit(-confidence) * log_other,
        "modified_entropy": -2 * expit(-confidence) * log_true,
        "correct": (confidence >= 0).astype(np.float64),
    }
    return np.stack([values[name] for name in SIGNALS[:count]], axis=-1)
