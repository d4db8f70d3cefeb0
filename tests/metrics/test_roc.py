import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from bitleak.metrics import (
    auc,
    best_balanced_accuracy,
    headline_fpr,
    mean_curve,
    roc,
    thin_curve,
    tpr_at,
)


def quantile_world(shift, records):
    """Normal scores at their own quantiles: a sample without sampling error, for closed forms."""
    normal = norm.ppf((np.arange(records) + 0.5) / records)
    return np.concatenate([normal + shift, normal]), np.arange(2 * records) < records


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5, 3.0])
def test_normal_scores_give_the_closed_forms(shift):
    curve = roc(*quantile_world(shift, 20_000))
    assert auc(curve) == pytest.approx(norm.cdf(shift / np.sqrt(2)), abs=1e-4)
    assert best_balanced_accuracy(curve) == pytest.approx(norm.cdf(shift / 2), abs=1e-3)
    for fpr in (0.001, 0.01, 0.1):
        assert tpr_at(curve, fpr) == pytest.approx(norm.cdf(shift + norm.ppf(fpr)), abs=3e-3)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=60))
@settings(max_examples=60, deadline=None)
def test_curve_and_area_equal_those_of_scikit_learn(pairs):
    scores, member = (
        np.array([float(score) for score, _ in pairs]),
        np.array([truth for _, truth in pairs]),
    )
    if member.all() or not member.any():
        return
    curve = roc(scores, member)
    fpr, tpr, thresholds = roc_curve(member, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.fpr, fpr)
    np.testing.assert_allclose(curve.tpr, tpr)
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    assert auc(curve) == pytest.approx(roc_auc_score(member, scores))


def test_the_tpr_is_that_of_the_last_point_within_the_fpr():
    rng = np.random.default_rng(0)
    scores, member = rng.integers(0, 30, 400).astype(float), rng.random(400) < 0.5
    curve = roc(scores, member)
    for fpr in (0.0, 0.003, 0.05, 0.31, 1.0):
        best = 0.0
        for threshold in np.unique(scores):
            if np.mean(scores[~member] >= threshold) <= fpr:
                best = max(best, np.mean(scores[member] >= threshold))
        assert tpr_at(curve, fpr) == best


def test_an_fpr_that_is_a_whole_number_of_records_is_not_lost_to_rounding():
    curve = roc(np.arange(200.0), np.arange(200) % 2 == 0)
    for count in range(101):
        assert curve.false_positives[curve.last_point(count / 100)] == count


def test_tied_scores_are_never_split():
    member = np.array([True] * 50 + [False] * 50)
    curve = roc(np.zeros(100), member)
    assert curve.fpr.tolist() == [0, 1]
    assert (auc(curve), tpr_at(curve, 0.5), best_balanced_accuracy(curve)) == (0.5, 0.0, 0.5)


def test_the_order_of_the_records_does_not_matter():
    rng = np.random.default_rng(1)
    scores, member = rng.integers(0, 9, 300).astype(float), rng.random(300) < 0.4
    order = rng.permutation(300)
    curve, shuffled = roc(scores, member), roc(scores[order], member[order])
    np.testing.assert_array_equal(curve.tpr, shuffled.tpr)
    np.testing.assert_array_equal(curve.fpr, shuffled.fpr)
    np.testing.assert_array_equal(curve.point[order], shuffled.point)


def test_each_record_knows_its_point():
    rng = np.random.default_rng(2)
    scores, member = rng.integers(0, 9, 100).astype(float), rng.random(100) < 0.4
    curve = roc(scores, member)
    np.testing.assert_array_equal(curve.thresholds[curve.point], scores)


@pytest.mark.parametrize(
    ("scores", "member", "message"),
    [
        ([1.0, np.nan], [True, False], "scores must be finite, got nan at record 1"),
        ([1.0, np.inf], [True, False], "scores must be finite, got inf at record 1"),
        ([1.0, 2.0], [True, True], "needs members and non-members, got 2 members of 2"),
        ([1.0, 2.0], [False, False], "needs members and non-members, got 0 members of 2"),
    ],
)
def test_what_has_no_curve_is_refused(scores, member, message):
    with pytest.raises(ValueError, match=message):
        roc(np.array(scores), np.array(member))


def test_a_thin_curve_is_exact_at_its_low_end():
    rng = np.random.default_rng(3)
    member = np.arange(20_000) % 2 == 0
    curve = roc(rng.standard_normal(20_000) + member, member)
    points = thin_curve(curve)
    assert len(points) <= 256
    assert (np.diff(points, axis=0) >= 0).all()
    np.testing.assert_array_equal(points[[0, -1]], [[0, 0], [1, 1]])
    for count in range(20):
        kept = points[points[:, 0] <= count / curve.non_members][-1]
        assert kept[1] == tpr_at(curve, count / curve.non_members)


def test_a_short_curve_is_kept_whole():
    curve = roc(np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, False, True, False]))
    assert thin_curve(curve).tolist() == [[0, 0], [0, 0.5], [0.5, 1], [1, 1]]


def test_the_mean_curve_averages_tprs_at_equal_fprs():
    rng = np.random.default_rng(4)
    member = np.arange(2000) % 2 == 0
    curves = [roc(rng.standard_normal(2000) + shift * member, member) for shift in (0.5, 2.0)]
    mean = mean_curve(curves, points=64)
    assert len(mean) <= 64
    np.testing.assert_array_equal(mean[[0, -1]], [[0, 0], [1, 1]])
    for fpr, tpr in mean[1:]:
        assert tpr == pytest.approx((tpr_at(curves[0], fpr) + tpr_at(curves[1], fpr)) / 2)


def test_the_headline_needs_ten_expected_false_positives():
    assert headline_fpr((0.01, 0.001), 10_000) == 0.001
    assert headline_fpr((0.01, 0.001), 9_999) == 0.01
    assert headline_fpr((0.001, 0.01), 20) == 0.01
