"""Quantization of a job's network, and the accuracy, agreement and size of the results."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from bitleak import metrics
from bitleak.core.errors import ModelError
from bitleak.core.seeds import seed_for
from bitleak.core.types import Measure, ModelSpec, QuantizedLayer, QuantizedWeights, Weights
from bitleak.data.augment import standardize
from bitleak.metrics.accuracy_and_size import weights_size
from bitleak.models import load
from bitleak.models.fingerprint import with_fingerprint
from bitleak.models.network_size import repeated_names
from bitleak.models.precision import exact_float32
from bitleak.quantizers.network.layer_inputs import OnLayer
from bitleak.quantizers.network.operands import check_operands
from bitleak.quantizers.shared_pass import quantize_together
from bitleak.query import logits
from bitleak.single_network.quantization_job import QuantizationJob


@dataclass(frozen=True)
class NetworkFigures:
    """Accuracy, agreement and size of weights.

    Attributes:
        predictions: Predicted class of each test record.
        accuracy: Share of the test records that are predicted right, with its 95 % interval; a
            quantized network's `difference` is to full precision, on the same records.
        agreement: Share of the test records with the same prediction as at full precision; None for
            full precision itself.
        bytes: Size as `bitleak.metrics.accuracy_and_size` counts it: codes packed, all else as it
            is.
        bits_per_weight: Bits of codes and grids per quantized weight; 32 at full precision.
    """

    predictions: Int64[np.ndarray, "test"]
    accuracy: Measure
    agreement: Measure | None
    bytes: int
    bits_per_weight: float


@dataclass(frozen=True)
class LayerFigures:
    """A row of the table of layers.

    Attributes:
        name: Name of the layer.
        shape: Shape of its weight.
        levels: Levels of its grid; None at full precision.
        counted: Largest number of different codes on any of its grids (channels); None at full
            precision.
        relative_error: Error that the quantizer recorded, or None if it recorded none.
        damping: Damping that it recorded, or None.
        facts: All other entries of the record.
    """

    name: str
    shape: tuple[int, ...]
    levels: int | None
    counted: int | None
    relative_error: float | None
    damping: float | None
    facts: Mapping[str, Any]


def quantize_job(
    job: QuantizationJob, *, on_layer: OnLayer | None = None
) -> Iterator[QuantizedWeights]:
    """Quantize a job's network by each of its quantizers; statistics that they have in common are
    shared.

    Args:
        job: The job.
        on_layer: Called for each layer after each quantizer; the index runs over quantizers and
            layers.

    Returns:
        A result for each of `job.quantizers`, in order, with the network's spec. Each is made when
        it is taken from the iterator; the first one includes the shared statistics.

    Raises:
        QuantizationError: A layer cannot be quantized (raised when the result is taken).
    """
    spec, device = _spec(job.weights), job.request.device
    network = load(job.weights, allow_external=True).to(device)
    pixels = torch.from_numpy(job.images.pixels[job.calibration]).to(device)
    chances = [
        torch.Generator().manual_seed(seed_for(job.request.seed, "quantize"))
        for _ in job.quantizers
    ]
    quantizers: Any = job.quantizers
    images = standardize(pixels, spec.mean, spec.std)
    results = quantize_together(quantizers, network, images, chances, on_layer=on_layer)
    for _ in job.quantizers:
        with exact_float32():
            quantized = replace(next(results), spec=spec)
            loaded = load(quantized.dequantize(), allow_external=True).to(device)
            check_operands(loaded, quantized, images)
        yield with_fingerprint(quantized, loaded)


def measure_network(
    job: QuantizationJob,
    weights: Weights | QuantizedWeights,
    baseline: NetworkFigures | None = None,
) -> NetworkFigures:
    """Measure accuracy, agreement and size of weights.

    Args:
        job: The job.
        weights: The job's weights, or quantized ones.
        baseline: Figures at full precision, to compare with; None for the job's weights themselves.

    Raises:
        ModelError: The network's answers are not finite.
    """
    # Answers on the test records, as every user of the weights gets them.
    floats = weights.dequantize() if isinstance(weights, QuantizedWeights) else weights
    try:
        network = load(floats, allow_external=True)
        answers = logits(
            network, job.images, job.test, spec=_spec(floats), device=job.request.device
        )
    except ValueError as error:
        raise ModelError(f"--weights {job.request.weights}: {error}") from None
    # Accuracy with its change from the baseline, agreement, and sizes.
    predicted = answers.argmax(axis=1).astype(np.int64)
    full = None if baseline is None else baseline.predictions[None]
    accuracy = metrics.accuracy_on_test(predicted[None], job.images.labels[job.test], baseline=full)
    agreement = (
        None if full is None else metrics.agreement(predicted[None], full).aggregate["agreement"]
    )
    sizes = weights_size(weights, repeated=repeated_names(network))
    return NetworkFigures(
        predictions=predicted,
        accuracy=accuracy.aggregate["test_accuracy"],
        agreement=agreement,
        bytes=int(sizes["bytes"]),
        bits_per_weight=float(sizes["bits_per_weight"]),
    )


def why_doubtful(job: QuantizationJob, full: NetworkFigures) -> str:
    """Return a reason to doubt that the network and the data belong together, or an empty text.

    A network whose outputs are in another order than the data's classes loads and quantizes without
    an error. It shows in its accuracy, which is then no better than that of always answering the
    most frequent class.
    """
    truth = job.images.labels[job.test]
    share = float(np.bincount(truth).max() / len(truth))
    accuracy = full.accuracy
    if accuracy.low is None or accuracy.low > share:
        return ""
    names = ", ".join(
        f"{index} is {name!r}" for index, name in enumerate(job.images.class_names[:3])
    )
    ellipsis = ", ..." if len(job.images.class_names) > 3 else ""
    return (
        f"before quantizing, the network is right on {100 * accuracy.value:.1f} % of {len(truth)} test records, not "
        f"clearly above the share of the most frequent class, {100 * share:.1f} %: are its outputs in the order of the "
        f"data's classes ({names}{ellipsis}), and are --mean and --std those that it was trained with?"
    )


def layer_figures(quantized: QuantizedWeights) -> list[LayerFigures]:
    """Return the table of layers in the quantizer's order; layers at full precision come last."""
    rows = [
        _quantized_row(name, layer, quantized.record.get(name, {}))
        for name, layer in quantized.layers.items()
    ]
    return rows + [_full_precision_row(name, quantized) for name in quantized.full_precision]


