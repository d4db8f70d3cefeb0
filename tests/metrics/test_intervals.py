"""Means over targets and paired differences, against resampling and textbook forms."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from bitleak.metrics import (
    auc,
    difference_over_records,
    difference_over_trainings,
    estimate_auc,
    estimate_proportion,
    estimate_tpr,
    mean_over_records,
    roc,
    wilson,
)

Z = 1.959963984540054


def population(seed, targets=4, records=600, shift=1.0, shared=0.8):
    """Targets on complementary halves whose scores share most of their noise, and a weaker variant."""
    rng = np.random.default_rng(seed)
    halves = rng.random((targets // 2, records)).argsort(axis=1) < records // 2
    member = np.stack([halves, ~halves], axis=1).reshape(targets, records)
    noise = np.sqrt(shared) * rng.standard_normal(records) + np.sqrt(
        1 - shared
    ) * rng.standard_normal(member.shape)
    other = noise + 0.3 * rng.standard_normal(member.shape)
    return shift * member + noise, 0.8 * shift * member + other, member


def areas(scores, member):
    return [estimate_auc(roc(*target)) for target in zip(scores, member, strict=True)]


def resampled(seed, scores, other, member, times=400):
    """Mean AUC and its change, over draws of records that are the same for all targets."""
    rng = np.random.default_rng(seed)
    means, changes = [], []
    for _ in range(times):
        drawn = rng.integers(0, scores.shape[1], scores.shape[1])
        first, second = (
            np.mean(
                [
                    auc(roc(row[drawn], truth[drawn]))
                    for row, truth in zip(rows, member, strict=True)
                ]
            )
            for rows in (other, scores)
        )
        means.append(second)
        changes.append(first - second)
    return np.std(means), np.std(changes)


@pytest.mark.usefixtures("shapes_unchecked")
def test_the_mean_and_its_change_have_the_error_of_resampled_records():
    scores, other, member = population(0)
    mean_error, change_error = resampled(1, scores, other, member)
    mean, weaker = mean_over_records(areas(scores, member)), mean_over_records(areas(other, member))
    assert sum(mean.reach) / 2 / Z == pytest.approx(mean_error, rel=0.12)
    _, low, high, _ = difference_over_records(weaker, mean)
    assert (high - low) / 2 / Z == pytest.approx(change_error, rel=0.12)
    independent = np.sqrt(sum(sum(one.reach) ** 2 for one in areas(scores, member))) / 4 / 2 / Z
    assert independent != pytest.approx(mean_error, rel=0.12)


def test_one_target_is_its_own_mean():
    scores, _, member = population(2)
    one = areas(scores, member)[:1]
    assert mean_over_records(one) is one[0]


def test_twice_the_same_target_is_no_more_certain():
    scores, _, member = population(3)
    for one in (areas(scores, member)[0], estimate_tpr(roc(scores[0], member[0]), 0.1)):
        twice = mean_over_records([one, one])
        assert twice.low == pytest.approx(one.low)
        assert twice.high == pytest.approx(one.high)


def test_unrelated_targets_are_more_certain_by_the_root_of_their_number():
    apart = [np.zeros(800, bool) for _ in range(4)]
    success = np.random.default_rng(4).random(800) < 0.5
    for index, counted in enumerate(apart):
        counted[200 * index : 200 * (index + 1)] = True
    shares = [estimate_proportion(success, counted) for counted in apart]
    mean = mean_over_records(shares)
    assert mean.high - mean.low == pytest.approx(
        np.mean([one.high - one.low for one in shares]) / 2, rel=0.01
    )


def test_the_mean_of_unrelated_shares_has_nearly_the_interval_of_the_pooled_share():
    """Wilson's interval of 32 errors among 3,200 records, from four shares of 800 each; not so by sqrt(sum l^2)."""
    success, shares = np.arange(3200) % 100 > 0, []
    for index in range(4):
        counted = np.zeros(3200, bool)
        counted[800 * index : 800 * (index + 1)] = True
        shares.append(estimate_proportion(success, counted))
    mean, (low, high) = mean_over_records(shares), wilson(3168, 3200)
    assert (mean.low, mean.high) == pytest.approx((low, high), abs=0.06 * (high - low))
    plain = np.sqrt(sum(share.reach[1] ** 2 for share in shares)) / 4
    assert abs(mean.centre + plain - high) > 0.06 * (high - low)


