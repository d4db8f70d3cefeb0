"""Whether a file answers as the network that it was made of, and if not, under which inputs it would.

    error = rms(a - b) / rms(b),    a, b: logits of file and network, centred per image

so that log-probabilities count as logits. Two networks that know nothing of each other agree on a
share of predictions that follows from the frequencies of their answers,

    chance = sum_c p_a(c) p_b(c),

and a file agrees if its share is `AGREEING` standard errors above it.
"""

import math

import numpy as np
from jaxtyping import Float

PREPARATIONS = ("standardised", "unit", "bytes")
"""Values of the runtimes' option `pixels`."""

NEAR = 0.1
"""Error above which other preparations of the inputs are tried."""

NEARER = 0.5
"""Share of that error below which another preparation is proposed."""

AGREEING = 4.0
"""Standard errors by which two networks must agree more often than independent ones."""

ImageLogits = Float[np.ndarray, "images classes"]


def logit_error(answers: ImageLogits, expected: ImageLogits) -> float:
    """Return the error of a file's logits, relative to the network's.

    Example:
        >>> round(logit_error(np.array([[1.1, 0.0]]), np.array([[2.0, 1.0]])), 6)
        0.1
    """
    centred = expected - expected.mean(axis=1, keepdims=True)
    difference = answers - answers.mean(axis=1, keepdims=True) - centred
    return math.sqrt(float(np.mean(difference**2)) / max(float(np.mean(centred**2)), 1e-30))


def share_by_chance(answers: ImageLogits, expected: ImageLogits) -> float | None:
    """Return the share of equal predictions if it is no higher than chance, else None."""
    count, classes = answers.shape
    predictions = answers.argmax(axis=1), expected.argmax(axis=1)
    first, second = (np.bincount(chosen, minlength=classes) / count for chosen in predictions)
    chance = float(first @ second)
    share = float((predictions[0] == predictions[1]).mean())
    margin = AGREEING * math.sqrt(chance * (1 - chance) / count)
    return share if share <= chance + margin and share < 1 else None