def counted_levels(layer: QuantizedLayer) -> int:
    """Return the largest number of different codes on any of the layer's grids.

    Example:
        >>> codes = np.array([[0, 1, 1], [2, 2, 3]], np.uint8)
        >>> single, per_channel = np.ones(1, np.float32), np.ones(2, np.float32)
        >>> counted_levels(QuantizedLayer(codes, single, single, 16))
        4
        >>> counted_levels(QuantizedLayer(codes, per_channel, per_channel, 16))
        2
    """
    return max(len(np.unique(row)) for row in layer.codes.reshape(len(layer.scale), -1))


def _quantized_row(name: str, layer: QuantizedLayer, record: Mapping[str, Any]) -> LayerFigures:
    columns = ("levels", "relative_error", "damping")
    facts = {key: value for key, value in record.items() if key not in columns}
    error, damping = record.get("relative_error"), record.get("damping")
    return LayerFigures(
        name, layer.codes.shape, layer.levels, counted_levels(layer), error, damping, facts
    )


def _full_precision_row(name: str, quantized: QuantizedWeights) -> LayerFigures:
    weight = quantized.rest.get(f"{name}.weight")
    return LayerFigures(name, () if weight is None else weight.shape, None, None, None, None, {})


def _spec(weights: Weights) -> ModelSpec:
    """Return the spec of weights that must have one."""
    if weights.spec is None:
        raise ModelError("weights without a spec cannot be loaded: the architecture is not known")
    return weights.spec
