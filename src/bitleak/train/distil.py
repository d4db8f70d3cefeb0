"""Distillation: a trained network learns another one's probabilities (Hinton et al. 2015,
arXiv 1503.02531, section 2, at temperature 1).

    loss = KL(teacher's probabilities || student's)

The rate is constant, `SLOWER` times the recipe's, for `DISTILLED` times its epochs; the records are
not augmented, since the teacher answered them as they are. On a CPU, the same seed and one thread
give the same weights bit for bit.

Cost: a quarter of the recipe's epochs, over the given records.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch.nn import functional

from bitleak.core.errors import ModelError, TrainingError
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, Weights
from bitleak.data.augment import Standard
from bitleak.models import load, state
from bitleak.models.external import trial_of
from bitleak.models.fingerprint import with_fingerprint
from bitleak.models.global_state import seeded_draws
from bitleak.models.layout import memory_format
from bitleak.models.precision import exact_float32
from bitleak.train.fit import record_batches, records_on
from bitleak.train.recipe import DISTILLED, Recipe
from bitleak.train.sgd import SGD

SLOWER = 0.1
"""Learning rate of the distillation over that of the training."""


def distil(
    weights: Weights,
    images: Images,
    records: Int64[np.ndarray, "records"],
    logits: Float32[np.ndarray, "records classes"],
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    allow_external: bool = False,
    on_epoch: Callable[[float], None] | None = None,
) -> Weights:
    """Train a network towards a teacher's probabilities.

    Args:
        weights: The student.
        images: The data set.
        records: Records that the teacher answered.
        logits: Its answers.
        recipe: How the student was trained.
        seed: Seed for the order of the records.
        device: Device of the training.
        allow_external: Whether the weights may name outside code.
        on_epoch: Called after each epoch with the fraction done.

    Returns:
        The student's new weights, on the CPU.

    Raises:
        ModelError: The weights have no spec.
        TrainingError: The loss is not finite.
    """
    spec = weights.spec
    if spec is None:
        raise ModelError("weights without a spec cannot be trained: the architecture is not known")
    device = torch.device(device)
    network = load(weights, allow_external=allow_external).to(device)
    outside = trial_of(spec)
    layout = memory_format(network, device, channels_last=outside is None or outside.channels_last)
    network = network.to(memory_format=layout).train()  # type: ignore[call-overload]
    data = records_on(device, images, records, Standard.on(device, spec.mean, spec.std, layout))
    optimizer = SGD(
        network.parameters(),
        rate=SLOWER * recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )
    order = torch.Generator().manual_seed(seed_for(seed, "order"))
    chance = torch.Generator(device).manual_seed(seed_for(seed, "augment"))
    goals = torch.tensor(np.asarray(logits), device=device).log_softmax(dim=1)
    epochs = max(1, round(DISTILLED * recipe.epochs))

    # Dropout draws from global generators, whose state would depend on the tasks before.
    with (
        seeded_draws(seed_for(seed, "passes"), device),
        torch.inference_mode(mode=False),
        torch.enable_grad(),
    ):
        for epoch in range(epochs):
            total = torch.zeros((), device=device)
            shuffled = torch.randperm(len(records), generator=order).to(device)
            for places in record_batches(shuffled, recipe.batch):
                inputs, _ = data.batch(data.members.index_select(0, places), (), chance)
                with exact_float32():
                    predicted = network(inputs).float().log_softmax(dim=1)
                    goal = goals.index_select(0, places)
                    loss = functional.kl_div(
                        predicted, goal, log_target=True, reduction="batchmean"
                    )
                    optimizer.zero_grad()
                    loss.backward()
                optimizer.step()
                total += loss.detach()
            if not math.isfinite(float(total)):
                raise TrainingError(
                    f"distillation diverged in epoch {epoch + 1} at learning rate "
                    f"{SLOWER * recipe.learning_rate:g}. Lower train.learning_rate."
                )
            if on_epoch is not None:
                on_epoch((epoch + 1) / epochs)
    return with_fingerprint(Weights(tensors=state(network), spec=spec), network)
