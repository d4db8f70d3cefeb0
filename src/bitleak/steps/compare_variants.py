"""Compare one variant with others: by how much do its figures exceed the best of theirs?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from bitleak import metrics
from bitleak.core.params import later
from bitleak.core.seeds import seed_for
from bitleak.core.types import Outputs, Row, SplitMode, Splits
from bitleak.engine.worker import Runtime
from bitleak.metrics import Estimate, Estimates, MapInfluence, MatchedAccuracies
from bitleak.steps.attack_targets import AttackScores
from bitleak.steps.find_copies import Groups, groups_of
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


class ComparedScores(NamedTuple):
    """Scores of one attack on every target.

    Attributes:
        scores: Larger is more likely a member.
        map_influence: Influence of population records through the map of recalibrated references.
    """

    scores: Float64[np.ndarray, "targets records"]
    map_influence: MapInfluence = MappingProxyType({})

    @classmethod
    def of(cls, scores: AttackScores, attack: str) -> "ComparedScores":
        """Return those of one attack."""
        return cls(scores.of(attack), scores.map_influence_of(attack))


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
        matched_records: Non-members of each target, at most, on which noise was matched to the variant; 0 if the
            others are no such noise.
    """

    variant: str
    quantizer: str
    levels: int | None
    reference: str
    over: str
    fpr: tuple[float, ...]
    seed: int
    standalone: bool
    matched_records: int = later(0)

    STAGE: ClassVar[str] = "compare"
    VERSION: ClassVar[str] = "6"

    class Inputs(NamedTuple):
        """Scores of the variant and of the others, by the same attacks; for noise also answers of the targets.

        `baseline` are the figures at full precision (`EstimateBaseline`), `outputs`, `noise` and `full_precision` the
        answers of the variant, under noise and at full precision, `clusters` the clusters of records.
        """

        scores: AttackScores
        others: tuple[AttackScores, ...]
        splits: Splits
        baseline: Mapping[str, Any] | None = None
        outputs: tuple[Outputs, ...] = ()
        noise: tuple[Outputs, ...] = ()
        full_precision: tuple[Outputs, ...] = ()
        clusters: Mapping[str, Any] | None = None

    def cost(self, scale: Scale) -> float:
        """Seconds of the estimates of two variants."""
        return 2 * scale.measure_seconds

    def bytes(self, scale: Scale) -> int:
        """Bytes of the rows."""
        return ROW_BYTES * scale.attacks * (scale.targets + 1) * (2 + len(self.fpr))

    def memory(self, scale: Scale) -> int:
        """Memory of the scores of two variants, and of the influences of an attack on each; for noise also answers."""
        influences = 2 * (2 + len(self.fpr))
        scores = 8 * (2 * scale.attacks + influences) * scale.targets * scale.pool
        if not self.matched_records:
            return scores
        baseline = 8 * scale.attacks * (2 + len(self.fpr)) * scale.targets * scale.pool
        return scores + baseline + 3 * scale.targets * scale.answer_bytes

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> ResultTable:
        """Return the rows."""
        scores, split = inputs.scores, inputs.splits
        member = split.member[list(scores.targets)]
        accuracies = self._accuracies(inputs) if self.matched_records else None
        rows: list[Row] = []
        for index, attack in enumerate(scores.attacks):
            if not attack.references and not self.standalone:
                continue
            reference = self.reference if attack.references else ""
            # At equal accuracy, the error of the match is part of the interval.
            corrected = None
            if accuracies is not None and inputs.baseline is not None:
                at_fp32 = metrics.unpack_estimates(inputs.baseline, attack.name)
                corrected = partial(
                    metrics.at_equal_accuracy, full_precision=at_fp32, accuracies=accuracies
                )
            rows += excess_rows(
                Subject(self.variant, self.quantizer, self.levels, attack.name, reference),
                scores.targets,
                ComparedScores.of(scores, attack.name),
                [ComparedScores.of(other, attack.name) for other in inputs.others],
                member,
                over=self.over,
                fprs=self.fpr,
                mode=split.mode,
                seed=self.seed,
                corrected=corrected,
                clusters=groups_of(inputs.clusters),
            )
            progress((index + 1) / len(scores.attacks))
        return ResultTable(rows)

    def _accuracies(self, inputs: Inputs) -> MatchedAccuracies:
        """Return the accuracies of every target on the records on which noise was matched."""
        targets = inputs.scores.targets
        chosen = metrics.matching_records(
            inputs.splits, targets, records=self.matched_records, seed=self.seed
        )

        def shares(outputs: Sequence[Outputs]) -> tuple[Estimate, ...]:
            correct = answers_of(outputs)[1] > 0.5
            clusters = metrics.dense_clusters(groups_of(inputs.clusters))
            pairs = zip(correct, chosen, strict=True)
            return tuple(metrics.estimate_proportion(*pair, clusters) for pair in pairs)

        return MatchedAccuracies(
            shares(inputs.outputs), shares(inputs.noise), shares(inputs.full_precision)
        )


def excess_rows(
    subject: Subject,
    targets: Sequence[int],
    scores: ComparedScores,
    rivals: Sequence[ComparedScores],
    member: Bool[np.ndarray, "targets records"],
    *,
    over: str,
    fprs: Sequence[float],
    mode: SplitMode,
    seed: int,
    corrected: Callable[[Estimates], Estimates] | None = None,
    clusters: Groups | None = None,
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
        corrected: Corrects the rivals' figures; None leaves them as they are.
        clusters: Number of each record's cluster; None if all are independent.
    """

    def estimated(compared: ComparedScores) -> Estimates:
        estimates = metrics.estimate_metrics(
            compared.scores, member, fprs=fprs, seed=seed_for(seed, "measure"), clusters=clusters
        )
        return metrics.with_map_error(estimates, compared.map_influence)

    # Influences are per record, so that the excess is paired over the same records.
    estimates, of_rivals = estimated(scores), list(map(estimated, rivals))
    if corrected is not None:
        of_rivals = list(map(corrected, of_rivals))
    measures = metrics.excess_over_best(estimates, of_rivals, mode=mode)
    return measure_rows(subject, targets, renamed_measures(measures, over))
