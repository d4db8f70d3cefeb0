"""Holm's correction against its step-down form, and over a table of rows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from bitleak.core.types import Measure, Row
from bitleak.metrics import HEADLINE, adjust_verdicts, holm, holm_with_headline

chances = st.floats(0, 1)


def stepping_down(p_values, level):
    """Holm's procedure as he states it: reject while p_(i) <= level / (m - i + 1)."""
    rejected = set()
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > level / (len(p_values) - rank):
            break
        rejected.add(index)
    return rejected


@given(st.lists(chances, max_size=12), st.floats(0.001, 0.5))
@settings(max_examples=200, deadline=None)
def test_adjusted_values_reject_what_the_stepping_down_rejects(p_values, level):
    adjusted = holm(p_values)
    nearly = [index for index, value in enumerate(adjusted) if abs(value - level) < 1e-9]
    found = {index for index, value in enumerate(adjusted) if value <= level}
    assert found ^ stepping_down(p_values, level) <= set(nearly)
    assert (adjusted >= np.array(p_values)).all()
    assert (adjusted <= 1).all()


def test_any_false_call_is_as_rare_as_promised_whatever_the_dependence():
    rng = np.random.default_rng(0)
    for shared in (0.0, 0.9):
        calls = 0
        for _ in range(2000):
            z = np.sqrt(shared) * rng.standard_normal() + np.sqrt(1 - shared) * rng.standard_normal(
                12
            )
            p_values = 2 * ndtr(-np.abs(z))
            calls += (holm(p_values) < 0.05).any()
        assert calls / 2000 < 0.05 + 3 * 0.005


def row(variant, p_value, *, metric="auc", target="all", attack="threshold", change=-0.1):
    measure = Measure(
        0.6,
        difference=change,
        difference_low=-0.2,
        difference_high=0.2,
        p_value=p_value,
        verdict="old",
    )
    return Row(variant, "rtn", 4, attack, "", target, metric, measure)


def test_families_are_metric_by_metric_and_target_by_target():
    rows = [
        row("a", 0.01),
        row("a", 0.02, attack="lira", change=0.1),
        row("b", 0.04),
        row("a", 0.04, metric="tpr@0.01"),
        row("a", 0.03, target="0"),
        row("control", 0.001),
    ]
    adjusted = [one.measure.p_adjusted for one in adjust_verdicts(rows)]
    assert adjusted == pytest.approx([0.03, 0.04, 0.04, 0.04, 0.03, 0.001])
    rows[1:1] = [row("c", 0.5), row("d", 0.5)]
    judged = {
        (one.variant, one.attack, one.metric): one.measure
        for one in adjust_verdicts(rows)
        if one.target == "all"
    }
    assert judged["a", "threshold", "auc"].p_adjusted == pytest.approx(0.05)
    assert judged["a", "threshold", "auc"].verdict == "not distinguishable"
    assert judged["a", "threshold", "tpr@0.01"].verdict == "lower"


def test_verdicts_follow_the_sign_of_the_difference():
    first, second = adjust_verdicts([row("a", 0.001), row("b", 0.002, change=0.1)])
    assert (first.measure.verdict, second.measure.verdict) == ("lower", "higher")


def test_rows_without_a_p_value_stay_as_they_are():
    rows = [Row("fp32", "", None, "", "", "all", "bytes", Measure(3.0)), row("a", 0.2)]
    found = adjust_verdicts(rows)
    assert found[0] == rows[0]
    assert replace(found[1].measure, p_adjusted=None, verdict="old", family="") == rows[1].measure
    assert adjust_verdicts([]) == []


def stepping_in_two_parts(headline, rest, level):
    """The graphical procedure, hypothesis by hypothesis: an emptied part passes its level on."""
    parts, levels = [dict(enumerate(headline)), dict(enumerate(rest))], [0.8 * level, 0.2 * level]
    rejected = set()
    while True:
        for part in (0, 1):
            if not parts[part]:
                levels[1 - part], levels[part] = levels[0] + levels[1], 0.0
        chosen = [
            (part, index)
            for part in (0, 1)
            for index, p_value in parts[part].items()
            if p_value <= levels[part] / len(parts[part])
        ]
        if not chosen:
            return rejected
        part, index = chosen[0]
        rejected.add((part, index))
        del parts[part][index]


