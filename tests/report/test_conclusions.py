from dataclasses import replace

import pytest

from bitleak.report import compact_table, sentences, tabulate
from bitleak.report.conclusions import verdicts

COUNTS = "{} measured lower than full precision, {} not distinguishable from it and {} higher"
EXPECTED = {
    "lower": (COUNTS.format(1, 0, 0), "less leakage than at full precision from rtn"),
    "higher": (COUNTS.format(0, 0, 1), "more leakage than at full precision from rtn"),
    "not distinguishable": (COUNTS.format(0, 1, 0), "not distinguishable from full precision: rtn"),
    "": (f"{COUNTS.format(0, 0, 0)} (1 not compared)", "no comparison was made for rtn"),
}


@pytest.mark.parametrize("verdict", EXPECTED)
def test_the_sentences_repeat_the_verdict_of_the_rows(make, verdict):
    rows = make.rows(verdict=verdict)
    overall, at_two_bits, *_ = verdicts(tabulate(rows), make.summary(rows))
    assert EXPECTED[verdict][0] in overall
    assert EXPECTED[verdict][1] in at_two_bits
    assert at_two_bits.startswith("At 2 bits (TPR at 1 % FPR, full precision 0.050 [0.040, 0.060])")
    assert sum(opening in at_two_bits for _, opening in EXPECTED.values()) == 1


@pytest.mark.parametrize("about", ["records", "trainings"])
def test_the_number_of_comparisons_and_their_subject_are_named(make, about):
    judged = []
    for row in make.rows(verdict="lower"):
        if (row.variant, row.metric, row.target) == ("rtn-2", "tpr@0.01", "all"):
            row = replace(row, measure=replace(row.measure, family="headline", about=about))
        judged.append(row)
    overall, *others = verdicts(tabulate(judged), make.summary(judged))
    subject = {
        "records": "these models on other records",
        "trainings": "models trained anew with the same recipe, on other records",
    }[about]
    assert overall.endswith(
        f" These verdicts are corrected over 1 planned comparison, and are about {subject}."
    )
    assert "comparison" not in others[0]


def test_other_verdicts_name_the_number_of_comparisons_of_their_family(rows, summary):
    judged = [
        replace(row, measure=replace(row.measure, family=f"{row.metric}/{row.target}"))
        for row in rows
    ]
    compared = [row for row in judged if row.target == "all" and row.metric == "auc"]
    conclusions = verdicts(tabulate(judged), summary)
    assert conclusions[-1].startswith("By AUC instead")
    assert conclusions[-1].endswith(f" higher, corrected over {len(compared)} comparisons.")
    plain = verdicts(tabulate(rows), summary)
    assert "corrected" not in " ".join(plain)


def test_the_cost_in_accuracy_is_the_paired_difference(make):
    rows = make.rows(verdict="lower")
    assert "test accuracy -1.2 points)" in verdicts(tabulate(rows), make.summary(rows))[1]
    rows = make.rows(verdict="not distinguishable")
    assert (
        "test accuracy -1.2 points, a change within its error)"
        in verdicts(tabulate(rows), make.summary(rows))[1]
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (0.0, "test accuracy unchanged"),
        (-0.0004, "test accuracy changed by less than 0.05 points"),
        (0.0004, "test accuracy changed by less than 0.05 points"),
        (0.0006, "test accuracy +0.1 points"),
    ],
)
def test_only_an_accuracy_that_is_exactly_the_same_is_unchanged(make, change, words):
    moved = []
    for row in make.rows(verdict="lower"):
        if (row.variant, row.metric, row.target) == ("rtn-2", "test_accuracy", "all"):
            row = replace(row, measure=replace(row.measure, difference=change))
        moved.append(row)
    assert f"{words})" in verdicts(tabulate(moved), make.summary(moved))[1]


def test_counts_agree_with_a_loop_over_the_rows(rows, summary):
    found = {"lower": 0, "not distinguishable": 0, "higher": 0}
    for row in rows:
        headline = (row.attack, row.reference) == (
            summary.headline_attack,
            summary.headline_reference,
        )
        if headline and row.target == "all" and row.metric == "tpr@0.01" and row.measure.verdict:
            found[row.measure.verdict] += 1
    assert found["lower"] > 0
    assert verdicts(tabulate(rows), summary)[0].startswith(
        f"Of 12 quantized variants, {found['lower']} measured lower than full precision, "
        f"{found['not distinguishable']} not distinguishable from it and {found['higher']} higher"
    )


def test_an_attack_at_chance_at_full_precision_is_said_to_be(make):
    chance, working = make.rows(area=0.51), make.rows(area=0.53)
    warned = "cannot be distinguished from guessing"
    assert any(warned in text for text in verdicts(tabulate(chance), make.summary(chance)))
    assert not any(
        "guessing" in text for text in verdicts(tabulate(working), make.summary(working))
    )


def test_an_audit_without_quantization_says_so(make):
    rows = [row for row in make.rows() if row.variant != "rtn-2"]
    (sentence,) = verdicts(tabulate(rows), make.summary(rows))
    assert sentence.startswith(
        "No quantized variant was audited; TPR at 1 % FPR at full precision: 0.050 [0.040,"
    )


def test_every_result_is_called_a_lower_bound_and_never_harmless(rows, summary):
    text = " ".join(sentences(tabulate(rows), summary)).lower()
    assert "lower bound" in text
    assert not any(word in text for word in ("private", "safe", "secure", "protect"))


def test_the_compact_table_has_a_line_per_variant_and_equal_columns(rows, summary):
    lines = compact_table(tabulate(rows), summary)
    assert [line[0] for line in lines[:3]] == ["variant", "fp32", "rtn-4"]
    assert lines[-1][0] == "control"
    assert len(lines) == 1 + 1 + 12 + 1
    assert {len(line) for line in lines} == {len(lines[0])}


def test_the_compact_table_shows_the_headline_fpr(rows, summary):
    table = tabulate(rows)
    fine = compact_table(table, replace(summary, headline_fpr=0.001))
    measure = table.find("obc-2", "tpr@0.001", summary.headline_attack, summary.headline_reference)
    (line,) = [line for line in fine if line[0] == "obc-2"]
    assert line[4] == f"{measure.value:.4f} [{measure.low:.4f}, {measure.high:.4f}]"
