"""Measure the accuracy of one variant, its agreement with full precision, and its size."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from bitleak import metrics
from bitleak.core.types import SIGNALS, Images, Measure, Outputs, Row, Splits
from bitleak.core.variants import FULL
from bitleak.engine.worker import Runtime
from bitleak.steps.find_copies import groups_of
from bitleak.steps.result_rows import ROW_BYTES, ResultTable, Subject, measure_rows
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class MeasureUtility:
    """Measure accuracy and size of one variant.

    Attributes:
        variant: Its name in tables.
        quantizer: Its quantizer's label; empty if it has none.
        levels: Its grid points; None if it has none.
        targets: Rows of the targets.
        seed: The audit's seed.
    """

    variant: str
    quantizer: str
    levels: int | None
    targets: tuple[int, ...]
    seed: int

    STAGE: ClassVar[str] = "utility"
    VERSION: ClassVar[str] = "4"

    class Inputs(NamedTuple):
        """Answers of the targets, the same at full precision, sizes of their weights, and clusters of records."""

        outputs: tuple[Outputs, ...]
        baseline: tuple[Outputs, ...]
        sizes: tuple[Mapping[str, float], ...]
        images: Images
        splits: Splits
        clusters: Mapping[str, Any] | None = None

    def cost(self, scale: Scale) -> float:
        """Seconds."""
        return 0.2

    def bytes(self, scale: Scale) -> int:
        """Bytes of the rows."""
        return ROW_BYTES * 6 * (len(self.targets) + 1)

    def memory(self, scale: Scale) -> int:
        """Memory of the targets' answers, at this precision and at full precision."""
        return 2 * scale.targets * scale.answer_bytes

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> ResultTable:
        """Return the rows."""
        split = inputs.splits
        labels, member = inputs.images.labels[split.test], split.member[list(self.targets)]
        predicted, correct = answers_of(inputs.outputs)
        full, full_correct = (None, None) if self.variant == FULL else answers_of(inputs.baseline)
        measures = metrics.accuracy_on_test(predicted, labels, mode=split.mode, baseline=full)
        measures |= metrics.accuracy_on_members(
            correct,
            member,
            mode=split.mode,
            baseline=full_correct,
            clusters=groups_of(inputs.clusters),
        )
        if full is not None:
            measures |= metrics.agreement(predicted, full, mode=split.mode)
        subject = Subject(self.variant, self.quantizer, self.levels)
        return ResultTable(
            [
                *measure_rows(subject, self.targets, measures),
                *_size_rows(subject, self.targets, inputs.sizes),
            ]
        )


def answers_of(
    outputs: Sequence[Outputs],
) -> tuple[Int64[np.ndarray, "targets test"], Float64[np.ndarray, "targets records"]]:
    """Return predictions of the test records, and which pool records are classified correctly, by target."""
    correct = [answer.signals[:, 0, SIGNALS.index("correct")] for answer in outputs]
    return np.stack([answer.test_predictions for answer in outputs]), np.stack(correct)


def _size_rows(
    subject: Subject, targets: Sequence[int], sizes: Sequence[Mapping[str, float]]
) -> list[Row]:
    rows = []
    for metric in sizes[0]:
        values = [float(size[metric]) for size in sizes]
        rows.append(Row(*subject, "all", metric, Measure(math.fsum(values) / len(values))))
        for target, value in zip(targets, values, strict=True):
            rows.append(Row(*subject, str(target), metric, Measure(value)))
    return rows
