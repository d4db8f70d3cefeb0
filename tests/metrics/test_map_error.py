"""Figures of recalibrated rows: the error of the map is part of the interval."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from bitleak.attacks import expand
from bitleak.metrics import (
    Estimate,
    at_equal_accuracy,
    difference_over_records,
    estimate_auc,
    map_influence,
    mean_over_records,
    measures_from,
    roc,
    strongest_estimates,
    with_map_error,
)
from bitleak.metrics.match_error import MatchedAccuracies
from bitleak.metrics.strongest import named_pair

Z = norm.ppf(0.975)


def figure(value, influence):
    influence = np.array(influence, np.float64)
    reach = Z * np.sqrt(influence @ influence)
    return Estimate(value, value, value - reach, value + reach, influence, "delong")


def half(estimate):
    return (estimate.high - estimate.low) / 2 / Z


def test_a_figures_error_and_that_of_its_map_add_as_independent_ones():
    alone = figure(0.7, [0.03, -0.03])
    (both,) = with_map_error({"auc": (alone,)}, {"auc": [np.array([0.04, -0.04])]})["auc"]
    assert half(both) == pytest.approx(np.sqrt(2) * 0.05)
    assert (both.value, both.centre) == (0.7, 0.7)
    assert both.influence.tolist() == [0.03, -0.03, 0.04, -0.04]
    assert with_map_error({"tpr@0.1": (alone,)}, {"auc": [np.zeros(2)]}) == {"tpr@0.1": (alone,)}


def test_targets_with_one_population_err_together_and_a_mean_keeps_that_error():
    shared = np.array([0.04, -0.04])
    figures = (figure(0.7, [0.03, -0.03, 0, 0]), figure(0.7, [0, 0, 0.03, -0.03]))
    apart = mean_over_records(figures)
    assert half(apart) == pytest.approx(0.03)  # 0.03 sqrt(2) / sqrt(2)
    mapped = with_map_error({"auc": figures}, {"auc": [shared, shared]})["auc"]
    assert half(mean_over_records(mapped)) == pytest.approx(np.sqrt(0.03**2 + 2 * 0.04**2))


def test_variants_whose_maps_err_alike_differ_as_if_there_were_no_maps():
    """And a figure without a map is compared with one that has: the map's error stays."""
    full, variant = figure(0.8, [0.03, -0.03]), figure(0.7, [0.02, -0.02])
    added = np.array([0.04, -0.04])
    (mapped,) = with_map_error({"auc": (variant,)}, {"auc": [added]})["auc"]
    (full_mapped,) = with_map_error({"auc": (full,)}, {"auc": [added]})["auc"]
    alike = difference_over_records(mapped, full_mapped)
    assert (alike.high - alike.low) / 2 / Z == pytest.approx(np.sqrt(2) * 0.01)
    mixed = difference_over_records(mapped, full)
    assert (mixed.high - mixed.low) / 2 / Z == pytest.approx(np.sqrt(2 * 0.01**2 + 2 * 0.04**2))
    single = measures_from({"auc": (mapped,)}, mode="population", baseline={"auc": (full,)})
    assert single.aggregate["auc"].difference_low == pytest.approx(mixed.low)


def test_the_error_of_a_match_and_that_of_a_map_are_in_one_interval():
    noise = with_map_error({"auc": (figure(0.6, [0.03, -0.03]),)}, {"auc": [np.array([0.05, 0.0])]})
    full = {"auc": (figure(0.8, [0.0, 0.0]),)}
    accuracies = MatchedAccuracies(
        [figure(0.8, [0.0, 0.0])], [figure(0.8, [0.01, -0.01])], [figure(0.9, [0.0, 0.0])]
    )
    (corrected,) = at_equal_accuracy(noise, full, accuracies)["auc"]
    np.testing.assert_allclose(corrected.influence, [0.01, -0.01, 0.05, 0.0])


def test_the_influence_is_the_change_of_a_figure_times_that_of_the_record_on_the_map():
    member = np.arange(200) % 2 == 0
    scores = np.random.default_rng(0).normal(size=200) + member
    weaker = np.where(member, scores - 0.5, scores)
    curve, moved = roc(scores, member), [roc(weaker, member), roc(scores, member)]
    profile = np.array([[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    found = map_influence(curve, moved, profile, (0.1,))
    change = estimate_auc(moved[0]).value - estimate_auc(curve).value
    assert change < -0.05
    np.testing.assert_allclose(found["auc"], change * profile[0])
    assert set(found) == {"auc", "balanced_accuracy", "tpr@0.1"}
    assert found["tpr@0.1"][1] < -0.05
    assert found["tpr@0.1"][2] == 0


def test_the_strongest_pair_has_the_error_of_its_map():
    """Draws of the audited records stay those that the players' rates are made with."""
    rng = np.random.default_rng(1)
    alone = figure(0.7, rng.normal(size=400) / 4000)
    added = rng.normal(size=30) / 1000
    (mapped,) = with_map_error({"auc": (alone,)}, {"auc": [added]})["auc"]
    (plain,), (widened,) = (
        strongest_estimates([named_pair(0)], [{0: {"auc": one}}], 5, audited=400)["auc"]
        for one in (alone, mapped)
    )
    assert half(widened) == pytest.approx(half(mapped))
    records = np.linalg.norm(plain.influence), np.linalg.norm(widened.influence)
    expected = np.hypot(np.linalg.norm(alone.influence), np.linalg.norm(added))
    assert records[1] == pytest.approx(expected, rel=0.1)
    # the part of the audited records is the same in both: what differs is independent of it
    rest = widened.influence - plain.influence
    assert np.linalg.norm(rest) == pytest.approx(np.linalg.norm(added), rel=0.1)


@pytest.mark.usefixtures("shapes_unchecked")
def test_the_error_that_is_told_is_the_one_that_maps_have():
    """Targets whose true map is known: deviation of the AUC with 30 population records against the exact one."""
    path = Path(__file__).parents[2] / "benchmarks" / "recalibration.py"
    spec = importlib.util.spec_from_file_location("recalibration_worlds", path)
    worlds = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worlds)
    (attack,) = expand("lira-online-fixed")
    moved, told = [], []
    for audit in range(20):
        views, member = worlds.views(np.random.default_rng([4, audit]), 400, 2000)
        few, exact = [], []
        for view, truth in zip(views, member, strict=True):
            few.append(worlds.figures(view, truth, attack, 30)[1]["auc"][0])
            exact.append(worlds.figures(view, truth, attack, 2000)[0]["auc"][0])
        means = mean_over_records(few), mean_over_records(exact)
        moved.append(means[0].centre - means[1].centre)
        told.append(np.linalg.norm(means[0].influence[400:]))
    assert np.sqrt(np.mean(np.square(told))) == pytest.approx(np.std(moved), rel=0.35)
    assert np.std(moved) > 0.002
