"""References of which only some are quantized: the predictions of the others' answers, and their worth."""

import numpy as np
import pytest
from scipy.special import digamma, polygamma

from bitleak.attacks import RMIA, LiRA, expand, masked_view, predicted_view
from bitleak.attacks.predicted_references import _log_correlation, predicted_side
from bitleak.core.errors import TooFewForAttack
from bitleak.core.types import SIGNALS
from bitleak.metrics.auc import auc as area
from bitleak.metrics.roc import roc

RECORDS, MODELS = 6000, 18
F = SIGNALS.index("logit_scaled")


def auc(scores, member):
    return area(roc(scores, member))


def world(rho, *, records=RECORDS, models=MODELS, effect=0.3, seed=0):
    """Signals of one side at full precision and quantized, correlated by rho within records, and the truth."""
    rng = np.random.default_rng(seed)
    difficulty, spread = rng.normal(0, 3, records), np.exp(rng.normal(0, 0.4, records))
    full = difficulty + spread * rng.normal(size=(models, records))
    mean = 0.7 * difficulty + rng.normal(0, effect, records)
    noise = spread * rng.normal(size=(models, records))
    quantized = mean + 0.6 * (rho * (full - difficulty) + np.sqrt(1 - rho**2) * noise)
    return full[..., None], quantized[..., None], mean[:, None], (0.6 * spread[:, None]) ** 2


def side(full, quantized, k, used=None):
    used = np.ones(full.shape[:2], bool) if used is None else used
    return predicted_side(full, quantized[:k], range(k), used)


def slow_fit(full, quantized, k):
    """b, r and the effects before shrinkage, by loops over the records, for a map that is the identity."""
    products, squares_f, squares_q = 0.0, 0.0, 0.0
    for record in range(full.shape[1]):
        f, q = full[:k, record, 0], quantized[:k, record, 0]
        for i in range(k):
            products += (f[i] - f.mean()) * (q[i] - q.mean())
            squares_f += (f[i] - f.mean()) ** 2
            squares_q += (q[i] - q.mean()) ** 2
    return products / squares_f, products / np.sqrt(squares_f * squares_q)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_correlation_is_the_one_within_records_of_a_slow_loop(rho):
    # across records the correlation is near 1, since some records are easy for all models
    full, quantized, *_ = world(rho)
    slow = slow_fit(full, quantized, 6)[1]
    # the map has 16 slopes, which by chance alone explain 16 / 30,000 of the variance: r = 0.023
    np.testing.assert_allclose(side(full, quantized, 6).correlation[0], slow, atol=0.025)
    assert np.corrcoef(full[:6].ravel(), quantized[:6].ravel())[0, 1] > 0.85


@pytest.mark.parametrize("k", [3, 8])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.97])
def test_the_effective_number_is_the_one_that_the_error_of_the_means_has(k, rho):
    full, quantized, mean, variance = world(rho, records=20_000)
    sums = side(full, quantized, k).sums
    squared_error = ((sums.mean - mean) ** 2).mean()
    np.testing.assert_allclose(squared_error, (variance / sums.counts[:, None]).mean(), rtol=0.06)
    # a map without information costs nothing, one with it helps
    alone = ((quantized[:k].mean(axis=0) - mean) ** 2).mean()
    assert squared_error < 1.01 * alone * (1 if rho == 0 else 0.9)


@pytest.mark.parametrize("k", [3, 8])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_degrees_of_freedom_are_those_that_the_log_variances_have(k, rho):
    full, quantized, _, variance = world(rho, records=20_000)
    sums = side(full, quantized, k).sums
    degrees = sums.degrees[0]
    error = np.log(sums.squares[:, 0] / degrees) - np.log(variance[:, 0])
    np.testing.assert_allclose(error.mean(), digamma(degrees / 2) - np.log(degrees / 2), atol=0.015)
    np.testing.assert_allclose(error.var(), polygamma(1, degrees / 2), rtol=0.2)


