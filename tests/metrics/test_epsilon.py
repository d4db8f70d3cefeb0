"""Bounds on epsilon against mechanisms whose epsilon is known."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binom, binomtest, norm

from bitleak.metrics import epsilon_bounds, one_run_bounds, one_run_p_value

PAIRS = [(20, 0), (20, 20), (100, 100)]


def randomised_response(rng, records, epsilon, *, coins=False):
    """Membership, told truly with odds e^epsilon; ties broken at random."""
    member = rng.random(records) < 0.5 if coins else rng.permutation(records) < records // 2
    told = member ^ (rng.random(records) < 1 / (1 + math.exp(epsilon)))
    return told + 0.5 * rng.random(records), member


def gaussian_epsilon(shift, delta):
    """Of N(shift, 1) against N(0, 1) (Balle and Wang 2018, Theorem 8)."""

    def gap(e):
        return (
            norm.cdf(shift / 2 - e / shift) - math.exp(e) * norm.cdf(-shift / 2 - e / shift) - delta
        )

    return brentq(gap, 0, 50)


@pytest.mark.usefixtures("shapes_unchecked")
def test_pure_noise_has_a_positive_bound_in_at_most_one_of_twenty_runs():
    positive = {"halves": 0, "one run": 0}
    for run in range(1000):
        rng = np.random.default_rng([0, run])
        scores, member = rng.standard_normal((2, 300)), rng.random(300) < 0.5
        positive["halves"] += (
            max(one.epsilon for one in epsilon_bounds(scores, member, seed=run)) > 0
        )
        found = one_run_bounds(scores, member, guesses=PAIRS, independent=True)
        positive["one run"] += max(one.epsilon for one in found) > 0
    assert max(positive.values()) <= 50, positive


def test_without_the_correction_noise_would_pass_as_leakage():
    """The test above can fail: the best of many uncorrected pairs is positive far too often."""
    positive = 0
    for run in range(200):
        rng = np.random.default_rng([1, run])
        scores, member = rng.standard_normal((1, 300)), rng.random(300) < 0.5
        alone = [
            one_run_bounds(scores, member, guesses=[(k, 0)], independent=True)
            for k in (10, 20, 40, 80, 150)
        ]
        positive += max(bound.epsilon for (bound,) in alone) > 0
    assert positive > 0.05 * 200 * 1.5


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_bounds_stay_below_the_epsilon_of_randomised_response(epsilon):
    above = {"halves": 0, "one run": 0}
    for run in range(300):
        rng = np.random.default_rng([2, run])
        scores, member = randomised_response(rng, 600, epsilon, coins=True)
        above["halves"] += epsilon_bounds(scores[None], member, seed=run)[0].epsilon > epsilon
        found = one_run_bounds(scores[None], member, guesses=PAIRS, independent=True)
        above["one run"] += found[0].epsilon > epsilon
    assert max(above.values()) <= 0.05 * 300, above


@pytest.mark.parametrize("delta", [0.0, 1e-3])
def test_bounds_stay_below_the_epsilon_of_the_gaussian_mechanism(delta):
    truth = gaussian_epsilon(1.0, max(delta, 1e-12))
    above = {"halves": 0, "one run": 0}
    for run in range(200):
        rng = np.random.default_rng([3, run])
        member = rng.random(600) < 0.5
        scores = rng.standard_normal(600) + member
        above["halves"] += (
            epsilon_bounds(scores[None], member, seed=run, delta=delta)[0].epsilon > truth
        )
        found = one_run_bounds(scores[None], member, guesses=PAIRS, independent=True, delta=delta)
        above["one run"] += found[0].epsilon > truth
    assert max(above.values()) <= 0.05 * 200, above


def test_bounds_come_near_the_truth_with_many_records():
    rng = np.random.default_rng(4)
    scores, member = randomised_response(rng, 200_000, 1.5, coins=True)
    assert 1.45 < epsilon_bounds(scores[None], member, seed=0)[0].epsilon <= 1.5
    (bound,) = one_run_bounds(scores[None], member, guesses=[(80_000, 80_000)], independent=True)
    assert 1.45 < bound.epsilon <= 1.5
    member = np.arange(200_000) % 2 == 0
    noisy = rng.standard_normal(200_000) + member
    truth = gaussian_epsilon(1.0, 0.01)
    assert (
        0.85 * truth < epsilon_bounds(noisy[None], member, seed=0, delta=0.01)[0].epsilon <= truth
    )


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0, 4.0, 6.0])
def test_nine_tenths_of_the_epsilon_of_randomised_response_are_shown(epsilon):
    scores, member = randomised_response(
        np.random.default_rng([11, round(epsilon)]), 50_000, epsilon, coins=True
    )
    (halves,) = epsilon_bounds(np.floor(scores)[None], member, seed=0)
    (one_run,) = one_run_bounds(scores[None], member, guesses=[(24_500, 24_500)], independent=True)
    assert 0.9 * epsilon < halves.epsilon <= epsilon
    assert (
        0.95 * epsilon < one_run.epsilon <= 1.02 * epsilon
    )  # above in one of twenty runs, and then by little


def test_the_bound_is_that_of_the_counts_on_the_second_half():
    rng = np.random.default_rng(5)
    scores, member = randomised_response(rng, 400, 2.0)
    (bound,) = epsilon_bounds(scores[None], member, seed=7, confidence=0.9)
    order = np.random.default_rng(7)
    second = np.ones(400, bool)
    for group in (member, ~member):
        second[order.permutation(np.flatnonzero(group))[: group.sum() // 2]] = False
    called = scores >= bound.threshold
    ends = [
        binomtest(int(called[second & group].sum()), int((second & group).sum())).proportion_ci(
            1 - 0.1 / 2, "exact"
        )
        for group in (member, ~member)
    ]
    tpr, fpr = ends[0].low, ends[1].high  # two-sided at 1 - 2 tails, each tail 0.1 / 4
    assert (bound.tpr, bound.fpr) == pytest.approx((tpr, fpr))
    expected = (
        math.log(tpr / fpr) if bound.direction == "members" else math.log((1 - fpr) / (1 - tpr))
    )
    assert bound.epsilon == pytest.approx(expected)


def test_more_attacks_cost_more():
    scores, member = randomised_response(np.random.default_rng(6), 2000, 1.0, coins=True)
    noise = np.random.default_rng(7).standard_normal((5, 2000))
    for bounds in (
        lambda rows: epsilon_bounds(rows, member, seed=0),
        lambda rows: one_run_bounds(rows, member, guesses=[(500, 500)], independent=True),
    ):
        alone, among = bounds(scores[None])[0], bounds(np.concatenate([scores[None], noise]))[0]
        assert 0 < among.epsilon < alone.epsilon


def test_the_complement_finds_non_members_that_are_certain():
    """Nobody is betrayed as a member, but half of the non-members are betrayed as such."""
    rng = np.random.default_rng(8)
    member = np.arange(4000) % 2 == 0
    scores = np.where(~member & (rng.random(4000) < 0.5), -1.0, 0.0) + 1e-3 * rng.random(4000)
    (bound,) = epsilon_bounds(scores[None], member, seed=0)
    assert bound.direction == "non_members"
    assert bound.epsilon > math.log(0.45 / 0.01)


def slow_p_value(records, guesses, correct, epsilon, delta):
    """Sums of binomial chances, term by term."""
    chance = [binom.pmf(k, guesses, 1 / (1 + math.exp(-epsilon))) for k in range(guesses + 1)]
    best = max(sum(chance[correct - i : correct]) / i for i in range(1, correct + 1))
    return min(1.0, sum(chance[correct:]) + 2 * records * delta * best)


@pytest.mark.parametrize("delta", [0.0, 1e-6, 1e-3, 0.2])
@pytest.mark.parametrize("correct", [1, 14, 20])
def test_the_p_value_is_the_sum_of_binomial_chances(correct, delta):
    for epsilon in (0.0, 0.7, 3.0):
        found = one_run_p_value(100, 20, correct, epsilon=epsilon, delta=delta)
        assert found == pytest.approx(slow_p_value(100, 20, correct, epsilon, delta), rel=1e-9)


def test_without_delta_the_bound_is_the_log_odds_of_the_exact_interval():
    scores, member = randomised_response(np.random.default_rng(9), 500, 2.0, coins=True)
    (bound,) = one_run_bounds(
        scores[None], member, guesses=[(50, 150)], independent=True, confidence=0.95
    )
    order = np.argsort(scores)
    assert bound.guesses == 200
    assert bound.correct == member[order[-50:]].sum() + (~member[order[:150]]).sum()
    low = binomtest(bound.correct, 200).proportion_ci(0.9, method="exact").low
    assert bound.epsilon == pytest.approx(math.log(low / (1 - low)))


def test_with_delta_the_bound_is_where_the_p_value_reaches_the_tail():
    scores, member = randomised_response(np.random.default_rng(10), 500, 2.0, coins=True)
    (bound,) = one_run_bounds(
        scores[None], member, guesses=[(100, 100)], independent=True, delta=1e-5
    )
    (without,) = one_run_bounds(scores[None], member, guesses=[(100, 100)], independent=True)
    assert 0 < bound.epsilon < without.epsilon
    assert one_run_p_value(
        500, 200, bound.correct, epsilon=bound.epsilon, delta=1e-5
    ) == pytest.approx(0.05, rel=1e-6)


def test_records_tied_across_a_boundary_are_not_guessed():
    scores, member = np.array([3.0, 2.0, 2.0, 2.0, 1.0, 0.0]), np.array([1, 1, 0, 1, 0, 0]) > 0
    (bound,) = one_run_bounds(scores[None], member, guesses=[(2, 2)], independent=True)
    assert (bound.guesses, bound.correct) == (3, 3)
    shuffled = np.array([5, 3, 1, 0, 2, 4])
    (again,) = one_run_bounds(
        scores[None, shuffled], member[shuffled], guesses=[(2, 2)], independent=True
    )
    assert again == bound
    (every,) = one_run_bounds(scores[None], member, guesses=[(6, 0)], independent=True)
    assert (every.guesses, every.correct) == (6, 3)
    (nobody,) = one_run_bounds(np.zeros((1, 6)), member, guesses=[(2, 2)], independent=True)
    assert (nobody.epsilon, nobody.guesses) == (0, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda s, m: one_run_bounds(s, m, guesses=[(1, 1)], independent=False),
            "halves of fixed size are not",
        ),
        (
            lambda s, m: one_run_bounds(s, m, guesses=[(9, 9)], independent=True),
            "from 1 to 8, got 18",
        ),
        (
            lambda s, m: one_run_bounds(s * np.nan, m, guesses=[(1, 1)], independent=True),
            "scores must be finite",
        ),
        (
            lambda s, m: epsilon_bounds(s, np.arange(8) == 0, seed=0),
            "both halves need members and non-members",
        ),
        (lambda s, m: epsilon_bounds(s, m, seed=0, delta=1.0), "delta must be a number"),
        (lambda s, m: epsilon_bounds(s, m, seed=0, confidence=1.0), "confidence must be a number"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.arange(8.0)[None], np.arange(8) % 2 == 0)
