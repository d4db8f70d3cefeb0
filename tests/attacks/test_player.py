import numpy as np
import pytest

from bitleak.attacks import LiRA, Threshold, player_view, population_view
from bitleak.metrics import auc, roc, threshold_for


def rng(seed=0):
    return np.random.default_rng(seed)


def test_a_reference_plays_the_target_and_its_complement_is_left_out(gaussian_world):
    view, _ = gaussian_world(0, records=60, models=12, population=7)
    for seed in range(8):
        played, member = player_view(view, rng(seed))
        row = int(np.flatnonzero((view.references == played.target).all(axis=(1, 2, 3)))[0])
        np.testing.assert_array_equal(member, view.member[row])
        np.testing.assert_array_equal(played.population_target, view.population_references[row])
        assert len(played.references) == len(view.references) - 2
        assert not (played.member == member).all(axis=1).any()
        assert not (played.member == ~member).all(axis=1).any()
        counts = [(played.use & side).sum(axis=0) for side in (played.member, ~played.member)]
        assert (np.array(counts) == 4).all()


def test_uneven_references_are_evened(worlds):
    member = worlds["shadows"](rng(1), 10, 50)
    view = worlds["view"](rng(2).normal(size=(50, 1)), rng(3).normal(size=(10, 50, 1)), member)
    played, _ = player_view(view, rng())
    inside, outside = ((played.use & side).sum(axis=0) for side in (played.member, ~played.member))
    assert set(inside) == set(outside) == {4}


def test_the_target_plays_no_part(gaussian_world):
    from dataclasses import replace

    view, _ = gaussian_world(0, records=60, models=12, population=7)
    changed = replace(view, target=view.target + 3, population_target=view.population_target - 1)
    for one, other in zip(
        *(LiRA()(player_view(of, rng())[0]) for of in (view, changed)), strict=True
    ):
        assert one == other


def test_a_players_non_members_give_a_threshold_that_carries_over(gaussian_world):
    view, member = gaussian_world(0, records=6000, models=34, queries=1)
    played, known = player_view(view, rng())
    threshold = threshold_for(LiRA()(played)[~known], 0.05)
    assert auc(roc(LiRA()(played), known)) == pytest.approx(
        auc(roc(LiRA()(view), member)), abs=0.02
    )
    assert (LiRA()(view)[~member] >= threshold).mean() == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("models", [2, 4])
def test_too_few_references_are_refused(gaussian_world, models):
    view, _ = gaussian_world(0, records=20, models=models, population=3)
    with pytest.raises(ValueError, match="in the target's place"):
        player_view(view, rng())


def test_the_population_stands_for_the_audited_records(gaussian_world):
    view, _ = gaussian_world(0, records=60, models=6, population=9)
    np.testing.assert_array_equal(
        Threshold()(population_view(view)), view.population_target[:, :, 1].mean(axis=1)
    )
