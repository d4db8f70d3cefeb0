"""Run a joint attack: one adversary sees several releases of every target."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from bitleak import registry
from bitleak.core.params import later
from bitleak.core.types import Images, Outputs, Splits
from bitleak.core.variants import JOINT, JOINT_LEARNED
from bitleak.engine.worker import Runtime
from bitleak.steps.answer_scale import AnswerScale, Labels, on_scale
from bitleak.steps.attack_targets import AttackLabel, AttackScores, target_view
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class AttackReleases:
    """Run a joint attack on every target.

    Attributes:
        releases: Number of releases that the adversary sees together.
        targets: Rows of the targets.
        references: Rows of the references.
        seed: The audit's seed.
        answer_scale: Scale on which the answers of each release are compared.
        attack: Name in the registry's `JOINT_ATTACKS`.
    """

    releases: int
    targets: tuple[int, ...]
    references: tuple[int, ...]
    seed: int
    answer_scale: AnswerScale = later("raw")
    attack: str = later(JOINT)

    STAGE: ClassVar[str] = "joint"
    VERSION: ClassVar[str] = "3"

    class Inputs(NamedTuple):
        """Answers release by release: the first release of all targets, then the second, and so on."""

        targets: tuple[Outputs, ...]
        references: tuple[Outputs, ...]
        images: Images
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds of the attack, and of the answers' scales."""
        scaling = scale.scaling_seconds(self.answer_scale) * len(self.references)
        # players of the learned attack are attacked on 5,000 records at most, then 25 regressions
        learning = 0.5 * len(self.targets) if self.attack == JOINT_LEARNED else 0.0
        return self.releases * (2.5 * scale.attack_seconds + scaling) + learning

    def bytes(self, scale: Scale) -> int:
        """Bytes of the scores."""
        return 8 * len(self.targets) * scale.pool

    def memory(self, scale: Scale) -> int:
        """Memory of the stacked references of every release, of answers on their scale, and of the scores."""
        answers = scale.stack_bytes + scale.scaled_bytes(self.answer_scale)
        return self.releases * answers + self.bytes(scale)

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> AttackScores:
        """Return the scores."""
        labels = Labels.of(inputs.images, inputs.splits)
        targets, answers = [], []
        for release_targets, release_references in zip(
            _by_release(inputs.targets, self.releases),
            _by_release(inputs.references, self.releases),
            strict=True,
        ):
            scaled = on_scale(self.answer_scale, release_targets, release_references, labels)
            targets.append(scaled.targets)
            answers.append(dict(zip(self.references, scaled.references, strict=True)))
        attack = registry.find(registry.JOINT_ATTACKS, self.attack, kind="joint attack")()
        scores = []
        for place, row in enumerate(self.targets):
            views = []
            for release, by_row in zip(targets, answers, strict=True):
                view = target_view(
                    inputs.images, inputs.splits, row, release[place], by_row, seed=self.seed
                )
                views.append(view)
            scores.append(attack(views))
            progress((place + 1) / len(self.targets))
        label = AttackLabel(attack.name, references=True)
        return AttackScores(
            np.array(scores)[None], population=None, attacks=(label,), targets=self.targets
        )


def _by_release(answers: Sequence[Outputs], releases: int) -> list[Sequence[Outputs]]:
    """Return the answers release by release, from a flat list in that order."""
    count = len(answers) // releases
    return [answers[start : start + count] for start in range(0, len(answers), count)]
