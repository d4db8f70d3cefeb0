import time

import numpy as np
import pytest
from scipy.stats import norm

from bitleak.metrics import (
    accuracy_on_members,
    accuracy_on_test,
    agreement,
    estimate_metrics,
    measure,
    measures_from,
)

FPRS = (0.001, 0.01, 0.1)


def audit(seed, targets=4, records=2000, shift=1.5):
    rng = np.random.default_rng(seed)
    member = np.stack([rng.permutation(records) < records // 2 for _ in range(targets)])
    return shift * member + rng.standard_normal(member.shape), member


def test_metrics_have_the_names_of_the_table_and_intervals_hold_their_values():
    scores, member = audit(0)
    result = measure(scores, member, fprs=FPRS)
    assert list(result.aggregate) == [
        "auc",
        "tpr@0.001",
        "tpr@0.01",
        "tpr@0.1",
        "balanced_accuracy",
    ]
    for name, mean in result.aggregate.items():
        assert len(result.targets[name]) == 4
        assert mean.value == pytest.approx(np.mean([one.value for one in result.targets[name]]))
        assert mean.std == pytest.approx(
            np.std([one.value for one in result.targets[name]], ddof=1)
        )
        assert mean.interval == "records"
        assert mean.verdict == ""
        for one in (mean, *result.targets[name]):
            assert 0 <= one.low <= one.value <= one.high <= 1


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 2.0])
def test_the_intervals_contain_the_closed_forms_of_normal_scores(shift):
    """Quantiles in place of draws, so that no seed decides."""
    member = np.arange(20_000) % 2 == 0
    scores = np.repeat(norm.ppf((np.arange(10_000) + 0.5) / 10_000), 2) + shift * member
    found = measure(scores[None], member[None], fprs=FPRS).aggregate
    truth = {f"tpr@{fpr:g}": norm.cdf(shift + norm.ppf(fpr)) for fpr in FPRS}
    truth |= {"auc": norm.cdf(shift / np.sqrt(2)), "balanced_accuracy": norm.cdf(shift / 2)}
    assert {*found} == {*truth}
    for name, one in found.items():
        assert one.low <= truth[name] <= one.high, name
        assert one.high - one.low < 0.1, name


def test_with_one_target_the_aggregate_is_that_targets():
    scores, member = audit(1, targets=1)
    for mode in ("population", "dedicated"):
        result = measure(scores, member, fprs=FPRS, mode=mode, baseline=scores + 1)
        assert {name: (one,) for name, one in result.aggregate.items()} == dict(result.targets)
        assert all(one.std is None for one in result.aggregate.values())


def test_the_same_scores_are_not_distinguishable_from_themselves():
    scores, member = audit(2)
    for mode in ("population", "dedicated"):
        result = measure(scores, member, fprs=FPRS, mode=mode, baseline=scores)
        for mean in result.aggregate.values():
            assert mean.difference == 0
            assert mean.difference_low <= 0 <= mean.difference_high
            assert mean.verdict == "not distinguishable"


@pytest.mark.parametrize("mode", ["population", "dedicated"])
def test_verdicts_say_which_way(mode):
    scores, member = audit(3)
    noise = np.random.default_rng(4).standard_normal(scores.shape)
    hidden = measure(noise, member, fprs=(0.05,), mode=mode, baseline=scores).aggregate
    laid_bare = measure(scores, member, fprs=(0.05,), mode=mode, baseline=noise).aggregate
    for name in hidden:
        assert hidden[name].verdict == "lower"
        assert hidden[name].difference_high < 0
        assert laid_bare[name].verdict == "higher"
        assert hidden[name].difference == pytest.approx(-laid_bare[name].difference)


def test_one_expected_false_positive_reaches_down_to_zero():
    scores, member = audit(5, records=2000)
    rare = measure(scores, member, fprs=(0.001,)).aggregate["tpr@0.001"]
    assert rare.value > 0
    assert rare.low == 0


def test_an_fpr_that_takes_more_non_members_has_no_row():
    scores, member = audit(5, records=2000)
    result = measure(scores, member, fprs=(1e-5, 0.000999, 0.001), baseline=scores)
    assert [name for name in result.aggregate if name.startswith("tpr")] == ["tpr@0.001"]
    assert result.targets.keys() == result.aggregate.keys()


