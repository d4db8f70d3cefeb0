"""The figures of one target against slow, obvious forms of the same."""

import importlib

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import beta, binom, binomtest

from bitleak.metrics import (
    auc,
    clopper_pearson,
    estimate_auc,
    estimate_balanced_accuracy,
    estimate_proportion,
    estimate_tpr,
    random_halvings,
    roc,
    tpr_at,
    wilson,
)
from bitleak.metrics.ties import rare_reach


def world(seed, records=400, shift=1.0, ties=False):
    rng = np.random.default_rng(seed)
    member = rng.permutation(records) < records // 2
    scores = rng.standard_normal(records) + shift * member
    return (np.round(scores, 1) if ties else scores), member


def slow_delong(scores, member):
    """Placements by comparing all pairs: the AUC, its variance and every record's influence."""
    members, others = scores[member], scores[~member]
    wins = (members[:, None] > others) + 0.5 * (members[:, None] == others)
    area = wins.mean()
    variance = wins.mean(1).var(ddof=1) / len(members) + wins.mean(0).var(ddof=1) / len(others)
    influence = np.zeros(len(scores))
    influence[member] = (wins.mean(1) - area) / len(members)
    influence[~member] = (wins.mean(0) - area) / len(others)
    return area, variance, influence


@pytest.mark.parametrize("ties", [False, True])
def test_delong_equals_the_form_over_all_pairs(ties):
    scores, member = world(0, ties=ties)
    estimate = estimate_auc(roc(scores, member))
    area, variance, influence = slow_delong(scores, member)
    assert estimate.value == pytest.approx(area)
    np.testing.assert_allclose(estimate.influence, influence, atol=1e-15)
    log_odds = np.log(area / (1 - area))
    reach = 1.959963984540054 * np.sqrt(variance) / (area * (1 - area))
    ends = 1 / (1 + np.exp(-np.array([log_odds - reach, log_odds + reach])))
    np.testing.assert_allclose([estimate.low, estimate.high], ends)


@pytest.mark.parametrize("kind", ["auc", "tpr", "balanced_accuracy"])
def test_influences_are_derivatives_with_respect_to_record_weights(kind):
    """Doubling a block of records moves the figure by the sum of their influences, to first order."""
    scores, member = world(1, records=4000)
    halves = random_halvings(4000, seed=0)
    figure = {
        "auc": lambda s, m: auc(roc(s, m)),
        "tpr": lambda s, m: estimate_tpr(roc(s, m), 0.1).centre,
        "balanced_accuracy": lambda s, m: _fixed_threshold_accuracy(s, m),
    }[kind]
    estimate = {
        "auc": estimate_auc(roc(scores, member)),
        "tpr": estimate_tpr(roc(scores, member), 0.1),
        "balanced_accuracy": estimate_balanced_accuracy(roc(scores, member), halves),
    }[kind]
    rng = np.random.default_rng(2)
    moved, expected = [], []
    for _ in range(60):
        block = rng.random(4000) < 0.02 * np.where(scores > 1, 3, 1)
        more = np.concatenate([scores, scores[block]]), np.concatenate([member, member[block]])
        moved.append(figure(*more) - figure(scores, member))
        expected.append(estimate.influence[block].sum())
    assert estimate.influence.sum() == pytest.approx(0, abs=1e-12)
    assert np.corrcoef(moved, expected)[0, 1] > (0.999 if kind == "auc" else 0.9)
    assert np.std(expected) == pytest.approx(np.std(moved), rel=0.15)


def _fixed_threshold_accuracy(scores, member):
    return (np.mean(scores[member] >= 0.5) + np.mean(scores[~member] < 0.5)) / 2


def test_complete_separation_has_the_interval_of_pairs_won():
    scores, member = np.arange(100.0), np.arange(100) >= 40
    best, worst = estimate_auc(roc(scores, member)), estimate_auc(roc(-scores, member))
    assert (best.value, best.high, worst.value, worst.low) == (1, 1, 0, 0)
    assert best.low**40 == pytest.approx(0.025)
    assert worst.high == pytest.approx(1 - best.low)


def test_constant_scores_have_wilsons_interval_of_no_event():
    """All answers right: 1,000 of 1,000 leave up to 3.84 in 1,003.84 of either group wrong."""
    estimate = estimate_auc(roc(np.zeros(2000), np.arange(2000) % 2 == 0))
    reach = 3.841458820694124 / 1003.841458820694 / 2
    np.testing.assert_allclose(
        (estimate.low, estimate.value, estimate.high), (0.5 - reach, 0.5, 0.5 + reach)
    )


def test_two_values_have_at_least_newcombes_interval():
    wrong = np.zeros(2000)
    wrong[[1, 3, 5]] = 1  # three of the 1,000 non-members
    estimate = estimate_auc(roc(-wrong, np.arange(2000) % 2 == 0))
    members, non_members = wilson(1000, 1000), wilson(997, 1000)
    assert estimate.value == 0.5015
    assert estimate.low == pytest.approx(
        0.5015 - np.hypot(1 - members[0], non_members[1] - 0.997) / 2
    )
    assert estimate.high >= 0.5015 + (0.997 - non_members[0]) / 2 - 1e-12
    continuous = estimate_auc(roc(np.arange(2000.0), np.arange(2000) % 3 == 0))
    assert rare_reach(roc(np.arange(2000.0), np.arange(2000) % 3 == 0)) == (0.0, 0.0)
    assert continuous.low < 0.5 < continuous.high