def test_a_paired_difference_of_shares_is_newcombes_tenth_method():
    """Newcombe (1998) without the continuity correction of phi, from the table of counts."""
    both, first_only, second_only, neither = 53, 16, 9, 22
    first = np.repeat([True, True, False, False], [both, first_only, second_only, neither])
    second = np.repeat([True, False, True, False], [both, first_only, second_only, neither])
    total, share, other = 100, 0.69, 0.62
    phi = (both * neither - first_only * second_only) / np.sqrt(69 * 31 * 62 * 38)
    (low, high), (other_low, other_high) = wilson(69, total), wilson(62, total)
    below = np.sqrt(
        (share - low) ** 2
        + (other_high - other) ** 2
        - 2 * phi * (share - low) * (other_high - other)
    )
    above = np.sqrt(
        (high - share) ** 2
        + (other - other_low) ** 2
        - 2 * phi * (high - share) * (other - other_low)
    )
    found = difference_over_records(estimate_proportion(first), estimate_proportion(second))
    np.testing.assert_allclose(found[:3], [0.07, 0.07 - below, 0.07 + above])


def test_what_is_unbounded_stays_so_in_means_and_differences():
    scores, other, member = population(6)
    rare = [estimate_tpr(roc(*target), 0.001) for target in zip(scores, member, strict=True)]
    weaker = [estimate_tpr(roc(*target), 0.001) for target in zip(other, member, strict=True)]
    mean = mean_over_records(rare)
    assert mean.low == -np.inf
    assert np.isfinite(mean.high)
    assert difference_over_records(mean_over_records(weaker), mean)[1:] == (-np.inf, np.inf, 1.0)
    fewest = [*rare, *rare], [*weaker, *weaker]
    assert difference_over_trainings(*fewest)[1:] == (-np.inf, np.inf, 1.0)


def test_without_variance_a_mean_is_taken_as_fully_correlated():
    scores, member = np.arange(100.0), np.arange(100) >= 50
    perfect = estimate_auc(roc(scores, member))
    mean = mean_over_records([perfect, perfect])
    assert mean.low == pytest.approx(perfect.low)
    noisy = estimate_auc(roc(np.random.default_rng(0).permutation(scores), member))
    value, low, high, _ = difference_over_records(noisy, perfect)
    assert low < value < high < 0
    narrower = replace(perfect, low=1.0)
    assert difference_over_records(noisy, narrower)[2] < high


def test_the_p_value_is_where_the_interval_ends_at_zero():
    """Widened or narrowed by the quantile of 1 - p, the interval has its end at 0."""
    scores, other, member = population(7, shift=0.2)
    first, second = (
        mean_over_records(areas(other, member)),
        mean_over_records(areas(scores, member)),
    )
    for one, another in ((first, second), (second, first)):
        value, low, high, p_value = difference_over_records(one, another)
        reach = value - low if value > 0 else high - value
        assert norm.isf(p_value / 2) / Z * reach == pytest.approx(abs(value))
        assert (p_value < 0.05) == (low > 0 or high < 0)


def test_p_values_of_equal_attacks_are_uniform():
    """A variant whose noise is drawn as the baseline's is: no difference in truth."""
    found = []
    for seed in range(300):
        rng = np.random.default_rng([8, seed])
        member = np.arange(400) % 2 == 0
        noise = rng.standard_normal(400)
        rows = [member + noise + 0.5 * rng.standard_normal(400) for _ in range(2)]
        found.append(
            difference_over_records(*[estimate_auc(roc(row, member)) for row in rows]).p_value
        )
    for level in (0.05, 0.25, 0.5):
        assert np.mean(np.array(found) < level) == pytest.approx(
            level, abs=3.5 * np.sqrt(level * (1 - level) / 300)
        )


def test_nothing_is_claimed_where_value_and_centre_point_different_ways():
    scores, other, member = population(9)
    first, second = estimate_auc(roc(other[0], member[0])), estimate_auc(roc(scores[0], member[0]))
    opposed = replace(second, value=first.value - (second.value - first.value))
    assert difference_over_records(first, second).p_value < 0.05
    assert difference_over_records(first, opposed).p_value == 1.0
