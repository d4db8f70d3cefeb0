"""The noise scale that gives a wanted accuracy."""

import math

import numpy as np
import pytest
from scipy.special import ndtr

from bitleak.metrics import matched_scale


def falling(scale, seed=0):
    """0.9 without noise, 0.1 under much; half way at a scale of 0.2."""
    return 0.1 + 0.8 / (1 + (scale / 0.2) ** 2)


@pytest.mark.parametrize("goal", [0.85, 0.5, 0.2])
def test_the_scale_is_that_of_the_closed_form(goal):
    found = matched_scale(falling, goal, seeds=[0], tolerance=1e-4, evaluations=30)
    assert found.matched
    assert found.accuracy == falling(found.scale)
    assert found.scale == pytest.approx(0.2 * math.sqrt(0.8 / (goal - 0.1) - 1), rel=2e-3)


def test_no_more_than_the_allowed_evaluations_are_made():
    calls = []

    def counted(scale, seed):
        calls.append((scale, seed))
        return falling(scale)

    found = matched_scale(counted, 0.5, seeds=[3, 4], tolerance=1e-12, evaluations=9)
    assert len(calls) == 2 * 9
    assert {seed for _, seed in calls} == {3, 4}
    assert (found.evaluations, found.matched) == (9, False)
    assert found.scale == pytest.approx(0.2, rel=math.log(1000) / 2**7)


def test_the_search_stops_when_the_goal_is_met():
    found = matched_scale(falling, falling(1e-3), seeds=[0])
    assert (found.scale, found.evaluations, found.matched) == (1e-3, 2, True)


@pytest.mark.parametrize(("goal", "scale"), [(0.95, 1e-3), (0.05, 1.0)])
def test_a_goal_out_of_reach_is_marked(goal, scale):
    found = matched_scale(falling, goal, seeds=[0])
    assert (found.scale, found.matched, found.evaluations) == (scale, False, 2)


def test_a_network_with_common_random_numbers_is_matched_over_seeds():
    """A linear classifier whose weights get noise: each seed's accuracy is a staircase, their mean is matched."""
    rng = np.random.default_rng(0)
    weights, records = rng.standard_normal(300), rng.standard_normal((2000, 300))
    labels = records @ weights > 0

    def accuracy(scale, seed):
        noise = np.random.default_rng(seed).standard_normal(300) * np.sqrt(np.mean(weights**2))
        return float(np.mean((records @ (weights + scale * noise) > 0) == labels))

    found = matched_scale(
        accuracy, 0.8, seeds=range(100, 108), high=5.0, tolerance=0.001, evaluations=20
    )
    assert found.matched
    assert found.accuracy == pytest.approx(
        np.mean([accuracy(found.scale, seed) for seed in range(100, 108)])
    )
    angle = math.pi * 0.2  # of two half-spaces that disagree on a fifth of the records
    assert found.scale == pytest.approx(math.tan(angle), rel=0.1)


def test_a_noisy_accuracy_is_matched_to_its_noise():
    def noisy(scale, seed):
        return float(
            np.random.default_rng([seed, int(1e9 * scale)]).binomial(2000, ndtr(1 - 4 * scale))
            / 2000
        )

    found = [
        matched_scale(noisy, 0.6, seeds=range(16 * run, 16 * run + 16), tolerance=1e-9)
        for run in range(20)
    ]
    truth = (1 - 0.2533471) / 4
    assert np.mean([one.scale for one in found]) == pytest.approx(truth, rel=0.03)
    assert np.std([one.scale for one in found]) < 0.05 * truth


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"goal": 1.2}, "goal must be a number"),
        ({"low": 0.0}, "low must be a number"),
        ({"high": 1e-4}, "high must be a number"),
        ({"tolerance": 0.0}, "tolerance must be a number"),
        ({"evaluations": 1}, "evaluations must be an integer of at least 2, got 1"),
        ({"seeds": []}, "seeds must hold at least one seed"),
        ({"accuracy": lambda scale, seed: math.nan}, "accuracy at scale 0.001 must be a number"),
    ],
)
def test_bad_input_is_told(changes, message):
    arguments = {"accuracy": falling, "goal": 0.5, "seeds": [0], **changes}
    with pytest.raises(ValueError, match=message):
        matched_scale(arguments.pop("accuracy"), arguments.pop("goal"), **arguments)


def test_ten_equal_accuracies_have_their_value_as_the_mean():
    """The built-in `sum` of ten times 0.1 is 0.9999999999999999 before Python 3.12 and 1.0 since."""
    found = matched_scale(lambda scale, seed: 0.1, 0.1, seeds=range(10), tolerance=0.01)
    assert found.accuracy == 0.1
