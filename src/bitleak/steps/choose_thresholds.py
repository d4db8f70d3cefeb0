"""Choose the thresholds that an adversary can have: a reference plays the target, and its non-members set them.

The target's answers are not among the inputs, and neither the target nor its complement is a reference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float64

from bitleak import metrics
from bitleak.attacks import Attack, PlayedCase, Player
from bitleak.core.errors import TooFewForAttack
from bitleak.core.params import later
from bitleak.core.seeds import seed_for
from bitleak.core.types import AttackView, Images, Outputs, Splits
from bitleak.engine.worker import Runtime
from bitleak.steps.answer_scale import AnswerScale, Labels, on_scale
from bitleak.steps.attack_targets import applicable, target_view
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class Thresholds:
    """Thresholds by attack, target and false positive rate.

    Attributes:
        thresholds: NaN if none could be chosen.
        attacks: Names, in the order of the first axis.
        refused: Reason why an attack has no threshold, by name.
    """

    thresholds: Float64[np.ndarray, "attacks targets fprs"]
    attacks: tuple[str, ...]
    refused: Mapping[str, str]

    def artifacts(self) -> dict[str, Any]:
        """Return the stored arrays and JSON values by name."""
        return {
            "thresholds": self.thresholds,
            "attacks": list(self.attacks),
            "refused": dict(self.refused),
        }

    @classmethod
    def read(cls, artifacts: Mapping[str, Any]) -> "Thresholds":
        """Return the thresholds that were stored as these artifacts."""
        return cls(artifacts["thresholds"], tuple(artifacts["attacks"]), artifacts["refused"])


@dataclass(frozen=True)
class ChooseThresholds:
    """Choose a threshold for every target, attack with references, and false positive rate.

    Attributes:
        attacks: Names of the attacks, in full.
        recalibrated: Whether the references' answers are mapped onto the player's first.
        targets: Rows of the targets.
        references: Rows of the models whose answers are the inputs `references`.
        fpr: False positive rates.
        seed: The audit's seed.
        answer_scale: Scale on which the answers are compared.
    """

    attacks: tuple[str, ...]
    recalibrated: bool
    targets: tuple[int, ...]
    references: tuple[int, ...]
    fpr: tuple[float, ...]
    seed: int
    answer_scale: AnswerScale = later("raw")

    STAGE: ClassVar[str] = "thresholds"
    VERSION: ClassVar[str] = "2"

    class Inputs(NamedTuple):
        """Answers of the references, in the order of their rows."""

        references: tuple[Outputs, ...]
        images: Images
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds of all attacks, once per target, and of the answers' scale."""
        scaling = scale.scaling_seconds(self.answer_scale) * len(self.references)
        return len(self.attacks) * scale.attack_seconds + scaling

    def bytes(self, scale: Scale) -> int:
        """Bytes of the thresholds, and of a name and perhaps a reason per attack."""
        return len(self.attacks) * (8 * len(self.targets) * len(self.fpr) + 100)

    def memory(self, scale: Scale) -> int:
        """Memory of the stacked references, of a copy without the player and of the answers on their scale."""
        copies = scale.stack_bytes + scale.references * scale.answer_bytes
        return copies + scale.scaled_bytes(self.answer_scale)

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Thresholds:
        """Return the thresholds, and why an attack has none."""
        data, split = inputs.images, inputs.splits
        scaled = on_scale(self.answer_scale, (), inputs.references, Labels.of(data, split))
        answers = dict(zip(self.references, scaled.references, strict=True))
        attacks = applicable(
            self.attacks, recalibrate=self.recalibrated, population=len(split.population)
        )
        attacks = [attack for attack in attacks if attack.uses_references]
        # NaN stays where no reference can play the target; a reason is kept instead.
        played = []
        for place, row in enumerate(self.targets):
            stand_in = answers[
                self.references[0]
            ]  # in the target's place until a reference takes it
            view = target_view(data, split, row, stand_in, answers, seed=self.seed)
            generator = np.random.default_rng(seed_for(self.seed, "player", row))
            played.append(
                played_thresholds(view, attacks, self.fpr, generator, recalibrate=self.recalibrated)
            )
            progress((place + 1) / len(self.targets))
        return gathered_thresholds(attacks, played, len(self.fpr))


PlayedThresholds = tuple[dict[str, Float64[np.ndarray, "fprs"]], dict[str, str]]
"""Thresholds of one target by attack, and the reasons of the attacks without."""


def gathered_thresholds(
    attacks: Sequence[Attack], played: Sequence[PlayedThresholds], fprs: int
) -> Thresholds:
    """Return the thresholds of all targets.

    Args:
        attacks: Attacks with references.
        played: Thresholds and reasons of each target, from `played_thresholds`.
        fprs: Number of false positive rates.
    """
    thresholds = np.full((len(attacks), len(played), fprs), np.nan)
    refused: dict[str, str] = {}
    for place, (chosen, reasons) in enumerate(played):
        refused |= reasons
        for index, attack in enumerate(attacks):
            if attack.name in chosen:
                thresholds[index, place] = chosen[attack.name]
    return Thresholds(thresholds, tuple(attack.name for attack in attacks), refused)


def played_thresholds(
    view: AttackView,
    attacks: Sequence[Attack],
    fprs: Sequence[float],
    generator: np.random.Generator,
    *,
    recalibrate: bool,
) -> PlayedThresholds:
    """Return thresholds by attack, from one reference in the target's place, and the reasons of attacks without.

    Args:
        view: View of any target, not recalibrated.
        attacks: Attacks with references.
        fprs: False positive rates.
        generator: The player is drawn from it.
        recalibrate: Whether the references' answers are mapped onto the player's first.
    """
    (played,) = thresholds_of_cases(view, [PlayedCase(attacks, recalibrate)], fprs, generator)
    return played


def thresholds_of_cases(
    view: AttackView,
    cases: Sequence[PlayedCase],
    fprs: Sequence[float],
    generator: np.random.Generator,
) -> list[PlayedThresholds]:
    """Return `played_thresholds` of several cases with one player, which share the sums over its references."""
    try:
        player = Player(view, generator)
    except TooFewForAttack as error:
        reason = str(error)
        return [
            ({}, dict.fromkeys((attack.name for attack in case.attacks), reason)) for case in cases
        ]
    played = []
    for case in cases:
        chosen: dict[str, np.ndarray] = {}
        refused: dict[str, str] = {}
        for group, seen in player.groups(case.attacks, recalibrate=case.recalibrate):
            for attack in group:
                try:
                    # An attack with too few references must not take the others of its group with
                    # it.
                    scores = attack(seen)
                except TooFewForAttack as error:
                    refused[attack.name] = str(error)
                else:
                    chosen[attack.name] = metrics.thresholds_for(scores[~player.member], fprs)
        played.append((chosen, refused))
    return played
