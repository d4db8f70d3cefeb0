"""Use and cost of a variant: accuracy, agreement with fp32, and size in bytes.

Accuracies and agreement are shares of records and are treated like the attacks' metrics: Wilson's
interval for one target, records resampled over a population's targets (which share the test
records); over dedicated targets see `trainings`.

The size is that of a file that packs the codes as tightly as their levels allow.
"""

import math
from collections.abc import Set

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.core.types import QuantizedWeights, SplitMode, Weights
from bitleak.metrics.clusters import Clusters, dense_clusters
from bitleak.metrics.estimates import Estimates
from bitleak.metrics.measures import Measures, measures_from
from bitleak.metrics.proportions import estimate_proportion

SCALE_BYTES = 4
ZERO_POINT_BYTES = 1


def accuracy_on_test(
    predictions: Int64[np.ndarray, "targets test"],
    labels: Int64[np.ndarray, "test"],
    *,
    mode: SplitMode = "population",
    baseline: Int64[np.ndarray, "targets test"] | None = None,
) -> Measures:
    """Return the metric `test_accuracy`: the share of test records whose predicted class is true.

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
    at_fp32 = None if baseline is None else _shares("test_accuracy", baseline == labels)
    estimates = _shares("test_accuracy", predictions == labels)
    return measures_from(estimates, mode=mode, baseline=at_fp32)


def accuracy_on_members(
    correct: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    *,
    mode: SplitMode = "population",
    baseline: Float64[np.ndarray, "targets records"] | None = None,
    clusters: Int64[np.ndarray, "records"] | None = None,
) -> Measures:
    """Return the metric `train_accuracy`: the share of its members that a target classifies right.

    Args:
        correct: The signal `correct` of one query, the identity: 1.0 or 0.0.
        member: True for the target's members.
        mode: See `measure`.
        baseline: This signal of these targets at fp32.
        clusters: As in `measure`.
    """
    metric, dense = "train_accuracy", dense_clusters(clusters)
    at_fp32 = None if baseline is None else _shares(metric, baseline > 0.5, member, dense)
    estimates = _shares(metric, correct > 0.5, member, dense)
    return measures_from(estimates, mode=mode, baseline=at_fp32)


def agreement(
    predictions: Int64[np.ndarray, "targets test"],
    full_precision: Int64[np.ndarray, "targets test"],
    *,
    mode: SplitMode = "population",
) -> Measures:
    """Return the metric `agreement`: the share of test records that a target classifies as at fp32.

    Args:
        predictions: Predicted classes of each target.
        full_precision: Predicted classes of the same targets at fp32.
        mode: See `measure`.
    """
    return measures_from(_shares("agreement", predictions == full_precision), mode=mode)


def _shares(
    metric: str,
    success: Bool[np.ndarray, "targets records"],
    counted: Bool[np.ndarray, "targets records"] | None = None,
    clusters: Clusters | None = None,
) -> Estimates:
    counted = np.ones_like(success) if counted is None else counted
    pairs = zip(success, counted, strict=True)
    return {metric: tuple(estimate_proportion(*pair, clusters) for pair in pairs)}


def weights_size(
    weights: Weights | QuantizedWeights,
    *,
    repeated: Set[str] = frozenset(),
) -> dict[str, float]:
    """Return the bytes of all weights, and the effective bits per quantized weight.

    Codes count log2(levels) bits each, rounded up to whole bytes per layer; every grid has a
    float32 scale and a one-byte zero point, those of activations too; everything else counts as it is, once.

    Args:
        weights: Tensors, or codes and the rest.
        repeated: Names whose tensor is already counted under another name.

    Returns:
        `bytes`: codes, grids and the rest. `bits_per_weight`: codes and grids alone, per quantized
        weight, so a little more than log2(levels); the weights of layers that keep full precision
        by their names count too, with the bits that they have. 32 if nothing is quantized.

    Example:
        >>> import numpy as np
        >>> from bitleak.core.types import QuantizedLayer
        >>> scale, zero_point = np.ones(4, np.float32), np.zeros(4, np.float32)
        >>> layer = QuantizedLayer(np.zeros((4, 50), np.uint8), scale, zero_point, 4)
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
    packed += len(weights.activations) * (SCALE_BYTES + ZERO_POINT_BYTES)
    rest = sum(array.nbytes for name, array in weights.rest.items() if name not in repeated)

    # bits_per_weight would flatter a variant if a layer that is left unquantized did not count
    full_precision: set[str] = set()
    for name in weights.full_precision:
        full_precision.update(_weights_of(name, weights))
    left = [weights.rest[name] for name in sorted(full_precision - set(repeated))]
    count += sum(array.size for array in left)
    bits = 8 * (packed + sum(array.nbytes for array in left))
    return {"bytes": float(packed + rest), "bits_per_weight": bits / count if count else 0.0}


def _weights_of(name: str, weights: QuantizedWeights) -> list[str]:
    """Return the name of a full-precision layer's weight, or of all that it is computed from."""
    if f"{name}.weight" in weights.rest:
        return [f"{name}.weight"]
    return [key for key in weights.rest if key.startswith(f"{name}.") and not key.endswith("bias")]