@given(st.lists(chances, max_size=6), st.lists(chances, max_size=6), st.floats(0.01, 0.5))
@settings(max_examples=200, deadline=None)
def test_a_headline_and_its_rest_reject_what_the_graphical_procedure_rejects(headline, rest, level):
    parts = holm_with_headline([p * level for p in headline], [p * level for p in rest])
    assert all((part >= 0).all() and (part <= 1).all() for part in parts)
    nearly = any(abs(value - level) < 1e-9 for part in parts for value in part)
    found = {
        (place, index)
        for place, part in enumerate(parts)
        for index, p in enumerate(part)
        if p <= level
    }
    scaled = [p * level for p in headline], [p * level for p in rest]
    assert nearly or found == stepping_in_two_parts(*scaled, level)


def test_without_a_headline_and_without_a_rest_it_is_holms():
    p_values = [0.01, 0.2, 0.03]
    np.testing.assert_allclose(holm_with_headline([], p_values)[1], holm(p_values))
    np.testing.assert_allclose(holm_with_headline(p_values, [])[0], holm(p_values))


@pytest.mark.parametrize("shared", [0.0, 0.9])
@pytest.mark.parametrize(
    "differ", ["nothing", "all of the headline", "half of the headline", "all of the rest"]
)
def test_any_false_call_in_both_parts_together_is_rare_whatever_differs(shared, differ):
    """1,000 tables of 9 planned and 100 other comparisons; those that differ do so by 6 errors."""
    places = {"nothing": [], "all of the headline": range(9), "half of the headline": range(4)}
    rng, effects, calls = np.random.default_rng(0), np.zeros(109), 0
    effects[places.get(differ, range(9, 109))] = 6.0
    for _ in range(1000):
        noise = np.sqrt(shared) * rng.standard_normal() + np.sqrt(1 - shared) * rng.standard_normal(
            109
        )
        p_values = 2 * ndtr(-np.abs(effects + noise))
        adjusted = np.concatenate(holm_with_headline(p_values[:9], p_values[9:]))
        calls += (adjusted[effects == 0] < 0.05).any()
    assert calls / 1000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_a_planned_comparison_is_not_hidden_by_hundreds_of_others():
    """p = .0013 for one variant of the headline, among 469 comparisons of the metric."""
    p_values, rate = [0.0013, *[0.4] * 8], {"metric": "tpr@0.01"}
    planned = [
        row(f"rtn-{place}", p_value, attack="lira", **rate)
        for place, p_value in enumerate(p_values)
    ]
    others = [
        row(f"rtn-{place % 9}", 0.5, attack=f"other{place // 9}", **rate) for place in range(460)
    ]
    together = adjust_verdicts([*planned, *others])
    assert together[0].measure.p_adjusted == pytest.approx(469 * 0.0013)
    assert {one.measure.family for one in together} == {"tpr@0.01/all"}
    apart = adjust_verdicts([*planned, *others], planned=lambda one: one.attack == "lira")
    assert apart[0].measure.verdict == "lower"
    assert apart[0].measure.p_adjusted == pytest.approx(9 * 0.0013 / 0.8)
    assert [one.measure.family for one in apart] == [HEADLINE] * 9 + ["tpr@0.01/all"] * 460
    assert {one.measure.verdict for one in apart[1:]} == {"not distinguishable"}


def test_a_family_is_named_by_its_question_metric_and_target():
    rows = [
        row("a", 0.1),
        row("a", 0.1, target="3"),
        row("noise@a", 0.1),
        row("fp32&a", 0.1),
        row("control", 0.1),
    ]
    families = [one.measure.family for one in adjust_verdicts(rows)]
    assert families == ["auc/all", "auc/3", "noise/auc/all", "joint/auc/all", "control/auc/all"]


def test_what_is_no_chance_is_refused():
    with pytest.raises(ValueError, match=r"p-values must lie in \[0, 1\], got 1.5"):
        holm([0.5, 1.5])
    with pytest.raises(ValueError, match="got nan"):
        holm([np.nan])
