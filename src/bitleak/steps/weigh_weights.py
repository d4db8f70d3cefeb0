"""Weigh one set of weights: bytes and bits.

This is a step of its own, so that rows can be made of answers that were brought without weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from bitleak.core.types import NetworkFile, QuantizedWeights, Weights
from bitleak.engine.worker import Runtime
from bitleak.metrics.accuracy_and_size import weights_size
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class WeighWeights:
    """Weigh one set of weights."""

    STAGE: ClassVar[str] = "weigh"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """The weights."""

        weights: Weights | QuantizedWeights | NetworkFile

    def cost(self, scale: Scale) -> float:
        """Seconds."""
        return 0.02

    def bytes(self, scale: Scale) -> int:
        """Bytes of two numbers."""
        return 50

    def memory(self, scale: Scale) -> int:
        """Memory of the weights."""
        return scale.weight_bytes

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> dict[str, float]:
        """Return the sizes by the names of their metrics."""
        weights = inputs.weights
        if isinstance(weights, NetworkFile):
            return file_size(weights)
        repeated: frozenset[str] = frozenset()
        if (
            weights.spec is not None and weights.spec.name == "external"
        ):  # networks of this package share no tensor
            from bitleak.models import build
            from bitleak.models.network_size import repeated_names

            repeated = repeated_names(build(weights.spec, seed=0))
        sizes = weights_size(weights, repeated=repeated)
        counts: Mapping[str, float] = {}
        if isinstance(weights, Weights) and "levels_counted" in weights.record:
            counts = file_counts(weights.record)
        if isinstance(weights, QuantizedWeights) and weights.activations:
            counts = {"quantized_activations": 1.0}
        return {name: float(value) for name, value in {**sizes, **counts}.items()}


def file_size(file: NetworkFile) -> dict[str, float]:
    """Return the sizes of a file, and counts of its layers, by the names of their metrics."""
    return file_counts({**file.record, "bytes": file.size})


def file_counts(record: Mapping[str, Any]) -> dict[str, float]:
    """Return sizes and counts of the layers of a file, by the names of their metrics.

    `levels_counted` is the largest number of different codes on a grid, `float_layers` the number
    of layers in full precision, `quantized_activations` 1 if activations are rounded and 0 if not.

    Args:
        record: Facts on the layers, and the `bytes`.
    """
    return {
        "bytes": float(record["bytes"]),
        "bits_per_weight": float(record["bits_per_weight"]),
        "levels_counted": float(max(record["levels_counted"].values(), default=0)),
        "float_layers": float(len(record["float_layers"])),
        "quantized_activations": float(record["quantized_activations"]),
    }
