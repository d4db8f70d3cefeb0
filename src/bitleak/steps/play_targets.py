"""Run every attack on players: models in the targets' place, on which the strongest is chosen.

The targets' answers are not among the inputs, and while a player of a group is attacked, neither
the group's targets nor their complements are references.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from bitleak import metrics
from bitleak.attacks import (
    Attack,
    ModelSignals,
    PlayedCase,
    PlayedScores,
    PlayerGroup,
    attack_view,
    played_scores,
    split_numbers,
)
from bitleak.core.params import later
from bitleak.core.seeds import seed_for
from bitleak.core.spill import stack_arrays
from bitleak.core.types import AttackView, Images, Outputs, Splits
from bitleak.engine.worker import Runtime
from bitleak.steps.answer_scale import AnswerScale, Labels, on_scale
from bitleak.steps.attack_targets import applicable
from bitleak.steps.find_copies import groups_of
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class PlayedRates:
    """Mean TPR over the players of each group of targets, by attack.

    Attributes:
        rates: NaN if an attack could not be run on a player.
        changes: Change of the rate under each draw of records, see `metrics.strongest`.
        attacks: Names, in the order of the second axis.
        groups: Rows of the targets, by group.
        players: Number of players, by group.
        refused: Reason why an attack has no rate, by name.
    """

    rates: Float64[np.ndarray, "groups attacks"]
    changes: Float32[np.ndarray, "groups attacks draws"]
    attacks: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    players: tuple[int, ...]
    refused: Mapping[str, str]

    def artifacts(self) -> dict[str, Any]:
        """Return the stored arrays and JSON values by name."""
        return {
            "rates": self.rates,
            "changes": self.changes,
            "played": {
                "attacks": list(self.attacks),
                "groups": [list(group) for group in self.groups],
                "players": list(self.players),
                "refused": dict(self.refused),
            },
        }

    @classmethod
    def read(cls, artifacts: Mapping[str, Any]) -> "PlayedRates":
        """Return the rates that were stored as these artifacts."""
        played = artifacts["played"]
        return cls(
            artifacts["rates"],
            artifacts["changes"],
            tuple(played["attacks"]),
            tuple(map(tuple, played["groups"])),
            tuple(played["players"]),
            played["refused"],
        )


@dataclass(frozen=True)
class PlayTargets:
    """Run every attack on the players of every group of targets.

    Attributes:
        attacks: Names of the attacks, in full.
        recalibrated: Whether the references' answers are mapped onto the player's first.
        groups: Rows of the targets, by group.
        players: Rows of the players, by group.
        references: Rows of the models whose answers are the inputs `references`.
        fpr: False positive rate.
        seed: The audit's seed.
        answer_scale: Scale on which the answers are compared.
    """

    attacks: tuple[str, ...]
    recalibrated: bool
    groups: tuple[tuple[int, ...], ...]
    players: tuple[tuple[int, ...], ...]
    references: tuple[int, ...]
    fpr: float
    seed: int
    answer_scale: AnswerScale = later("raw")

    STAGE: ClassVar[str] = "play"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """Answers of all players, ascending by row, and of the references; clusters of records."""

        players: tuple[Outputs, ...]
        references: tuple[Outputs, ...]
        images: Images
        splits: Splits
        clusters: Mapping[str, Any] | None = None

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of all players, ascending."""
        return tuple(sorted(set(chain.from_iterable(self.players))))

    def cost(self, scale: Scale) -> float:
        """Seconds of all attacks, once per player of a group."""
        plays = sum(map(len, self.players))
        scaling = scale.scaling_seconds(self.answer_scale) * len(self.references)
        return len(self.attacks) * scale.attack_seconds * plays / max(1, scale.targets) + scaling

    def bytes(self, scale: Scale) -> int:
        """Bytes of the rates under every draw."""
        return (4 * metrics.DRAWS + 8) * len(self.groups) * scale.attacks

    def memory(self, scale: Scale) -> int:
        """Memory of the stacked references, of a copy without the player, and of influences."""
        influences = 8 * 3 * scale.attacks * scale.pool
        copies = scale.stack_bytes + scale.references * scale.answer_bytes
        return copies + scale.scaled_bytes(self.answer_scale) + influences

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> PlayedRates:
        """Return the rates, and why an attack has none."""
        data, split = inputs.images, inputs.splits
        scale: AnswerScale = self.answer_scale if self.rows else "raw"  # no answers have no scale
        scaled = on_scale(scale, inputs.players, inputs.references, Labels.of(data, split))
        answers = dict(zip(self.rows, scaled.targets, strict=True))
        by_row = dict(zip(self.references, scaled.references, strict=True))
        attacks = applicable(
            self.attacks, recalibrate=self.recalibrated, population=len(split.population)
        )
        numbers = split_numbers(split.member)
        groups = []
        played = []
        for targets, rows in zip(self.groups, self.players, strict=True):
            groups.append(PlayerGroup(targets, rows))
            if rows:
                references = groups[-1].references(numbers, self.references)
                view = _group_view(data, split, answers[rows[0]], references, by_row)
                players = []
                for row in rows:
                    place = references.index(row) if row in references else None
                    signals = answers[row].signals, answers[row].population_signals
                    players.append((place, signals, split.member[row]))
                case = PlayedCase(attacks, self.recalibrated)
                played += group_rates(view, players, [case], fpr=self.fpr, seed=self.seed)
            else:
                played.append(NO_RATES)
            progress(len(played) / len(self.groups))
        clusters = metrics.dense_clusters(groups_of(inputs.clusters))
        return gathered_rates(
            attacks, groups, played, len(split.pool), seed=self.seed, clusters=clusters
        )


