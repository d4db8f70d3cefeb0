"""Distil one reference towards a target's answers, on records that are not evaluated.

    loss = KL(target's probabilities || reference's), at a tenth of the recipe's learning rate

It brings the reference's confidence near the target's on records that it was not trained on
(arXiv 2509.06796).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, Weights
from bitleak.engine.worker import Runtime
from bitleak.steps.assign_members import unpacked
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress
from bitleak.train.recipe import Recipe


@dataclass(frozen=True)
class ImitateTarget:
    """Distil the reference of one row of the membership matrix.

    Attributes:
        model: Its row.
        records: Number of records of the data set.
        training: Records of the target's answers, ascending, as `assign_members.packed` writes them.
        recipe: How the reference was trained.
        seed: The audit's seed, from which the model's own follows.
    """

    model: int
    records: int
    training: str
    recipe: Recipe
    seed: int

    STAGE: ClassVar[str] = "imitate"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """The trained reference, the records, and the target's answers."""

        weights: Weights
        images: Images
        answers: Mapping[str, Any]

    def cost(self, scale: Scale) -> float:
        """Seconds: a quarter of the epochs, each over the whole training part."""
        from bitleak.train.recipe import DISTILLED

        epochs = max(1, round(DISTILLED * self.recipe.epochs))
        return 3 * scale.network.multiply_adds * scale.members / 0.8 * epochs / scale.rate

    def bytes(self, scale: Scale) -> int:
        """Bytes of the weights."""
        return scale.weight_bytes

    def memory(self, scale: Scale) -> int:
        """Memory of the images, of weights, gradients and momentum, and of a batch's activations."""
        return (
            scale.decoded_bytes + 6 * scale.weight_bytes + 4 * 64 * scale.pixels * self.recipe.batch
        )

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Weights:
        """Return the distilled weights."""
        from bitleak.train.distil import distil

        return distil(
            inputs.weights,
            inputs.images,
            np.flatnonzero(unpacked(self.training, self.records)).astype(np.int64),
            inputs.answers["logits"],
            self.recipe,
            seed=seed_for(self.seed, "distil", self.model),
            device=runtime.device,
            allow_external=runtime.network is not None,
            on_epoch=progress,
        )
