"""One model: stochastic gradient descent on its members, with everything that matters a field.

The recipe's defaults are the paper's: SGD with momentum 0.9 and weight decay 5e-4, learning rate
0.1 with a cosine decay to 0 per epoch, batches of 128, random flips and crops, per-channel
standardisation (arXiv 2512.15335, experimental setup).

The pixels lie on the device as uint8; batches are gathered, augmented and standardised there, so no
loader stands between the data and the network, and no step waits for the device: the loss is added
up there and read once per epoch. On a CPU the data set is not even copied: a store maps it, and all
processes read the same pages. Networks and images are in channels-last memory where that is safe.
On a CPU, the same seed and one thread give the same weights bit for bit.
docs/training-measured.md has the measurements.

Cost: epochs * members * (3 * multiply-adds per image), plus the augmentation.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor, nn

from bitleak.core.errors import TrainingError
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, ModelSpec, Weights
from bitleak.data.augment import Standard, augmented
from bitleak.models import build, state
from bitleak.models.external import trial_of
from bitleak.models.fingerprint import with_fingerprint
from bitleak.models.global_state import seeded_draws
from bitleak.models.layout import memory_format
from bitleak.models.precision import exact_float32, multiplies_in_bfloat16
from bitleak.train.convolution import with_products
from bitleak.train.recipe import Arithmetic, Recipe, rate_at
from bitleak.train.sgd import SGD


@dataclass(frozen=True)
class TrainingRecords:
    """The training records of a model, on the device.

    Attributes:
        pixels: Pixels of the members, and perhaps of other records.
        labels: Labels of the same records.
        members: Positions of the members among these records.
        standard: The standardisation of the network's input.
    """

    pixels: UInt8[Tensor, "records channels height width"] | Float32[Tensor, "records channels"]
    labels: Int64[Tensor, "records"]
    members: Int64[Tensor, "members"]
    standard: Standard

    def batch(
        self, chosen: Int64[Tensor, "batch"], augment: Sequence[str], chance: torch.Generator
    ) -> tuple[Float32[Tensor, "batch channels *size"], Int64[Tensor, "batch"]]:
        """Return inputs of the network, augmented anew, and their labels."""
        # Nothing is copied to or from the device, so that a step waits for nothing.
        pixels = augmented(self.pixels.index_select(0, chosen), augment, chance)
        return self.standard(pixels), self.labels.index_select(0, chosen)


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
    """Train one model.

    Args:
        images: The data set.
        members: Indices of the records to train on.
        recipe: Epochs, rates and augmentation.
        spec: The network, and the standardisation of its input.
        seed: Seed for the initialisation, the order of the records and the augmentation.
        device: Device of the training.
        on_epoch: Called after each epoch with its number from 1 and the mean loss in nats.

    Returns:
        The trained weights, on the CPU.

    Raises:
        ModelError: The network cannot be made, or an external one cannot be audited (see
            `bitleak.models.trial`).
        TrainingError: The loss is not finite; with the epoch and the learning rate.
        ValueError: Fewer than 2 members.
    """
    if len(members) < 2:
        raise ValueError(f"training needs at least 2 members, got {len(members)}")

    # An outside network runs in the order of memory that its trial allows.
    device = torch.device(device)
    recipe = settled(recipe, device)
    network = build(spec, seed=seed_for(seed, "initialisation")).to(device)
    outside = trial_of(spec)
    layout = memory_format(network, device, channels_last=outside is None or outside.channels_last)
    network = with_products(network, recipe.autocast, device)
    network = network.to(memory_format=layout).train()  # type: ignore[call-overload]
    data = records_on(device, images, members, Standard.on(device, spec.mean, spec.std, layout))

    train_network(network, data, recipe, seed=seed, on_epoch=on_epoch)
    return with_fingerprint(Weights(tensors=state(network), spec=spec), network)


def train_network(
    network: nn.Module,
    data: TrainingRecords,
    recipe: Recipe,
    *,
    seed: int,
    rate_name: str = "train.learning_rate",
    before_epoch: Callable[[], None] | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> None:
    """Train a network as it is, in place.

    Args:
        network: In training mode, on the device of the records.
        data: The records to train on.
        recipe: Epochs, rates and augmentation; `autocast` is settled.
        seed: Seed for the order of the records, the augmentation, and the draws of the network.
        rate_name: Name of the learning rate, for messages.
        before_epoch: Called before each epoch.
        on_epoch: Called after each epoch with its number from 1 and the mean loss in nats.

    Raises:
        TrainingError: The loss is not finite; with the epoch and the learning rate.
    """
    # Order and augmentation have generators of their own, so that neither moves the other's draws.
    device, members = data.pixels.device, len(data.members)
    optimizer = SGD(
        network.parameters(),
        rate=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )
    order = torch.Generator().manual_seed(seed_for(seed, "order"))
    chance = torch.Generator(device).manual_seed(seed_for(seed, "augment"))

    # Dropout of an outside network draws from global generators, whose state would depend on the
    # tasks before. Gradients, since a module for inference may have turned them off.
    with (
        seeded_draws(seed_for(seed, "passes"), device),
        torch.inference_mode(mode=False),
        torch.enable_grad(),
    ):
        for epoch in range(recipe.epochs):
            if before_epoch is not None:
                before_epoch()
            optimizer.rate = rate = rate_at(recipe, epoch)
            total = torch.zeros((), device=device)
            shuffled = torch.randperm(members, generator=order).to(device)
            for chosen in record_batches(data.members.index_select(0, shuffled), recipe.batch):
                inputs, labels = data.batch(chosen, recipe.augment, chance)
                total += training_step(
                    network, optimizer, inputs, labels, autocast=recipe.autocast
                ) * len(chosen)

            # The only wait for the device, once per epoch.
            mean = float(total) / members
            if not math.isfinite(mean):
                raise TrainingError(
                    f"training diverged in epoch {epoch + 1} at learning rate {rate:g}: the loss is {mean}. "
                    f"Lower {rate_name}."
                )
            if on_epoch is not None:
                on_epoch(epoch + 1, mean)


def settled(recipe: Recipe, device: torch.device | str) -> Recipe:
    """Return the recipe with its arithmetic on this device in the place of `auto`.

    Example:
        >>> settled(Recipe(autocast="auto"), "cpu").autocast in ("none", "bfloat16")
        True
    """
    if recipe.autocast != "auto":
        return recipe
    return replace(recipe, autocast="bfloat16" if multiplies_in_bfloat16(device) else "none")


def records_on(
    device: torch.device, images: Images, members: Int64[np.ndarray, "members"], standard: Standard
) -> TrainingRecords:
    """Return the members on the device; on the CPU, the whole data set without a copy."""
    if device.type == "cpu":
        # The arrays may be read-only pages of a file; they are only read.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            pixels, labels = torch.from_numpy(images.pixels), torch.from_numpy(images.labels)
        return TrainingRecords(pixels, labels, torch.from_numpy(np.array(members)), standard)
    pixels = torch.from_numpy(images.pixels[members]).to(device)
    labels = torch.from_numpy(images.labels[members]).to(device)
    return TrainingRecords(pixels, labels, torch.arange(len(members), device=device), standard)


def record_batches(shuffled: torch.Tensor, batch: int) -> list[torch.Tensor]:
    """Return the records in groups of `batch`; a last group of one joins the one before it.

    Batch normalisation has no statistics of a single record.
    """
    groups = list(torch.split(shuffled, batch))
    if len(groups) > 1 and len(groups[-1]) == 1:
        groups[-2:] = [torch.cat(groups[-2:])]
    return groups


def training_step(
    network: nn.Module,
    optimizer: SGD | torch.optim.Optimizer,
    inputs: Float32[Tensor, "batch channels *size"],
    labels: Int64[Tensor, "batch"],
    *,
    autocast: Arithmetic,
) -> Float32[Tensor, ""]:
    """Make one step on one batch; return its mean loss in nats, on the device, without a wait."""
    # Autocast for the forward pass alone: loss and step are in float32.
    with exact_float32():
        with _arithmetic(autocast, inputs.device):
            logits = network(inputs)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
    optimizer.step()
    return loss.detach()


def _arithmetic(autocast: Arithmetic, device: torch.device) -> AbstractContextManager:
    """Return the recipe's autocast context."""
    if autocast == "none":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
