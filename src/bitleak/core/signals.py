"""From logits to signals, in float64 and by the exact forms; NumPy only.

The logit-scaled confidence is z_y - logsumexp(z_others), which neither saturates nor ties where
log(p / (1 - p)) from a rounded p would: log(p + 1e-45) ends at 103.6, clipped probabilities at
36.7, and both tie the confident members. Cost: a few exponentials per record and class.
"""

import numpy as np
from jaxtyping import Float, Float64, Int64

from bitleak.core.types import SIGNALS

BLOCK_NUMBERS = 1 << 15
"""Logits handled at a time: their exponentials fit into the cache of a core."""

SMALLEST_SUM = 1e-280
"""Sum of exponentials below which it is formed by logarithms."""


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
    return np.ascontiguousarray(signal_planes(logits, labels).T)


def signal_planes(
    logits: Float[np.ndarray, "records classes"],
    labels: Int64[np.ndarray, "records"],
    count: int = len(SIGNALS),
    *,
    temperature: float = 1.0,
) -> Float64[np.ndarray, "signals records"]:
    """Return the first `count` of `SIGNALS`, 2 or all, one after another.

    Args:
        logits: Finite, any float type; at least 2 classes.
        labels: True classes.
        count: Number of signals; the first two take a third of the time.
        temperature: Divisor of the logits, > 0.
    """
    planes = np.empty((count, len(labels)))
    step = max(1, BLOCK_NUMBERS // logits.shape[1])
    for start in range(0, len(labels), step):
        block = slice(start, start + step)
        _fill_block(planes[:, block], logits[block], labels[block], temperature)
    return planes


def _fill_block(
    planes: Float64[np.ndarray, "signals block"],
    logits: Float[np.ndarray, "block classes"],
    labels: Int64[np.ndarray, "block"],
    temperature: float,
) -> None:
    # Class by class in memory: sums over a few classes at the end of an array are slow. All exponentials are of
    # differences to the largest logit.
    z = np.array(logits.T, dtype=np.float64, order="C")
    columns = np.arange(z.shape[1])
    if temperature != 1:
        z /= temperature
    z -= z.max(axis=0)
    true = z[labels, columns]
    weights = np.exp(z)

    # f = z_y - log of the sum of exp(z) over the other classes
    true_weight = weights[labels, columns]
    weights[labels, columns] = 0.0
    confidence = true - _log_sum(weights, z, labels)
    planes[0] = -np.logaddexp(0.0, -confidence)
    planes[1] = confidence
    if len(planes) == 2:
        return
    weights[labels, columns] = true_weight

    # R = sum over all classes but the predicted one, relative to that one, so that its p = 1 / (1 + R)
    predicted = z.argmax(axis=0)
    weights[predicted, columns] = 0.0
    log_rest = _log_sum(weights, z, predicted)
    log_total = np.log1p(_sum(weights))
    weights[predicted, columns] = 1.0

    # entropy = log(1 + R) - sum of p z, whose terms all have one sign
    p = weights
    p *= np.exp(-log_total)
    terms = p * z
    entropy = log_total - _sum(terms)

    # modified entropy: -(1 - p_y) log p_y - sum over the other classes of p log(1 - p); for the predicted class, whose
    # p may round to 1, log(1 - p) = log(R / (1 + R))
    np.negative(p, out=terms)
    np.maximum(terms, -0.75, out=terms)
    np.log1p(terms, out=terms)
    terms *= p
    terms[predicted, columns] = p[predicted, columns] * (log_rest - log_total)
    terms[labels, columns] = 0.0
    not_true = np.exp(-np.logaddexp(0.0, confidence))
    planes[3] = entropy
    planes[4] = -not_true * planes[0] - _sum(terms)
    planes[5] = predicted == labels
    z[labels, columns] = -np.inf
    planes[2] = true - z.max(axis=0)


def _sum(rows: Float64[np.ndarray, "classes block"]) -> Float64[np.ndarray, "block"]:
    """Return the sum over the classes, in the same order for every size of the block."""
    total = rows[0].copy()
    for row in rows[1:]:
        total += row
    return total


def _log_sum(
    weights: Float64[np.ndarray, "classes block"],
    z: Float64[np.ndarray, "classes block"],
    left_out: Int64[np.ndarray, "block"],
) -> Float64[np.ndarray, "block"]:
    """Return log of the sum of exp(z) over all classes but one, whose weight is 0 here."""
    total = _sum(weights)
    tiny = np.flatnonzero(total < SMALLEST_SUM)
    if not len(tiny):
        return np.log(total)
    # The class left out leads so far that the others underflow.
    logs = np.log(np.maximum(total, SMALLEST_SUM))
    logs[tiny] = z[left_out[tiny], tiny] - logit_scaled(z[:, tiny].T, left_out[tiny])
    return logs


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
