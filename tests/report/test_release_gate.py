"""Limits on a run: the tests' levels against scipy and slow loops, and the four outcomes."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bitleak.core.errors import ConfigError, InputError
from bitleak.core.types import Measure, Row
from bitleak.report.release_gate import Limit, check_limits, evaluate_limit

ATTACK = "lira-online-fixed"


def measure(value=0.6, low=0.58, high=0.62, **fields):
    return Measure(value, low=low, high=high, interval="records", about="records", **fields)


def gate_rows(areas, control=(0.48, 0.52)):
    """Rows of variants by name: AUC with its ends, or a whole measure."""
    rows = [Row("control", "", None, ATTACK, "fp32", "all", "auc", measure(0.5, *control))]
    for name, area in areas.items():
        shown = area if isinstance(area, Measure) else measure(*area)
        rows.append(Row(name, "rtn", 4, ATTACK, "matched", "all", "auc", shown))
        accuracy = measure(
            0.9, 0.88, 0.92, difference=-0.02, difference_low=-0.03, difference_high=-0.01
        )
        rows.append(Row(name, "rtn", 4, "", "", "all", "test_accuracy", accuracy))
    return rows


def outcomes(areas, summary, *limits, **options):
    result = check_limits(
        gate_rows(areas, **options), summary, limits, adversary=f"{ATTACK}/matched"
    )
    return {check.variant: check.outcome for check in result.variants}


@pytest.mark.parametrize(("limit", "of_pass", "of_fail"), [(0.62, 0.025, 1.0), (0.58, 1.0, 0.025)])
def test_a_limit_at_an_end_of_the_95_percent_interval_has_the_level_of_that_end(
    limit, of_pass, of_fail
):
    check = evaluate_limit(Limit("auc", limit), measure(), targets=8)
    assert check.p_pass == pytest.approx(of_pass)
    assert check.p_fail == pytest.approx(of_fail)


@pytest.mark.parametrize("limit", [0.605, 0.61, 0.63, 0.7])
def test_p_values_are_those_of_a_z_test_where_the_interval_is_a_normal_ones(limit):
    error = 0.02 / stats.norm.ppf(0.975)
    check = evaluate_limit(Limit("auc", limit), measure(), targets=8)
    assert check.p_pass == pytest.approx(stats.norm.cdf((0.6 - limit) / error))


def test_intervals_about_trainings_have_the_larger_p_value_of_normal_and_t():
    for limit in (0.61, 0.65):
        of_trainings = replace(measure(), about="trainings")
        check = evaluate_limit(Limit("auc", limit), of_trainings, targets=5)
        scaled = (limit - 0.6) / 0.02
        normal = stats.norm.sf(scaled * stats.norm.ppf(0.975))
        student = stats.t.sf(scaled * stats.t.ppf(0.975, 4), 4)
        assert check.p_pass == pytest.approx(max(normal, student))


def test_an_end_at_the_range_of_the_figure_bounds_nothing():
    rare = measure(0.004, 0.0, 0.012)
    assert evaluate_limit(Limit("tpr@0.01", 0.0005), rare, targets=1).p_fail == 1.0
    assert evaluate_limit(Limit("tpr@0.01", 0.012), rare, targets=1).p_pass == pytest.approx(0.025)
    full = measure(0.98, 0.95, 1.0)
    assert evaluate_limit(Limit("auc", 0.99), full, targets=1).p_pass == 1.0


def test_the_centre_of_a_biased_figure_is_its_unbiased_one():
    check = evaluate_limit(
        Limit("auc", 0.62), replace(measure(0.61, 0.58, 0.62), unbiased=0.6), targets=8
    )
    assert check.p_pass == pytest.approx(0.025)
    assert check.value == 0.61


def test_a_loss_of_accuracy_is_the_negative_difference_with_its_ends_exchanged():
    accuracy = measure(0.9, difference=-0.02, difference_low=-0.03, difference_high=-0.015)
    check = evaluate_limit(Limit("test_accuracy", 0.03), accuracy, targets=8)
    assert (check.value, check.low, check.high) == (0.02, 0.015, 0.03)
    assert check.p_pass == pytest.approx(0.025)
    assert evaluate_limit(Limit("test_accuracy", 0.015), accuracy, 8).p_fail == pytest.approx(0.025)


def test_a_margin_bounds_the_paired_difference_from_full_precision():
    compared = measure(0.6, difference=0.004, difference_low=0.0, difference_high=0.01)
    check = evaluate_limit(Limit("auc", 0.01, change=True), compared, targets=8)
    assert check.value == 0.004
    assert check.p_pass == pytest.approx(0.025)


def test_all_limits_must_pass_and_one_fails_all(summary):
    low, high = (0.55, 0.54, 0.56), (0.65, 0.64, 0.66)
    loose, tight = Limit("test_accuracy", 0.04), Limit("test_accuracy", 0.001)
    auc = Limit("auc", 0.6)
    areas = {"rtn-4": low, "rtn-2": high, "rtn-1.58": (0.6, 0.58, 0.62)}
    expected = {"rtn-4": "pass", "rtn-2": "fail", "rtn-1.58": "inconclusive"}
    assert outcomes(areas, summary, auc, loose) == expected
    assert set(outcomes(areas, summary, auc, tight).values()) == {"fail"}


def test_passes_and_fails_are_corrected_over_variants_by_holm(summary):
    rng = np.random.default_rng(0)
    values = rng.uniform(0.55, 0.65, 12)
    areas = {
        f"rtn-4+v{index}": (value, value - 0.02, value + 0.02) for index, value in enumerate(values)
    }
    error = 0.02 / stats.norm.ppf(0.975)
    for of_interest in ("pass", "fail"):
        sign = 1 if of_interest == "pass" else -1
        single = [stats.norm.cdf(sign * (value - 0.6) / error) if sign * (value - 0.6) < 0 else 1.0
                  for value in values]  # fmt: skip
        order, rejected = np.argsort(single), set()
        for rank, index in enumerate(order):  # Holm's procedure, step by step
            if single[index] >= 0.05 / (len(values) - rank):
                break
            rejected.add(f"rtn-4+v{index}")
        shown = outcomes(areas, summary, Limit("auc", 0.6))
        assert {name for name, outcome in shown.items() if outcome == of_interest} == rejected
        assert 0 < len(rejected) < len(values)


def test_a_fail_is_corrected_over_its_limits(summary):
    # one-sided p = .03: a fail alone, none among two limits
    reach = 0.02 / stats.norm.ppf(0.975) * stats.norm.ppf(0.97)
    areas = {"rtn-2": (0.6 + reach, 0.6 + reach - 0.02, 0.6 + reach + 0.02)}
    assert outcomes(areas, summary, Limit("auc", 0.6)) == {"rtn-2": "fail"}
    both = Limit("auc", 0.6), Limit("test_accuracy", 0.5)
    assert outcomes(areas, summary, *both) == {"rtn-2": "inconclusive"}


def test_the_data_that_would_decide_have_80_percent_power_if_the_estimate_is_true(summary):
    areas = {"rtn-2": (0.59, 0.57, 0.61)}
    result = check_limits(
        gate_rows(areas), summary, [Limit("auc", 0.6)], adversary=f"{ATTACK}/matched"
    )
    factor = result.variants[0].limits[0].factor
    error = 0.02 / stats.norm.ppf(0.975) / math.sqrt(factor)
    power = stats.norm.cdf(0.01 / error - stats.norm.ppf(0.95))
    assert power == pytest.approx(0.8)
    # 25,751 records, in two digits and never fewer
    assert math.ceil(4000 * factor) == 25_751
    assert result.variants[0].needed.startswith("about 26,000 records")


def test_an_estimate_at_the_limit_is_decided_by_no_data(summary):
    result = check_limits(
        gate_rows({"rtn-2": (0.6, 0.58, 0.62)}), summary, [Limit("auc", 0.6)],
        adversary=f"{ATTACK}/matched",
    )  # fmt: skip
    assert result.variants[0].outcome == "inconclusive"
    assert result.variants[0].needed.startswith("none: the estimate lies at the limit")


@pytest.mark.parametrize(
    ("area", "reason"),
    [
        (Measure(0.5), "no interval"),
        (Measure(0.5, interval="step", step_value=0.7, step_fpr=0.02), "tied scores"),
    ],
)
def test_a_figure_without_an_interval_is_not_evaluable(area, reason, summary):
    result = check_limits(
        gate_rows({"rtn-2": area}), summary, [Limit("auc", 0.6)], adversary=f"{ATTACK}/matched"
    )
    assert result.outcome == "not evaluable"
    assert reason in result.variants[0].limits[0].reason


def test_a_control_off_chance_makes_every_outcome_not_evaluable(summary):
    areas = {"rtn-4": (0.55, 0.54, 0.56), "rtn-2": (0.65, 0.64, 0.66)}
    shown = outcomes(areas, summary, Limit("auc", 0.6), control=(0.58, 0.62))
    assert shown == {"rtn-4": "not evaluable", "rtn-2": "not evaluable"}


def test_a_fail_counts_before_all_other_outcomes(summary):
    areas = {"rtn-4": (0.55, 0.54, 0.56), "rtn-2": (0.65, 0.64, 0.66), "rtn-1.58": Measure(0.5)}
    result = check_limits(
        gate_rows(areas), summary, [Limit("auc", 0.6)], adversary=f"{ATTACK}/matched"
    )
    assert result.outcome == "fail"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("epsilon", 1.0), "lower bound"),
        (("bytes", 1.0), "expected one of auc"),
        (("auc", 1.5), "from 0 to 1, got 1.5"),
        (("auc", math.nan), "from 0 to 1, got nan"),
        (("TPR", 0.1), "limit on 'TPR'"),
    ],
)
def test_limits_that_cannot_hold_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Limit(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adversary": "strongest"}, "name one, such as lira"),
        ({"adversary": "lira-online-fixed/matchd"}, "did you mean lira-online-fixed/matched"),
        ({"variants": ["rtn-3"]}, "no variant 'rtn-3'; the run has fp32, rtn-2"),
        ({"limits": [Limit("tpr@0.5", 0.6)]}, "the run has no such figure; it has auc"),
        ({"limits": [Limit("auc", 0.6)] * 2}, "given twice"),
        ({"limits": []}, "at least one limit"),
    ],
)
def test_mistakes_are_named(options, message, summary):
    values = {"limits": [Limit("auc", 0.6)], "adversary": f"{ATTACK}/matched", **options}
    limits = values.pop("limits")
    with pytest.raises((InputError, ConfigError), match=message):
        check_limits(gate_rows({"rtn-2": (0.6, 0.58, 0.62)}), summary, limits, **values)


def test_members_that_are_recognized_without_the_model_make_a_run_not_evaluable(summary):
    blind = replace(summary, headline_attack="blind", headline_reference="")
    rows = [row for row in gate_rows({"rtn-2": (0.55, 0.53, 0.57)}) if row.metric != "auc"]
    result = check_limits(rows, blind, [Limit("auc", 0.6), Limit("test_accuracy", 0.05)])
    assert result.outcome == "not evaluable"
    for check in result.variants[0].limits:
        assert check.reason.startswith("members and others are told apart without the model")
