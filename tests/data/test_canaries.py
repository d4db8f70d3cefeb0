"""Canaries: drawn once, wrong for every model alike, and apart from all other records."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitleak.core.types import Images
from bitleak.data import make_splits
from bitleak.data.canaries import canary_positions, mislabelled, pool_part


def world(records=400, classes=5, canaries=60, mode="population", seed=0):
    labels = np.random.default_rng(seed).integers(0, classes, records)
    names = tuple(map(str, range(classes)))
    images = Images(np.zeros((records, 1, 1, 1), np.uint8), labels, names, np.zeros(records, bool))
    counts = {"models": 8} if mode == "population" else {"shadows": 8}
    splits = make_splits(
        images, mode=mode, targets=3, calibration=5, population=20, seed=seed, canaries=canaries,
        **counts,
    )  # fmt: skip
    return images, splits


@given(
    classes=st.integers(2, 9),
    half=st.integers(1, 100),
    seed=st.integers(0, 2**40),
)
def test_the_label_of_every_canary_is_wrong_and_of_every_other_record_as_it_was(
    classes, half, seed
):
    images, splits = world(classes=classes, canaries=2 * half, seed=seed)
    changed = mislabelled(images, splits, 2 * half, seed)
    canaries = pool_part(splits, 2 * half, seed, canaries=True).pool
    wrong = np.flatnonzero(changed.labels != images.labels)
    np.testing.assert_array_equal(wrong, canaries)
    assert changed.labels.min() >= 0
    assert changed.labels.max() < classes
    assert changed.pixels is images.pixels


def test_wrong_labels_are_uniform_over_the_other_classes():
    images, splits = world(records=60_000, canaries=40_000)
    changed = mislabelled(images, splits, 40_000, 0)
    wrong = changed.labels != images.labels
    steps = np.bincount((changed.labels - images.labels)[wrong] % 5, minlength=5)
    assert steps[0] == 0
    # four classes, 10,000 each within 5 standard errors
    assert np.abs(steps[1:] - 10_000).max() < 5 * np.sqrt(40_000 * 0.25 * 0.75)


@pytest.mark.parametrize("mode", ["population", "dedicated"])
def test_every_model_has_half_of_the_canaries_and_half_of_the_others(mode):
    _, splits = world(mode=mode)
    for canaries in (True, False):
        part = pool_part(splits, 60, 0, canaries=canaries)
        targets = part.member[part.targets]
        assert (targets.sum(axis=1) == len(part.pool) // 2).all()
        references = part.member if mode == "population" else part.member[3:]
        assert (references.sum(axis=0) == len(references) // 2).all()
        if mode == "population":
            assert (part.member[::2] ^ part.member[1::2]).all()


def test_the_parts_share_nothing_and_make_the_pool():
    _, splits = world()
    canaries = pool_part(splits, 60, 0, canaries=True)
    others = pool_part(splits, 60, 0, canaries=False)
    assert len(canaries.pool) == 60
    np.testing.assert_array_equal(np.sort([*canaries.pool, *others.pool]), splits.pool)
    for part in (others.calibration, others.population, others.test):
        assert not np.isin(canaries.pool, part).any()
    assert not len(canaries.test)
    assert not len(canaries.calibration)
    np.testing.assert_array_equal(canaries.population, others.population)
    for part in (canaries, others):
        places = np.searchsorted(splits.pool, part.pool)
        np.testing.assert_array_equal(part.member, splits.member[:, places])


def test_membership_of_canaries_is_that_of_a_coin():
    """Over many seeds a canary is a member of the first model half of the time, whatever its place."""
    first = np.zeros(20)
    for seed in range(300):
        _, splits = world(records=120, canaries=20, seed=seed)
        first += pool_part(splits, 20, seed, canaries=True).member[0]
    # 5 standard errors of a share of 300
    assert np.abs(first / 300 - 0.5).max() < 5 * 0.5 / np.sqrt(300)


def test_splits_without_canaries_are_those_of_before():
    images, splits = world(canaries=0)
    again = make_splits(
        images, mode="population", targets=3, calibration=5, population=20, seed=0, models=8
    )
    np.testing.assert_array_equal(splits.member, again.member)
    _, with_canaries = world(canaries=60)
    for name in ("pool", "calibration", "population", "test", "targets"):
        np.testing.assert_array_equal(getattr(splits, name), getattr(with_canaries, name))


def test_more_canaries_than_records_are_refused():
    with pytest.raises(ValueError, match="canaries must be at most the 10 records of the pool"):
        canary_positions(10, 12, 0)
    with pytest.raises(ValueError, match="canaries must be even"):
        world(canaries=31)
