"""Compare one variant with others: by how much do its figures exceed the best of theirs?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from bitleak import metrics
from bitleak.core.seeds import seed_for
from bitleak.core.types import Row, SplitMode, Splits
from bitleak.engine.worker import Runtime
from bitleak.steps.attack_targets import AttackScores
from bitleak.steps.result_rows import ROW_BYTES, Subject, Table, measure_rows, renamed_measures
from bitleak.steps.scale import Scale
from bitleak.steps.step import Progress


@dataclass(frozen=True)
class CompareVariants:
    """Compare every attack's figures on one variant with the best of others.

    Attributes:
        variant: Its name in tables.
        quantizer: Its quantizer's label; empty if it has none.
        levels: Its grid points; None if it has none.
        reference: Kind of the references, as in tables.
        over: End of the metrics' names, after `_over_`.
        fpr: False positive rates.
        seed: The audit's seed.
        standalone: Whether attacks without references have their rows here.
    """

    variant: str
    quantizer: str
    levels: int | None
    reference: str
    over: str
    fpr: tuple[float, ...]
    seed: int
    standalone: bool

    STAGE: ClassVar[str] = "compare"
    VERSION: ClassVar[str] = "4"

    class Inputs(NamedTuple):
        """Scores of the variant and of the others, by the same attacks."""

        scores: AttackScores
        others: tuple[AttackScores, ...]
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds of the estimates of two variants."""
        return 2 * scale.measure_seconds

    def bytes(self, scale: Scale) -> int:
        """Bytes of the rows."""
        return ROW_BYTES * scale.attacks * (scale.targets + 1) * (2 + len(self.fpr))

    def memory(self, scale: Scale) -> int:
        """Memory of the scores of two variants, and of the influences of an attack on each."""
        influences = 2 * (2 + len(self.fpr))
        return 8 * (2 * scale.attacks + influences) * scale.targets * scale.pool

    def run(self, inputs: Inputs, runtime: Runtime, progress: Progress) -> Table:
        """Return the rows."""
        scores, split = inputs.scores, inputs.splits
        member = split.member[list(scores.targets)]
        rows: list[Row] = []
        for index, attack in enumerate(scores.attacks):
            if not attack.references and not self.standalone:
                continue
            reference = self.reference if attack.references else ""
            rows += excess_rows(
                Subject(self.variant, self.quantizer, self.levels, attack.name, reference),
                scores.targets,
                scores.scores[index],
                [other.of(attack.name) for other in inputs.others],
                member,
                over=self.over,
                fprs=self.fpr,
                mode=split.mode,
                seed=self.seed,
            )
            progress((index + 1) / len(scores.attacks))
        return Table(rows)


def excess_rows(
    subject: Subject,
    targets: Sequence[int],
    scores: Float64[np.ndarray, "targets records"],
    rivals: Sequence[Float64[np.ndarray, "targets records"]],
    member: Bool[np.ndarray, "targets records"],
    *,
    over: str,
    fprs: Sequence[float],
    mode: SplitMode,
    seed: int,
) -> list[Row]:
    """Return rows of how far the figures of one attack exceed the best of the rivals.

    Args:
        subject: The first columns.
        targets: Rows of the targets.
        scores: Scores of one attack.
        rivals: Scores that it is compared with.
        member: Membership of the targets.
        over: End of the metrics' names, after `_over_`.
        fprs: False positive rates.
        mode: Whether the targets share their records.
        seed: The root seed.
    """
    measures = metrics.excess(scores, rivals, member, fprs=fprs, mode=mode, seed=seed_for(seed, "measure"))
    return measure_rows(subject, targets, renamed_measures(measures, over))
