"""Accuracy of the targets under weight noise. This module imports PyTorch."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int64

from bitleak.core.types import Images, Weights
from bitleak.engine.worker import Runtime
from bitleak.models.weight_noise import noise_for, with_noise
from bitleak.query import logits
from bitleak.steps.networks import query_network, spec_of


class NoisyAccuracy:
    """Accuracy of one target at one scale; the noise of each target is drawn once.

    Args:
        data: The images.
        weights: Full-precision weights of every target.
        records: Indices of the images of every target that count.
        seeds: Seed of the noise of every target.
        batch: Images per forward pass.
        runtime: Where this is.
        on_call: Called with the number of calls so far.
    """

    def __init__(
        self,
        data: Images,
        weights: Sequence[Weights],
        records: Sequence[Int64[np.ndarray, "records"]],
        *,
        seeds: Sequence[int],
        batch: int,
        runtime: Runtime,
        on_call: Callable[[int], None],
    ) -> None:
        self._data, self._weights, self._records, self._batch = data, weights, records, batch
        self._runtime, self._on_call, self._calls = runtime, on_call, 0
        allowed = runtime.network is not None
        pairs = zip(weights, seeds, strict=True)
        self._noise = [noise_for(model, seed, allow_external=allowed) for model, seed in pairs]

    def __call__(self, scale: float, place: int) -> float:
        """Return the share of the target's records that it classifies correctly."""
        weights, records = self._weights[place], self._records[place]
        network = query_network(with_noise(weights, self._noise[place], scale), self._runtime)
        answers = logits(
            network,
            self._data,
            records,
            spec=spec_of(weights),
            batch=self._batch,
            device=self._runtime.device,
        )
        self._calls += 1
        self._on_call(self._calls)
        return float((answers.argmax(axis=1) == self._data.labels[records]).mean())
