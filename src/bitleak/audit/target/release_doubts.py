"""Reasons to doubt that a release was made from the target: weights of another training, answers by chance."""

import math
from typing import Any

import numpy as np
from jaxtyping import Int64
from torch import nn

from bitleak.audit.target.network_answers import Records, logits_of

_SAMPLE = 200
"""Members that a release classifies."""

_CORRELATED = 0.5
"""Cosine between weights below which they are of another training: signs alone keep 0.8."""

_CERTAIN = 4.0
"""Deviations above the share of the most frequent class from which an accuracy is no guess."""


def release_doubts(
    name: str,
    release: Any,
    target: Any,
    records: Records,
    members: Int64[np.ndarray, "members"],
) -> tuple[str, ...]:
    """Return warnings about a release that was given as weights, a network or a file.

    Args:
        name: Its name.
        release: The release.
        target: The target at full precision.
        records: All records.
        members: Members of the target.
    """
    # Weights of another training: they are not near the target's.
    cosine = weight_cosine(release, target)
    if cosine is not None and cosine < _CORRELATED:
        return (
            f"{name}: its weights hardly correlate with the target's (cosine {cosine:.2f}), as after another "
            "training, whose members are others: then a smaller figure is no effect of quantization. Is it "
            "made from this target?",
        )
    # Outputs in another order, or inputs in another form: no better than the most frequent class.
    chosen = members[:: max(1, len(members) // _SAMPLE)][:_SAMPLE]
    labels = records.labels[chosen]
    guess = float(np.bincount(labels).max() / len(labels))
    right = []
    for model in (release, target):
        right.append(float((logits_of(model, records, chosen).argmax(axis=1) == labels).mean()))
    limit = guess + _CERTAIN * math.sqrt(guess * (1 - guess) / len(labels))
    if right[0] >= limit or right[1] < limit:
        return ()
    return (
        f"{name}: right on {100 * right[0]:.1f} % of {len(labels)} members, no better than guessing "
        f"({100 * guess:.1f} %), where the target is right on {100 * right[1]:.1f} %. Is it made from this target, for "
        "the same inputs and the same order of classes?",
    )


def weight_cosine(first: Any, second: Any) -> float | None:
    """Return the cosine between the matrices and kernels of two networks; None if they have none in common."""
    if not isinstance(first, nn.Module) or not isinstance(second, nn.Module):
        return None
    others = second.state_dict()
    products = np.zeros(3)
    for name, value in first.state_dict().items():
        other = others.get(name)
        shape = getattr(value, "shape", ())
        if other is None or len(shape) < 2 or other.shape != shape or value.is_quantized:
            continue
        a, b = value.detach().cpu().double(), other.detach().cpu().double()
        products += [float((a * b).sum()), float((a * a).sum()), float((b * b).sum())]
    norm = math.sqrt(products[1] * products[2])
    return float(products[0]) / norm if norm > 0 else None
