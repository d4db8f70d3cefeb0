"""Membership that depends on the class, and figures within classes, against loops over pairs and closed forms."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency, norm

from bitleak.metrics import auc, estimate_auc, roc
from bitleak.metrics.within_class import auc_within_class, class_dependence, tpr_within_class


def world(seed, *, records=400, classes=5, shift=0.0, ties=False):
    """Classes differ in difficulty and in their share of members; within each, members are `shift` higher."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, records)
    member = rng.random(records) < np.linspace(0.1, 0.9, classes)[labels]
    scores = 2.0 * labels + shift * member + rng.normal(size=records)
    return (scores.round(0) if ties else scores), member, labels


@pytest.mark.parametrize("ties", [False, True])
def test_the_auc_is_that_of_a_loop_over_pairs_of_the_same_class(ties):
    scores, member, labels = world(0, records=120, shift=0.5, ties=ties)
    wins = pairs = 0.0
    for i in np.flatnonzero(member):
        for j in np.flatnonzero(~member):
            if labels[i] == labels[j]:
                pairs += 1
                wins += (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
    found = auc_within_class(scores, member, labels)
    assert found.value == pytest.approx(wins / pairs, abs=1e-12)
    assert abs(found.influence.sum()) < 1e-12


@pytest.mark.parametrize("ties", [False, True])
def test_of_one_class_it_is_the_auc_with_delongs_interval(ties):
    scores, member, _ = world(1, ties=ties, shift=1.0)
    found, expected = (
        auc_within_class(scores, member, np.zeros(400, np.int64)),
        estimate_auc(roc(scores, member)),
    )
    np.testing.assert_allclose(
        [found.value, found.low, found.high],
        [expected.value, expected.low, expected.high],
        atol=1e-12,
    )
    np.testing.assert_allclose(found.influence, expected.influence, atol=1e-14)


def test_the_influence_is_the_derivative_by_a_records_weight():
    """A record of weight 1 + 1 / k is k + 1 copies among k copies of all others."""
    scores, member, labels = world(2, records=60, shift=0.5)
    found = auc_within_class(scores, member, labels)
    copies = 400
    for record in (0, 7, 31):
        wins = pairs = 0.0
        weight = np.ones(60)
        weight[record] += 1 / copies
        for c in range(5):
            inside, others = (np.flatnonzero((labels == c) & side) for side in (member, ~member))
            product = np.outer(weight[inside], weight[others])
            pairs += product.sum()
            wins += (product * (scores[inside][:, None] > scores[others][None])).sum()
        assert copies * (wins / pairs - found.value) == pytest.approx(
            found.influence[record], rel=0.02, abs=1e-6
        )


def test_without_leakage_of_records_it_is_a_half_and_the_interval_covers():
    figures = [auc_within_class(*world(seed)) for seed in range(200)]
    assert np.mean([auc(roc(*world(seed)[:2])) for seed in range(5)]) > 0.75
    assert np.mean([figure.value for figure in figures]) == pytest.approx(0.5, abs=0.006)
    covered = np.mean([figure.low <= 0.5 <= figure.high for figure in figures])
    assert 0.91 <= covered <= 0.985


def test_a_shift_within_classes_gives_the_normals_closed_form():
    found = auc_within_class(*world(3, records=20_000, shift=1.0))
    assert found.value == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.012)
    assert found.low < norm.cdf(1 / np.sqrt(2)) < found.high


def test_classes_of_one_kind_only_leave_no_figure():
    labels = np.arange(40) // 20
    assert auc_within_class(np.arange(40.0), labels == 1, labels) is None
    assert tpr_within_class(np.arange(40.0), labels == 1, labels, [0.1]) == {}
    assert class_dependence(labels == 1, labels).one_sided == 2


def test_the_tpr_is_that_of_weighted_rates_class_by_class():
    scores, member, labels = world(4, records=600, shift=1.5, ties=True)
    best = {0.05: 0.0, 0.2: 0.0}
    counts = [(np.sum(member[labels == c]), np.sum(~member[labels == c])) for c in range(5)]
    weights = np.array([m * n / (m + n) for m, n in counts])
    weights = weights / weights.sum()
    for threshold in np.unique(scores):
        tpr = sum(
            w * np.mean(scores[member & (labels == c)] >= threshold) for c, w in enumerate(weights)
        )
        fpr = sum(
            w * np.mean(scores[~member & (labels == c)] >= threshold) for c, w in enumerate(weights)
        )
        for alpha in best:
            best[alpha] = max(best[alpha], tpr) if fpr <= alpha else best[alpha]
    found = tpr_within_class(scores, member, labels, [0.05, 0.2, 1e-4])
    assert found == pytest.approx(best, abs=1e-12)  # 1 in 10,000 needs more non-members


def test_a_score_that_tells_the_class_alone_has_equal_rates():
    _, member, labels = world(5, records=5000)
    for alpha in (0.05, 0.5):
        tpr = tpr_within_class(labels + 0.0, member, labels, [alpha])[alpha]
        assert tpr <= alpha + 1e-12


@pytest.mark.parametrize(("records", "classes"), [(2000, 10), (300, 100), (1000, 2)])
def test_membership_drawn_without_regard_to_the_class_is_not_called_dependent(records, classes):
    rng = np.random.default_rng(6)
    labels = rng.integers(0, classes, records)
    p_values = [
        class_dependence(rng.permutation(records) < records // 2, labels).p_value
        for _ in range(200)
    ]
    assert np.mean(np.array(p_values) < 0.05) <= 0.09
    assert min(p_values) > 1e-5


def test_the_sum_over_classes_is_chi_square():
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 20, 20_000)
    member = rng.random(20_000) < (0.5 + 0.045 * (-1.0) ** np.arange(20))[labels]
    table = np.stack([np.bincount(labels[side], minlength=20) for side in (member, ~member)])
    found = class_dependence(member, labels)
    assert found.depends  # though no class alone is far off
    assert found.p_value == pytest.approx(2 * chi2_contingency(table).pvalue, rel=1e-6)


def test_one_missing_class_is_found_and_named():
    rng = np.random.default_rng(8)
    labels = rng.integers(0, 100, 5000)
    found = class_dependence((rng.random(5000) < 0.5) & (labels != 42), labels)
    assert (found.depends, found.label, found.members, found.one_sided) == (True, 42, 0, 1)
    assert not class_dependence(rng.random(5000) < 0.5, labels).depends
