"""Choose the thresholds of an adversary who quantizes only some references.

One of the quantized references plays the target, and its non-members set the threshold. The
target's answers are not among the inputs, and neither the target nor its complement is a reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from bitleak import metrics
from bitleak.attacks import Attack
from bitleak.core.params import later
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, Outputs, Splits
from bitleak.engine.worker import Runtime
from bitleak.steps.answer_scale import AnswerScale
from bitleak.steps.attack_partly_quantized import (
    PartlyQuantizedReferences,
    attacks_with_references,
    pair_numbers,
)
from bitleak.steps.choose_thresholds import PlayedThresholds, Thresholds, gathered_thresholds
from bitleak.steps.play_partly_quantized import known_references, played_by_partly_quantized
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class ChoosePartlyThresholds:
    """Choose a threshold for every target, attack and FPR by partly quantized references.

    Attributes:
        attacks: Names of the attacks, in full.
        targets: Rows of the targets.
        references: Rows of the models whose answers are the inputs `references`.
        quantized: Rows of the models whose answers are the inputs `quantized`, in pairs of
            complements; the players are drawn from them.
        count: Most quantized references of a player.
        fpr: False positive rates.
        seed: The audit's seed.
        answer_scale: Scale on which the answers are compared.
    """

    attacks: tuple[str, ...]
    targets: tuple[int, ...]
    references: tuple[int, ...]
    quantized: tuple[int, ...]
    count: int
    fpr: tuple[float, ...]
    seed: int
    answer_scale: AnswerScale = later("raw")

    STAGE: ClassVar[str] = "thresholds_partly"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """Answers of the references at full precision and quantized."""

        references: tuple[Outputs, ...]
        quantized: tuple[Outputs, ...]
        images: Images
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds of all attacks and of the predictions, once per target."""
        answers = len(self.references) + len(self.quantized)
        scaling = scale.scaling_seconds(self.answer_scale) * answers
        return 2 * len(self.attacks) * scale.attack_seconds + scaling

    def bytes(self, scale: Scale) -> int:
        """Bytes of the thresholds, and of a name and perhaps a reason per attack."""
        return len(self.attacks) * (8 * len(self.targets) * len(self.fpr) + 100)

    def memory(self, scale: Scale) -> int:
        """Memory of the stacked references and of their copy with predictions."""
        return 2 * scale.stack_bytes + 2 * scale.scaled_bytes(self.answer_scale)

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Thresholds:
        """Return the thresholds, and why an attack has none."""
        population = len(inputs.splits.population)
        attacks = attacks_with_references(self.attacks, population=population)
        known = known_references(self, inputs, attacks)
        played = []
        for place, row in enumerate(self.targets):
            played.append(self._thresholds(known, attacks, row))
            progress((place + 1) / len(self.targets))
        return gathered_thresholds(attacks, played, len(self.fpr))

    def _thresholds(
        self, known: PartlyQuantizedReferences, attacks: Sequence[Attack], target: int
    ) -> PlayedThresholds:
        """Return the thresholds of one target by attack, and the reasons of the attacks without."""
        generator = np.random.default_rng(seed_for(self.seed, "player", target))
        pair = pair_numbers(known.split)
        players = [row for row in self.quantized if pair[row] != pair[target]]
        row = players[int(generator.integers(len(players)))]
        played = played_by_partly_quantized(known, attacks, row, [target], self.count)
        chosen = {}
        for name, scores in played.scores.items():
            chosen[name] = metrics.thresholds_for(scores[~played.member], self.fpr)
        return chosen, dict(played.refused)
