import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitleak.core.errors import ConfigError
from bitleak.core.types import Images, Splits
from bitleak.data import check_splits, even_mask, make_splits, references
from bitleak.metrics import class_dependence


def images(records, *, own_test=0, classes=4):
    return Images(
        pixels=np.zeros((records, 1, 1, 1), np.uint8),
        labels=np.random.default_rng(records).integers(0, classes, records),
        class_names=tuple("abcdefgh"[:classes]),
        held_out=np.arange(records) >= records - own_test,
    )


def split(source=None, **change):
    options = {
        "mode": "population",
        "models": 6,
        "targets": 3,
        "calibration": 10,
        "population": 12,
        "seed": 0,
    }
    options |= {"shadows": 6} if change.get("mode") == "dedicated" else {}
    return make_splits(images(200) if source is None else source, **{**options, **change})


sizes = st.integers(60, 160)
halves = st.integers(1, 6)
seeds = st.integers(0, 2**62)


@settings(max_examples=20, deadline=None)
@given(sizes, halves, st.floats(0.2, 0.6), seeds, st.booleans())
def test_a_population_is_made_of_complementary_halves(records, pairs, fraction, seed, own_test):
    source = images(records, own_test=20 if own_test else 0)
    splits = split(
        source,
        models=2 * pairs,
        targets=1,
        held_out=fraction,
        calibration=3,
        population=4,
        seed=seed,
    )
    assert splits.member.shape == (2 * pairs, len(splits.pool))
    assert (splits.member.sum(axis=1) == len(splits.pool) / 2).all()
    assert (splits.member.sum(axis=0) == pairs).all()
    assert (splits.member[0::2] == ~splits.member[1::2]).all()


@settings(max_examples=20, deadline=None)
@given(sizes, halves, st.integers(1, 5), seeds)
def test_dedicated_targets_have_halves_and_shadows_are_balanced(records, pairs, targets, seed):
    splits = split(
        images(records),
        mode="dedicated",
        shadows=2 * pairs,
        targets=targets,
        calibration=1,
        seed=seed,
    )
    assert splits.targets.tolist() == list(range(targets))
    assert (splits.member[:targets].sum(axis=1) == len(splits.pool) / 2).all()
    assert (splits.member[targets:].sum(axis=0) == pairs).all()


@settings(max_examples=20, deadline=None)
@given(sizes, st.integers(0, 40), st.floats(0.3, 0.6), seeds)
def test_every_record_plays_at_most_one_part(records, own_test, fraction, seed):
    source = images(records, own_test=max(own_test, 18) if own_test else 0)
    splits = split(source, held_out=fraction, calibration=7, population=6, test=5, seed=seed)
    parts = [splits.pool, splits.calibration, splits.population, splits.test]
    assert [len(part) for part in parts[1:]] == [7, 6, 5]
    everything = np.concatenate(parts).tolist()
    assert len(set(everything)) == len(everything)
    assert all((np.diff(part) > 0).all() for part in parts)
    if own_test:
        assert not source.held_out[splits.pool].any()
        assert all(source.held_out[part].all() for part in parts[1:])


@settings(max_examples=40, deadline=None)
@given(sizes, st.floats(0.2, 0.7), seeds)
def test_the_fraction_is_held_out_of_every_class(records, fraction, seed):
    source = images(records)
    splits = split(source, held_out=fraction, calibration=0, population=0, seed=seed)
    assert len(splits.test) == round(records * fraction)
    held_out = np.bincount(source.labels[splits.test], minlength=4)
    assert (np.abs(held_out - np.bincount(source.labels, minlength=4) * fraction) <= 1.5).all()
    assert len(splits.pool) == (records - len(splits.test)) // 2 * 2


def test_an_odd_pool_loses_one_record_that_the_seed_chooses():
    source = images(121, own_test=20)
    lost = {
        int(
            np.setdiff1d(np.arange(101), split(source, calibration=1, population=1, seed=s).pool)[0]
        )
        for s in range(20)
    }
    assert len(lost) > 10


def test_test_takes_what_the_others_leave():
    splits = split(images(200, own_test=50))
    assert [len(splits.calibration), len(splits.population), len(splits.test)] == [10, 12, 28]


