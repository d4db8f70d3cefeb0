"""Which models play the targets, and their scores: attacks tried out away from the target.

The targets are split into at most `_GROUPS` groups of training sets, complements together. A group
has players on other training sets than its targets, and while one of them is attacked, no model on
the training set of any target of the group, or on its complement, is a reference. So a choice
by the players' scores owes nothing to the answers or the membership of the group's targets,
and one score serves several targets. Players come with their complements where these are among the
candidates: both have the same references, whose sums are computed once.

Cost: `_GROUPS` x `_PLAYERS` attacks for any number of targets, with fewer references than a target
has: without those on the training sets of the group's targets and on their complements.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.attacks.attack import Attack
from bitleak.attacks.player import ModelSignals, Player, other_models
from bitleak.attacks.recalibrate import recalibrated
from bitleak.core.errors import TooFewForAttack
from bitleak.core.seeds import seed_for
from bitleak.core.types import AttackView

_GROUPS = 4
"""Groups of targets, at most, if their models are among the references or the players."""

_PLAYERS = 4
"""Players of a group, at most."""

FEWEST_PLAYERS = 4
"""Players below which a group has none: a mean of fewer rates says little about other models."""


@dataclass(frozen=True)
class PlayerGroup:
    """Targets that share their players.

    Attributes:
        targets: Rows of the targets.
        players: Rows of the models that play them; none of their training sets, nor of the
            complements, is a target's. Empty if there are fewer than `FEWEST_PLAYERS`.
    """

    targets: tuple[int, ...]
    players: tuple[int, ...]

    def references(self, split: Int64[np.ndarray, "models"], rows: Iterable[int]) -> list[int]:
        """Return the rows that are on no target's training set, nor on its complement."""
        left_out = {abs(int(split[target])) for target in self.targets}
        return [row for row in rows if abs(int(split[row])) not in left_out]


class PlayedScores(NamedTuple):
    """Scores of one player.

    Attributes:
        scores: By attack; without those that refused.
        records: True for the records that the player is used for, which the scores are about.
        member: True for those of them that it was trained on.
        refused: Reasons of the attacks without scores, by name.
    """

    scores: Mapping[str, Float64[np.ndarray, "used"]]
    records: Bool[np.ndarray, "records"]
    member: Bool[np.ndarray, "used"]
    refused: Mapping[str, str]


def player_groups(
    split: Int64[np.ndarray, "models"],
    targets: Sequence[int],
    candidates: Sequence[int],
    references: Iterable[int],
    seed: int,
) -> tuple[PlayerGroup, ...]:
    """Return groups of all targets, and the players of each.

    Args:
        split: Number of each model's training set, negative for its complement, see
            `split_numbers`.
        targets: Rows of the targets.
        candidates: Rows of the models that can play.
        references: Rows of the models that are references.
        seed: Root of the draw.

    Example:
        >>> split = np.array([1, -1, 2, -2, 3, -3, 4, -4])
        >>> for group in player_groups(split, (0, 2, 4, 6), range(8), range(8), 0):
        ...     print(group.targets, group.players)
        (0,) (4, 5, 6, 7)
        (2,) (0, 1, 4, 5)
        (4,) (0, 1, 6, 7)
        (6,) (0, 1, 2, 3)
    """
    of_targets = list(dict.fromkeys(abs(int(split[row])) for row in targets))
    involved = {abs(int(split[row])) for row in (*candidates, *references)}
    # Players on training sets of no target serve all targets in one group.
    count = min(_GROUPS, len(of_targets)) if involved.intersection(of_targets) else 1
    groups = []
    for place, part in enumerate(np.array_split(np.array(of_targets), count)):
        left_out = set(part.tolist())
        members = tuple(row for row in targets if abs(int(split[row])) in left_out)
        by_set: dict[int, list[int]] = {}
        for row in candidates:
            number = abs(int(split[row]))
            if number not in left_out and row not in members:
                by_set.setdefault(number, []).append(row)
        order = np.random.default_rng(seed_for(seed, "players", place)).permutation(list(by_set))
        # Complements come together: every record then has players on both sides.
        players: list[int] = []
        for number in order.tolist():
            players += by_set[number][:2]
        enough = len(players) >= FEWEST_PLAYERS
        groups.append(PlayerGroup(members, tuple(sorted(players[:_PLAYERS])) if enough else ()))
    return tuple(groups)


class PlayedCase(NamedTuple):
    """Attacks by one kind of references.

    Attributes:
        attacks: The attacks.
        recalibrate: Whether the player's answers are mapped onto the references' calibration first.
    """

    attacks: Sequence[Attack]
    recalibrate: bool


def played_scores(
    view: AttackView,
    players: Sequence[tuple[int | None, ModelSignals, Bool[np.ndarray, "records"]]],
    cases: Sequence[PlayedCase],
    seed: int,
) -> Iterator[tuple[PlayedScores, ...]]:
    """Yield the scores of each player in every case; all cases share the sums over its references.

    Args:
        view: View of a target of the group, not recalibrated, by the group's references.
        players: For each its row among the references or, if it is none, None; its signals, and
            its membership.
        cases: Attacks with and without recalibration.
        seed: Root of the draw of references, if counts are uneven without a player.
    """
    shared: AttackView | None = None
    shared_rest = np.empty(0, bool)
    for place, (row, answers, member) in enumerate(players):
        if row is None:
            everywhere = np.ones(len(member), bool)
            seen = view.of_target(*answers)
            groups = [_of_one_view(case, seen) for case in cases]
            yield tuple(scores_on_views(group, everywhere, member) for group in groups)
            continue
        try:
            player = Player(
                view, np.random.default_rng(seed_for(seed, "play", place)), row, answers
            )
        except TooFewForAttack as error:
            used = view.use[row]
            yield tuple(_refused(case, str(error), used, view.member[row, used]) for case in cases)
            continue
        if player.paired:
            # a player's complement has the same references, with sums that are computed already
            rest = other_models(view, row)
            if shared is None or not np.array_equal(shared_rest, rest):
                shared, shared_rest = player.view(), rest
            seen = shared.of_target(*answers)
            groups = [_of_one_view(case, seen) for case in cases]
        else:
            groups = [player.groups(case.attacks, recalibrate=case.recalibrate) for case in cases]
        yield tuple(scores_on_views(group, player.records, player.member) for group in groups)


_Groups = Sequence[tuple[Sequence[Attack], AttackView]]


def _of_one_view(case: PlayedCase, view: AttackView) -> _Groups:
    return [(case.attacks, recalibrated(view) if case.recalibrate else view)]


def _refused(
    case: PlayedCase,
    reason: str,
    records: Bool[np.ndarray, "records"],
    member: Bool[np.ndarray, "used"],
) -> PlayedScores:
    reasons = {attack.name: reason for attack in case.attacks}
    return PlayedScores({}, records, member, reasons)


def scores_on_views(
    groups: _Groups, records: Bool[np.ndarray, "records"], member: Bool[np.ndarray, "used"]
) -> PlayedScores:
    """Return the scores of attacks on the views that suit them, and the reasons of those without.

    Args:
        groups: Attacks, and the view that they are run on.
        records: As in `PlayedScores`.
        member: As in `PlayedScores`.
    """
    scores: dict[str, np.ndarray] = {}
    refused: dict[str, str] = {}
    for attacks, view in groups:
        for attack in attacks:
            try:
                scores[attack.name] = attack(view)
            except TooFewForAttack as error:
                refused[attack.name] = str(error)
    return PlayedScores(scores, records, member, refused)
