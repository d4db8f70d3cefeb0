"""Run the joint attack: one adversary sees several releases of every target."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from bitleak.attacks import Joint
from bitleak.core.types import Images, Outputs, Splits
from bitleak.engine.worker import Runtime
from bitleak.steps.attack_targets import AttackLabel, AttackScores, target_view
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class AttackReleases:
    """Run the joint attack on every target.

    Attributes:
        releases: Number of releases that the adversary sees together.
        targets: Rows of the targets.
        references: Rows of the references.
        seed: The audit's seed.
    """

    releases: int
    targets: tuple[int, ...]
    references: tuple[int, ...]
    seed: int

    STAGE: ClassVar[str] = "joint"
    VERSION: ClassVar[str] = "2"

    class Inputs(NamedTuple):
        """Answers release by release: the first release of all targets, then the second, and so on."""

        targets: tuple[Outputs, ...]
        references: tuple[Outputs, ...]
        images: Images
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds."""
        return 2.5 * self.releases * scale.attack_seconds

    def bytes(self, scale: Scale) -> int:
        """Bytes of the scores."""
        return 8 * len(self.targets) * scale.pool

    def memory(self, scale: Scale) -> int:
        """Memory of the stacked references of every release, and of the scores."""
        return self.releases * scale.stack_bytes + self.bytes(scale)

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> AttackScores:
        """Return the scores."""
        targets = _by_release(inputs.targets, self.releases)
        references = _by_release(inputs.references, self.releases)
        answers = [dict(zip(self.references, outputs, strict=True)) for outputs in references]
        scores = []
        for place, row in enumerate(self.targets):
            views = []
            for release, by_row in zip(targets, answers, strict=True):
                view = target_view(
                    inputs.images, inputs.splits, row, release[place], by_row, seed=self.seed
                )
                views.append(view)
            scores.append(Joint()(views))
            progress((place + 1) / len(self.targets))
        label = AttackLabel(Joint().name, references=True)
        return AttackScores(
            np.array(scores)[None], population=None, attacks=(label,), targets=self.targets
        )


def _by_release(answers: Sequence[Outputs], releases: int) -> list[Sequence[Outputs]]:
    """Return the answers release by release, from a flat list in that order."""
    count = len(answers) // releases
    return [answers[start : start + count] for start in range(0, len(answers), count)]