class GroupRates(NamedTuple):
    """Rates of a group's players by every attack.

    Attributes:
        players: Number of players.
        mean: Mean over the players of their rates, and of their influences on all records; None
            without players.
        refused: Reasons of attacks without a rate, by name.
    """

    players: int
    mean: metrics.PlayerRates | None
    refused: Mapping[str, str]

    @classmethod
    def of_sum(
        cls, total: metrics.PlayerRates | None, players: int, refused: Mapping[str, str]
    ) -> "GroupRates":
        """Return the mean from the sum over the players, which is changed."""
        if total is not None:
            np.divide(total.value, players, out=total.value)
            np.divide(total.influence, players, out=total.influence)
        return cls(players, total, refused)


NO_RATES = GroupRates(0, None, {})
"""Rates of a group without players."""


def group_rates(
    view: AttackView,
    players: Sequence[tuple[int | None, ModelSignals, Bool[np.ndarray, "records"]]],
    cases: Sequence[PlayedCase],
    *,
    fpr: float,
    seed: int,
) -> list[GroupRates]:
    """Return the rates of one group's players in every case.

    Args:
        view: As of `played_scores`.
        players: As of `played_scores`.
        cases: Attacks with and without recalibration, by the same references.
        fpr: False positive rate.
        seed: The root seed.
    """
    # sums, since the influences of one player take 8 bytes per attack and record
    sums: list[metrics.PlayerRates | None] = [None] * len(cases)
    refused: list[dict[str, str]] = [{} for _ in cases]
    for by_case in played_scores(view, players, cases, seed_for(seed, "play")):
        for place, (case, played) in enumerate(zip(cases, by_case, strict=True)):
            refused[place] |= played.refused
            sums[place] = sum_of_rates(sums[place], rates_of(played, case.attacks, fpr))
    rates = []
    for total, reasons in zip(sums, refused, strict=True):
        rates.append(GroupRates.of_sum(total, len(players), reasons))
    return rates


def sum_of_rates(
    total: metrics.PlayerRates | None, rates: metrics.PlayerRates
) -> metrics.PlayerRates:
    """Add the rates of one player to a sum, which is changed."""
    if total is None:
        return rates
    np.add(total.value, rates.value, out=total.value)
    np.add(total.influence, rates.influence, out=total.influence)
    return total


def gathered_rates(
    attacks: Sequence[Attack],
    groups: Sequence[PlayerGroup],
    played: Sequence[GroupRates],
    records: int,
    *,
    seed: int,
    clusters: Int64[np.ndarray, "records"] | None = None,
) -> PlayedRates:
    """Return the mean rates of all groups, with their change under every draw of records.

    Args:
        attacks: The attacks.
        groups: Targets and players.
        played: Rates of the players, by group.
        records: Number of audited records.
        seed: The root seed.
        clusters: Number of each record's cluster, as `dense_clusters` returns them.
    """
    rates = np.full((len(groups), len(attacks)), np.nan)
    influences = np.zeros((len(groups), len(attacks), records))
    refused: dict[str, str] = {}
    for place, group_played in enumerate(played):
        refused |= group_played.refused
        if group_played.mean is not None:
            rates[place], influences[place] = group_played.mean
    rows = influences.reshape(-1, records)
    if clusters is not None and len(rows):  # a draw weighs all records of a cluster alike
        rows = np.stack([metrics.cluster_sums(row, clusters) for row in rows])
    drawn = metrics.on_draws(rows, draw_seed(seed))
    return PlayedRates(
        rates=rates,
        changes=drawn.reshape(len(groups), len(attacks), drawn.shape[1]),
        attacks=tuple(attack.name for attack in attacks),
        groups=tuple(group.targets for group in groups),
        players=tuple(group_played.players for group_played in played),
        refused=refused,
    )


def draw_seed(seed: int) -> int:
    """Return the seed of the draws of records, one for all models and variants."""
    return seed_for(seed, "draws")


def rates_of(played: PlayedScores, attacks: Sequence[Attack], fpr: float) -> metrics.PlayerRates:
    """Return the rates of one player by every attack, NaN for attacks that refused."""
    values = np.full(len(attacks), np.nan)
    influence = np.zeros((len(attacks), len(played.records)))
    places = [place for place, attack in enumerate(attacks) if attack.name in played.scores]
    if places and 0 < played.member.sum() < len(played.member):
        scores = np.stack([played.scores[attacks[place].name] for place in places])
        rates = metrics.player_rates(scores, played.member, fpr)
        values[places] = rates.value
        used = np.ix_(np.array(places), np.flatnonzero(played.records))
        influence[used] = rates.influence
    return metrics.PlayerRates(values, influence)


def _group_view(
    data: Images,
    split: Splits,
    stand_in: Outputs,
    references: Sequence[int],
    by_row: Mapping[int, Outputs],
) -> AttackView:
    """Return a view by a group's references; another model than a target is in the target's place."""
    outputs = [by_row[row] for row in references]
    member = split.member[list(references)]
    return attack_view(
        target=stand_in.signals,
        references=stack_arrays([output.signals for output in outputs]),
        member=member,
        use=np.ones_like(member),
        population_target=stand_in.population_signals,
        population_references=stack_arrays([output.population_signals for output in outputs]),
        labels=data.labels[split.pool],
    )
