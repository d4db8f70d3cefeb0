"""From logits to signals, in float64 and by the exact forms; NumPy only.

The logit-scaled confidence is z_y - logsumexp(z_others), which neither saturates nor ties where
log(p / (1 - p)) from a rounded p would: log(p + 1e-45) ends at 103.6, clipped probabilities at
36.7, and both tie the confident members. Cost: a few exponentials per record and class.
"""

import numpy as np
from jaxtyping import Float, Float64, Int64


def signals(
    logits: Float[np.ndarray, "records classes"], labels: Int64[np.ndarray, "records"]
) -> Float64[np.ndarray, "records signals"]:
    """Return `SIGNALS` of each record, in their order, in float64.

    Args:
        logits: Finite, any float type; at least 2 classes.
        labels: True classes.

    Example:
        >>> signals(np.array([[300.0, 0.0]]), np.array([0]))[0, :3].tolist()
        [-5.148200222412013e-131, 300.0, 300.0]
    """
    z = np.asarray(logits, dtype=np.float64)
    rows = np.arange(len(z))
    confidence = logit_scaled(z, labels)
    wrong_classes = z.copy()
    wrong_classes[rows, labels] = -np.inf
    predicted = z.argmax(axis=1)
    largest = logit_scaled(z, predicted)

    # log p and log(1 - p) of every class. The subtraction is exact enough but for the one class
    # whose p may round to 1; so is log1p below.
    log_p = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    log_p[rows, predicted] = -np.logaddexp(0.0, -largest)
    log_rest = np.log1p(-np.minimum(np.exp(log_p), 0.75))
    log_rest[rows, predicted] = -np.logaddexp(0.0, largest)

    # modified entropy: -(1 - p_y) log p_y - sum over the other classes of p log(1 - p)
    terms = np.exp(log_p) * log_rest
    terms[rows, labels] = 0.0
    log_probability = -np.logaddexp(0.0, -confidence)
    not_true = np.exp(-np.logaddexp(0.0, confidence))
    return np.stack(
        [
            log_probability,
            confidence,
            z[rows, labels] - wrong_classes.max(axis=1),
            -(np.exp(log_p) * log_p).sum(axis=1),
            -not_true * log_probability - terms.sum(axis=1),
            (predicted == labels).astype(np.float64),
        ],
        axis=1,
    )


def probability_signals(
    probabilities: Float[np.ndarray, "records classes"],
    labels: Int64[np.ndarray, "records"],
    *,
    floor: float,
    complement: bool,
) -> Float64[np.ndarray, "records signals"]:
    """Return `SIGNALS` from probabilities of a limited resolution, in their order, in float64.

    With the floor h, the confidence is log max(p_y, h) - log max(r, h), where r = 1 - p_y if that
    is as precise as p_y (probabilities on an even grid), else the sum of the other probabilities,
    which does not saturate near p_y = 1. The floor applies to the sum, not to each of its terms:
    the floors of many classes would add up to a doubt that is not there. A probability of 0 adds
    nothing to the entropies.

    Args:
        probabilities: From 0 to 1, any float type; at least 2 classes.
        labels: True classes.
        floor: Smallest probability that the resolution separates from 0; above 0.
        complement: Whether r is 1 - p_y.

    Example:
        >>> half = 0.5 / 256
        >>> sure = probability_signals(np.array([[1.0, 0.0]]), np.array([0]), floor=half, complement=True)
        >>> bool(np.isclose(sure[0, 1], np.log(1 / half)))
        True
    """
    p = np.asarray(probabilities, dtype=np.float64)
    rows = np.arange(len(p))
    predicted = p.argmax(axis=1)
    wrong_classes = p.copy()
    wrong_classes[rows, labels] = 0.0
    true = np.maximum(p[rows, labels], floor)
    rest = np.maximum(1.0 - p[rows, labels] if complement else wrong_classes.sum(axis=1), floor)

    # log(1 - p) of every class: for the largest one as the sum of the rest, whose small digits 1 -
    # p would lose
    below = p.copy()
    below[rows, predicted] = 0.0
    log_rest = np.log1p(-np.minimum(p, 0.75))
    log_rest[rows, predicted] = np.log(np.clip(below.sum(axis=1), floor, 1.0))

    # modified entropy: -(1 - p_y) log p_y - sum over the other classes of p log(1 - p)
    terms = wrong_classes * log_rest
    confidence = np.log(true) - np.log(rest)
    log_probability = -np.logaddexp(0.0, -confidence)
    not_true = np.exp(-np.logaddexp(0.0, confidence))
    positive = np.where(p > 0, p, 1.0)
    return np.stack(
        [
            log_probability,
            confidence,
            np.log(true) - np.log(np.maximum(wrong_classes.max(axis=1), floor)),
            -(positive * np.log(positive)).sum(axis=1),
            -not_true * log_probability - terms.sum(axis=1),
            (predicted == labels).astype(np.float64),
        ],
        axis=1,
    )


def logit_scaled(
    logits: Float64[np.ndarray, "records classes"], classes: Int64[np.ndarray, "records"]
) -> Float64[np.ndarray, "records"]:
    """Return z_c - logsumexp of the other logits: log p_c / (1 - p_c), without forming p."""
    rows = np.arange(len(logits))
    remaining = logits.copy()
    remaining[rows, classes] = -np.inf
    return logits[rows, classes] - np.logaddexp.reduce(remaining, axis=1)
