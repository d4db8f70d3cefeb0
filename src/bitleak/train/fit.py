"""One model: stochastic gradient descent on its members, with everything that matters a field.

The recipe's defaults are the paper's: SGD with momentum 0.9 and weight decay 5e-4, learning rate
0.1 with a cosine decay to 0 per epoch, batches of 128, random flips and crops, per-channel
standardisation (arXiv 2512.15335, experimental setup).

The pixels stay on the device as uint8; batches are gathered, augmented and standardised there, so
no loader stands between the data and the network. Channels-last memory is used where the network
is two-dimensional. On a CPU, the same seed and one thread give the same weights bit for bit.

Cost: epochs * members * (3 * multiply-adds per image), plus the augmentation.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import nn

from bitleak.core.errors import TrainingError
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, ModelSpec, Weights
from bitleak.data.augment import augmented, standardize
from bitleak.models import build, state
from bitleak.models.precision import exact_float32
from bitleak.train.recipe import Recipe, rate_at


def fit(
    images: Images,
    members: Int64[np.ndarray, "members"],
    recipe: Recipe,
    *,
    spec: ModelSpec,
    seed: int,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[int, float], None] | None = None,
) -> Weights:
    """Trains one model.

    Args:
        images: The data set.
        members: Indices of the records to train on.
        recipe: How.
        spec: Which network, and the standardisation of its input.
        seed: Of the initialisation, the order of the records and the augmentation.
        device: Where to train.
        on_epoch: Called after each epoch with its number from 1 and the mean loss in nats.

    Returns:
        The trained weights, on the CPU.

    Raises:
        TrainingError: The loss is not finite; says at which epoch and learning rate.
        ValueError: Fewer than 2 members.
    """
    if len(members) < 2:
        raise ValueError(f"training needs at least 2 members, got {len(members)}")
    device = torch.device(device)
    pixels = torch.from_numpy(images.pixels[members]).to(device)
    labels = torch.from_numpy(images.labels[members]).to(device)
    network = build(spec, seed=seed_for(seed, "initialisation")).to(device)
    network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
        fused=True,
    )
    order = torch.Generator().manual_seed(seed_for(seed, "order"))
    chance = torch.Generator(device).manual_seed(seed_for(seed, "augment"))
    for epoch in range(recipe.epochs):
        rate = rate_at(recipe, epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        total = torch.zeros((), device=device)
        shuffled = torch.randperm(len(labels), generator=order).to(device)
        for chosen in batches(shuffled, recipe.batch):
            loss = _step(network, optimizer, recipe, spec, pixels[chosen], labels[chosen], chance)
            total += loss * len(chosen)
        mean = float(total) / len(labels)
        if not math.isfinite(mean):
            raise TrainingError(
                f"training diverged in epoch {epoch + 1} at learning rate {rate:g}: the loss is {mean}. "
                "Lower train.learning_rate."
            )
        if on_epoch is not None:
            on_epoch(epoch + 1, mean)
    return Weights(tensors=state(network), spec=spec)


def batches(shuffled: torch.Tensor, batch: int) -> list[torch.Tensor]:
    """The records in groups of `batch`; a last group of one joins the one before it.

    Batch normalisation has no statistics of a single record.
    """
    groups = list(torch.split(shuffled, batch))
    if len(groups) > 1 and len(groups[-1]) == 1:
        groups[-2:] = [torch.cat(groups[-2:])]
    return groups


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    spec: ModelSpec,
    pixels: UInt8[torch.Tensor, "batch channels height width"],
    labels: Int64[torch.Tensor, "batch"],
    chance: torch.Generator,
) -> torch.Tensor:
    """One step on one batch; returns the loss without waiting for it."""
    inputs = standardize(augmented(pixels, recipe.augment, chance), spec.mean, spec.std)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    with exact_float32():
        with _arithmetic(recipe, inputs.device):
            logits = network(inputs)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
    optimizer.step()
    return loss.detach()


def _arithmetic(recipe: Recipe, device: torch.device) -> AbstractContextManager:
    """The autocast context that the recipe asks for."""
    if recipe.autocast == "none":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
