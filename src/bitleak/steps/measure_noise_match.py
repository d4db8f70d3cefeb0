"""Measure how well noise was matched to a variant: the scale, and the accuracies on the test records."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Int64

from bitleak import metrics
from bitleak.core.types import Images, Measure, Outputs, Row, Splits
from bitleak.core.variants import noise_like
from bitleak.engine.worker import Runtime
from bitleak.metrics import Estimates, excess_over_best
from bitleak.steps.match_noise import NoiseMatch
from bitleak.steps.measure_utility import answers_of
from bitleak.steps.result_rows import (
    ROW_BYTES,
    ResultTable,
    Subject,
    measure_rows,
    renamed_measures,
)
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class MeasureNoiseMatch:
    """Measure the match of one variant.

    Attributes:
        variant: Its name in tables.
        quantizer: Its quantizer's label.
        levels: Its grid points.
        targets: Rows of the targets.
        seed: The audit's seed.
    """

    variant: str
    quantizer: str
    levels: int | None
    targets: tuple[int, ...]
    seed: int

    STAGE: ClassVar[str] = "matched"
    VERSION: ClassVar[str] = "3"

    class Inputs(NamedTuple):
        """The match, and answers of the targets as the variant and under noise."""

        match: NoiseMatch
        outputs: tuple[Outputs, ...]
        noise: tuple[Outputs, ...]
        images: Images
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds."""
        return 0.2

    def bytes(self, scale: Scale) -> int:
        """Bytes of the rows."""
        return ROW_BYTES * (len(self.targets) + 3)

    def memory(self, scale: Scale) -> int:
        """Memory of two sets of answers of the targets."""
        return 2 * scale.targets * scale.answer_bytes

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> ResultTable:
        """Return the rows."""
        split, match = inputs.splits, inputs.match
        labels = inputs.images.labels[split.test]
        variant, noise = (
            _accuracies(outputs, labels) for outputs in (inputs.outputs, inputs.noise)
        )
        excess = renamed_measures(excess_over_best(variant, [noise], mode=split.mode), "noise")
        rows = measure_rows(
            Subject(self.variant, self.quantizer, self.levels), self.targets, excess
        )
        about_noise = Subject(noise_like(self.variant))
        rows.append(Row(*about_noise, "all", "noise_scale", Measure(match.scale)))
        rows.append(
            Row(*about_noise, "all", "noise_accuracy_gap", Measure(match.accuracy - match.goal))
        )
        return ResultTable(rows)


def _accuracies(outputs: Sequence[Outputs], labels: Int64[np.ndarray, "test"]) -> Estimates:
    """Return the accuracy of every target on the test records."""
    predictions, _ = answers_of(outputs)
    return {
        "test_accuracy": tuple(
            metrics.estimate_proportion(predicted == labels) for predicted in predictions
        )
    }
