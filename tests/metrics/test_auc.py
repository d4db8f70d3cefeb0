"""The AUC that an audit of a given size would notice."""

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import mannwhitneyu, norm

from bitleak.metrics import detectable_auc, estimate_auc, mean_over_records, roc


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(("members", "non_members"), [(200, 200), (500, 100)])
def test_at_the_detectable_auc_four_of_five_audits_notice(members, non_members):
    area = detectable_auc(members, non_members)
    shift = ndtri(area) * np.sqrt(2)
    rng = np.random.default_rng(members)
    member = np.arange(members + non_members) < members
    found = [
        estimate_auc(roc(rng.standard_normal(len(member)) + shift * member, member)).low > 0.5
        for _ in range(1000)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.045)


def test_the_variance_at_one_half_is_that_of_mann_and_whitney():
    """A normal test at power 1/2 notices what is exactly one quantile away; SciPy's U test has the same p-value."""
    area = detectable_auc(40, 60, power=0.5, level=0.05)
    rng = np.random.default_rng(0)
    scores, member = rng.standard_normal(100), np.arange(100) < 40
    result = mannwhitneyu(
        scores[member], scores[~member], method="asymptotic", use_continuity=False
    )
    z = (result.statistic / 2400 - 0.5) / ((area - 0.5) / norm.ppf(0.975))
    assert result.pvalue == pytest.approx(2 * norm.sf(abs(z)))


@pytest.mark.usefixtures("shapes_unchecked")
def test_several_targets_on_the_same_records_notice_less_each():
    """Independent halves of shared records: the AUCs do not correlate although the scores do."""
    targets, records = 4, 400
    area = detectable_auc(200, 200, targets=targets)
    shift = ndtri(area) * np.sqrt(2)
    rng = np.random.default_rng(1)
    noticed = 0
    for _ in range(400):
        member = rng.random((targets, records)).argsort(axis=1) < 200
        shared, own = rng.standard_normal(records), rng.standard_normal(member.shape)
        scores = np.sqrt(0.5) * shared + np.sqrt(0.5) * own + shift * member
        areas = [estimate_auc(roc(*target)) for target in zip(scores, member, strict=True)]
        noticed += mean_over_records(areas).low > 0.5
    assert noticed / 400 == pytest.approx(0.8, abs=0.07)


def test_correlated_targets_are_worth_less():
    one, many = detectable_auc(300, 300), detectable_auc(300, 300, targets=9)
    assert many - 0.5 == pytest.approx((one - 0.5) / 3)
    assert detectable_auc(300, 300, targets=9, correlation=1.0) == pytest.approx(one)
    assert many < detectable_auc(300, 300, targets=9, correlation=0.3) < one


def test_too_few_records_notice_nothing():
    assert detectable_auc(2, 2) == 1.0


def test_bad_input_is_told():
    with pytest.raises(ValueError, match="members must be an integer of at least 1, got 0"):
        detectable_auc(0, 5)
    with pytest.raises(ValueError, match=r"power must be a number in \(0, 1\), got 1"):
        detectable_auc(5, 5, power=1)


SHAPES = {
    "normal": lambda rng, count, shift: rng.standard_normal(count) + shift,
    "few stand out": lambda rng, count, shift: np.where(
        rng.random(count) < 0.2, rng.standard_normal(count) + 4 * shift, rng.standard_normal(count)
    ),
}


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("few", [1, 2, 3, 5, 10, 30, 99])
@pytest.mark.parametrize(
    ("shape", "shift"), [("normal", 0.0), ("normal", 1.0), ("normal", 2.0), ("few stand out", 1.0)]
)
def test_the_interval_holds_with_few_members_or_non_members(few, shape, shift):
    rng = np.random.default_rng(few)
    many, audits = 300, 300
    draw = SHAPES[shape]
    truth = np.mean(
        np.searchsorted(np.sort(rng.standard_normal(100_000)), draw(rng, 100_000, shift)) / 100_000
    )
    missed = np.zeros((2, 2))
    for turn, members in enumerate((few, many)):
        member = np.arange(few + many) < members
        for _ in range(audits):
            scores = rng.standard_normal(few + many)
            scores[member] = draw(rng, members, shift)
            found = estimate_auc(roc(scores, member))
            missed[turn] += found.low > truth, found.high < truth
    # 2.5 % of 300 are 7.5; 15 or more have a chance of 1 %
    assert missed.max() < 0.025 * audits + 10


@pytest.mark.usefixtures("shapes_unchecked")
def test_three_members_are_no_evidence():
    rng = np.random.default_rng(0)
    scores, member = rng.standard_normal(1000), np.arange(1000) < 3
    scores[member] = np.quantile(scores, (0.05, 0.08, 0.12))  # all three low, by chance
    found = estimate_auc(roc(scores, member))
    assert found.value < 0.1
    assert found.high > 0.4
