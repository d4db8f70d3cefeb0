"""Train one model on with quantized weights: quantization-aware training on its own members."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from bitleak import registry
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, QuantizedWeights, Splits, Weights
from bitleak.engine.worker import Runtime
from bitleak.steps.quantize_model import RECORD_BYTES
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress
from bitleak.train.recipe import Recipe

SEARCH = 20.0 * 80.0
"""Multiply-adds that a search of the grid takes per weight, at the rate of a forward pass."""


@dataclass(frozen=True)
class TrainQuantized:
    """Train the model of one row on, with quantized weights, on all its members and their labels.

    Attributes:
        model: Row of the membership matrix.
        method: A name of the registry's `TRAINED_QUANTIZERS`.
        options: Its arguments about layers and grids.
        levels: Grid points per weight.
        recipe: How it is trained on: the audit's recipe, with the epochs and the learning rate of the method.
        seed: The audit's seed, from which the model's own follows.
    """

    model: int
    method: str
    options: Mapping[str, Any]
    levels: int
    recipe: Recipe
    seed: int

    STAGE: ClassVar[str] = "qat"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """The trained model, the records, and which of them are its members."""

        weights: Weights
        images: Images
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds of the training and of a grid search per epoch."""
        work = 3.0 * scale.network.multiply_adds * scale.trained_records
        weights = sum(out * columns for out, columns in scale.network.layers)
        return self.recipe.epochs * (work + SEARCH * weights) / scale.rate

    def bytes(self, scale: Scale) -> int:
        """Bytes of the codes, one per weight, of the grids, and of each layer's record."""
        channels = sum(out for out, _ in scale.network.layers)
        return scale.network.parameters + 16 * channels + RECORD_BYTES * len(scale.network.layers)

    def memory(self, scale: Scale) -> int:
        """Memory of the images, of weights, gradients and momentum, and of a batch's activations."""
        return (
            scale.decoded_bytes + 9 * scale.weight_bytes + 4 * 64 * scale.pixels * self.recipe.batch
        )

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> QuantizedWeights:
        """Return the quantized weights."""
        import torch

        from bitleak.data.augment import Standard
        from bitleak.models.fingerprint import with_fingerprint
        from bitleak.quantizers.network.operands import CHECKED_RECORDS, check_operands
        from bitleak.quantizers.network.plain_copy import plain_arithmetic, plain_copy
        from bitleak.quantizers.qat import FakeQuantized
        from bitleak.steps.networks import network_of, spec_of
        from bitleak.train.fit import records_on, train_network

        # The model, and all its members with their labels.
        spec, device = spec_of(inputs.weights), torch.device(runtime.device)
        network = network_of(inputs.weights, runtime).to(device)
        data, split = inputs.images, inputs.splits
        members = split.pool[split.member[self.model]]
        standard = Standard.on(device, spec.mean, spec.std, torch.contiguous_format)
        records = records_on(device, data, members, standard)
        images = standard(records.pixels.index_select(0, records.members[:CHECKED_RECORDS]))

        kind = registry.find(registry.TRAINED_QUANTIZERS, self.method, kind="quantizer")
        scheme = kind(
            **self.options,
            levels=self.levels,
            epochs=self.recipe.epochs,
            learning_rate=self.recipe.learning_rate,
        )
        with plain_arithmetic():
            plain = plain_copy([scheme], network, images)
            trained = FakeQuantized(scheme, plain.network, plain.images).train()
            train_network(
                trained,
                records,
                self.recipe,
                seed=seed_for(self.seed, "qat", self.model),
                rate_name=f"learning_rate of {self.method}",
                before_epoch=trained.search,
                on_epoch=lambda epoch, _: progress(epoch / self.recipe.epochs),
            )
            quantized = replace(plain.result(trained.released(plain.images)), spec=spec)

            # The network as it will answer: built and loaded anew, with all tensors that it ties together.
            anew = network_of(quantized.dequantize(), runtime).to(device)
            check_operands(anew, quantized, images)
        return with_fingerprint(quantized, anew)
