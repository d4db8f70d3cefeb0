"""Rates and precision at a threshold fixed beforehand."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm

from bitleak.metrics import (
    Rate,
    at_threshold,
    clopper_pearson,
    precision,
    roc,
    threshold_for,
    tpr_at,
    why_unmeasurable,
)


def slow_threshold(scores, fpr):
    """The lowest score that calls no more than the FPR allows, every one tried in turn."""
    fit = [
        value
        for value in scores
        if sum(other >= value for other in scores) <= fpr * len(scores) + 1e-9
    ]
    return min(fit, default=np.inf)


@pytest.mark.parametrize("fpr", [0.02, 0.1, 0.33, 0.5, 0.98])
@pytest.mark.parametrize("distinct", [2, 7, 1000])
def test_the_threshold_is_the_lowest_that_the_fpr_allows(fpr, distinct):
    scores = np.random.default_rng(distinct).integers(0, distinct, 50).astype(float)
    assert threshold_for(scores, fpr) == slow_threshold(scores.tolist(), fpr)


def test_the_threshold_of_the_targets_own_non_members_gives_the_rocs_rate():
    rng = np.random.default_rng(0)
    scores, member = rng.standard_normal(1000), rng.random(1000) < 0.5
    scores[member] += 1
    threshold = threshold_for(scores[~member], 0.05)
    assert at_threshold(scores, member, threshold).tpr.value <= tpr_at(roc(scores, member), 0.05)
    assert at_threshold(scores, member, threshold).fpr.value <= 0.05


def test_on_new_non_members_the_fpr_is_k_of_n_plus_one():
    """19 scores at an FPR of 0.1: the largest one is exceeded by a twentieth of new scores."""
    rng = np.random.default_rng(1)
    thresholds = np.array([threshold_for(rng.standard_normal(19), 0.1) for _ in range(4000)])
    assert norm.sf(thresholds).mean() == pytest.approx(1 / 20, abs=0.003)


def test_all_references_scores_may_be_given_at_once():
    scores = np.random.default_rng(2).standard_normal((4, 30))
    assert threshold_for(scores, 0.1) == threshold_for(scores.ravel(), 0.1)


def test_rates_are_counted_one_by_one_with_scipys_exact_intervals():
    rng = np.random.default_rng(3)
    scores, member = rng.integers(0, 9, 120).astype(float), rng.random(120) < 0.4
    found = at_threshold(scores, member, 6)
    for rate, group in ((found.tpr, member), (found.fpr, ~member)):
        called = sum(1 for score, own in zip(scores, group, strict=True) if own and score >= 6)
        exact = binomtest(called, int(group.sum())).proportion_ci(method="exact")
        assert (rate.called, rate.records, rate.value) == (
            called,
            group.sum(),
            called / group.sum(),
        )
        np.testing.assert_allclose((rate.low, rate.high), (exact.low, exact.high))


@pytest.mark.parametrize("confidence", [0.5, 0.975, 0.999])
@pytest.mark.parametrize("successes", [0, 3, 40])
def test_exact_intervals_have_the_confidence_asked_for(successes, confidence):
    exact = binomtest(successes, 40).proportion_ci(confidence, method="exact")
    np.testing.assert_allclose(
        clopper_pearson(successes, 40, confidence=confidence), (exact.low, exact.high), atol=1e-12
    )


@pytest.mark.parametrize("prior", [0.5, 0.1, 0.01])
def test_the_precision_is_bayes_rule(prior):
    scores, member = np.arange(200.0), np.arange(200) >= 100
    found = at_threshold(scores, member, 90)
    expected = prior * 1.0 / (prior * 1.0 + (1 - prior) * 0.1)
    value = precision(found.tpr, found.fpr, prior)
    assert value.value == pytest.approx(expected)
    assert value.low < expected < value.high


@pytest.mark.parametrize(("tpr", "fpr"), [(0.05, 0.01), (0.3, 0.05), (0.9, 0.2)])
def test_the_precisions_interval_covers_by_enumeration(tpr, fpr):
    """Every pair of counts among 60 members and 60 non-members, weighted by its chance."""
    truth, covered = 0.1 * tpr / (0.1 * tpr + 0.9 * fpr), 0.0
    for members, others in np.ndindex(61, 61):
        chance = binom.pmf(members, 60, tpr) * binom.pmf(others, 60, fpr)
        if chance > 1e-6:
            found = precision(rate(members, 60), rate(others, 60), 0.1)
            covered += chance * (found is None or found.low <= truth <= found.high)
    assert 0.95 <= covered < 0.999


def rate(called, records):
    return Rate(called, records, called / records, *clopper_pearson(called, records))


def test_the_precisions_odds_go_with_the_priors():
    found = at_threshold(np.arange(200.0) % 130, np.arange(200) >= 100, 60)
    odds = {}
    for prior in (0.5, 0.01):
        value = precision(found.tpr, found.fpr, prior)
        ends = np.array([value.low, value.value, value.high])
        odds[prior] = ends / (1 - ends) * (1 - prior) / prior
    np.testing.assert_allclose(odds[0.5], odds[0.01])


@pytest.mark.parametrize(("members", "others", "value"), [(0, 3, 0.0), (3, 0, 1.0)])
def test_a_precision_of_nothing_or_everything_keeps_an_interval(members, others, value):
    found = precision(rate(members, 50), rate(others, 50), 0.5)
    assert found.value == value
    assert 0 <= found.low <= value <= found.high <= 1
    assert found.high - found.low > 0.3


def test_where_nobody_is_called_there_is_no_precision():
    found = at_threshold(np.zeros(10), np.arange(10) < 5, np.inf)
    assert (found.tpr.value, found.fpr.value) == (0, 0)
    assert precision(found.tpr, found.fpr, 0.5) is None
    assert (
        precision(*[at_threshold(np.zeros(10), np.arange(10) < 5, 0.0).tpr] * 2, 0.5).value == 0.5
    )


def test_ties_can_leave_no_threshold():
    assert threshold_for(np.zeros(50), 0.5) == np.inf


@pytest.mark.parametrize(
    ("fpr", "non_members", "needed"),
    [(0.1, 9, "10"), (1e-5, 99_999, "100,000"), (0.003, 333, "334")],
)
def test_too_few_non_members_are_refused_with_the_number_needed(fpr, non_members, needed):
    assert f"needs at least {needed} non-members, got {non_members:,}" in why_unmeasurable(
        fpr, non_members
    )
    assert why_unmeasurable(fpr, int(needed.replace(",", ""))) is None
    if non_members < 1000:
        with pytest.raises(ValueError, match=f"needs at least {needed} non-members"):
            threshold_for(np.arange(float(non_members)), fpr)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: threshold_for(np.array([]), 0.1), "at least one, got none"),
        (lambda: threshold_for(np.array([0.0, np.nan]), 0.5), "scores must be finite"),
        (lambda: at_threshold(np.zeros(3), np.ones(3, bool), 0), "got 3 members of 3"),
        (lambda: at_threshold(np.zeros(2), np.array([True, False]), np.nan), "got NaN"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
