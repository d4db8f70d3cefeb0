"""A TPR inside a group of tied scores is no single number."""

import numpy as np
import pytest

from bitleak.metrics import estimate_tpr, excess, measure, roc
from bitleak.metrics.ties import step_at


def ranks(rng, targets=1, records=2000, references=9):
    """Ranks among OUT references: the top one has an FPR of exactly 1 in 10."""
    member = rng.random((targets, records)).argsort(axis=1) < records // 2
    scores = rng.standard_normal((targets, records)) + member
    others = rng.standard_normal((targets, records, references))
    return (others < scores[..., None]).sum(axis=2) + 0.0, member


def test_a_step_has_the_two_points_around_the_fpr():
    scores = np.concatenate(
        [np.full(20, 2.0), np.ones(180), np.full(10, 2.0), np.full(60, 1.0), np.zeros(130)]
    )
    curve = roc(scores, np.arange(400) < 200)
    estimate = estimate_tpr(curve, 0.1)
    assert (estimate.value, estimate.fpr) == (0.1, 0.05)
    assert (estimate.step_value, estimate.step_fpr) == (1.0, 0.35)


def test_ties_smaller_than_the_thresholds_own_error_are_no_step():
    rng = np.random.default_rng(0)
    member = np.arange(4000) % 2 == 0
    scores = rng.standard_normal(4000) + member
    assert step_at(roc(scores, member), 0.1, width=0.05) is None
    assert step_at(roc(np.round(scores, 3), member), 0.1, width=0.05) is None
    assert step_at(roc(np.round(scores, 1), member), 0.1, width=0.05) is not None


def test_a_step_has_neither_an_interval_nor_a_verdict():
    rng = np.random.default_rng(1)
    scores, member = ranks(rng, targets=8)
    fine = rng.standard_normal(scores.shape) + member
    result = measure(scores, member, fprs=(0.1,), baseline=fine, balanced=False).aggregate
    total = result["tpr@0.1"]
    assert (total.low, total.high, total.interval) == (None, None, "step")
    assert (total.difference, total.p_value, total.verdict, total.about) == (None, None, "", "")
    truth = 0.3409  # P(a member's score exceeds those of 9 others)
    assert min(total.value, total.step_value) < truth < max(total.value, total.step_value)
    assert result["auc"].verdict == "lower"
    against_steps = measure(fine, member, fprs=(0.1,), baseline=scores, balanced=False).aggregate[
        "tpr@0.1"
    ]
    assert against_steps.low is not None
    assert against_steps.p_value is None


def test_the_excess_over_a_step_is_not_reported():
    rng = np.random.default_rng(2)
    scores, member = ranks(rng)
    fine = rng.standard_normal(scores.shape) + member
    assert set(excess(fine, [scores], member, fprs=(0.1,)).aggregate) == {
        "auc",
        "balanced_accuracy",
    }


def test_the_fpr_obtained_and_the_figure_without_the_rules_bias_stand_beside_a_tpr():
    """One false positive of 1,000: the last point is at an FPR of 2 / 1,001 on average, not 1 / 1,000."""
    rng = np.random.default_rng(4)
    member = np.arange(2050) % 2 == 0
    printed, unbiased = [], []
    for _ in range(150):
        scores = rng.standard_normal(2050)[None] + member
        rates = measure(scores, member[None], fprs=(0.02,), balanced=False).aggregate["tpr@0.02"]
        assert rates.fpr_obtained == 20 / 1025
        printed.append(rates.value)
        unbiased.append(rates.unbiased)
        assert rates.low < rates.unbiased < rates.high
    truth = 0.1459
    assert np.mean(unbiased) == pytest.approx(truth, abs=0.004)
    assert np.mean(printed) > np.mean(unbiased)
