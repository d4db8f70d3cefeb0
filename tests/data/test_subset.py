import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitleak.core.types import Images
from bitleak.data import limited


def images(labels, held_out=None):
    """Images whose single pixel is their number."""
    return Images(
        pixels=np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1),
        labels=np.array(labels, np.int64),
        class_names=("a", "b", "c", "d"),
        held_out=np.zeros(len(labels), bool) if held_out is None else np.array(held_out),
    )


def fair_shares(counts, limit):
    """One record to every class that still has any, round after round; the last round is cut at random."""
    given, lows = [0] * len(counts), None
    while sum(given) < limit and given != counts:
        lows = list(given)
        given = [g + (g < c) for g, c in zip(given, counts, strict=True)]
    return (lows, given) if sum(given) > limit else (given, given)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=60), st.integers(2, 70), st.integers(0, 5))
def test_classes_are_as_equal_as_their_counts_allow(labels, limit, seed):
    kept = limited(images(labels), limit, seed)
    assert len(kept.labels) == min(limit, len(labels))
    lows, highs = fair_shares(np.bincount(labels, minlength=4).tolist(), limit)
    counts = np.bincount(kept.labels, minlength=4)
    assert (np.array(lows) <= counts).all()
    assert (counts <= np.array(highs)).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=60), st.integers(2, 70), st.integers(0, 5))
def test_records_keep_their_order_and_their_labels_and_larger_limits_keep_them_too(
    labels, limit, seed
):
    kept = limited(images(labels), limit, seed)
    numbers = kept.pixels.ravel().astype(int)
    assert (np.diff(numbers) > 0).all()
    assert kept.labels.tolist() == [labels[number] for number in numbers]
    assert set(numbers) <= set(limited(images(labels), limit + 3, seed).pixels.ravel().astype(int))


def test_the_parts_are_limited_apart():
    labels, held_out = [0, 1] * 20, [False] * 24 + [True] * 16
    source = images(labels, held_out)
    assert np.bincount(limited(source, 6, 0).held_out).tolist() == [6, 16]
    assert np.bincount(limited(source, None, 0, held_out=4).held_out).tolist() == [24, 4]
    kept = limited(source, 6, 0, held_out=4)
    assert np.bincount(kept.labels[kept.held_out]).tolist() == [2, 2]
    assert np.bincount(kept.labels[~kept.held_out]).tolist() == [3, 3]


def test_the_seed_decides_which_records_stay():
    source = images([0, 1] * 50)
    first = limited(source, 20, 1).pixels
    assert np.array_equal(first, limited(source, 20, 1).pixels)
    assert not np.array_equal(first, limited(source, 20, 2).pixels)


def test_a_limit_below_two_is_refused():
    with pytest.raises(ValueError, match="limit must be an integer of at least 2, got 1"):
        limited(images([0, 1]), 1, 0)
