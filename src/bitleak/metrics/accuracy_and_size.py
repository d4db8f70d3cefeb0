"""What a variant is still good for: accuracy on test and training records, agreement with fp32.

Shares of records with the same treatment as the attacks' metrics: Wilson's interval for a target, records
resampled over a population's targets (which share the test records), t over dedicated targets.

The size of weights: what a file would hold that packs the codes as tightly as their levels allow.
"""

import math
from collections.abc import Set

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.core.types import QuantizedWeights, SplitMode, Weights
from bitleak.metrics.estimates import Estimate
from bitleak.metrics.measures import Measures, measures_from
from bitleak.metrics.proportions import estimate_proportion

SCALE_BYTES = 4
ZERO_POINT_BYTES = 1


def weights_size(weights: Weights | QuantizedWeights, *, repeated: Set[str] = frozenset()) -> dict[str, float]:
    """Bytes in all, and effective bits per quantized weight.

    Codes count log2(levels) bits each, rounded up to whole bytes per layer; every grid has a float32
    scale and a one-byte zero point; everything else is kept as it is, once.

    Args:
        weights: Tensors, or codes and the rest.
        repeated: Names whose tensor stands under another name too, which is not among them.

    Returns:
        `bytes`: codes, grids and the rest. `bits_per_weight`: of codes and grids alone, per quantized
        weight, so a little more than log2(levels); the weights of layers that keep full precision by their names
        count too, with the bits that they have. 32 for weights that are not quantized.

    Example:
        >>> import numpy as np
        >>> from bitleak.core.types import QuantizedLayer
        >>> layer = QuantizedLayer(np.zeros((4, 50), np.uint8), np.ones(4, np.float32), np.zeros(4, np.float32), 4)
        >>> weights_size(QuantizedWeights({"a": layer}, {"a.bias": np.zeros(4, np.float32)}))
        {'bytes': 86.0, 'bits_per_weight': 2.8}
    """
    if isinstance(weights, Weights):
        once = (array.nbytes for name, array in weights.tensors.items() if name not in repeated)
        return {"bytes": float(sum(once)), "bits_per_weight": 32.0}
    packed, count = 0, 0
    for layer in weights.layers.values():
        packed += math.ceil(layer.codes.size * math.log2(layer.levels) / 8)
        packed += layer.scale.size * (SCALE_BYTES + ZERO_POINT_BYTES)
        count += layer.codes.size
    rest = sum(array.nbytes for name, array in weights.rest.items() if name not in repeated)
    named = {key for name in weights.full_precision for key in _weights_of(name, weights)}
    kept = [weights.rest[name] for name in sorted(named - set(repeated))]
    count += sum(array.size for array in kept)
    bits = 8 * (packed + sum(array.nbytes for array in kept))
    return {"bytes": float(packed + rest), "bits_per_weight": bits / count if count else 0.0}


def _weights_of(name: str, weights: QuantizedWeights) -> list[str]:
    """Return the name of the weight of a layer that keeps full precision; or of all that it is computed from."""
    if f"{name}.weight" in weights.rest:
        return [f"{name}.weight"]
    return [key for key in weights.rest if key.startswith(f"{name}.") and not key.endswith("bias")]


def accuracy_on_test(
    predictions: Int64[np.ndarray, "targets test"],
    labels: Int64[np.ndarray, "test"],
    *,
    mode: SplitMode = "population",
    baseline: Int64[np.ndarray, "targets test"] | None = None,
) -> Measures:
    """The metric `test_accuracy`: share of test records whose predicted class is the true one.

    Args:
        predictions: Predicted classes of each target.
        labels: True classes.
        mode: See `measure`.
        baseline: Predictions of the same targets at fp32.

    Example:
        >>> labels = np.arange(200) % 2
        >>> accuracy_on_test(np.zeros((1, 200), np.int64), labels).aggregate["test_accuracy"].value
        0.5
    """
    figures = _right_on_test(predictions, labels)
    return measures_from(figures, mode=mode, baseline=None if baseline is None else _right_on_test(baseline, labels))


def accuracy_on_members(
    correct: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    *,
    mode: SplitMode = "population",
    baseline: Float64[np.ndarray, "targets records"] | None = None,
) -> Measures:
    """The metric `train_accuracy`: share of each target's own members that it classifies correctly.

    Args:
        correct: The signal `correct` of one query, the identity: 1.0 or 0.0.
        member: True for the target's members.
        mode: See `measure`.
        baseline: The same signal of the same targets at fp32.
    """
    pairs = zip(correct > 0.5, member, strict=True)
    figures = {"train_accuracy": tuple(estimate_proportion(right, counted) for right, counted in pairs)}
    if baseline is None:
        return measures_from(figures, mode=mode)
    pairs = zip(baseline > 0.5, member, strict=True)
    base = {"train_accuracy": tuple(estimate_proportion(right, counted) for right, counted in pairs)}
    return measures_from(figures, mode=mode, baseline=base)


def agreement(
    predictions: Int64[np.ndarray, "targets test"],
    full_precision: Int64[np.ndarray, "targets test"],
    *,
    mode: SplitMode = "population",
) -> Measures:
    """The metric `agreement`: share of test records on which a target and itself at fp32 agree.

    Args:
        predictions: Predicted classes of each target.
        full_precision: Those of the same targets at fp32.
        mode: See `measure`.
    """
    pairs = zip(predictions, full_precision, strict=True)
    return measures_from({"agreement": tuple(estimate_proportion(one == other) for one, other in pairs)}, mode=mode)


def _right_on_test(
    predictions: Int64[np.ndarray, "targets test"], labels: Int64[np.ndarray, "test"]
) -> dict[str, tuple[Estimate, ...]]:
    return {"test_accuracy": tuple(estimate_proportion(row == labels) for row in predictions)}
