"""Holm's correction against its step-down form, and over a table of rows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from bitleak.core.types import Measure, Row
from bitleak.metrics import adjust_verdicts, holm

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
            z = np.sqrt(shared) * rng.standard_normal() + np.sqrt(1 - shared) * rng.standard_normal(12)
            p_values = 2 * ndtr(-np.abs(z))
            calls += (holm(p_values) < 0.05).any()
        assert calls / 2000 < 0.05 + 3 * 0.005


def row(variant, p_value, *, metric="auc", target="all", attack="threshold", change=-0.1):
    measure = Measure(0.6, difference=change, difference_low=-0.2, difference_high=0.2, p_value=p_value, verdict="old")
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
        (one.variant, one.attack, one.metric): one.measure for one in adjust_verdicts(rows) if one.target == "all"
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
    assert replace(found[1].measure, p_adjusted=None, verdict="old") == rows[1].measure
    assert adjust_verdicts([]) == []


def test_what_is_no_chance_is_refused():
    with pytest.raises(ValueError, match=r"p-values must lie in \[0, 1\], got 1.5"):
        holm([0.5, 1.5])
    with pytest.raises(ValueError, match="got nan"):
        holm([np.nan])
