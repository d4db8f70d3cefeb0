"""Tier 1: a few references for one target, trained on non-members that are not evaluated.

No reference is trained, tuned or distilled on an evaluated record: references that had seen the
evaluated non-members would be surer of these, and would find "members" in a target that knows
nothing. Each is trained by the recipe on a random draw of the training part, as many records as the
target has members, or 4/5 of the part if that is less.

*Imitated* references are then distilled towards the target's answers to the training part, which
brings their confidence near the target's on records that it was not trained on (arXiv 2509.06796),
see `train.distil`.

Trainings, distillations, quantizations and answers are tasks of a store (`audit.graph`), as in every
audit: they can be stopped at any moment and go on from there.

Cost: references * epochs * records * (3 * multiply-adds per image); a quarter more if imitated.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bitleak.core.errors import ModelError
from bitleak.train.recipe import Recipe

TRAINING_SHARE = 0.5
"""Share of the known non-members that references are trained on."""

DRAWN = 0.8
"""Largest share of the training part that one reference is trained on."""

Make = Callable[[], nn.Module]
"""Returns a fresh network; draws from PyTorch's global generator."""


@dataclass(frozen=True)
class ReferenceRecipe:
    """How references are made.

    Attributes:
        count: Number of references.
        recipe: How they are trained; None for estimators, whose `fit` is the recipe.
        imitated: Whether they are then distilled towards the target's answers.
    """

    count: int = 10
    recipe: Recipe | None = field(default_factory=Recipe)
    imitated: bool = False

    @property
    def line(self) -> str:
        """The recipe in a line."""
        recipe = self.recipe
        if recipe is None:
            return f"{self.count} references, each by fit of an unfitted estimator"
        augment = " and ".join(recipe.augment) or "no augmentation"
        text = (
            f"{self.count} references, {recipe.epochs} epochs of SGD, batch {recipe.batch}, learning rate "
            f"{recipe.learning_rate:g} ({recipe.schedule}), {augment}"
        )
        return f"{text}; then distilled towards the target's answers" if self.imitated else text


def drawn_records(members: int, training: int) -> int:
    """Return the number of training records of one reference.

    Args:
        members: Members of the target.
        training: Records of the training part.
    """
    return min(members, max(2, int(DRAWN * training)))


def fresh_copies(network: Any) -> Make | None:
    """Return a function that makes untrained copies of a network; None if it cannot be.

    Every module with parameters or buffers of its own must have `reset_parameters`. The network of a
    file has no parameters.
    """
    if not isinstance(network, nn.Module) or not any(True for _ in network.parameters()):
        return None
    for module in network.modules():
        has_tensors = any(True for _ in module.parameters(recurse=False))
        if has_tensors and not hasattr(module, "reset_parameters"):
            return None

    def make() -> nn.Module:
        copied = copy.deepcopy(network).cpu().train()
        for module in copied.modules():
            if hasattr(module, "reset_parameters"):
                getattr(module, "reset_parameters")()  # noqa: B009
        # A copy of a network for inference may have no gradients.
        for parameter in copied.parameters():
            parameter.requires_grad_(True)
        return copied

    return make


def checked_maker(factory: Callable[[], Any]) -> Make:
    """Return the factory with a check of its result."""

    def make() -> nn.Module:
        network = factory()
        if not isinstance(network, nn.Module):
            raise ModelError(
                f"factory: expected a function that returns a torch.nn.Module, got {type(network).__name__}"
            )
        return network.to(torch.device("cpu"))

    return make
