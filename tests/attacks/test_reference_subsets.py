import tracemalloc

import numpy as np
import pytest

from bitleak.attacks import RMIA, Calibrated, LiRA, Quantile, Reference, masked_view, subset_view
from bitleak.attacks.reference_subsets import (
    Subsets,
    _orders,
    complementary_pairs,
    exchangeable,
)
from bitleak.core.types import IN, OUT, UNUSED
from bitleak.metrics import auc, roc


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_pairs_stay_pairs_and_the_rest_is_left_out(gaussian_world, count):
    view, _ = gaussian_world(0, records=50, models=18, population=5)
    few = subset_view(view, count, rng())
    assert few.references.shape[0] == few.population_references.shape[0] == 2 * count
    assert (few.member.sum(axis=0) == count).all()
    assert complementary_pairs(few.member) is not None
    rows = [
        int(np.flatnonzero((view.references == one).all(axis=(1, 2, 3)))[0])
        for one in few.references
    ]
    np.testing.assert_array_equal(few.member, view.member[rows])
    np.testing.assert_array_equal(few.population_references, view.population_references[rows])


@pytest.mark.parametrize("count", [1, 3, 6])
def test_references_that_do_not_pair_up_are_masked(worlds, count):
    member = worlds["shadows"](rng(1), 12, 40)
    view = worlds["view"](rng(2).normal(size=(40, 1)), rng(3).normal(size=(12, 40, 1)), member)
    few = subset_view(view, count, rng())
    for side in (member, ~member):
        assert ((few.use & side).sum(axis=0) == count).all()
    assert len(np.unique(few.use, axis=1).T) > 1 or count == 6


def test_a_mask_is_kept_to(worlds):
    member = worlds["shadows"](rng(1), 12, 40)
    use = np.ones_like(member)
    use[np.flatnonzero(member[:, 3])[:2], 3] = use[np.flatnonzero(~member[:, 3])[:2], 3] = False
    view = worlds["view"](rng(2).normal(size=(40, 1)), rng(3).normal(size=(12, 40, 1)), member, use)
    few = subset_view(view, 4, rng())
    assert not (few.use & ~use).any()
    assert (few.use.sum(axis=0) == 8).all()
    with pytest.raises(ValueError, match=r"count must be at most 4, .* got 5"):
        subset_view(view, 5, rng())


@pytest.mark.parametrize("paired", [True, False])
def test_fewer_references_are_among_the_more(worlds, paired):
    member = worlds["pairs" if paired else "shadows"](rng(1), 16, 30)
    view = worlds["view"](rng(2).normal(size=(30, 1)), rng(3).normal(size=(16, 30, 1)), member)
    few, more = (subset_view(view, count, rng(7)) for count in (2, 5))

    def answers(of, record):
        return set(of.references[of.use[:, record], record, 0, 1].tolist())

    assert all(answers(few, record) < answers(more, record) for record in range(30))


def test_nothing_but_the_references_changes(gaussian_world):
    view, _ = gaussian_world(0, records=50, models=18, population=5)
    few = subset_view(view, 2, rng())
    for name in ("target", "population_target", "labels"):
        assert getattr(few, name) is getattr(view, name)
    everything = subset_view(view, 8, rng())
    np.testing.assert_array_equal(everything.references, view.references)


def test_leakage_grows_with_the_references(gaussian_world):
    view, member = gaussian_world(0, records=6000, models=66, queries=1)
    areas = [auc(roc(LiRA()(subset_view(view, count, rng())), member)) for count in (2, 8, 32)]
    assert areas[0] + 0.02 < areas[1] < areas[2] - 0.005


def test_a_mask_on_pairs_is_kept_to_as_well(gaussian_world):
    view, _ = gaussian_world(0, records=20, models=10, population=5)
    use = view.use.copy()
    use[:2, 0] = False
    few = subset_view(masked_view(view, use), 2, rng())
    assert not few.use[:2, 0].any()
    assert (few.use.sum(axis=0) == 4).all()


BY_SIDE = [
    LiRA(),
    LiRA(variance="shrunk"),
    LiRA(variance="paper"),
    LiRA("offline", "shrunk"),
    Calibrated(),
    Calibrated("online"),
    Reference(),
]


