"""Measure how much more confident in each record the models are that were trained on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from bitleak import metrics
from bitleak.core.spill import release
from bitleak.core.types import SIGNALS, Outputs, Splits
from bitleak.engine.worker import Runtime
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress

RECORDS = 4096
"""Records whose answers by all models are in memory together."""


@dataclass(frozen=True)
class MeasureMemorisation:
    """Measure memorisation of every record, at the first query.

    Attributes:
        models: Rows of the models whose answers are the input `outputs`.
    """

    models: tuple[int, ...]

    STAGE: ClassVar[str] = "memorise"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """Answers of the models, and their membership."""

        outputs: tuple[Outputs, ...]
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds."""
        return 4e-9 * len(self.models) * scale.pool + 0.02

    def bytes(self, scale: Scale) -> int:
        """Bytes of a mean and an error per record."""
        return 16 * scale.pool

    def memory(self, scale: Scale) -> int:
        """Memory of a block of probabilities and of the membership."""
        return 32 * len(self.models) * RECORDS + (len(self.models) + 64) * scale.pool

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Mapping[str, Any]:
        """Return mean and error of every record."""
        member = inputs.splits.member[list(self.models)]

        def block_of(records: slice) -> Float64[np.ndarray, "models records"]:
            return np.stack([_probability(output.signals, records) for output in inputs.outputs])

        found = memorisation_by_block(block_of, member)
        return {"mean": found.mean, "error": found.error}


def memorisation_by_block(
    block_of: Callable[[slice], Float64[np.ndarray, "models block"]],
    member: Bool[np.ndarray, "models records"],
) -> metrics.Memorisation:
    """Return the memorisation of every record.

    Args:
        block_of: Returns the probability of the true class of some records, by every model.
        member: Membership of the models.
    """
    parts = []
    for start in range(0, member.shape[1], RECORDS):
        records = slice(start, start + RECORDS)
        parts.append(metrics.memorisation(block_of(records), member[:, records]))
    means, errors = [part.mean for part in parts], [part.error for part in parts]
    return metrics.Memorisation(np.concatenate(means), np.concatenate(errors))


def _probability(
    signals: Float64[np.ndarray, "records queries signals"], records: slice
) -> Float64[np.ndarray, "block"]:
    """Return the probability of the true class at the first query; pages of a mapped file are let go of."""
    probability = np.exp(signals[records, 0, SIGNALS.index("log_probability")])
    release(signals)
    return probability
