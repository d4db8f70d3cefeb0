"""Train one model of the population."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from bitleak.core.params import later
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, Splits, Weights
from bitleak.engine.worker import Runtime
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress
from bitleak.train.recipe import Recipe


@dataclass(frozen=True)
class TrainModel:
    """Train the model of one row of the membership matrix.

    Attributes:
        model: Its row.
        network: A name of the registry's `MODELS`.
        options: Arguments of its builder.
        recipe: How it is trained.
        seed: The audit's seed, from which the model's own follows.
        made_by: Distribution and version of the outside code that makes the network; empty if there is none.
        mean: Mean per channel of the network's input; None is the pool's.
        std: Deviation per channel, likewise.
    """

    model: int
    network: str
    options: Mapping[str, Any]
    recipe: Recipe
    seed: int
    made_by: str = later("")
    mean: tuple[float, ...] | None = later(None)
    std: tuple[float, ...] | None = later(None)

    STAGE: ClassVar[str] = "train"
    VERSION: ClassVar[str] = "2"

    class Inputs(NamedTuple):
        """The records, and which of them are members."""

        images: Images
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds: a backward pass costs two forward passes; bfloat16 doubles the rate where it is fast."""
        work = 3 * scale.network.multiply_adds * scale.trained_records * self.recipe.epochs
        return work / (scale.rate * (2.0 if self.recipe.autocast == "bfloat16" else 1.0))

    def bytes(self, scale: Scale) -> int:
        """Bytes of the weights."""
        return scale.weight_bytes

    def memory(self, scale: Scale) -> int:
        """Memory of the images, of weights, gradients and momentum, and of a batch's activations."""
        return (
            scale.decoded_bytes + 6 * scale.weight_bytes + 4 * 64 * scale.pixels * self.recipe.batch
        )

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Weights:
        """Return the trained weights."""
        from bitleak.steps.networks import check_origin, network_spec
        from bitleak.train.fit import fit

        check_origin(self.options, self.made_by)
        data, split = inputs.images, inputs.splits
        spec = network_spec(data, split, self.network, self.options)
        if self.mean is not None and self.std is not None:
            spec = replace(spec, mean=self.mean, std=self.std)
        return fit(
            data,
            split.pool[split.member[self.model]],
            self.recipe,
            spec=spec,
            seed=seed_for(self.seed, "train", self.model),
            device=runtime.device,
            on_epoch=lambda epoch, _: progress(epoch / self.recipe.epochs),
        )
