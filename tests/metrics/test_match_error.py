"""Leakage over noise of equal accuracy: the error of the match is part of the interval."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from bitleak.metrics import (
    Estimate,
    MatchedAccuracies,
    at_equal_accuracy,
)

Z = norm.ppf(0.975)


def figure(value, influence):
    influence = np.array(influence, np.float64)
    reach = Z * np.sqrt(influence @ influence)
    return Estimate(value, value, value - reach, value + reach, influence, "delong")


def test_the_influence_of_the_match_is_added_by_the_slope_between_full_precision_and_noise():
    """Leakage 0.8 and 0.6, accuracy 0.9 and 0.8: a point of accuracy is two points of leakage."""
    noise = {"auc": (figure(0.6, [0.03, -0.03, 0.0, 0.0]),)}
    full = {"auc": (figure(0.8, [0.0, 0.0, 0.0, 0.0]),)}
    variant, under_noise = (
        figure(0.8, [0.0, 0.01, 0.0, -0.01]),
        figure(0.8, [0.0, 0.0, 0.02, -0.02]),
    )
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


@pytest.mark.usefixtures("shapes_unchecked")
def test_noise_and_variant_that_are_alike_differ_as_often_as_promised():
    path = Path(__file__).parents[2] / "benchmarks" / "match_error.py"
    spec = importlib.util.spec_from_file_location("match_error_worlds", path)
    worlds = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worlds)
    shares = worlds.coverage(150)
    assert shares["with"][0] >= 0.9
    assert shares["without"][0] < 0.88


def test_a_figure_without_a_lower_end_keeps_none():
    rare = replace(figure(0.6, [0.03, -0.03]), low=-np.inf)
    accuracies = MatchedAccuracies(
        [figure(0.8, [0.0, 0.0])], [figure(0.8, [-0.01, 0.01])], [figure(0.9, [0.0, 0.0])]
    )
    (corrected,) = at_equal_accuracy({"tpr": (rare,)}, {"tpr": (figure(0.8, [0, 0]),)}, accuracies)[
        "tpr"
    ]
    assert corrected.low == -np.inf
    assert corrected.high > rare.high


def test_where_leakage_falls_faster_near_the_variant_the_slope_is_the_tangent_there():
    """Through (0.9, 0.92) and (0.8, 0.76) the line in normal deviates is steeper at 0.8 than the secant, 1.6."""
    noise, full = {"auc": (figure(0.76, [0.0, 0.0]),)}, {"auc": (figure(0.92, [0.0, 0.0]),)}
    variant, under_noise = figure(0.8, [0.0, 0.0]), figure(0.8, [0.01, -0.01])
    accuracies = MatchedAccuracies([variant], [under_noise], [figure(0.9, [0.0, 0.0])])
    (corrected,) = at_equal_accuracy(noise, full, accuracies)["auc"]

    # the derivative by differences, of the curve written as one of accuracy
    b = (norm.ppf(0.92) - norm.ppf(0.76)) / (norm.ppf(0.9) - norm.ppf(0.8))
    curve = lambda accuracy: norm.cdf(norm.ppf(0.76) + b * (norm.ppf(accuracy) - norm.ppf(0.8)))  # noqa: E731
    assert curve(0.9) == pytest.approx(0.92)
    slope = (curve(0.8 + 1e-6) - curve(0.8 - 1e-6)) / 2e-6
    assert slope > 1.7
    np.testing.assert_allclose(corrected.influence, [-0.01 * slope, 0.01 * slope], rtol=1e-6)
