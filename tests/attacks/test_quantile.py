from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest, norm
from sklearn.ensemble import HistGradientBoostingRegressor

from bitleak.attacks import LiRA, Quantile, Threshold, two_class_signals
from bitleak.attacks.quantile import LEAST_GAP, normal_score
from bitleak.core.types import SIGNALS
from bitleak.metrics import auc, roc, tpr_at

CONFIDENCE, ENTROPY, CORRECT = (
    SIGNALS.index(name) for name in ("logit_scaled", "entropy", "correct")
)
FORMS = [Quantile("normal"), Quantile("pinball")]
named = pytest.mark.parametrize("attack", FORMS, ids=lambda attack: attack.name)


def shifted(view, scale, shift):
    target, outside = (
        two_class_signals(scale * of[..., CONFIDENCE] + shift)
        for of in (view.target, view.population_target)
    )
    return replace(view, target=target, population_target=outside)


@named
def test_scores_equal_a_loop_over_records(edge, slow, attack):
    np.testing.assert_allclose(attack(edge), slow_scores(attack, edge, slow), rtol=1e-9, atol=1e-9)


def slow_scores(attack, view, slow):
    """Features record by record, then the regressor of scikit-learn on them."""
    everyone = np.zeros(view.population_references.shape[:2], bool)
    seen, of_x = slow_features(view.target, view.references, view.member, view.use, slow)
    known, of_z = slow_features(
        view.population_target, view.population_references, everyone, ~everyone, slow
    )

    def trees(goal, rate, **loss):
        one = HistGradientBoostingRegressor(
            learning_rate=rate,
            max_iter=40,
            max_leaf_nodes=8,
            min_samples_leaf=20,
            early_stopping=False,
            **loss,
        )
        return one.fit(known, goal)

    if attack.form == "normal":
        mean = trees(of_z, 0.05)
        log_squares = np.log((of_z - mean.predict(known)) ** 2 + 1e-3)
        spread = np.exp((trees(log_squares, 0.05).predict(seen) + np.euler_gamma + np.log(2)) / 2)
        return (of_x - mean.predict(seen)) / spread
    quantiles = [
        trees(of_z, 0.1, loss="quantile", quantile=level).predict(seen) for level in attack.levels
    ]
    return np.array(
        [
            slow_place(x, np.sort(q), norm.ppf(attack.levels))
            for x, *q in zip(of_x, *quantiles, strict=True)
        ]
    )


def slow_place(value, knots, at):
    """Where a value lies on the line through the sorted quantiles, which are kept apart."""
    raw = knots.copy()
    for k in range(1, len(at)):
        knots[k] = knots[k - 1] + max(raw[k] - raw[k - 1], LEAST_GAP * (at[k] - at[k - 1]))
    k = 0
    while k < len(at) - 2 and value >= knots[k + 1]:
        k += 1
    return at[k] + (value - knots[k]) * (at[k + 1] - at[k]) / (knots[k + 1] - knots[k])


def slow_features(target, references, member, use, slow):
    mean_of = [of[..., CONFIDENCE].mean(axis=-1) for of in (target, references)]
    sides = slow["sides"](mean_of[1], member, use)["out"]
    _, variance, _ = slow["posterior"](sides)
    features, value = [], []
    for record, own in enumerate(sides):
        centre, deviation = own.mean(), np.sqrt(variance[record] * (1 + 1 / len(own)))
        rest = references[use[:, record] & ~member[:, record], record]
        features.append([centre, deviation, -rest[..., ENTROPY].mean(), rest[..., CORRECT].mean()])
        value.append((mean_of[0][record] - centre) / deviation)
    return np.array(features), np.array(value)


@pytest.mark.parametrize("seed", range(3))
def test_a_score_is_found_by_interpolation_between_sorted_quantiles(seed):
    rng = np.random.default_rng(seed)
    at, quantiles, value = (
        np.array([-1.0, 0.0, 2.0]),
        rng.normal(size=(3, 50)),
        rng.normal(0, 2, 50),
    )
    found = normal_score(value, quantiles, at)
    for record in range(50):
        knots = np.sort(quantiles[:, record])
        knots[1] = max(knots[1], knots[0] + LEAST_GAP)
        knots[2] = (
            max(np.sort(quantiles[:, record])[2] - np.sort(quantiles[:, record])[1], 2 * LEAST_GAP)
            + knots[1]
        )
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
    offline, own = (
        [auc(roc(each(seen), member)) for seen in (view, quantized)]
        for each in (LiRA("offline"), attack)
    )
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
