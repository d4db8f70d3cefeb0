from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest, norm

from bitleak.attacks import LiRA, Quantile, Threshold, two_class_signals
from bitleak.attacks.quantile import GAP, normal_score
from bitleak.core.types import SIGNALS
from bitleak.metrics import auc, roc, tpr_at

CONFIDENCE = SIGNALS.index("logit_scaled")
FORMS = [Quantile("normal"), Quantile("pinball")]
named = pytest.mark.parametrize("attack", FORMS, ids=lambda attack: attack.name)


def shifted(view, scale, shift):
    target, outside = (
        two_class_signals(scale * of[..., CONFIDENCE] + shift) for of in (view.target, view.population_target)
    )
    return replace(view, target=target, population_target=outside)


@pytest.mark.parametrize("seed", range(3))
def test_a_score_is_found_by_interpolation_between_sorted_quantiles(seed):
    rng = np.random.default_rng(seed)
    at, quantiles, value = np.array([-1.0, 0.0, 2.0]), rng.normal(size=(3, 50)), rng.normal(0, 2, 50)
    found = normal_score(value, quantiles, at)
    for record in range(50):
        knots = np.sort(quantiles[:, record])
        knots[1] = max(knots[1], knots[0] + GAP)
        knots[2] = max(np.sort(quantiles[:, record])[2] - np.sort(quantiles[:, record])[1], 2 * GAP) + knots[1]
        if value[record] < knots[0]:
            expected = -1 + (value[record] - knots[0]) / (knots[1] - knots[0])
        elif value[record] > knots[2]:
            expected = 2 + 2 * (value[record] - knots[2]) / (knots[2] - knots[1])
        else:
            expected = np.interp(value[record], knots, at)
        assert found[record] == pytest.approx(expected)


@named
def test_scores_of_non_members_are_about_normal(gaussian_world, attack):
    view, member = gaussian_world(0, records=4000, models=34, population=3000, queries=1)
    scores = attack(view)[~member]
    assert kstest(scores, norm.cdf).statistic < 0.06
    for rate in (0.01, 0.05, 0.2):
        assert np.mean(scores > norm.isf(rate)) == pytest.approx(rate, abs=0.015 + rate / 5)


@named
def test_a_shifted_target_is_found_without_recalibration(gaussian_world, attack):
    view, member = gaussian_world(1, records=6000, models=18, population=2000, queries=1)
    quantized = shifted(view, 0.6, -1.0)
    offline, own = ([auc(roc(each(seen), member)) for seen in (view, quantized)] for each in (LiRA("offline"), attack))
    assert own[0] > offline[0] - 0.01
    assert offline[1] < offline[0] - 0.05
    assert own[1] > offline[1] + 0.05


@named
def test_it_finds_more_than_one_threshold_for_all(gaussian_world, attack):
    view, member = gaussian_world(2, records=6000, models=18, population=1000, queries=2, shift=1.5)
    curves = [roc(each(view), member) for each in (attack, Threshold())]
    assert auc(curves[0]) > auc(curves[1]) + 0.05
    assert tpr_at(curves[0], 0.01) > 1.5 * tpr_at(curves[1], 0.01)


@named
def test_the_same_view_gives_the_same_scores(gaussian_world, attack):
    view, _ = gaussian_world(3, records=200, models=8, population=60)
    np.testing.assert_array_equal(attack(view), attack(view))


def test_a_population_whose_answers_never_vary_has_finite_scores(gaussian_world):
    view, _ = gaussian_world(4, records=100, models=8, population=60)
    same = replace(
        view,
        population_target=np.repeat(view.population_target[:1], 60, axis=0),
        population_references=np.repeat(view.population_references[:, :1], 60, axis=1),
    )
    for attack in FORMS:
        assert np.isfinite(attack(same)).all()


@pytest.mark.parametrize("levels", [(0.5,), (0.9, 0.5), (0.5, 0.5), (0.5, 1.0)])
def test_levels_that_are_no_quantiles_are_refused(levels):
    with pytest.raises(ValueError, match="levels must be"):
        Quantile("pinball", levels)
