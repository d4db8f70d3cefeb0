"""Means and differences over dedicated targets, for models trained anew."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm, t

from bitleak.metrics import (
    Estimate,
    detectable_auc,
    difference_over_trainings,
    estimate_auc,
    estimate_tpr,
    mean_over_records,
    mean_over_trainings,
    measures_from,
    roc,
)
from bitleak.metrics.intervals import difference_over_records

Z = norm.ppf(0.975)
COMMON, ALONE, TRAINING = (
    0.3,
    0.8,
    0.6,
)  # deviations: of all targets, of one over records, over trainings


def figure(centre, influence, reach=None):
    """An estimate whose interval is Z deviations of its influence to both sides."""
    reach = Z * np.sqrt(influence @ influence) if reach is None else reach
    centre, reach = float(centre), float(reach)
    low, high = centre - reach, centre + reach
    return Estimate(centre, centre, low, high, influence, "delong", (-9.0, 9.0))


def targets_of(rng, count, *, truth=0.0, common=COMMON, training=TRAINING):
    """Figures with a part that all targets share, one of their own records and one of their
    training."""
    influences = np.zeros((count, count + 1))
    influences[:, 0] = common
    influences[np.arange(count), np.arange(count) + 1] = ALONE
    noise = influences @ rng.standard_normal(count + 1)
    centres = truth + noise + training * rng.standard_normal(count)
    return [figure(centre, row) for centre, row in zip(centres, influences, strict=True)]


def student(figures):
    """Student's interval, which knows of the spread over targets alone."""
    centres = [figure.centre for figure in figures]
    error = np.std(centres, ddof=1) / len(centres) ** 0.5
    return t.interval(0.95, len(centres) - 1, np.mean(centres), error)


def slow_reach(figures, level):
    """The formulas of the module's docstring, in the order they are written."""
    count = len(figures)
    centres = [figure.centre for figure in figures]
    r2 = COMMON**2 + ALONE**2 / count
    o2 = (COMMON**2 + ALONE**2) / count
    s2 = np.var(centres, ddof=1) / count
    v = r2 + max(0.0, s2 - o2)
    freedom = v**2 * (count - 1) / s2**2 if s2 > o2 else 1e9
    quantile = (1 + level) / 2
    return max(t.ppf(quantile, count - 1) * s2**0.5, t.ppf(quantile, freedom) * v**0.5)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [5, 12])