@pytest.mark.parametrize(
    ("targets", "rows"), [(1, [0]), (3, [0, 2, 4]), (4, [0, 1, 2, 4]), (6, [0, 1, 2, 3, 4, 5])]
)
def test_targets_are_of_different_pairs_as_long_as_there_are_any(targets, rows):
    assert split(targets=targets).targets.tolist() == rows


def test_the_seed_alone_decides():
    first, again, other = split(seed=5), split(seed=5), split(seed=6)
    for name in ("pool", "member", "targets", "calibration", "population", "test"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.member, other.member)
    assert not np.array_equal(first.test, other.test)


def test_splits_of_different_pairs_are_independent():
    member = split(images(4000), models=8).member[::2].astype(float)
    correlations = np.corrcoef(member) - np.eye(4)
    assert np.abs(correlations).max() < 5 / np.sqrt(2800)
    assert np.abs(correlations).max() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": 7}, "models must be even, .* got 7"),
        ({"models": 0}, "models must be an integer of at least 2, got 0"),
        ({"models": None}, "models must be given in this mode"),
        ({"targets": 7}, "targets must be an integer from 1 to 6, got 7"),
        ({"targets": 0}, "targets must be an integer from 1 to 6, got 0"),
        ({"mode": "dedicated", "shadows": 5}, "shadows must be even, .* got 5"),
        ({"mode": "dedicated", "shadows": None}, "shadows must be given in this mode"),
        ({"held_out": 1.0}, r"held_out must be a number in \(0.0, 1.0\), got 1.0"),
        ({"calibration": -1}, "calibration must be an integer of at least 0, got -1"),
        ({"test": 0}, "test must be an integer of at least 1, got 0"),
    ],
)
def test_numbers_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        split(**change)


def test_parts_that_do_not_fit_are_told_with_the_numbers():
    message = r"60 held-out records are too few for calibration \(40\), population \(12\) and test \(9\), which need 61"
    with pytest.raises(ConfigError, match=message):
        split(calibration=40, test=9)
    assert len(split(calibration=40, test=8).test) == 8
    with pytest.raises(ConfigError, match=r"and test \(at least 1\), which need 61"):
        split(calibration=48)
    with pytest.raises(
        ConfigError, match="the pool must hold at least 2 records to train on, got 0"
    ):
        split(images(31, own_test=30))


@settings(max_examples=20, deadline=None)
@given(sizes, st.integers(3, 6), st.integers(0, 5), seeds)
def test_in_a_population_all_but_the_pair_of_the_target_are_used(records, pairs, target, seed):
    splits = split(images(records), models=2 * pairs, calibration=1, seed=seed)
    rows, use = references(splits, target)
    partner = target + 1 if target % 2 == 0 else target - 1
    assert rows.tolist() == [row for row in range(2 * pairs) if row not in (target, partner)]
    assert use.all()
    assert (splits.member[rows].sum(axis=0) == pairs - 1).all()


def test_dedicated_targets_have_all_shadows_as_references():
    splits = split(mode="dedicated", targets=3, shadows=6)
    for target in splits.targets:
        rows, use = references(splits, target)
        assert rows.tolist() == [3, 4, 5, 6, 7, 8]
        assert use.all()


def test_two_pairs_leave_too_few_references():
    with pytest.raises(
        ValueError, match=r"at least 2 references .* 140 of 140 have fewer, .*: \[0, 1, 2, 3, 4\]"
    ):
        references(split(models=4, targets=1), 0)


def test_a_target_that_is_no_row_is_refused():
    with pytest.raises(ValueError, match="target must be an integer from 0 to 5, got 6"):
        references(split(), 6)


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 12), st.integers(1, 30), seeds)
def test_evened_counts_are_the_same_for_all_records_and_sides(refs, records, seed):
    rng = np.random.default_rng(seed)
    member = rng.random((refs, records)) < rng.random(records)
    counts = [min(int(column.sum()), refs - int(column.sum())) for column in member.T]
    if min(counts) < 2:
        few = [record for record, count in enumerate(counts) if count < 2]
        with pytest.raises(
            ValueError,
            match=rf"{len(few)} of {records} have fewer, .*: \[{', '.join(map(str, few[:5]))}\]",
        ):
            even_mask(member, seed)
        return
    use = even_mask(member, seed)
    for record in range(records):
        assert use[member[:, record], record].sum() == min(counts)
        assert use[~member[:, record], record].sum() == min(counts)


