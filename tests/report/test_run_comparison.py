"""Two runs beside one another: Newcombe's published interval, Holm's correction, differing settings."""

from dataclasses import replace

import pytest
from scipy.stats import binomtest

from bitleak.core.errors import InputError
from bitleak.core.types import Measure, Row
from bitleak.report.run_comparison import compare_runs, difference_of

ATTACK = "lira-online-fixed"


def share(successes, trials):
    ends = binomtest(successes, trials).proportion_ci(method="wilson")
    return Measure(successes / trials, low=ends.low, high=ends.high)


def run_rows(areas, reach=0.02):
    rows = []
    for name, area in areas.items():
        measure = Measure(area, low=area - reach, high=area + reach)
        levels = None if name == "fp32" else 4
        rows.append(Row(name, "rtn", levels, ATTACK, "matched", "all", "auc", measure))
    return rows


def compared(first, second, summary, **options):
    return compare_runs(
        (run_rows(first), summary),
        (run_rows(second), options.pop("other", summary)),
        adversary=f"{ATTACK}/matched",
        **options,
    )


def test_two_shares_have_newcombes_interval():
    # Newcombe 1998 (Statistics in Medicine 17, 873-890), table II, 56/70 - 48/80, method 10
    change = difference_of("rtn-2", "tpr@0.1", share(48, 80), share(56, 70))
    assert (round(change.low, 4), round(change.high, 4)) == (0.0524, 0.3339)


def test_the_p_value_is_that_of_the_level_at_which_the_interval_ends_at_0():
    reach = (0.03**2 / 2) ** 0.5
    measures = [Measure(value, low=value - reach, high=value + reach) for value in (0.6, 0.63)]
    change = difference_of("rtn-2", "auc", *measures)
    assert change.low == pytest.approx(0.0, abs=1e-12)
    assert change.p_value == pytest.approx(0.05)


def test_a_run_beside_itself_differs_in_nothing(summary):
    areas = {"fp32": 0.7, "rtn-2": 0.6}
    result = compared(areas, areas, summary)
    assert [entry.value for entry in result.differences] == [0.0, 0.0]
    assert {entry.verdict for entry in result.differences} == {"not distinguishable"}
    assert {entry.p_value for entry in result.differences} == {1.0}


def test_exchanged_runs_have_opposite_differences(summary):
    first, second = {"rtn-2": 0.6}, {"rtn-2": 0.7}
    forth = compared(first, second, summary).differences[0]
    back = compared(second, first, summary).differences[0]
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert (forth.verdict, back.verdict) == ("higher", "lower")


def test_verdicts_are_corrected_over_the_variants_of_a_figure(summary):
    # each has p = .03 alone; two of them are not enough to call either
    reach = 0.02 * 2**0.5
    shift = reach * 2.17009 / 1.959964
    one = compared({"rtn-2": 0.6}, {"rtn-2": 0.6 + shift}, summary).differences
    assert one[0].p_value == pytest.approx(0.03, abs=1e-4)
    assert one[0].verdict == "higher"
    areas = {"rtn-2": 0.6, "rtn-4": 0.6}
    two = compared(areas, dict.fromkeys(areas, 0.6 + shift), summary).differences
    assert {entry.verdict for entry in two} == {"not distinguishable"}
    assert two[0].p_adjusted == pytest.approx(0.06, abs=2e-4)


def test_variants_of_different_names_are_compared_if_named(summary):
    result = compared({"rtn-2": 0.6}, {"rtn-4": 0.7}, summary, variants=[("rtn-2", "rtn-4")])
    assert [(entry.variant, entry.verdict) for entry in result.differences] == [
        ("rtn-2/rtn-4", "higher")
    ]


def test_settings_that_differ_are_noted(summary):
    other = replace(summary, network="resnet18", records=50_000)
    notes = compared({"rtn-2": 0.6}, {"rtn-2": 0.6}, summary, other=other).notes
    assert "the runs differ in records: 4000 and 50000" in notes
    assert any(note.startswith("the runs differ in network") for note in notes)
    assert not any(note.startswith("the runs differ in training") for note in notes)


def test_figures_without_intervals_are_left_out_and_their_absence_is_an_error(summary):
    bare = [Row("rtn-2", "rtn", 4, ATTACK, "matched", "all", "auc", Measure(0.6))]
    with pytest.raises(InputError, match="no figure with an interval in common"):
        compare_runs((bare, summary), (bare, summary), adversary=f"{ATTACK}/matched")
    with pytest.raises(
        InputError, match="no variant 'rtn-8' in the second run; it has fp32, rtn-2"
    ):
        compared({"rtn-2": 0.6}, {"rtn-2": 0.6}, summary, variants=[("rtn-2", "rtn-8")])
