from dataclasses import replace

import pytest

from bitleak.core.errors import StoreError
from bitleak.core.types import Measure, Row
from bitleak.report import headline, tabulate
from bitleak.report.headline import headline_key, in_headline, judge_control


def row(variant, attack, reference, value, target="all", metric="auc"):
    return Row(variant, "", None, attack, reference, target, metric, Measure(value))


def test_no_figure_has_a_part_in_the_pair_that_is_named_beforehand():
    rows = [
        row("fp32", "threshold", "", 0.99),
        row("fp32", "weak", "fp32", 0.6),
        row("fp32", "strong", "fp32", 0.7),
        row("control", "strong", "fp32", 0.99),
    ]
    assert headline(rows) == ("weak", "fp32")
    assert headline(rows, "strong", "fp32") == ("strong", "fp32")
    default = row("fp32", "lira-online-shrunk", "fp32", 0.5)
    assert headline([*rows, default]) == ("lira-online-shrunk", "fp32")


def test_the_strongest_pair_is_the_headline_where_it_has_rows(make):
    rows = make.rows()
    summary = make.summary(rows)
    assert headline_key(tabulate(rows), summary) == ("lira-online-fixed", "fp32")
    strongest = [
        replace(item, attack="strongest", reference="")
        for item in rows
        if item.attack and item.variant != "control"
    ]
    table = tabulate([*rows, *strongest])
    assert headline_key(table, summary) == ("strongest", "")
    assert table.attacks == ("lira-online-fixed",)
    planned = [item for item in strongest if in_headline(item, ("strongest", ""), 0.01)]
    assert [(item.variant, item.metric) for item in planned] == [("rtn-2", "tpr@0.01")]
    assert not [item for item in rows if in_headline(item, ("strongest", ""), 0.01)]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["fp32", "recalibrated", "matched"], "matched"),
        (["fp32", "recalibrated"], "recalibrated"),
        (["fp32"], "fp32"),
    ],
)
def test_the_most_knowing_reference_is_the_headline(kinds, expected):
    rows = [row("fp32", "a", "fp32", 0.6), *[row("rtn-2", "a", kind, 0.6) for kind in kinds]]
    assert headline(rows) == ("a", expected)


def test_an_attack_without_references_is_the_headline_only_when_alone():
    assert headline([row("fp32", "threshold", "", 0.6)]) == ("threshold", "")


def test_no_attack_on_full_precision_is_an_error():
    with pytest.raises(ValueError, match="full-precision"):
        headline([row("rtn-2", "a", "fp32", 0.6)])


def test_full_precision_rows_answer_for_other_references(make):
    table = tabulate(make.rows())
    assert table.find("fp32", "auc", "lira-online-fixed", "matched").value == pytest.approx(0.7)
    assert table.find("rtn-2", "auc", "lira-online-fixed", "matched") is None


def test_rows_that_measure_the_same_thing_are_refused():
    with pytest.raises(StoreError, match="two rows measure auc of 'fp32'"):
        tabulate([row("fp32", "a", "fp32", 0.6), row("fp32", "a", "fp32", 0.7)])


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ((0.48, 0.52), "at chance"),
        ((0.51, 0.55), "at chance"),
        ((0.52, 0.56), "not at chance"),
        ((0.4, 0.46), "not at chance"),
    ],
)
def test_the_control_is_at_chance_when_its_wide_interval_holds_one_half(make, ends, status):
    assert (
        judge_control(tabulate(make.rows(control=ends)), "lira-online-fixed", "matched").status
        == status
    )


def test_a_control_over_few_trainings_has_the_longer_tails_of_students_t(make):
    """At 5 targets the 99.9 % interval is 3.1 times as wide as the 95 % one, not 1.7 times."""
    rows = [
        replace(row, measure=replace(row.measure, about="trainings"))
        for row in make.rows(control=(0.52, 0.56))
    ]
    statuses = []
    for targets in (5, 100):
        statuses.append(
            judge_control(tabulate(rows), "lira-online-fixed", "matched", targets=targets).status
        )
    assert statuses == ["at chance", "not at chance"]


def test_only_the_headlines_own_comparisons_are_planned(rows, summary):
    key = headline_key(tabulate(rows), summary)
    planned = [row for row in rows if in_headline(row, key, summary.headline_fpr)]
    assert len(planned) == 12
    assert {(row.attack, row.reference, row.metric, row.target) for row in planned} == {
        (
            summary.headline_attack,
            summary.headline_reference,
            f"tpr@{summary.headline_fpr:g}",
            "all",
        )
    }
    assert not {"fp32", "control"} & {row.variant for row in planned}


def test_a_missing_control_is_said_to_be_missing():
    control = judge_control(tabulate([row("fp32", "a", "fp32", 0.6)]), "a", "fp32")
    assert control.status == "unknown"
    assert "no negative control" in control.sentence
