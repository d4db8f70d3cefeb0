"""Run every attack with references on players, by references of which some are quantized as the target is.

The players are quantized models themselves. While one is attacked, neither the targets that it plays
nor its own complement are references, so that it has fewer quantized ones than a target has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from bitleak import metrics
from bitleak.attacks import (
    Attack,
    PlayedScores,
    PlayerGroup,
    scores_on_views,
    signals_of_references,
)
from bitleak.core.errors import TooFewForAttack
from bitleak.core.params import later
from bitleak.core.types import Images, Outputs, Splits
from bitleak.engine.worker import Runtime
from bitleak.steps.answer_scale import AnswerScale, Labels, on_scale
from bitleak.steps.attack_partly_quantized import (
    PartlyQuantizedReferences,
    attacks_with_references,
)
from bitleak.steps.find_copies import groups_of
from bitleak.steps.play_targets import (
    NO_RATES,
    GroupRates,
    PlayedRates,
    gathered_rates,
    rates_of,
    sum_of_rates,
)
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class PlayPartlyQuantized:
    """Attack the players of every group by partly quantized references.

    Attributes:
        attacks: Names of the attacks, in full.
        groups: Rows of the targets, by group.
        players: Rows of the players, by group; all of them are among `quantized`.
        references: Rows of the models whose answers are the inputs `references`.
        quantized: Rows of the models whose answers are the inputs `quantized`, in pairs of
            complements.
        count: Most quantized references of a player.
        fpr: False positive rate.
        seed: The audit's seed.
        answer_scale: Scale on which the answers are compared.
    """

    attacks: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    players: tuple[tuple[int, ...], ...]
    references: tuple[int, ...]
    quantized: tuple[int, ...]
    count: int
    fpr: float
    seed: int
    answer_scale: AnswerScale = later("raw")

    STAGE: ClassVar[str] = "play_partly"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """Answers of the references at full precision and quantized; clusters of records."""

        references: tuple[Outputs, ...]
        quantized: tuple[Outputs, ...]
        images: Images
        splits: Splits
        clusters: Mapping[str, Any] | None = None

    def cost(self, scale: Scale) -> float:
        """Seconds of all attacks and of the predictions, once per player of a group."""
        plays = sum(map(len, self.players))
        answers = len(self.references) + len(self.quantized)
        scaling = scale.scaling_seconds(self.answer_scale) * answers
        attacks = 2 * len(self.attacks) * scale.attack_seconds
        return attacks * plays / max(1, scale.targets) + scaling

    def bytes(self, scale: Scale) -> int:
        """Bytes of the rates under every draw."""
        attacks = attacks_with_references(self.attacks, population=scale.population)
        return (4 * metrics.DRAWS + 8) * len(self.groups) * len(attacks)

    def memory(self, scale: Scale) -> int:
        """Memory of the stacked references, of their copy with predictions, and of influences."""
        influences = 8 * 3 * scale.attacks * scale.pool
        return 2 * scale.stack_bytes + 2 * scale.scaled_bytes(self.answer_scale) + influences

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> PlayedRates:
        """Return the rates, and why an attack has none."""
        split = inputs.splits
        attacks = attacks_with_references(self.attacks, population=len(split.population))
        known = known_references(self, inputs, attacks)
        groups, rates = [], []
        for targets, players in zip(self.groups, self.players, strict=True):
            groups.append(PlayerGroup(targets, players))
            rates.append(self._rates(known, attacks, groups[-1]))
            progress(len(rates) / len(self.groups))
        clusters = metrics.dense_clusters(groups_of(inputs.clusters))
        return gathered_rates(
            attacks, groups, rates, len(split.pool), seed=self.seed, clusters=clusters
        )

    def _rates(
        self, known: PartlyQuantizedReferences, attacks: Sequence[Attack], group: PlayerGroup
    ) -> GroupRates:
        """Return the mean rates of the players of one group."""
        total: metrics.PlayerRates | None = None
        refused: dict[str, str] = {}
        for row in group.players:
            played = played_by_partly_quantized(known, attacks, row, group.targets, self.count)
            refused |= played.refused
            total = sum_of_rates(total, rates_of(played, attacks, self.fpr))
        return GroupRates.of_sum(total, len(group.players), refused) if group.players else NO_RATES


def known_references(
    step: Any, inputs: Any, attacks: Sequence[Attack]
) -> PartlyQuantizedReferences:
    """Return the answers of a step's models on the scale of the quantized ones.

    Args:
        step: Parameters `references`, `quantized`, `seed` and `answer_scale`.
        inputs: Inputs `references`, `quantized`, `images` and `splits`.
        attacks: Attacks that read them.
    """
    labels = Labels.of(inputs.images, inputs.splits)
    full = on_scale(step.answer_scale, (), inputs.references, labels).references
    quantized = on_scale(step.answer_scale, (), inputs.quantized, labels).references
    return PartlyQuantizedReferences(
        inputs.images,
        inputs.splits,
        dict(zip(step.references, full, strict=True)),
        dict(zip(step.quantized, quantized, strict=True)),
        step.seed,
        signals_of_references(attacks),
    )


def played_by_partly_quantized(
    known: PartlyQuantizedReferences,
    attacks: Sequence[Attack],
    row: int,
    targets: Sequence[int],
    count: int,
) -> PlayedScores:
    """Return the scores of one player, and the reasons of the attacks without.

    Args:
        known: The models' answers.
        attacks: Attacks that use references.
        row: Row of the player.
        targets: Rows of the targets that it plays.
        count: Most quantized references.
    """
    member = known.split.member[row]
    everywhere = np.ones(len(member), bool)
    try:
        view = known.played(row, targets, count).view
    except TooFewForAttack as error:
        reasons = {attack.name: str(error) for attack in attacks}
        return PlayedScores({}, everywhere, member, reasons)
    return scores_on_views([(attacks, view)], everywhere, member)
