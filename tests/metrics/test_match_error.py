"""Leakage over noise of equal accuracy: the error of the match is part of the interval."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from bitleak.metrics import (
    Estimate,
    MatchedAccuracies,
    at_equal_accuracy,
    estimate_metrics,
    estimate_proportion,
    excess_over_best,
)

TARGETS, RECORDS, DAMAGE = 4, 800, 0.5
Z = norm.ppf(0.975)


def figure(value, influence):
    influence = np.array(influence, np.float64)
    reach = Z * np.sqrt(influence @ influence)
    return Estimate(value, value, value - reach, value + reach, influence, "delong")


def test_the_influence_of_the_match_is_added_by_the_slope_between_full_precision_and_noise():
    """Leakage 0.8 and 0.6, accuracy 0.9 and 0.8: a point of accuracy is two points of leakage."""
    noise = {"auc": (figure(0.6, [0.03, -0.03, 0.0, 0.0]),)}
    full = {"auc": (figure(0.8, [0.0, 0.0, 0.0, 0.0]),)}
    variant, under_noise = figure(0.8, [0.0, 0.01, 0.0, -0.01]), figure(0.8, [0.0, 0.0, 0.02, -0.02])
    accuracies = MatchedAccuracies([variant], [under_noise], [figure(0.9, [0.0] * 4)])
    (corrected,) = at_equal_accuracy(noise, full, accuracies)["auc"]
    expected = np.array([0.03, -0.03, 0.0, 0.0]) - 2 * np.array([0.0, -0.01, 0.02, -0.01])
    np.testing.assert_allclose(corrected.influence, expected)
    reach = Z * np.sqrt(expected @ expected)
    assert corrected.reach == pytest.approx((reach, reach))
    assert (corrected.value, corrected.centre) == (0.6, 0.6)


def test_noise_that_costs_nothing_has_no_match_to_err():
    noise = {"auc": (figure(0.6, [0.03, -0.03]),)}
    same = MatchedAccuracies(*[[figure(0.9, [0.01, -0.01])]] * 3)
    assert at_equal_accuracy(noise, noise, same) == noise


def audit(seed):
    """Damage costs accuracy and leakage; noise is damaged until both are as accurate as measured."""
    rng = np.random.default_rng(seed)
    member = rng.random((TARGETS, RECORDS)).argsort(axis=1) < RECORDS // 2
    hardness = rng.standard_normal(RECORDS)
    chosen = ~member

    def model():
        scores, margins = rng.standard_normal((2, TARGETS, RECORDS))
        return scores, 1 + hardness + margins

    def leakage(scores, damage):
        return estimate_metrics((1 - damage) * member + scores, member, fprs=(), balanced=False)

    def accuracy(margins, damage):
        return tuple(map(estimate_proportion, margins > damage, chosen))

    (full, full_margins), (variant, variant_margins), (noise, noise_margins) = model(), model(), model()
    right = (variant_margins[chosen] > DAMAGE).sum()
    damage = np.sort(noise_margins[chosen])[::-1][right - 1] - 1e-9
    accuracies = MatchedAccuracies(
        accuracy(variant_margins, DAMAGE), accuracy(noise_margins, damage), accuracy(full_margins, 0.0)
    )
    return leakage(variant, DAMAGE), leakage(noise, damage), leakage(full, 0.0), accuracies


@pytest.mark.usefixtures("shapes_unchecked")
def test_noise_and_variant_that_are_alike_differ_as_often_as_promised():
    inside = {"with": [], "without": []}
    for seed in range(150):
        variant, noise, full, accuracies = audit([1, seed])
        corrected = at_equal_accuracy(noise, full, accuracies)
        for name, rival in (("with", corrected), ("without", noise)):
            total = excess_over_best(variant, [rival], mode="population").aggregate["auc"]
            inside[name].append(total.low <= 0 <= total.high)
            assert total.value == pytest.approx(
                np.mean([a.value - b.value for a, b in zip(variant["auc"], noise["auc"], strict=True)])
            )
    assert np.mean(inside["with"]) >= 0.9
    assert np.mean(inside["without"]) < 0.88


def test_a_figure_without_a_lower_end_keeps_none():
    rare = replace(figure(0.6, [0.03, -0.03]), low=-np.inf)
    accuracies = MatchedAccuracies([figure(0.8, [0.0, 0.0])], [figure(0.8, [-0.01, 0.01])], [figure(0.9, [0.0, 0.0])])
    (corrected,) = at_equal_accuracy({"tpr": (rare,)}, {"tpr": (figure(0.8, [0, 0]),)}, accuracies)["tpr"]
    assert corrected.low == -np.inf
    assert corrected.high > rare.high
