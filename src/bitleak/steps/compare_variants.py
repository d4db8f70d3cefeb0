"""Compare one variant with others: by how much do its figures exceed the best of theirs?"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from bitleak import metrics
from bitleak.core.seeds import seed_for
from bitleak.core.types import Row, Splits
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
    VERSION: ClassVar[str] = "3"

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
            measures = metrics.excess(
                scores.scores[index],
                [other.of(attack.name) for other in inputs.others],
                member,
                fprs=self.fpr,
                mode=split.mode,
                seed=seed_for(self.seed, "measure"),
            )
            reference = self.reference if attack.references else ""
            subject = Subject(self.variant, self.quantizer, self.levels, attack.name, reference)
            rows += measure_rows(subject, scores.targets, renamed_measures(measures, self.over))
            progress((index + 1) / len(scores.attacks))
        return Table(rows)
