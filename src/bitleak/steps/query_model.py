"""Evaluate one model on every record: the answers that all attacks see."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from bitleak.core.types import Images, Outputs, QuantizedWeights, Splits, Weights
from bitleak.engine.worker import Runtime
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class QueryModel:
    """Evaluate one set of weights on every record of the pool and the population.

    Attributes:
        queries: Augmentations, `identity` first.
        batch: Images per forward pass.
        test: Whether it is also evaluated on the test records, for the accuracy.
    """

    queries: tuple[str, ...]
    batch: int
    test: bool

    STAGE: ClassVar[str] = "query"
    VERSION: ClassVar[str] = "3"

    class Inputs(NamedTuple):
        """The model and the records."""

        weights: Weights | QuantizedWeights
        images: Images
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds of the forward passes."""
        images = (scale.pool + scale.population) * len(self.queries) + self.test * scale.test
        return scale.network.multiply_adds * images / scale.rate

    def bytes(self, scale: Scale) -> int:
        """Bytes of the signals and of the test predictions."""
        return scale.answer_bytes + 8 * scale.test

    def memory(self, scale: Scale) -> int:
        """Memory of the images, the weights, the answers and a batch's activations."""
        activations = 4 * 64 * scale.pixels * self.batch
        return scale.decoded_bytes + 2 * scale.weight_bytes + 2 * scale.answer_bytes + activations

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Outputs:
        """Return the signals."""
        from bitleak.query import outputs
        from bitleak.steps.networks import query_network, spec_of

        weights = inputs.weights
        weights = weights.dequantize() if isinstance(weights, QuantizedWeights) else weights
        options: Mapping[str, Any] = {
            "queries": self.queries,
            "batch": self.batch,
            "test": self.test,
        }
        return outputs(
            query_network(weights, runtime),
            inputs.images,
            inputs.splits,
            spec=spec_of(weights),
            device=runtime.device,
            on_step=progress,
            **options,
        )