def test_which_references_are_left_out_is_drawn_evenly_and_by_the_seed():
    member = np.repeat(np.arange(7)[:, None] < 5, 7000, axis=1)
    use = even_mask(member, 1)
    assert np.abs(use[:5].mean(axis=1) - 2 / 5).max() < 5 * np.sqrt(0.24 / 7000)
    assert use[5:].all()
    assert np.array_equal(use, even_mask(member, 1))
    assert not np.array_equal(use, even_mask(member, 2))


def test_evened_counts_do_not_betray_a_target_of_the_same_balanced_matrix():
    member = np.random.default_rng(0).random((16, 2000)).argsort(axis=0) < 8
    target, others = member[0], member[1:]
    use = even_mask(others, 0)
    assert set(others.sum(axis=0)[target]) == {7}
    assert set(others.sum(axis=0)[~target]) == {8}
    for side in (others, ~others):
        assert set((use & side).sum(axis=0)) == {7}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: {"test": s.population},
            "must play one part, got it 2 times in population, test",
        ),
        (
            lambda s: {"calibration": s.pool[:1]},
            "must play one part, got it 2 times in pool, calibration",
        ),
        (
            lambda s: {"test": np.append(s.test, s.test[0])},
            "must play one part, got it 2 times in test",
        ),
        (lambda s: {"pool": s.pool[::-1]}, "the pool must be ascending"),
        (
            lambda s: {"member": s.member[:, :-1]},
            r"a column per pool record \(140\), got \(6, 139\)",
        ),
        (lambda s: {"member": s.member[:-1]}, "must be each other's complement"),
        (
            lambda s: {"member": s.member ^ (np.arange(6) == 2)[:, None]},
            "must be each other's complement",
        ),
        (
            lambda s: {"targets": np.array([0, 6])},
            r"targets must be different rows from 0 to 5, got \[0, 6\]",
        ),
        (
            lambda s: {"targets": np.array([2, 2])},
            r"targets must be different rows from 0 to 5, got \[2, 2\]",
        ),
    ],
)
def test_splits_that_contradict_themselves_are_refused(change, message):
    splits = split()
    for name, value in change(splits).items():
        object.__setattr__(splits, name, value)  # past the shape check that only tests have
    with pytest.raises(ValueError, match=message):
        check_splits(splits)


def test_an_unbalanced_matrix_from_elsewhere_is_evened_as_dedicated():
    none = np.array([], np.int64)
    member = np.random.default_rng(3).random((12, 40)) < 0.5
    member[1:3], member[3:5] = True, False
    splits = Splits("dedicated", np.arange(40), member, np.array([0]), none, none, none)
    check_splits(splits)
    rows, use = references(splits, 0)
    used = use.sum(axis=0)
    assert len(set(used)) == 1
    assert 4 <= used[0] < len(rows)


@pytest.mark.parametrize("mode", ["population", "dedicated"])
def test_generated_memberships_do_not_depend_on_the_class(mode):
    labels = np.sort(
        np.append(np.arange(600) % 5, np.repeat(np.arange(5, 25), 2))
    )  # in order, twenty rare classes
    source = Images(
        np.zeros((640, 1, 1, 1), np.uint8),
        labels,
        tuple("abcdefghijklmnopqrstuvwxy"),
        np.zeros(640, bool),
    )
    p_values = []
    for seed in range(40):
        splits = split(source, mode=mode, seed=seed, targets=2)
        for target in splits.targets:
            p_values.append(class_dependence(splits.member[target], labels[splits.pool]).p_value)
    assert min(p_values) > 1e-3
    assert np.mean(np.array(p_values) < 0.2) < 0.4
    assert class_dependence(labels % 2 == 0, labels).depends
