"""Scores by a number of references that is no whole number: the variance of means, and a handicap of equal power."""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bitleak.attacks import Calibrated, LiRA, Reference, fractional_scores
from bitleak.attacks.fractional_references import number_of_references, weights_by_count

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "partly_verdicts.py"
SEEDS = 4
"""Simulated audits per world."""


@pytest.fixture(scope="module")
def verdicts():
    spec = importlib.util.spec_from_file_location("partly_verdicts", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("number", [2.0, 2.3, 4.9, 7.5])
def test_the_mean_has_the_variance_of_that_many_references(worlds, number):
    # a calibrated score is the target's signal less the mean of its OUT references
    records, rng = 40_000, np.random.default_rng(0)
    member = worlds["pairs"](rng, 16, records)
    references = rng.normal(size=(16, records, 1))
    target = np.zeros((records, 1))

    def view_with(count):
        return worlds["view"](target, references[: 2 * count], member[: 2 * count])

    attack = Calibrated("offline", "logit_scaled")
    (scores,) = fractional_scores([attack], view_with, {"IN": 3.0, "OUT": number})
    assert scores.var() == pytest.approx(1 / number, rel=0.03)


def test_every_view_is_made_once_and_whole_numbers_are_exact(worlds):
    rng = np.random.default_rng(1)
    member = worlds["pairs"](rng, 12, 400)
    references = rng.normal(size=(12, 400, 1)) + member[..., None]
    made = []

    def view_with(count):
        made.append(count)
        rows = slice(2 * count)
        return worlds["view"](references[0], references[rows], member[rows])

    attacks = [LiRA(), LiRA(mode="offline"), Reference()]
    scores = fractional_scores(attacks, view_with, {"IN": 4.0, "OUT": 4.0 + 1e-12})
    assert made == [4]
    for attack, of_attack in zip(attacks, scores, strict=True):
        np.testing.assert_array_equal(of_attack, attack(view_with(4)))
    made.clear()
    fractional_scores(attacks, view_with, {"IN": 2.0, "OUT": 5.5})
    assert made == [2, 3, 5, 6]  # 2.93 for both sides together, 5.5 for OUT alone


def test_the_number_of_an_attack_is_that_of_the_sides_that_it_reads():
    effective = {"IN": 3.0, "OUT": 6.0}
    assert number_of_references(LiRA(mode="offline"), effective) == 6
    assert number_of_references(LiRA(), effective) == pytest.approx(4)  # 2 / (1/3 + 1/6)
    with pytest.raises(ValueError, match=r"at least 1, got 0\.5"):
        weights_by_count(0.5)


@pytest.fixture(scope="module")
def means(verdicts):
    """A function from a world to the mean AUC by view, of both forms of LiRA."""

    @cache
    def of_world(world):
        sums = {}
        for seed in range(SEEDS):
            figures = verdicts.audit(verdicts.WORLDS[world], 8, 4000, seed)
            for attack in ("lira-online-shrunk", "lira-offline-one_sided-shrunk"):
                for view, value in verdicts.facts(figures[attack]).items():
                    sums[attack, view] = sums.get((attack, view), 0.0) + value / SEEDS
        return sums

    return of_world


FORMS = pytest.mark.parametrize("attack", ["lira-online-shrunk", "lira-offline-one_sided-shrunk"])


@FORMS
@pytest.mark.parametrize("world", ["r 0.6, large effects", "r 0.9"])
def test_full_precision_under_the_handicap_is_as_strong_as_predicted_references(
    means, world, attack
):
    """By a number of references that is rounded down, it is weaker by 0.003 to 0.006 in the first world."""
    mean = means(world)
    excess = mean[attack, "predicted"] - mean[attack, "handicapped"]
    by_chance = mean[attack, "all"] - mean[attack, "fp32"]
    assert excess - by_chance == pytest.approx(0.0, abs=0.0022)


@FORMS
@pytest.mark.parametrize("world", ["r 0", "r 0.6, large effects", "r 0.9", "r -0.6"])
def test_predictions_never_find_more_than_all_references_do_nor_less_than_the_few_alone(
    means, world, attack
):
    """Also with answers that a monotone map cannot follow: r is 0, or negative."""
    mean = means(world)
    assert mean[attack, "predicted"] < mean[attack, "all"] + 0.001
    assert mean[attack, "predicted"] > mean[attack, "alone"] - 0.001
    assert mean[attack, "all"] > mean[attack, "alone"] + 0.005


@FORMS
def test_nothing_is_found_in_a_variant_that_leaks_nothing_by_references_that_leak(means, attack):
    mean = means("r 0.6, nothing")
    assert mean[attack, "predicted"] == pytest.approx(0.5, abs=0.01)
    assert mean[attack, "fp32"] > 0.8
