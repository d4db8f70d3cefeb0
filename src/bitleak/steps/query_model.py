"""Evaluate one model on every record: the answers that all attacks see."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from bitleak.core.params import later
from bitleak.core.types import Images, Kept, NetworkFile, Outputs, QuantizedWeights, Splits, Weights
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
        keep: Whether the logits are stored beside the signals.
    """

    queries: tuple[str, ...]
    batch: int
    test: bool
    keep: Kept = later("signals")

    STAGE: ClassVar[str] = "query"
    VERSION: ClassVar[str] = "3"

    class Inputs(NamedTuple):
        """The model and the records."""

        weights: Weights | QuantizedWeights | NetworkFile
        images: Images
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds of the forward passes."""
        images = (scale.pool + scale.population) * len(self.queries) + self.test * scale.test
        return scale.network.multiply_adds * images / scale.rate

    def bytes(self, scale: Scale) -> int:
        """Bytes of the signals, of the test predictions and, if kept, of the logits."""
        return scale.answer_bytes + 8 * scale.test + self._kept_bytes(scale)

    def memory(self, scale: Scale) -> int:
        """Memory of the images, the weights, the answers and a batch's activations."""
        activations = 4 * 64 * scale.pixels * self.batch
        answers = 2 * scale.answer_bytes + 2 * self._kept_bytes(scale)
        return scale.decoded_bytes + 2 * scale.weight_bytes + answers + activations

    def _kept_bytes(self, scale: Scale) -> int:
        return scale.logit_bytes if self.keep == "logits" else 0

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Outputs:
        """Return the signals."""
        from bitleak.query import outputs
        from bitleak.steps.networks import answering_network

        network, spec, device = answering_network(inputs.weights, runtime)
        options: Mapping[str, Any] = {
            "queries": self.queries,
            "batch": self.batch,
            "test": self.test,
            "keep": self.keep,
        }
        return outputs(
            network,
            inputs.images,
            inputs.splits,
            spec=spec,
            device=device,
            on_step=progress,
            **options,
        )