def slow_mixture(scores, member, fpr, probability):
    """Quantile of the mixture of Beta distributions, over every possible rank of the threshold."""
    others, members = np.sort(scores[~member])[::-1], int(member.sum())
    total = len(others)
    counts = []
    for k in range(total + 1):
        lower = np.sum(scores[member] >= others[k - 1]) if k else 0
        upper = np.sum(scores[member] > others[k]) if k < total else members
        counts.append((lower, upper))
    # (ranks, ends of the interval between two non-members)
    above, ranks = np.array(counts), binom.pmf(np.arange(total + 1), total, fpr)

    def chance(x):
        return ranks @ beta.cdf(x, above + 0.5, members - above + 0.5).mean(axis=1)

    return brentq(lambda x: chance(x) - probability, 1e-9, 1 - 1e-9)


@pytest.mark.parametrize(("shift", "fpr"), [(0.0, 0.05), (1.0, 0.05), (2.0, 0.2), (3.0, 0.05)])
def test_the_tprs_interval_is_the_mixture_over_ranks_of_the_threshold(shift, fpr):
    scores, member = world(3, shift=shift)
    estimate = estimate_tpr(roc(scores, member), fpr)
    low, high = (slow_mixture(scores, member, fpr, probability) for probability in (0.025, 0.975))
    assert estimate.low == pytest.approx(low, abs=0.02 * (high - low))
    assert estimate.high == pytest.approx(high, abs=0.02 * (high - low))
    assert estimate.value == tpr_at(roc(scores, member), fpr)


def test_many_ranks_are_summarised_without_a_change(monkeypatch):
    curve = roc(*world(4, records=8000))
    few = estimate_tpr(curve, 0.3)
    monkeypatch.setattr(importlib.import_module("bitleak.metrics.tpr"), "NODES", 4000)
    every = estimate_tpr(curve, 0.3)
    for name in ("low", "centre", "high"):
        assert getattr(few, name) == pytest.approx(
            getattr(every, name), abs=0.02 * (every.high - every.low)
        )


def test_too_few_non_members_leave_the_tpr_unbounded_from_below():
    curve = roc(*world(5))
    assert estimate_tpr(curve, 0.001).low == -np.inf
    assert not estimate_tpr(curve, 0.01).bounded_below
    assert estimate_tpr(curve, 0.01).low > 0
    assert estimate_tpr(curve, 0.05).bounded_below


def test_a_threshold_inside_a_tie_lies_above_the_tie():
    scores = np.concatenate([np.full(20, 2.0), np.ones(180), np.full(100, 1.0), np.zeros(100)])
    member = np.arange(400) < 200
    estimate = estimate_tpr(roc(scores, member), 0.1)
    assert estimate.value == estimate.centre == 0.1
    assert estimate.low < 0.1 < estimate.high < 0.2


def slow_halvings(scores, member, halves):
    """Out-of-half balanced accuracy with every threshold tried in turn."""
    called = np.zeros(len(scores))
    thresholds = [np.inf, *np.unique(scores)[::-1]]
    for half in halves:
        for inside in (half, ~half):
            best, chosen = -1.0, np.inf
            for threshold in thresholds:
                above = scores >= threshold
                gain = above[inside & member].mean() - above[inside & ~member].mean()
                if gain > best + 1e-12:
                    best, chosen = gain, threshold
            called[~inside] += (scores >= chosen)[~inside] / len(halves)
    return (1 + called[member].mean() - called[~member].mean()) / 2


@pytest.mark.parametrize("ties", [False, True])
def test_halvings_choose_on_one_half_and_measure_on_the_other(ties):
    scores, member = world(6, records=200, shift=0.0, ties=ties)
    halves = random_halvings(200, seed=1)
    estimate = estimate_balanced_accuracy(roc(scores, member), halves)
    crossed = slow_halvings(scores, member, halves)
    assert crossed < 0.5 + 0.03  # so nothing is found, and the centre is the plain mean
    assert estimate.centre == pytest.approx(crossed, abs=1e-9)
    assert estimate.low < crossed < estimate.high


def test_the_best_threshold_of_noise_looks_better_than_it_is():
    rng = np.random.default_rng(7)
    halves, member = random_halvings(2000, seed=0), np.arange(2000) % 2 == 0
    estimates = [
        estimate_balanced_accuracy(roc(rng.standard_normal(2000), member), halves)
        for _ in range(60)
    ]
    assert np.mean([estimate.value for estimate in estimates]) > 0.51
    assert np.mean([estimate.centre for estimate in estimates]) == pytest.approx(0.5, abs=0.004)


@pytest.mark.parametrize(
    ("successes", "trials"), [(0, 30), (1, 30), (17, 30), (30, 30), (990, 1000)]
)
def test_shares_have_scipys_intervals(successes, trials):
    exact = binomtest(successes, trials).proportion_ci(method="exact")
    score = binomtest(successes, trials).proportion_ci(method="wilson")
    np.testing.assert_allclose(
        clopper_pearson(successes, trials), (exact.low, exact.high), atol=1e-12
    )
    np.testing.assert_allclose(wilson(successes, trials), (score.low, score.high), atol=1e-12)


def test_a_share_counts_only_the_records_that_count():
    success = np.array([True, False, True, True])
    estimate = estimate_proportion(success, np.array([True, True, True, False]))
    assert estimate.value == pytest.approx(2 / 3)
    np.testing.assert_allclose(estimate.influence, np.array([1 / 3, -2 / 3, 1 / 3, 0]) / 3)
    with pytest.raises(ValueError, match="at least one record"):
        estimate_proportion(success, np.zeros(4, bool))
