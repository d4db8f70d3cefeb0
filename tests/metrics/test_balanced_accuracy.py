import numpy as np
import pytest
from scipy.stats import norm

from bitleak.metrics import random_halvings, roc
from bitleak.metrics.balanced_accuracy import estimate_balanced_accuracy, interval_near_limit

SEEN = np.linspace(-8, 12, 4001)
Z = norm.ppf(0.975)


@pytest.mark.parametrize("mean", [0.0, 0.05, 0.7, 1.5, 1.95, 2.5, 4.0])
def test_it_covers_95_percent_wherever_the_mean_is(mean):
    low, high = np.array([interval_near_limit(seen) for seen in SEEN]).T
    inside = (low <= mean) & (mean <= high)
    assert (inside * norm.pdf(SEEN - mean)).sum() * (SEEN[1] - SEEN[0]) == pytest.approx(
        0.95, abs=0.003
    )


def test_the_usual_interval_cut_at_the_limit_covers_more_there():
    """What it is for: at the limit the usual one errs on one side only."""
    assert (norm.pdf(SEEN) * (SEEN - Z <= 0)).sum() * (SEEN[1] - SEEN[0]) == pytest.approx(
        0.975, abs=0.003
    )


@pytest.mark.parametrize("mean", [0.3, 1.0, 1.7])
def test_the_accepted_estimates_are_the_likeliest_relative_to_the_best_mean(mean):
    """Feldman and Cousins' ordering by brute force over a grid."""
    ratio = norm.logpdf(SEEN - mean) - norm.logpdf(SEEN - np.maximum(SEEN, 0))
    order, chance = np.argsort(-ratio), norm.pdf(SEEN - mean) * (SEEN[1] - SEEN[0])
    accepted = SEEN[order[: np.searchsorted(np.cumsum(chance[order]), 0.95) + 1]]
    for seen in (accepted.min(), accepted.max()):
        low, high = interval_near_limit(float(seen))
        assert low - 0.01 <= mean <= high + 0.01
    for seen in (accepted.min() - 0.05, accepted.max() + 0.05):
        low, high = interval_near_limit(float(seen))
        assert not low <= mean <= high


def test_far_from_the_limit_it_is_the_usual_one_without_a_seam():
    assert interval_near_limit(6.0) == pytest.approx((6 - Z, 6 + Z))
    for edge in (2 * Z, 0.0):
        before, after = interval_near_limit(edge - 1e-9), interval_near_limit(edge + 1e-9)
        assert before == pytest.approx(after, abs=2e-3)
    ends = np.array([interval_near_limit(seen) for seen in SEEN])
    assert (np.diff(ends, axis=0) >= -1e-12).all()
    assert (ends[:, 1] > 0).all()


def test_scores_of_two_values_have_one_threshold_and_no_choice():
    """4 errors of 1,000 members and 12 of as many others: with halves a trivial threshold was often chosen."""
    member = np.arange(2000) % 2 == 0
    right = np.ones(2000)
    right[[0, 2, 4, 6, *range(1, 24, 2)]] = 0
    halves = random_halvings(2000, seed=0)
    estimate = estimate_balanced_accuracy(roc(right, member), halves)
    assert estimate.centre == estimate.value == pytest.approx((1 + 0.996 - 0.988) / 2)
    errors = np.sqrt(0.004 * 0.996 / 1000 + 0.012 * 0.988 / 1000) / 2
    assert np.sqrt((estimate.influence**2).sum()) == pytest.approx(errors, rel=1e-6)
    # the attack in the wrong direction is below one half, and its best threshold is the trivial one
    wrong = estimate_balanced_accuracy(roc(1 - right, member), halves)
    assert wrong.value == 0.5
    assert wrong.centre == pytest.approx((1 - 0.008) / 2)
