"""Quantize one model by one quantizer, at one or more precisions that share a pass over the calibration images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, ClassVar, NamedTuple

from bitleak import registry
from bitleak.config import CalibrationConfig
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, QuantizedWeights, Splits, Weights
from bitleak.engine.worker import Runtime
from bitleak.steps.quantizing_work import quantizing_work
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress

RECORD_BYTES = 900
"""Mean size of what is stored about a layer beside its codes: headers of its arrays, and its record as JSON."""


@dataclass(frozen=True)
class QuantizeModel:
    """Quantize one model at one precision.

    Attributes:
        model: Row of the membership matrix, or number of the calibration set.
        quantizer: A name of the registry's `QUANTIZERS`.
        options: Its arguments, all but the levels.
        levels: Grid points per weight.
        calibration: Images that the quantizer sees.
        seed: The audit's seed, from which the model's own follows.
    """

    model: int
    quantizer: str
    options: Mapping[str, Any]
    levels: int
    calibration: CalibrationConfig
    seed: int

    STAGE: ClassVar[str] = "quantize"
    VERSION: ClassVar[str] = "2"

    class Inputs(NamedTuple):
        """The trained model, and the records that it may be calibrated on."""

        weights: Weights
        images: Images
        splits: Splits

    def cost(self, scale: Scale, *, shared: bool = False) -> float:
        """Seconds; `shared` if another precision is expected to pay for the pass over the images."""
        return (
            quantizing_work(self.quantizer, self.options, self.calibration, scale.network, shared)
            / scale.rate
        )

    def bytes(self, scale: Scale) -> int:
        """Bytes of the codes, one per weight, of the grids, and of each layer's record."""
        channels = sum(out for out, _ in scale.network.layers)
        return scale.network.parameters + 16 * channels + RECORD_BYTES * len(scale.network.layers)

    def memory(self, scale: Scale) -> int:
        """Memory of the images, of four copies of the weights, and of a layer's inputs."""
        shown = self.calibration.records * self.calibration.rounds
        return scale.decoded_bytes + 4 * scale.weight_bytes + 4 * 64 * scale.pixels * shown

    @staticmethod
    def run_together(
        steps: Sequence["QuantizeModel"], inputs: Inputs, runtime: Runtime, progress: OnProgress
    ) -> Iterator[QuantizedWeights]:
        """Yield the quantized weights of each step, in order; steps on the same images share their statistics."""
        import torch

        from bitleak.models.fingerprint import with_fingerprint
        from bitleak.models.precision import exact_float32
        from bitleak.quantizers.network.operands import check_operands
        from bitleak.quantizers.shared_pass import quantize_together
        from bitleak.steps.networks import calibration_images, network_of, spec_of

        weights, spec = inputs.weights, spec_of(inputs.weights)
        network = network_of(weights, runtime).to(runtime.device)
        # Steps of one model with the same calibration follow each other, so their images are drawn once.
        for _, group in groupby(steps, key=lambda step: (step.model, step.calibration, step.seed)):
            alike = list(group)
            images = calibration_images(
                inputs.images,
                inputs.splits,
                spec,
                alike[0].calibration,
                model=alike[0].model,
                seed=alike[0].seed,
                device=runtime.device,
            )
            seeds = [seed_for(step.seed, "quantize", step.model) for step in alike]
            generators = [torch.Generator().manual_seed(seed) for seed in seeds]
            results = quantize_together(
                [_quantizer(step) for step in alike], network, images, generators
            )
            for _ in alike:
                with exact_float32():
                    quantized = replace(next(results), spec=spec)
                    # The network as it will answer: built and loaded anew, with all tensors that it ties together.
                    anew = network_of(quantized.dequantize(), runtime).to(runtime.device)
                    check_operands(anew, quantized, images)
                yield with_fingerprint(quantized, anew)


def _quantizer(step: QuantizeModel) -> Any:
    kind = registry.resolve(registry.QUANTIZERS, step.quantizer, kind="quantizer")
    return kind(**step.options, levels=step.levels)
