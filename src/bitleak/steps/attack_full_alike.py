"""Attack full precision with as many references as partly predicted ones are worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

from bitleak.attacks import fractional_scores
from bitleak.core.params import later
from bitleak.core.types import AttackView, Images, Outputs, Splits
from bitleak.data.splits import reference_models
from bitleak.engine.worker import Runtime
from bitleak.steps.answer_scale import AnswerScale, Labels, on_scale
from bitleak.steps.attack_partly_quantized import (
    attacks_with_references,
    chosen_rows,
    scores_by_references,
)
from bitleak.steps.attack_targets import AttackScores, target_view
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class AttackFullAlike:
    """Attack full precision with as many references as predicted ones are worth.

    A variant that is attacked with fewer references loses some of its measured leakage, which must
    not read as protection. So it is compared with full precision under a handicap: the effective
    number of references per side, also where it is no whole number (`attacks.fractional_references`).

    Attributes:
        attacks: Full names of the attacks.
        targets: Rows of the targets.
        references: Rows of the models whose answers are the inputs `references`.
        order: Rows of the models in the order in which they are used, in pairs of complements.
        seed: Root seed of the audit.
        answer_scale: Scale on which the answers are compared.
    """

    attacks: tuple[str, ...]
    targets: tuple[int, ...]
    references: tuple[int, ...]
    order: tuple[int, ...]
    seed: int
    answer_scale: AnswerScale = later("raw")

    STAGE: ClassVar[str] = "attack_alike"
    VERSION: ClassVar[str] = "2"

    class Inputs(NamedTuple):
        """Full-precision answers, and the scores by predicted references."""

        targets: tuple[Outputs, ...]
        references: tuple[Outputs, ...]
        predicted: AttackScores
        images: Images
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds of all attacks, with two numbers of references."""
        scaling = scale.scaling_seconds(self.answer_scale) * len(self.references)
        return 2 * len(self.attacks) * scale.attack_seconds + scaling

    def bytes(self, scale: Scale) -> int:
        """Bytes of the scores."""
        attacks = attacks_with_references(self.attacks, population=scale.population)
        return 8 * len(self.targets) * len(attacks) * scale.pool

    def memory(self, scale: Scale) -> int:
        """Memory of the stacked references, of their copy and of the scores."""
        return 2 * scale.stack_bytes + 2 * scale.scaled_bytes(self.answer_scale) + self.bytes(scale)

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> AttackScores:
        """Return the scores."""
        split, labels = inputs.splits, Labels.of(inputs.images, inputs.splits)
        scaled = on_scale(self.answer_scale, inputs.targets, inputs.references, labels)
        answers = dict(zip(self.references, scaled.references, strict=True))
        attacks = attacks_with_references(self.attacks, population=len(split.population))
        effective = inputs.predicted.prediction["effective"]
        scores = []
        for place, (row, target) in enumerate(zip(self.targets, scaled.targets, strict=True)):
            view_with = partial(self._view, inputs, answers, row, target)
            of_target = {side: numbers[place] for side, numbers in effective.items()}
            scores.append(fractional_scores(attacks, view_with, of_target))
            progress((place + 1) / len(self.targets))
        return scores_by_references(attacks, self.targets, scores, scaled.facts)

    def _view(
        self,
        inputs: Inputs,
        answers: Mapping[int, Outputs],
        row: int,
        target: Outputs,
        per_side: int,
    ) -> AttackView:
        """Return the view of one target by the first of its references, `per_side` of each side."""
        rows = reference_models(inputs.splits, row).tolist()
        only = chosen_rows(self.order, rows, 2 * per_side)
        return target_view(
            inputs.images, inputs.splits, row, target, answers, seed=self.seed, only=only
        )
