"""Quantizing a job, and what came of it."""

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
from bitleak.models.network_size import repeated_names
from bitleak.models.precision import exact_float32
from bitleak.quant.capture import OnLayer
from bitleak.quant.operands import check_operands
from bitleak.quant.together import quantize_together
from bitleak.query import logits
from bitleak.single_network.quantization_job import QuantizationJob


@dataclass(frozen=True)
class NetworkFigures:
    """What weights are good for, and how large they are.

    Attributes:
        predictions: Predicted class of each test record.
        accuracy: Share of the test records with the right one, with its 95 % interval; a quantized
            network's `difference` is to full precision, on the same records.
        agreement: Share of the test records on which the predictions are those of full precision;
            None for full precision itself.
        bytes: As `bitleak.metrics.accuracy_and_size` counts them: codes packed, everything else as it is.
        bits_per_weight: Of codes and grids, per quantized weight; 32 at full precision.
    """

    predictions: Int64[np.ndarray, "test"]
    accuracy: Measure
    agreement: Measure | None
    bytes: int
    bits_per_weight: float


@dataclass(frozen=True)
class LayerFigures:
    """One line of the table of layers.

    Attributes:
        name: Of the layer.
        shape: Of its weight.
        levels: What it was quantized to; None if it keeps full precision.
        counted: The most different codes that any of its grids (channels) holds, counted; None like `levels`.
        relative_error: As the quantizer recorded it; None where it recorded none.
        damping: The same.
        facts: Everything else of the record.
    """

    name: str
    shape: tuple[int, ...]
    levels: int | None
    counted: int | None
    relative_error: float | None
    damping: float | None
    facts: Mapping[str, Any]


def quantize_job(job: QuantizationJob, *, on_layer: OnLayer | None = None) -> Iterator[QuantizedWeights]:
    """The job's network by its quantizers, with the network's spec; they share what they can share.

    Args:
        job: What `prepare_job` gave.
        on_layer: Told of each layer after each quantizer; the index runs over quantizers and layers.

    Returns:
        One result for each of `job.quantizers`, in order; each is made when it is asked for, the first of those
        that share together with what they share.

    Raises:
        QuantizationError: A layer cannot be quantized (when the result is asked for).
    """
    spec, device = _spec(job.weights), job.request.device
    network = load(job.weights, allow_external=True).to(device)
    pixels = torch.from_numpy(job.images.pixels[job.calibration]).to(device)
    chances = [torch.Generator().manual_seed(seed_for(job.request.seed, "quantize")) for _ in job.quantizers]
    quantizers: Any = job.quantizers
    images = standardize(pixels, spec.mean, spec.std)
    results = quantize_together(quantizers, network, images, chances, on_layer=on_layer)
    for _ in job.quantizers:
        with exact_float32():
            found = replace(next(results), spec=spec)
            check_operands(load(found.dequantize(), allow_external=True).to(device), found, images)
        yield found


def measure_network(
    job: QuantizationJob, weights: Weights | QuantizedWeights, baseline: NetworkFigures | None = None
) -> NetworkFigures:
    """Accuracy, agreement and size.

    Args:
        job: What `prepare_job` gave.
        weights: The job's own, or quantized ones.
        baseline: The figures of the job's own weights, for the comparison; None where they are meant.

    Raises:
        ModelError: The network's answers are not finite.
    """
    floats = weights.dequantize() if isinstance(weights, QuantizedWeights) else weights
    try:
        network = load(floats, allow_external=True)
        answers = logits(network, job.images, job.test, spec=_spec(floats), device=job.request.device)
    except ValueError as error:
        raise ModelError(f"--weights {job.request.weights}: {error}") from None
    predicted = answers.argmax(axis=1).astype(np.int64)
    full = None if baseline is None else baseline.predictions[None]
    found = metrics.accuracy_on_test(predicted[None], job.images.labels[job.test], baseline=full)
    same = None if full is None else metrics.agreement(predicted[None], full).aggregate["agreement"]
    sizes = weights_size(weights, repeated=repeated_names(network))
    return NetworkFigures(
        predicted, found.aggregate["test_accuracy"], same, int(sizes["bytes"]), float(sizes["bits_per_weight"])
    )


def why_doubtful(job: QuantizationJob, full: NetworkFigures) -> str:
    """Return the reason to doubt that the network and the data belong together; empty if there is none.

    A network whose outputs are in another order than the data's classes loads and quantizes without an error. It
    shows in its accuracy, which is then no better than that of always answering the most frequent class.
    """
    truth = job.images.labels[job.test]
    share = float(np.bincount(truth).max() / len(truth))
    accuracy = full.accuracy
    if accuracy.low is None or accuracy.low > share:
        return ""
    names = ", ".join(f"{index} is {name!r}" for index, name in enumerate(job.images.class_names[:3]))
    more = ", ..." if len(job.images.class_names) > 3 else ""
    return (
        f"before quantizing, the network is right on {100 * accuracy.value:.1f} % of {len(truth)} test records, not "
        f"clearly above the share of the most frequent class, {100 * share:.1f} %: are its outputs in the order of the "
        f"data's classes ({names}{more}), and are --mean and --std those that it was trained with?"
    )


def layer_figures(quantized: QuantizedWeights) -> list[LayerFigures]:
    """The table of layers, in the order in which the quantizer did them; then those that keep full precision."""
    done = [_of_layer(name, layer, quantized.record.get(name, {})) for name, layer in quantized.layers.items()]
    return done + [_left_out(name, quantized) for name in quantized.full_precision]


def counted_levels(layer: QuantizedLayer) -> int:
    """The most different codes that one of the layer's grids holds.

    Example:
        >>> codes = np.array([[0, 1, 1], [2, 2, 3]], np.uint8)
        >>> one = np.ones(1, np.float32)
        >>> counted_levels(QuantizedLayer(codes, one, one, 16)), counted_levels(
        ...     QuantizedLayer(codes, one.repeat(2), one.repeat(2), 16)
        ... )
        (4, 2)
    """
    return max(len(np.unique(row)) for row in layer.codes.reshape(len(layer.scale), -1))


def _of_layer(name: str, layer: QuantizedLayer, record: Mapping[str, Any]) -> LayerFigures:
    own = ("levels", "relative_error", "damping")
    facts = {key: value for key, value in record.items() if key not in own}
    error, damping = record.get("relative_error"), record.get("damping")
    return LayerFigures(name, layer.codes.shape, layer.levels, counted_levels(layer), error, damping, facts)


def _left_out(name: str, quantized: QuantizedWeights) -> LayerFigures:
    weight = quantized.rest.get(f"{name}.weight")
    return LayerFigures(name, () if weight is None else weight.shape, None, None, None, None, {})


def _spec(weights: Weights) -> ModelSpec:
    """The spec, which a job's weights have."""
    if weights.spec is None:
        raise ModelError("weights without a spec cannot be loaded: the architecture is not known")
    return weights.spec