def test_the_interval_is_that_of_the_formulas(seed, count):
    figures = targets_of(np.random.default_rng(seed), count)
    mean = mean_over_trainings(figures)
    reach = slow_reach(figures, 0.95)
    assert mean.interval == "t"
    assert mean.reach == pytest.approx((reach, reach), rel=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_the_p_value_is_that_of_the_level_at_which_the_interval_ends_at_0(seed):
    figures = targets_of(np.random.default_rng(seed), 6, truth=1.5)
    zero = [figure(0.0, np.zeros(7), reach=0.0) for _ in figures]
    difference = difference_over_trainings(figures, zero)
    level = brentq(lambda level: slow_reach(figures, level) - difference.value, 1e-6, 1 - 1e-9)
    assert difference.p_value == pytest.approx(1 - level, rel=1e-3)
    assert (difference.p_value < 0.05) == (difference.low > 0)


@pytest.mark.parametrize("training", [0.0, TRAINING, 3.0])
@pytest.mark.parametrize("count", [5, 10])
@pytest.mark.usefixtures("shapes_unchecked")
def test_new_trainings_on_other_records_are_covered(count, training):
    """Also where trainings add nothing, and where they are nearly all; Student's t alone covers
    less."""
    rng = np.random.default_rng(count)
    inside, inside_student = [], []
    for _ in range(500):
        figures = targets_of(rng, count, training=training)
        mean = mean_over_trainings(figures)
        low, high = student(figures)
        inside.append(mean.low <= 0 <= mean.high)
        inside_student.append(low <= 0 <= high)
    assert 0.925 <= np.mean(inside) <= 0.99
    if training < 1:
        assert np.mean(inside_student) < 0.93


def test_it_is_never_narrower_than_over_records_or_over_targets():
    rng = np.random.default_rng(0)
    for _ in range(50):
        figures = targets_of(rng, 7, training=rng.choice([0.0, 1.0]))
        wide = mean_over_trainings(figures)
        for low, high in ((mean_over_records(figures).low, mean_over_records(figures).high),
                          student(figures)):  # fmt: skip
            assert wide.low <= low + 1e-12
            assert wide.high >= high - 1e-12


def test_equal_counts_in_all_targets_are_no_certainty():
    """The deviation over targets is 0: Student's interval has no width, and its p-value would be 0."""
    influences = np.eye(12) * 0.2
    figures = [figure(0.1, row) for row in influences[:6]]
    zero = [figure(0.0, row) for row in influences[6:]]
    difference = difference_over_trainings(figures, zero)
    over_records = difference_over_records(mean_over_records(figures), mean_over_records(zero))
    assert difference == pytest.approx(over_records)
    assert difference.p_value > 0.05


@pytest.mark.parametrize("count", [2, 4])
def test_fewer_than_five_targets_say_nothing_about_new_trainings(count):
    estimates = {"auc": tuple(targets_of(np.random.default_rng(1), count))}
    mean, over_records = mean_over_trainings(estimates["auc"]), mean_over_records(estimates["auc"])
    assert (mean.low, mean.high) == (over_records.low, over_records.high)
    total = measures_from(estimates, mode="dedicated").aggregate["auc"]
    assert total == measures_from(estimates, mode="population").aggregate["auc"]
    assert (total.interval, total.about) == ("records", "records")


def test_five_targets_speak_about_new_trainings():
    estimates = {"auc": tuple(targets_of(np.random.default_rng(1), 5))}
    kinds = {}
    for mode in ("dedicated", "population"):
        measures = measures_from(estimates, mode=mode, baseline=estimates)
        total = measures.aggregate["auc"]
        kinds[mode] = (total.interval, total.about)
        assert {target.about for target in measures.targets["auc"]} == {"records"}
    assert kinds == {"dedicated": ("t", "trainings"), "population": ("records", "records")}


def test_a_bias_with_few_false_positives_does_not_average_out():
    """150 non-members at 1 %: half the chance of none, 11 %, is missing from every target's
    centre."""
    rng, shift = np.random.default_rng(2), 3.6
    member = rng.random((30, 300)).argsort(axis=1) < 150
    scores = rng.standard_normal(member.shape) + shift * member
    figures = [estimate_tpr(roc(*target), 0.01) for target in zip(scores, member, strict=True)]
    truth = norm.cdf(shift - norm.ppf(0.99))
    assert mean_over_records(figures).centre < truth - 0.04
    highs = [estimate.high for estimate in figures]
    assert mean_over_trainings(figures).high == pytest.approx(np.mean(highs))
    assert mean_over_trainings(figures).high > truth


@pytest.mark.parametrize("count", [5, 10])
@pytest.mark.usefixtures("shapes_unchecked")
def test_at_the_detectable_auc_over_trainings_four_of_five_audits_notice(count):
    """Figures drawn from the normal that the power is computed for; with the normal's quantile it
    is 55 and 71 %."""
    members, rng = 200, np.random.default_rng(3)
    deviation = np.sqrt((2 * members + 1) / (12 * members**2))
    distance = detectable_auc(members, members, targets=count, about="trainings") - 0.5
    noticed = []
    for _ in range(600):
        centres = distance + deviation * rng.standard_normal(count)
        rows = deviation * np.eye(count)
        figures = [figure(centre, row) for centre, row in zip(centres, rows, strict=True)]
        noticed.append(mean_over_trainings(figures).low > 0)
    assert np.mean(noticed) == pytest.approx(0.8, abs=0.05)


def test_no_auc_is_detectable_over_fewer_than_five_trainings():
    assert detectable_auc(25_000, 25_000, targets=4, about="trainings") == 1.0
    many = detectable_auc(500, 500, targets=200, about="trainings")
    assert many == pytest.approx(detectable_auc(500, 500, targets=200), abs=2e-4)


@pytest.mark.usefixtures("shapes_unchecked")
def test_vulnerabilities_that_targets_share_are_part_of_the_interval():
    """Ten targets, half of whose records each: a vulnerability N(0, 1) per record, and trainings
    N(0, 0.1^2). The interval is about new trainings on other records; Student's is not."""
    targets, records, audits = 10, 300, 120
    shift = norm.ppf(0.7) * np.sqrt(2 + 1 + 0.1**2)
    inside, inside_student = [], []
    for audit in range(audits):
        rng = np.random.default_rng([7, audit])
        member = rng.random((targets, records)).argsort(axis=1) < records // 2
        signal = shift + 0.1 * rng.standard_normal((targets, 1)) + rng.standard_normal(records)
        scores = signal * member + rng.standard_normal(member.shape)
        figures = [estimate_auc(roc(*target)) for target in zip(scores, member, strict=True)]
        total = measures_from({"auc": tuple(figures)}, mode="dedicated").aggregate["auc"]
        low, high = student(figures)
        inside.append(total.low <= 0.7 <= total.high)
        inside_student.append(low <= 0.7 <= high)
    assert 0.89 <= np.mean(inside) < 1  # 95 % and three standard errors
    assert np.mean(inside_student) < 0.89
