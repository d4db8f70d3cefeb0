"""The temperature against other minimisers, and at the edges of what answers can be."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from bitleak.attacks import fit_temperature
from bitleak.attacks.temperature import SPREADS


def answers(seed=0, *, models=3, records=80, queries=2, classes=5, strength=2.0):
    """Logits that are wrong now and then, and too confident."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, records)
    z = 2 * rng.normal(size=(models, records, queries, classes))
    z[:, np.arange(records), :, labels] += strength
    return list((3 * z).astype(np.float32)), labels


def loss(logits, labels, temperature):
    """Mean negative log-likelihood, answer by answer."""
    total = []
    for model in logits:
        for record, label in enumerate(labels):
            for z in np.asarray(model[record], np.float64) / temperature:
                total.append(np.log(np.exp(z - z.max()).sum()) + z.max() - z[label])
    return np.mean(total)


def spread_of(logits):
    z = np.asarray(logits, np.float64)
    return np.sqrt(np.mean((z - z.mean(axis=-1, keepdims=True)) ** 2))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_temperature_is_where_an_independent_search_finds_the_least_loss(seed):
    logits, labels = answers(seed)
    found = minimize_scalar(
        lambda t: loss(logits, labels, t),
        bounds=(0.1, 50),
        method="bounded",
        options={"xatol": 1e-9},
    )
    fitted = fit_temperature(logits, labels)
    assert fitted.limit == ""
    assert fitted.value == pytest.approx(found.x, rel=1e-6)
    assert fitted.value > 1.5  # these answers are too confident


@pytest.mark.parametrize("right", [3, 5, 9])
def test_equal_logits_give_the_temperature_of_the_share_that_is_right(right):
    """Two classes with z = (m, 0), `right` of 10 the first: sigmoid(m / T) = right / 10."""
    logits = np.zeros((10, 1, 2))
    logits[..., 0] = 7.0
    labels = np.array([0] * right + [1] * (10 - right))
    fitted = fit_temperature([logits, logits], labels)
    if right > 5:
        assert fitted.value == pytest.approx(7 / np.log(right / (10 - right)), rel=1e-12)
    else:
        assert fitted.limit == "guesses"


@pytest.mark.parametrize("factor", [0.25, 4.0])
@pytest.mark.parametrize("strength", [2.0, 100.0, -5.0])
def test_the_temperature_moves_with_the_logits_at_its_limits_too(factor, strength):
    logits, labels = answers(strength=strength)
    fitted = fit_temperature(logits, labels)
    scaled = fit_temperature([np.float32(factor) * model for model in logits], labels)
    assert scaled.value == factor * fitted.value
    assert scaled.limit == fitted.limit


@pytest.mark.parametrize(("strength", "limit", "spread"), [
    (100.0, "all right", SPREADS[1]), (-5.0, "guesses", SPREADS[0]),
])  # fmt: skip
def test_answers_without_a_best_temperature_get_the_nearest_that_is_allowed(
    strength, limit, spread
):
    logits, labels = answers(strength=strength)
    fitted = fit_temperature(logits, labels)
    assert fitted.limit == limit
    assert spread_of(logits) / fitted.value == pytest.approx(spread, rel=1e-12)


def test_one_record_is_right_or_wrong_and_both_have_a_temperature():
    logits, _ = answers(records=1, models=1, queries=1)
    predicted = logits[0][0].argmax(axis=-1)
    assert fit_temperature(logits, predicted).limit == "all right"
    assert fit_temperature(logits, logits[0][0].argmin(axis=-1)).limit == "guesses"


def test_logits_that_do_not_vary_have_the_temperature_one():
    fitted = fit_temperature([np.full((4, 2, 3), 5.0)], np.array([0, 1, 2, 0]))
    assert (fitted.value, fitted.limit) == (1.0, "constant")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_logit_that_is_not_finite_is_refused(bad):
    logits, labels = answers()
    logits[1][3, 0, 2] = bad
    with pytest.raises(ValueError, match="logits must be finite to fit a temperature"):
        fit_temperature(logits, labels)


def test_without_answers_there_is_no_temperature():
    logits, labels = answers()
    with pytest.raises(ValueError, match="got 0 models and 80 records"):
        fit_temperature([], labels)
    with pytest.raises(ValueError, match="got 3 models and 0 records"):
        fit_temperature([model[:0] for model in logits], labels[:0])


def test_of_more_records_than_are_needed_some_are_taken_evenly(monkeypatch):
    logits, labels = answers(records=400, models=2, queries=2)
    expected = fit_temperature(
        [model[[0, 133, 266, 399]] for model in logits], labels[[0, 133, 266, 399]]
    )
    monkeypatch.setattr("bitleak.attacks.temperature.MOST_NUMBERS", 4 * 2 * 2 * 5)
    assert fit_temperature(logits, labels) == expected
