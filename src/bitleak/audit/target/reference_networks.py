"""Tier 1: a few references for one target, trained on non-members that are not evaluated.

No reference is trained, tuned or distilled on an evaluated record: references that had seen the
evaluated non-members would be surer of these, and would find "members" in a target that knows
nothing. Each is trained by the recipe on a random draw of the training part, as many records as the
target has members, or 4/5 of the part if that is less.

*Imitated* references are then distilled towards the target's answers to the training part, which brings
their confidence near the target's on records that it was not trained on (arXiv 2509.06796):

    loss = KL(target's probabilities || reference's), at a tenth of the recipe's learning rate

Cost: references * epochs * records * (3 * multiply-adds per image); a quarter more if imitated.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn
from torch.nn import functional

from bitleak.audit.target.network_answers import Records, logits_of
from bitleak.audit.target.tabular_model import OnStep
from bitleak.core.errors import ConfigError, ModelError, TrainingError
from bitleak.core.seeds import seed_for
from bitleak.data.augment import augmented
from bitleak.models.logit_output import Choices, answering, chosen_output
from bitleak.models.precision import exact_float32
from bitleak.train.fit import record_batches, settled, training_step
from bitleak.train.recipe import Recipe, rate_at
from bitleak.train.sgd import SGD

TRAINING_SHARE = 0.5
"""Share of the known non-members that references are trained on."""

DRAWN = 0.8
"""Largest share of the training part that one reference is trained on."""

DISTILLED = 0.25
"""Epochs of the distillation over those of the training."""

SLOWER = 0.1
"""Learning rate of the distillation over that of the training."""

Make = Callable[[int], nn.Module]
"""Returns a fresh network for a seed."""


@dataclass(frozen=True)
class ReferenceRecipe:
    """How references are made.

    Attributes:
        count: Number of references.
        make: Returns a fresh network for a seed; None if none can be made.
        recipe: How they are trained.
        imitated: Whether they are then distilled towards the target's answers.
    """

    count: int = 10
    make: Make | None = None
    recipe: Recipe = field(default_factory=Recipe)
    imitated: bool = False

    @property
    def line(self) -> str:
        """The recipe in a line."""
        recipe = self.recipe
        augment = " and ".join(recipe.augment) or "no augmentation"
        text = (
            f"{self.count} references, {recipe.epochs} epochs of SGD, batch {recipe.batch}, learning rate "
            f"{recipe.learning_rate:g} ({recipe.schedule}), {augment}"
        )
        return f"{text}; then distilled towards the target's answers" if self.imitated else text


@dataclass(frozen=True)
class ReferenceNetwork:
    """A trained reference.

    Attributes:
        network: Answers with logits, in evaluation mode.
        members: Records that it was trained on.
    """

    network: nn.Module
    members: Int64[np.ndarray, "members"]


def trained_references(
    target: Any,
    records: Records,
    training: Int64[np.ndarray, "training"],
    members: int,
    plan: ReferenceRecipe,
    *,
    seed: int,
    on_step: OnStep,
) -> list[ReferenceNetwork]:
    """Train the references.

    Args:
        target: The target, which imitated references are distilled towards.
        records: All records.
        training: The non-members that they may be trained on.
        members: Number of the target's members.
        plan: How they are made.
        seed: The audit's seed.
        on_step: Called with the fraction done of a stage, and its name.

    Raises:
        ConfigError: There is no way to make a fresh network.
        TrainingError: A loss is not finite.
    """
    if plan.make is None:
        raise ConfigError(
            f"tier 1: untrained networks are needed, and {type(target).__name__} cannot be reset; "
            "pass factory=, a function that returns an untrained network"
        )
    answers = None
    if plan.imitated:
        answers = logits_of(target, records, training)
    size = min(members, max(2, int(DRAWN * len(training))))
    references = []
    for index in range(plan.count):
        chance = np.random.default_rng(seed_for(seed, "reference records", index))
        drawn = np.sort(chance.permutation(training)[:size])
        network = _answering(plan.make(seed_for(seed, "reference", index)), records)
        network = network.to(_device(target))

        def report(done: float, trained: int = index) -> None:
            on_step((trained + done) / plan.count, "training references")

        _train(
            network, records, drawn, plan.recipe, seed_for(seed, "reference order", index), report
        )
        if answers is not None:
            _distil(
                network, records, training, answers, plan.recipe, seed_for(seed, "distil", index)
            )
        references.append(ReferenceNetwork(network.eval(), drawn))
    return references


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

    def make(seed: int) -> nn.Module:
        copied = copy.deepcopy(network).cpu()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            for module in copied.modules():
                if hasattr(module, "reset_parameters"):
                    getattr(module, "reset_parameters")()  # noqa: B009
        return copied

    return make


def factory_maker(factory: Callable[[], nn.Module]) -> Make:
    """Return a function that calls a factory under a seed."""

    def make(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            network = factory()
        if not isinstance(network, nn.Module):
            raise ModelError(
                f"factory: expected a function that returns a torch.nn.Module, got {type(network).__name__}"
            )
        return network

    return make


def _answering(network: nn.Module, records: Records) -> nn.Module:
    """Return the network with logits as its output, in both modes."""
    few = np.arange(min(3, len(records.labels)))
    inputs, name = records.inputs(few, "identity"), type(network).__name__
    choices = []
    with torch.no_grad():
        for training in (False, True):
            state = copy.deepcopy(network.state_dict())
            output = network.train(training)(inputs)
            choices.append(chosen_output(output, name, len(few), records.classes))
            network.load_state_dict(state)
    return answering(network, Choices(*choices))


def _train(
    network: nn.Module,
    records: Records,
    drawn: Int64[np.ndarray, "drawn"],
    recipe: Recipe,
    seed: int,
    report: Callable[[float], None],
) -> None:
    """Train a network on the drawn records, in place."""
    device = _device(network)
    recipe = settled(recipe, device)
    inputs_of = _Batches(records, recipe.augment if records.images.ndim == 4 else (), seed, device)
    optimizer = _optimizer(network, recipe)
    order = torch.Generator().manual_seed(seed_for(seed, "order"))
    labels = torch.from_numpy(records.labels)
    network.train()
    for epoch in range(recipe.epochs):
        optimizer.rate = rate = rate_at(recipe, epoch)
        total = 0.0
        shuffled = torch.from_numpy(drawn)[torch.randperm(len(drawn), generator=order)]
        for chosen in record_batches(shuffled, recipe.batch):
            batch = inputs_of(chosen)
            loss = training_step(
                network, optimizer, batch, labels[chosen].to(device), autocast=recipe.autocast
            )
            total += float(loss)
        if not math.isfinite(total):
            raise TrainingError(
                f"a reference diverged in epoch {epoch + 1} at learning rate {rate:g}; lower the recipe's "
                "learning_rate"
            )
        report((epoch + 1) / recipe.epochs)


def _distil(
    network: nn.Module,
    records: Records,
    training: Int64[np.ndarray, "training"],
    answers: Float64[np.ndarray, "training classes"],
    recipe: Recipe,
    seed: int,
) -> None:
    """Train a network towards the target's probabilities, in place."""
    device = _device(network)
    inputs_of = _Batches(records, (), seed, device)
    optimizer = _optimizer(network, recipe)
    optimizer.rate = SLOWER * recipe.learning_rate
    order = torch.Generator().manual_seed(seed_for(seed, "order"))
    goals = torch.from_numpy(answers).float().log_softmax(dim=1)
    places, numbers = torch.arange(len(training)), torch.from_numpy(training)
    network.train()
    for _ in range(max(1, round(DISTILLED * recipe.epochs))):
        shuffled = places[torch.randperm(len(places), generator=order)]
        for chosen in record_batches(shuffled, recipe.batch):
            with exact_float32():
                predicted = network(inputs_of(numbers[chosen])).float().log_softmax(dim=1)
                goal = goals[chosen].to(device)
                loss = functional.kl_div(predicted, goal, log_target=True, reduction="batchmean")
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()


class _Batches:
    """Inputs of a network for records, augmented anew at every call."""

    def __init__(
        self, records: Records, augment: Sequence[str], seed: int, device: torch.device
    ) -> None:
        self._records, self._augment, self._device = records, augment, device
        self._chance = torch.Generator().manual_seed(seed_for(seed, "augment"))

    def __call__(self, chosen: Tensor) -> Tensor:
        """Return the inputs of these records, on the device."""
        records = self._records
        pixels = records.pixels(chosen.numpy())
        if self._augment:
            pixels = augmented(pixels, self._augment, self._chance)
        return records.as_inputs(pixels).to(self._device)


def _optimizer(network: nn.Module, recipe: Recipe) -> SGD:
    return SGD(
        network.parameters(),
        rate=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )


def _device(network: Any) -> torch.device:
    if not isinstance(network, nn.Module):
        return torch.device("cpu")
    return next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
