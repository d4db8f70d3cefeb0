"""Per-record exposure and memorisation against slow loops and worlds with a known answer."""

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from bitleak.metrics import (
    exposure,
    extremes,
    extremes_by_class,
    memorisation,
    movement,
    rank_correlation,
    reliability,
)


def population(seed, targets=8, records=300):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((targets, records)), rng.random((targets, records)) < 0.5


def balanced(rng, models, records):
    """Every record in exactly half of the models."""
    return rng.permuted(np.arange(models)[:, None].repeat(records, 1) < models // 2, axis=0)


def test_exposure_is_the_mean_over_the_targets_that_hold_the_record():
    scores, member = population(0, targets=3)
    found = exposure(scores, member)
    for record in range(300):
        own = [scores[target, record] for target in range(3) if member[target, record]]
        assert found.targets[record] == len(own)
        assert found.mean[record] == pytest.approx(np.mean(own) if own else np.nan, nan_ok=True)
        assert found.std[record] == pytest.approx(
            np.std(own, ddof=1) if len(own) > 1 else np.nan, nan_ok=True
        )


def test_memorisation_is_the_difference_of_two_means_with_its_error():
    answers, member = population(1, targets=5)
    found = memorisation(answers, member)
    for record in range(300):
        inside, outside = answers[member[:, record], record], answers[~member[:, record], record]
        if min(len(inside), len(outside)) == 0:
            assert np.isnan(found.mean[record])
            continue
        assert found.mean[record] == pytest.approx(inside.mean() - outside.mean())
        if min(len(inside), len(outside)) < 2:
            assert np.isnan(found.error[record])
        else:
            error = np.sqrt(inside.var(ddof=1) / len(inside) + outside.var(ddof=1) / len(outside))
            assert found.error[record] == pytest.approx(error)


def test_the_error_of_memorisation_is_its_deviation_over_populations():
    rng = np.random.default_rng(2)
    found = [
        memorisation((rng.random((8, 500)) < 0.5 + 0.3 * own).astype(float), own)
        for own in (balanced(rng, 8, 500) for _ in range(60))
    ]
    assert np.mean([one.mean for one in found]) == pytest.approx(0.3, abs=0.01)
    variance = np.array([one.mean for one in found]).var(axis=0).mean()
    assert np.mean([(one.error**2).mean() for one in found]) == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_the_reliability_is_that_of_all_targets(noise):
    """Scores a + noise e over k targets: the mean's squared correlation with a is 1 / (1 + noise^2 / k)."""
    rng = np.random.default_rng(3)
    scores = rng.standard_normal(20_000) + noise * rng.standard_normal((8, 20_000))
    found = reliability(scores, balanced(rng, 8, 20_000), seed=0)
    expected = 1 / (1 + noise**2 / 4)
    assert found == pytest.approx(expected, abs=0.02)  # ranks instead of values cost up to 0.015


def test_noise_is_not_reliable_and_a_property_of_the_record_is():
    rng = np.random.default_rng(4)
    member = balanced(rng, 6, 2000)
    assert abs(reliability(rng.standard_normal((6, 2000)), member, seed=0)) < 0.1
    assert reliability(np.tile(rng.standard_normal(2000), (6, 1)), member, seed=0) == pytest.approx(
        1
    )


def test_the_reliability_depends_on_its_seed_alone():
    scores, member = population(5)
    assert reliability(scores, member, seed=1) == reliability(scores, member, seed=1)
    assert reliability(scores, member, seed=1) != reliability(scores, member, seed=2)


def test_halves_are_disjoint_and_of_the_members():
    from bitleak.metrics.exposure import _first_half

    _, member = population(6, targets=7)
    half = _first_half(member, np.random.default_rng(0))
    assert (half <= member).all()
    np.testing.assert_array_equal(half.sum(axis=0), member.sum(axis=0) // 2)


def test_the_rank_correlation_is_scipys():
    rng = np.random.default_rng(7)
    first, second = rng.integers(0, 9, (2, 200)).astype(float)
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)


def test_a_movement_counts_the_records_known_before_and_after():
    before = np.array([1.0, 2.0, np.nan, 4.0, 0.0])
    after = np.array([0.5, 3.0, 1.0, 4.0, np.nan])
    found = movement(before, after)
    np.testing.assert_array_equal(found.change, [-0.5, 1.0, np.nan, 0.0, np.nan])
    assert found.mean_change == pytest.approx(0.5 / 3)
    assert found.rank_correlation == 1
    assert movement(before, -after).rank_correlation == -1


def test_extremes_are_sorted_and_leave_out_the_unknown():
    values = np.array([0.5, np.nan, 3.0, -1.0, 3.0, 0.5])
    assert extremes(values, 3).tolist() == [2, 4, 0]
    assert extremes(values, 3, end="least").tolist() == [3, 0, 5]
    assert sorted(extremes(values, 99).tolist()) == [0, 2, 3, 4, 5]
    ranks = rankdata(-values[extremes(values, 5)], method="min")
    assert (np.diff(ranks) >= 0).all()


def test_extremes_by_class_are_the_extremes_of_each_class():
    rng = np.random.default_rng(8)
    values, labels = rng.standard_normal(200), rng.integers(0, 4, 200)
    for end in ("most", "least"):
        found = extremes_by_class(values, labels, 5, end=end)
        assert sorted(found) == [0, 1, 2, 3]
        for label, chosen in found.items():
            own = sorted(
                np.flatnonzero(labels == label),
                key=lambda record: values[record],
                reverse=end == "most",
            )
            assert chosen.tolist() == [int(record) for record in own[:5]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: exposure(np.full((2, 3), np.nan), np.ones((2, 3), bool)),
            "got nan of model 0 at record 0",
        ),
        (
            lambda: memorisation(np.array([[0.0, np.inf]]), np.ones((1, 2), bool)),
            "got inf of model 0 at record 1",
        ),
        (
            lambda: reliability(np.zeros((2, 9)), np.arange(18).reshape(2, 9) < 9, seed=0),
            "2 targets trained on them",
        ),
        (lambda: reliability(np.zeros((2, 9)), np.ones((2, 9), bool), seed=0), "values that vary"),
        (
            lambda: movement(np.zeros(3), np.array([1.0, np.nan, 2.0])),
            "at least 3 records known before and after",
        ),
        (lambda: extremes(np.zeros(3), 0), "count must be an integer of at least 1"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
