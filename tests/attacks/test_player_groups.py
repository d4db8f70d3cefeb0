import numpy as np
import pytest

from bitleak.attacks import (
    RMIA,
    LiRA,
    PlayedCase,
    Player,
    Threshold,
    attack_view,
    played_scores,
    player_groups,
    recalibrated,
    split_numbers,
)
from bitleak.core.seeds import seed_for
from bitleak.core.types import SIGNALS
from bitleak.data.splits import even_mask


def paired_models(models=8, records=60, seed=0):
    rng = np.random.default_rng(seed)
    halves = rng.random((models // 2, records)).argsort(axis=1) < records // 2
    member = np.stack([halves, ~halves], axis=1).reshape(models, records)
    signals = rng.normal(size=(models, records, 1, len(SIGNALS))) + member[..., None, None]
    return member, signals


def view_of(member, signals, rows, target):
    return attack_view(
        target=signals[target],
        references=signals[rows],
        member=member[rows],
        use=np.ones((len(rows), member.shape[1]), bool),
        population_target=signals[target][:0],
        population_references=signals[rows][:, :0],
        labels=np.zeros(member.shape[1], np.int64),
    )


@pytest.mark.parametrize(("models", "targets"), [(8, 4), (16, 8), (16, 16), (20, 8), (6, 2)])
def test_no_player_and_no_reference_is_on_a_training_set_of_the_targets(models, targets):
    split = split_numbers(paired_models(models)[0])
    rows = sorted([*range(0, models, 2), *range(1, models, 2)][:targets])
    groups = player_groups(split, rows, range(models), range(models), 3)
    assert sorted(sum((group.targets for group in groups), ())) == rows
    assert len(groups) <= 4
    for group in groups:
        of_targets = set(np.abs(split[list(group.targets)]).tolist())
        references = group.references(split, range(models))
        assert len(group.players) == 4
        assert not of_targets & set(np.abs(split[list(group.players)]).tolist())
        assert not of_targets & set(np.abs(split[references]).tolist())
        assert set(group.players) <= set(references)


def test_separate_shadows_play_all_targets_together():
    (group,) = player_groups(np.arange(12) + 1, (0, 1, 2), range(3, 12), range(3, 12), 0)
    assert group.targets == (0, 1, 2)
    assert len(group.players) == 4


def test_fewer_than_four_players_are_none():
    groups = player_groups(np.array([1, -1, 2, -2, 3, -3]), (0, 2), (0, 2), range(6), 0)
    assert [group.players for group in groups] == [(), ()]


def test_scores_of_a_player_are_those_of_a_target_with_the_same_references():
    """Brute force: the player's view is made by hand, without its own pair and the targets'."""
    member, signals = paired_models()
    rows = [2, 3, 4, 5, 6, 7]  # the targets are 0 and 1
    attacks = [LiRA(), LiRA(mode="offline", variance="fixed"), Threshold()]
    players = [(rows.index(p), (signals[p], signals[p][:0]), member[p]) for p in (2, 3, 6)]
    view = view_of(member, signals, rows, 2)
    played = list(played_scores(view, players, [PlayedCase(attacks, recalibrate=False)], 0))
    for player, (result,) in zip((2, 3, 6), played, strict=True):
        rest = [row for row in rows if row // 2 != player // 2]
        for attack in attacks:
            expected = attack(view_of(member, signals, rest, player))
            np.testing.assert_allclose(result.scores[attack.name], expected)
        np.testing.assert_array_equal(result.member, member[player])
        assert result.records.all()


def test_a_player_may_answer_otherwise_than_the_reference_that_it_is():
    member, signals = paired_models()
    rows, quantized = [2, 3, 4, 5, 6, 7], np.round(signals)
    view = view_of(member, signals, rows, 2)
    players = [(0, (quantized[2], quantized[2][:0]), member[2])]
    ((result,),) = played_scores(view, players, [PlayedCase([Threshold()], False)], 0)
    np.testing.assert_allclose(
        result.scores["threshold"], quantized[2][:, 0, SIGNALS.index("logit_scaled")]
    )


def test_references_without_pairs_are_evened_so_that_counts_say_nothing():
    rng = np.random.default_rng(0)
    member = rng.random((10, 80)).argsort(axis=0) < 5
    signals = rng.normal(size=(10, 80, 1, len(SIGNALS)))
    seen = []

    class Counting(Threshold):
        uses_references = True

        def __call__(self, view):
            seen.append((view.side == 1).sum(axis=0).tolist())
            return np.zeros(len(view.target))

    view = view_of(member, signals, list(range(10)), 0)
    players = [(p, (signals[p], signals[p][:0]), member[p]) for p in (1, 4)]
    list(played_scores(view, players, [PlayedCase([Counting()], False)], 0))
    assert seen == [[4] * 80, [4] * 80]


@pytest.mark.parametrize("paired", [True, False])
def test_cases_played_together_have_the_scores_of_each_alone(paired):
    """Recalibration maps the player alone, so both cases have the same references."""
    rng = np.random.default_rng(1)
    member, signals = paired_models(16)
    if not paired:
        member = rng.random(member.shape).argsort(axis=0) < 8
    outside = rng.normal(size=(16, 30, 1, len(SIGNALS)))
    rows = list(range(2, 16))
    view = attack_view(
        target=signals[2],
        references=signals[rows],
        member=member[rows],
        use=even_mask(member[rows], 0, fewest=1),
        population_target=outside[2],
        population_references=outside[rows],
        labels=np.zeros(member.shape[1], np.int64),
    )
    forms = [LiRA(variance="fixed"), RMIA(), Threshold()]
    cases = [PlayedCase(forms, recalibrate=False), PlayedCase(forms, recalibrate=True)]
    players = [(rows.index(p), (signals[p], outside[p]), member[p]) for p in (2, 3, 6)]
    together = list(played_scores(view, players, cases, 0))
    for place, case in enumerate(cases):
        alone = list(played_scores(view, players, [case], 0))
        for both, (result,) in zip(together, alone, strict=True):
            assert set(both[place].scores) == {attack.name for attack in forms}
            for name, scores in result.scores.items():
                np.testing.assert_array_equal(both[place].scores[name], scores)
    for number, ((row, answers, _), (raw, mapped)) in enumerate(
        zip(players, together, strict=True)
    ):
        player = Player(view, np.random.default_rng(seed_for(0, "play", number)), row, answers)
        for attack in forms:
            expected = attack(recalibrated(player.view()))
            np.testing.assert_array_equal(mapped.scores[attack.name], expected)
        assert not np.array_equal(raw.scores["rmia-online"], mapped.scores["rmia-online"])