def test_at_correlation_one_the_figure_is_that_of_all_references():
    full, *_ = world(0.5)
    quantized = 0.8 * full - 1.5
    part = side(full, quantized, 4)
    np.testing.assert_allclose(part.values, quantized, atol=1e-9)
    np.testing.assert_allclose(part.sums.mean, quantized.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(part.sums.counts, MODELS)
    np.testing.assert_allclose(part.sums.squares, MODELS * quantized.var(axis=0), rtol=1e-6)
    np.testing.assert_allclose(part.sums.degrees, MODELS - 1, rtol=1e-6)


def test_a_bent_map_is_followed():
    full, *_ = world(0.5)
    bent = np.where(full > 1, 1 + 0.2 * (full - 1), full)
    error = side(full, bent, 6).values - bent
    assert np.abs(error).mean() < 0.1 < 0.5 < np.abs(full - bent).mean()


def test_the_mean_of_the_predictions_is_the_mean_that_is_used():
    full, quantized, *_ = world(0.9, effect=0.0)
    part = side(full, quantized, 6)
    # the k keep their own answers, so the means differ by what shrinkage takes from the effects
    assert np.corrcoef(part.values.mean(axis=0)[:, 0], part.sums.mean[:, 0])[0, 1] > 0.999


def test_correlation_of_log_variances_is_the_simulated_one():
    rng = np.random.default_rng(0)
    for r, degrees in ((0.5, 2), (0.9, 2), (0.9, 7)):
        x = rng.normal(size=(degrees, 100_000))
        y = r * x + np.sqrt(1 - r**2) * rng.normal(size=x.shape)
        simulated = np.corrcoef(np.log((x**2).sum(axis=0)), np.log((y**2).sum(axis=0)))[0, 1]
        closed = _log_correlation(np.array([r**2]), float(degrees))[0]
        np.testing.assert_allclose(closed, simulated, atol=0.01)
    assert _log_correlation(np.array([0.0, 1.0]), 3.0).tolist() == pytest.approx([0.0, 1.0])


def population(worlds, rho, *, records, shift=3.0, seed=0, models=20):
    """A target's quantized answers, its references at full precision and quantized, and its membership."""
    rng = np.random.default_rng(seed)
    member = worlds["pairs"](rng, models, records)
    difficulty, spread = rng.normal(2, 2, records), np.exp(0.4 * rng.normal(size=records))
    first, second = rng.normal(size=(2, models, records))
    full = difficulty + spread * (shift * member + first)
    noise = rho * first + np.sqrt(1 - rho**2) * second
    quantized = 0.8 * difficulty + 0.7 * spread * (shift * member + noise)
    outside = rng.normal(2, 2, 400) + rng.normal(size=(models, 400))
    view = worlds["view"](
        quantized[0][:, None],
        full[2:, :, None],
        member[2:],
        population_target=0.8 * outside[0][:, None],
        population_references=outside[2:, :, None],
    )
    matched = worlds["view"](
        quantized[0][:, None],
        quantized[2:, :, None],
        member[2:],
        population_target=0.8 * outside[0][:, None],
        population_references=0.8 * outside[2:, :, None],
    )
    return view, matched, member[0]


def part_of(view, matched, k):
    return predicted_view(view, range(k), matched.references[:k], matched.population_references[:k])


def test_few_quantized_references_find_nearly_as_much_as_all(worlds):
    view, matched, member = population(worlds, 0.95, records=8000)
    attack = LiRA()
    alone = masked_view(matched, np.arange(len(matched.side))[:, None] < np.full((1, 8000), 4))
    all_, four, naive, few = (
        auc(attack(seen), member) for seen in (matched, part_of(view, matched, 4).view, view, alone)
    )
    assert all_ - 0.005 < four < all_ + 0.002
    assert four > max(naive, few) + 0.01


@pytest.mark.parametrize("word", ["lira", "rmia", "calibrated", "reference", "quantile"])
def test_answers_without_information_are_at_chance(worlds, word):
    view, matched, member = population(worlds, 0.8, records=20_000, shift=0.0)
    part = part_of(view, matched, 4)
    for attack in expand(word):
        assert abs(auc(attack(part.view), member) - 0.5) < 0.02, attack.name


@pytest.mark.parametrize("attack", [LiRA(), RMIA()])
def test_an_uninformative_map_costs_no_power_beyond_the_k_alone(worlds, attack):
    view, matched, member = population(worlds, 0.0, records=8000)
    part = part_of(view, matched, 8)
    alone = masked_view(matched, np.arange(len(matched.side))[:, None] < np.full((1, 8000), 8))
    assert auc(attack(part.view), member) > auc(attack(alone), member) - 0.004
    assert max(part.correlation.values()) < 0.1


def test_facts_are_those_of_the_confidence(worlds):
    view, matched, _ = population(worlds, 0.95, records=4000)
    part = part_of(view, matched, 8)
    assert set(part.correlation) == set(part.effective) == {"IN", "OUT"}
    np.testing.assert_allclose(list(part.correlation.values()), 0.95, atol=0.02)
    # 1 / ((1 - r^2) w / k + r^2 / M) with k = 4, M = 9 and w near 1
    expected = 1 / ((1 - 0.95**2) / 4 + 0.95**2 / 9)
    np.testing.assert_allclose(list(part.effective.values()), expected, rtol=0.05)


def test_signals_stay_in_their_ranges(worlds):
    view, matched, _ = population(worlds, 0.3, records=2000)
    seen = part_of(view, matched, 4).view
    assert seen.references[..., SIGNALS.index("log_probability")].max() <= 0
    assert seen.references[..., SIGNALS.index("entropy")].min() >= 0
    correct = seen.references[..., SIGNALS.index("correct")]
    assert 0 <= correct.min() <= correct.max() <= 1


def test_quantized_references_come_in_pairs(worlds):
    view, matched, _ = population(worlds, 0.9, records=500)
    with pytest.raises(ValueError, match=r"must come in pairs of complements.* got 1 to 3"):
        predicted_view(
            view, [0, 1, 2, 4], matched.references[[0, 1, 2, 4]], matched.population_references[:4]
        )
    with pytest.raises(TooFewForAttack, match="at least 2 per side for every record, got 1"):
        part_of(view, matched, 2)


def test_predicted_references_are_not_hidden_afterwards(worlds):
    view, matched, _ = population(worlds, 0.9, records=500)
    part = part_of(view, matched, 4)
    use = np.ones(part.view.side.shape, bool)
    use[0, 0] = False
    with pytest.raises(ValueError, match="cannot be hidden: predict with fewer of them"):
        masked_view(part.view, use)


def test_a_large_effect_of_the_record_costs_the_prediction_nothing():
    """The map is fitted within records: effects of any size leave slopes and means as they are."""
    rng = np.random.default_rng(3)
    full = 2 * rng.normal(size=1000) + rng.normal(size=(10, 1000))
    noise = 0.2 * rng.normal(size=full.shape)
    errors = []
    for size in (0.0, 2.0, 20.0):
        quantized = (full + size * rng.normal(size=1000) + noise)[..., None]
        part = side(full[..., None], quantized, 4)
        assert part.correlation[0] == pytest.approx(1 / np.sqrt(1.04), abs=0.005)
        errors.append(float((part.sums.mean - quantized.mean(axis=0)).std()))
    # deviation of the mean of 4 noises from that of 10: 0.2 sqrt(1 / 4 - 1 / 10) = 0.077
    assert max(errors) < 0.09


def test_the_map_bends_where_answers_do_and_never_falls():
    rng = np.random.default_rng(4)
    full = 3 * rng.normal(size=4000) + rng.normal(size=(6, 4000))
    bent = np.where(full > 0, 0.3 * full, full)
    quantized = bent + rng.normal(size=4000) + 0.05 * rng.normal(size=full.shape)
    part = side(full[..., None], quantized[..., None], 4)
    error = part.values[4:, :, 0] - quantized[4:]
    assert error.std() < 0.1  # the noise of two answers and of the effect: 0.056
    falling = side(full[..., None], -quantized[..., None], 4)
    assert falling.correlation[0] == 0