@pytest.mark.parametrize("attack", BY_SIDE, ids=lambda attack: attack.name)
@pytest.mark.parametrize("count", [2, 5])
def test_a_compact_view_gives_the_same_scores_to_the_bit(worlds, attack, count):
    assert exchangeable(attack)
    member = worlds["shadows"](rng(1), 20, 70)
    use = np.ones_like(member)
    use[np.flatnonzero(member[:, 3])[:2], 3] = False
    signals = rng(3).normal(size=(20, 70, 2))
    view = worlds["view"](rng(2).normal(size=(70, 2)), signals, member, use)
    subsets = Subsets(view, rng(4))
    masked, compact = subsets.view(count), subsets.compact_view(count)
    assert compact.references.shape[0] == 2 * count
    assert not np.isnan(compact.references).any()
    np.testing.assert_array_equal(attack(compact), attack(masked))
    np.testing.assert_array_equal(masked.side, subset_view(view, count, rng(4)).side)


def test_a_subset_keeps_those_with_the_smallest_keys_of_each_side(worlds):
    member = worlds["shadows"](rng(1), 12, 40)
    view = worlds["view"](rng(2).normal(size=(40, 1)), rng(3).normal(size=(12, 40, 1)), member)
    kept, keys = subset_view(view, 2, rng(5)).use, rng(5).random(member.shape)
    for record in range(40):
        for side in (member[:, record], ~member[:, record]):
            chosen = np.flatnonzero(side)[np.argsort(keys[side, record])[:2]]
            assert set(np.flatnonzero(kept[:, record] & side)) == set(chosen)


def test_attacks_that_know_the_models_apart_are_not_run_on_compact_views():
    assert not exchangeable(RMIA())
    assert not exchangeable(Quantile())


@pytest.mark.parametrize("refs", [1, 5, 64, 600])
def test_one_sort_gives_the_order_of_both_sides_keys(refs):
    keys = rng(refs).random((refs, 300))
    side = rng(1).choice([IN, OUT, UNUSED], size=keys.shape, p=[0.4, 0.4, 0.2]).astype(np.int8)
    side[:, 7] = UNUSED if refs == 1 else side[:, 7]
    blocks = [(slice(0, 170), keys[:, :170]), (slice(170, 300), keys[:, 170:])]
    for order, value in zip(_orders(blocks, side), (IN, OUT), strict=True):
        ascending = np.where(side == value, keys, 2.0).argsort(axis=0)
        np.testing.assert_array_equal(order, ascending[: (side == value).sum(axis=0).min()])


def test_a_masked_subset_is_the_view_with_the_others_hidden(worlds):
    member = worlds["shadows"](rng(1), 14, 50)
    view = worlds["view"](rng(2).normal(size=(50, 2)), rng(3).normal(size=(14, 50, 2)), member)
    subsets = Subsets(view, rng(4))
    few = subsets.view(3)
    expected = masked_view(view, few.use)
    np.testing.assert_array_equal(few.references, expected.references)
    np.testing.assert_array_equal(few.side, expected.side)
    rows, columns = np.array([1, 4, 9]), np.arange(3, 40, 2)
    part = worlds["view"](view.target[columns, :, 1], view.references[np.ix_(rows, columns)][..., 1],
                          member[np.ix_(rows, columns)])  # fmt: skip
    chosen = np.zeros(part.side.shape, bool)
    chosen[:2] = True
    taken = Subsets(part, rng())._masked(chosen, view.references, rows, columns)
    expected = np.where(chosen[..., None, None], view.references[np.ix_(rows, columns)], np.nan)
    np.testing.assert_array_equal(taken.references, expected)


def test_the_draw_of_references_holds_no_key_of_all_records(worlds):
    refs, records = 64, 30_000
    member = worlds["shadows"](rng(1), refs, records)
    view = worlds["view"](np.zeros((records, 1)), np.zeros((refs, records, 1)), member)
    tracemalloc.start()
    Subsets(view, rng(2))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # numbers of two bytes, masks of one, and a block of keys; all keys would be 8 bytes each
    assert peak < 7 * refs * records
