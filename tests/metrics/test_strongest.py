from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from bitleak.metrics import (
    DRAWS,
    choose_pair,
    estimate_tpr,
    measures_from,
    named_pair,
    on_draws,
    player_rates,
    roc,
    strongest_estimates,
    tpr_at,
)


def world(seed, pairs=3, records=1000, shifts=(1.0, 1.0, 1.0), common=0.0):
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(records) % 2 == 0)
    noise = rng.normal(size=(pairs, records))
    shared = np.sqrt(common) * rng.normal(size=records) + np.sqrt(1 - common) * noise
    return shared + np.array(shifts)[:, None] * member, member


@pytest.mark.parametrize("fpr", [0.01, 0.02, 0.1, 0.37])
def test_a_players_rate_is_that_of_the_roc_with_ties_too(fpr):
    scores, member = world(0)
    for values in (scores, scores.round(1), np.sign(scores)):
        expected = [tpr_at(roc(row, member), fpr) for row in values]
        assert player_rates(values, member, fpr).value.tolist() == pytest.approx(expected)


def test_a_players_influence_has_the_variance_of_resampled_records():
    """The sum of squares against 300 multinomial resamples, at 20 expected false positives."""
    rng = np.random.default_rng(1)
    sampled, linear = [], []
    for seed in range(20):
        scores, member = world(seed, pairs=1, shifts=(1.0,))
        linear.append((player_rates(scores, member, 0.04).influence ** 2).sum())
        resampled = []
        for _ in range(60):
            rows = rng.integers(len(member), size=len(member))
            resampled.append(player_rates(scores[:, rows], member[rows], 0.04).value[0])
        sampled.append(np.var(resampled))
    assert np.mean(linear) == pytest.approx(np.mean(sampled), rel=0.2)


def test_the_draws_reproduce_variances_and_covariances():
    influence = np.random.default_rng(0).normal(size=(3, 800))
    influence[2] = influence[0]
    changes = on_draws(influence, 5)
    np.testing.assert_allclose(np.cov(changes), influence @ influence.T, rtol=0.12, atol=0.12 * 800)
    np.testing.assert_array_equal(changes[0], changes[2])
    np.testing.assert_array_equal(changes, on_draws(influence, 5))
    assert np.abs(changes - on_draws(influence, 6)).max() > 1


def test_the_pair_with_the_largest_rate_is_chosen_and_the_first_of_equal_ones():
    flat = np.zeros((3, DRAWS), np.float32)
    assert choose_pair(np.array([0.1, 0.3, 0.2]), flat).pair == 1
    assert choose_pair(np.array([0.1, 0.3, 0.3]), flat).pair == 1
    assert choose_pair(np.array([np.nan, np.nan, 0.1]), flat).pairs == (2,)
    with pytest.raises(ValueError, match="the rate of at least one pair, got none"):
        choose_pair(np.full(3, np.nan), flat)


def test_draws_choose_each_of_two_equal_pairs_half_of_the_time_and_never_one_far_below():
    changes = on_draws(np.random.default_rng(0).normal(size=(3, 500)) / 1000, 0)
    choice = choose_pair(np.array([0.5, 0.5, 0.1]), changes)
    assert choice.pairs == (0, 1)
    assert (choice.drawn == 0).mean() == pytest.approx(0.5, abs=0.06)


def figures_of(scores, member, fpr=0.05):
    return {pair: {"tpr": estimate_tpr(roc(row, member), fpr)} for pair, row in enumerate(scores)}


def test_a_named_pair_keeps_its_interval():
    scores, member = world(0)
    figures = figures_of(scores, member)
    (alone,) = strongest_estimates([named_pair(1)], [figures], 0)["tpr"]
    fixed = figures[1]["tpr"]
    assert (alone.value, alone.low, alone.high) == (fixed.value, fixed.low, fixed.high)
    assert (alone.influence**2).sum() == pytest.approx((fixed.influence**2).sum(), rel=0.15)


def test_an_uncertain_choice_between_unequal_pairs_widens_the_interval():
    """Half of the draws choose a pair whose TPR on the target is .5 higher: sd .25, and more."""
    scores, member = world(0, shifts=(0.5, 2.5, 0.5))
    figures = figures_of(scores, member)
    drawn = np.arange(DRAWS) % 2
    choice = named_pair(0)
    uncertain = type(choice)(0, drawn)
    (plain,) = strongest_estimates([choice], [figures], 0)["tpr"]
    (wide,) = strongest_estimates([uncertain], [figures], 0)["tpr"]
    apart = figures[1]["tpr"].centre - figures[0]["tpr"].centre
    assert apart > 0.4
    assert np.linalg.norm(wide.influence) > 0.45 * apart
    assert wide.high - wide.low > 3 * (plain.high - plain.low)
    assert wide.value == plain.value


