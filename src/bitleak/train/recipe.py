"""How a model is trained. The defaults are the paper's (arXiv 2512.15335, experimental setup)."""

import math
from dataclasses import dataclass
from typing import Literal

from bitleak.core.checks import integer_in, number_in
from bitleak.data.augmentation_names import Augment

DISTILLED = 0.25
"""Epochs of a distillation over those of the training."""

Arithmetic = Literal["none", "bfloat16", "auto"]
"""How a forward pass multiplies: in float32, in bfloat16 where
autocast allows it, or as suits the device.
"""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        epochs: Passes over the members.
        batch: Records per step.
        learning_rate: At the start.
        momentum: Momentum of SGD.
        weight_decay: L2 penalty on every parameter, as in SGD's usual form.
        nesterov: Nesterov's form of the momentum.
        schedule: `cosine` decays the rate to 0, once per epoch; `constant` keeps it.
        augment: Random transforms of each batch: `flip`, `crop`.
        autocast: Arithmetic of the forward pass. `bfloat16` changes the numbers; it is faster on a
            device that multiplies in it, and many times slower on one that does not. `auto` is
            `bfloat16` on the former and `none` on the latter: an audit writes down which, and its
            results differ by that.
    """

    epochs: int = 100
    batch: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    nesterov: bool = False
    schedule: Literal["cosine", "constant"] = "cosine"
    augment: tuple[Augment, ...] = ("flip", "crop")
    autocast: Arithmetic = "none"

    def __post_init__(self) -> None:
        integer_in("epochs", self.epochs, 1)
        integer_in("batch", self.batch, 2)
        number_in("learning_rate", self.learning_rate, 0, math.inf, ends="()")
        number_in("momentum", self.momentum, 0, 1, ends="[)")
        number_in("weight_decay", self.weight_decay, 0, math.inf, ends="[)")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0, got 0")


def rate_at(recipe: Recipe, epoch: int) -> float:
    """Return the learning rate of an epoch, counted from 0.

    Example:
        >>> rate_at(Recipe(epochs=10, learning_rate=0.1), 5)
        0.05
    """
    if recipe.schedule == "constant":
        return recipe.learning_rate
    return round(recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs)), 12)