def test_any_increasing_map_of_the_scores_changes_nothing():
    scores, member = audit(7)
    assert measure(scores, member, fprs=FPRS) == measure(np.exp(scores / 3), member, fprs=FPRS)


def test_the_order_of_the_records_changes_no_value():
    scores, member = audit(8)
    order = np.random.default_rng(9).permutation(scores.shape[1])
    before = measure(scores, member, fprs=FPRS)
    after = measure(scores[:, order], member[:, order], fprs=FPRS)
    for name, one in before.aggregate.items():
        assert after.aggregate[name].value == pytest.approx(one.value, abs=1e-12)
        if name != "balanced_accuracy":  # its halvings are by the place of the record
            assert after.aggregate[name].low == pytest.approx(one.low, abs=1e-9)


def test_estimates_made_once_give_the_same_measures():
    scores, member = audit(10)
    baseline = estimate_metrics(scores, member, fprs=FPRS)
    variant = estimate_metrics(scores * 0.5 + 1, member, fprs=FPRS)
    once = measures_from(variant, mode="population", baseline=baseline)
    assert once == measure(scores * 0.5 + 1, member, fprs=FPRS, baseline=scores)


def test_targets_that_do_not_fit_are_refused():
    scores, member = audit(11)
    member[2] = True
    with pytest.raises(ValueError, match="needs members and non-members, got 2000 members of 2000"):
        measure(scores, member, fprs=FPRS)
    with pytest.raises(ValueError, match=r"fpr must be a number in \(0.0, 1.0\), got 1.0"):
        measure(*audit(11), fprs=(1.0,))


def test_accuracy_agreement_and_training_accuracy():
    rng = np.random.default_rng(12)
    labels = rng.integers(0, 10, 500)
    full = np.where(rng.random((3, 500)) < 0.9, labels, (labels + 1) % 10)
    variant = np.where(rng.random((3, 500)) < 0.8, full, (labels + 2) % 10)
    result = accuracy_on_test(variant, labels, baseline=full).aggregate["test_accuracy"]
    assert result.value == pytest.approx((variant == labels).mean())
    assert result.difference == pytest.approx((variant == labels).mean() - (full == labels).mean())
    assert result.verdict == "lower"
    assert agreement(variant, full).aggregate["agreement"].value == pytest.approx(
        (variant == full).mean()
    )
    member = rng.random((3, 500)) < 0.5
    correct = (variant == labels).astype(float)
    trained = accuracy_on_members(correct, member, baseline=correct).aggregate["train_accuracy"]
    assert trained.value == pytest.approx(
        np.mean([row[own].mean() for row, own in zip(correct, member, strict=True)])
    )
    assert trained.verdict == "not distinguishable"


def test_perfect_training_accuracy_keeps_an_interval():
    member = np.arange(200)[None] % 2 == 0
    one = accuracy_on_members(np.ones((1, 200)), member).aggregate["train_accuracy"]
    assert one.value == one.high == 1
    assert 0.95 < one.low < 1


def test_measures_of_several_kinds_are_joined():
    labels, predictions = np.arange(100) % 3, np.zeros((1, 100), np.int64)
    joined = accuracy_on_test(predictions, labels) | agreement(predictions, predictions)
    assert set(joined.aggregate) == set(joined.targets) == {"test_accuracy", "agreement"}


def test_an_audits_worth_of_measures_takes_no_time():
    scores, member = audit(13, targets=8, records=4000)
    start = time.perf_counter()
    measure(scores, member, fprs=(0.001, 0.01), baseline=scores[:, ::-1].copy())
    assert time.perf_counter() - start < 1.5


def test_an_fpr_of_one_in_a_hundred_thousand_is_measured_where_there_are_so_many():
    rng = np.random.default_rng(14)
    member = np.arange(300_000) % 3 == 0
    scores = rng.standard_normal(300_000) + 3 * member
    result = measure(scores[None], member[None], fprs=(1e-5,)).aggregate["tpr@1e-05"]
    assert result.value == np.mean(
        scores[member] > np.sort(scores[~member])[-3]
    )  # 2 of 200,000 non-members
    assert result.low < norm.sf(norm.isf(1e-5) - 3) < result.high