def test_pairs_that_differ_by_their_error_alone_do_not_widen_it():
    scores, member = world(3, records=4000)
    figures = figures_of(scores, member)
    uncertain = type(named_pair(0))(0, np.arange(DRAWS) % 3)
    (plain,) = strongest_estimates([named_pair(0)], [figures], 0)["tpr"]
    (wide,) = strongest_estimates([uncertain], [figures], 0)["tpr"]
    assert wide.high - wide.low == pytest.approx(plain.high - plain.low, rel=0.1)


def test_pairs_that_tie_with_unequal_deviations_do_not_widen_it():
    """Ten pairs of the same shift: the chosen pair's reach stays, whichever deviation is smallest."""
    for seed in range(3):
        scores, member = world(seed, pairs=10, shifts=(1.0,) * 10)
        figures = figures_of(scores, member)
        deviations = [np.linalg.norm(figures[pair]["tpr"].influence) for pair in figures]
        least = int(np.argmin(deviations))
        assert max(deviations) > 1.15 * min(deviations)
        tied = type(named_pair(0))(least, np.arange(DRAWS) % 10)
        for pair in figures:  # the centres alike, so that nothing but the deviations differs
            moved = replace(figures[pair]["tpr"], centre=figures[least]["tpr"].centre)
            figures[pair] = {"tpr": moved if pair != least else figures[least]["tpr"]}
        (plain,) = strongest_estimates([named_pair(least)], [figures], 0)["tpr"]
        (wide,) = strongest_estimates([tied], [figures], 0)["tpr"]
        assert wide.high - wide.low == pytest.approx(plain.high - plain.low, rel=0.05)


def test_a_difference_between_equal_choices_is_paired():
    """The same pair on nearly the same scores: the difference is known far better than the figure."""
    scores, member = world(0, common=0.5)
    near = scores + 0.05 * np.random.default_rng(9).normal(size=scores.shape)
    baseline = strongest_estimates([named_pair(0)], [figures_of(scores, member)], 4)
    moved = strongest_estimates([named_pair(0)], [figures_of(near, member)], 4)
    measure = measures_from(moved, mode="population", baseline=baseline).aggregate["tpr"]
    width = measure.difference_high - measure.difference_low
    assert width < 0.6 * (measure.high - measure.low)
    same = measures_from(baseline, mode="population", baseline=baseline).aggregate["tpr"]
    assert (same.difference, same.p_value, same.verdict) == (0.0, 1.0, "not distinguishable")


def audits(count, shifts, seed):
    """Strongest TPR of one target at 5 % with its interval, and the best of its own, per audit."""
    rng = np.random.default_rng(seed)
    for audit in range(count):
        records, pairs, models = 600, 8, 5
        member = rng.random((models, records)).argsort(axis=1) < records // 2
        noise = rng.normal(size=(models, pairs, records)) + rng.normal(size=(models, 1, records))
        scores = noise / np.sqrt(2) + np.array(shifts)[:, None] * member[:, None]
        rates = [player_rates(scores[p], member[p], 0.05) for p in range(1, models)]
        changes = on_draws(np.mean([rate.influence for rate in rates], axis=0), audit)
        choice = choose_pair(np.mean([rate.value for rate in rates], axis=0), changes)
        figures = figures_of(scores[0], member[0])
        (strongest,) = strongest_estimates([choice], [figures], audit)["tpr"]
        best = max((by_metric["tpr"] for by_metric in figures.values()), key=lambda e: e.value)
        yield choice, strongest, best


@pytest.mark.usefixtures("shapes_unchecked")
def test_where_nothing_leaks_the_strongest_is_at_chance_and_the_best_of_its_own_is_not():
    above = np.array([[s.low > 0.05, b.low > 0.05] for _, s, b in audits(120, [0.0] * 8, 0)])
    assert above[:, 0].mean() <= 0.025 + 2 * np.sqrt(0.025 * 0.975 / 120)
    assert above[:, 1].mean() > 0.05


@pytest.mark.usefixtures("shapes_unchecked")
def test_the_pair_that_is_really_best_is_chosen_and_covered():
    truth = norm.cdf(1.5 + norm.ppf(0.05))
    results = list(audits(60, [0.5] * 5 + [1.5] + [0.5] * 2, 1))
    assert np.mean([choice.pair == 5 for choice, _, _ in results]) > 0.95
    covered = np.mean([strongest.low <= truth <= strongest.high for _, strongest, _ in results])
    assert covered >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 60)
