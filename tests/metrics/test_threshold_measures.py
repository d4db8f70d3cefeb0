"""Rows at thresholds chosen beforehand: against the single targets' functions, in simulations, and at the edges."""

import numpy as np
import pytest
from scipy.stats import norm

from bitleak.metrics import (
    at_threshold,
    epsilon_bounds,
    epsilon_measures,
    measure_at_threshold,
    measure_at_thresholds,
    precision,
)


def world(seed, targets=4, records=600, shift=1.0, shared=0.7):
    """Halves of the same records; part of a score is a property of the record."""
    rng = np.random.default_rng(seed)
    member = rng.random((targets, records)).argsort(axis=1) < records // 2
    noise = shared * rng.standard_normal(records) + np.sqrt(1 - shared**2) * rng.standard_normal(
        (targets, records)
    )
    return noise + shift * member, member


def test_single_targets_have_the_exact_rates_and_precisions():
    scores, member = world(0)
    thresholds = np.array([1.0, 1.5, 2.0, 0.5])
    found = measure_at_threshold(scores, member, thresholds, fpr=0.1, priors=[0.1])
    for place, (own, truth, threshold) in enumerate(
        zip(scores, member, thresholds, strict=True), start=1
    ):
        exact = at_threshold(own, truth, threshold)
        tpr, fpr = found["tpr_chosen@0.1"][place], found["fpr_chosen@0.1"][place]
        assert (tpr.value, tpr.low, tpr.high) == (exact.tpr.value, exact.tpr.low, exact.tpr.high)
        assert (fpr.value, fpr.low, fpr.high) == (exact.fpr.value, exact.fpr.low, exact.fpr.high)
        single = precision(exact.tpr, exact.fpr, 0.1)
        alone = measure_at_threshold(
            own[None], truth[None], np.array([threshold]), fpr=0.1, priors=[0.1]
        )
        assert [one.low for one in alone["precision@0.1,prior0.1"]] == [single.low] * 2
    assert found["precision@0.1,prior0.1"][1:] == (None,) * 4
    total = found["tpr_chosen@0.1"][0]
    assert total.value == pytest.approx(np.mean([one.value for one in found["tpr_chosen@0.1"][1:]]))
    assert (total.interval, found["tpr_chosen@0.1"][1].interval) == ("records", "clopper_pearson")


def test_one_target_is_its_own_aggregate():
    scores, member = world(1, targets=1)
    for measures in measure_at_threshold(
        scores, member, np.array([1.2]), fpr=0.1, priors=[0.5]
    ).values():
        assert measures[0] == measures[1]


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(
    ("mode", "targets"), [("population", 4), ("dedicated", 4), ("dedicated", 6)]
)
def test_the_means_intervals_cover(mode, targets):
    """Audits whose truth is known, on records that all targets share."""
    threshold, covered, audits = norm.isf(0.1), {"tpr": 0, "fpr": 0, "precision": 0}, 120
    tpr = norm.sf(threshold - 1.0)
    truth = {"tpr": tpr, "fpr": 0.1, "precision": 0.1 * tpr / (0.1 * tpr + 0.9 * 0.1)}
    about = "trainings" if (mode, targets) == ("dedicated", 6) else "records"
    for run in range(audits):
        scores, member = world([2, run], targets=targets)
        thresholds = np.full(targets, threshold)
        found = measure_at_threshold(scores, member, thresholds, fpr=0.1, priors=[0.1], mode=mode)
        for name, metric in zip(covered, found, strict=True):
            total = found[metric][0]
            assert total.about == about
            covered[name] += total.low <= truth[name] <= total.high
    assert min(covered.values()) >= 107, covered  # 5 % of 120 and three standard deviations


@pytest.mark.parametrize("absent", [0, 10])
def test_equal_rates_in_all_dedicated_targets_are_no_certainty(absent):
    """Six copies of one target, also without a false positive: the spread over targets is 0."""
    scores, member = world(6, targets=1)
    scores[~member] -= absent
    copies = np.tile(scores, (6, 1)), np.tile(member, (6, 1)), np.full(6, 1.0)
    alike, single = (
        measure_at_threshold(
            *(part[:targets] for part in copies), fpr=0.1, priors=[0.1], mode="dedicated"
        )
        for targets in (6, 1)
    )
    for metric, (total, *_) in alike.items():
        assert (total.interval, total.about) == ("t", "trainings")
        assert total.high - total.low >= 0.9 * (single[metric][0].high - single[metric][0].low)


def test_nobody_called_has_rates_of_zero_and_no_precision():
    scores, member = world(3)
    found = measure_at_threshold(scores, member, np.full(4, np.inf), fpr=0.1, priors=[0.5])
    assert [one.value for one in found["tpr_chosen@0.1"]] == [0.0] * 5
    assert found["precision@0.1,prior0.5"] == (None,) * 5


def test_a_precision_of_one_keeps_an_interval():
    scores, member = world(4)
    scores[~member] -= 10
    found = measure_at_threshold(scores, member, np.full(4, 0.5), fpr=0.1, priors=[0.01])
    total = found["precision@0.1,prior0.01"][0]
    assert total.value == total.high == 1.0
    assert 0 < total.low < 0.9


def test_fprs_without_a_threshold_have_no_row():
    scores, member = world(5)
    thresholds = np.array([[1.0, np.nan], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    found = measure_at_thresholds(scores, member, thresholds, fprs=[0.1, 0.05], priors=[0.5])
    assert set(found) == {"tpr_chosen@0.1", "fpr_chosen@0.1", "precision@0.1,prior0.5"}
    assert measure_at_thresholds(scores, member, thresholds[:, :1], fprs=[1e-4], priors=[0.5]) == {}


def test_no_target_is_refused():
    with pytest.raises(
        ValueError, match=r"with a threshold each, got \(0, 9\), \(0, 9\) and 0 thresholds"
    ):
        measure_at_threshold(
            np.zeros((0, 9)), np.zeros((0, 9), bool), np.zeros(0), fpr=0.1, priors=[]
        )


def test_epsilon_over_targets_is_the_largest_at_a_corrected_confidence():
    scores, member = world(7, targets=3, records=2000, shift=2.0, shared=0.0)
    found = epsilon_measures(scores, member, seed=5, delta=1e-5, comparisons=4)["epsilon"]
    noise = np.random.default_rng(0).standard_normal((3, 2000))
    for place in range(3):
        among = epsilon_bounds(
            np.vstack([scores[place], noise]), member[place], seed=5, delta=1e-5
        )[0]
        assert found[place + 1].value == pytest.approx(among.epsilon, rel=0.1)
    confidence = 1 - 0.05 / 3
    bounds = [epsilon_bounds(np.vstack([own, noise]), truth, seed=5, delta=1e-5, confidence=confidence)[0].epsilon
              for own, truth in zip(scores, member, strict=True)]  # fmt: skip
    assert found[0].value == pytest.approx(max(bounds), rel=1e-9)
    assert found[0].value < max(one.value for one in found[1:])


@pytest.mark.usefixtures("shapes_unchecked")
def test_epsilon_over_targets_is_rarely_positive_on_noise():
    positive = 0
    for run in range(100):
        scores, member = world([8, run], targets=4, records=200, shift=0.0, shared=0.0)
        positive += (
            epsilon_measures(scores, member, seed=run, delta=0.0, comparisons=1)["epsilon"][0].value
            > 0
        )
    assert positive <= 5
