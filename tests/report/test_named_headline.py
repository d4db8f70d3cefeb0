"""Reports of audits where no pair could be chosen on other models, such as of a single model."""

import re
from dataclasses import replace

import pytest

from bitleak.report import tabulate
from bitleak.report.charts.by_adversary import NAMED_HEADLINE, adversaries_chart
from bitleak.report.conclusions import compact_table, verdicts
from bitleak.report.format import DASH
from bitleak.report.headline import named_beforehand
from bitleak.report.page import page
from bitleak.report.plain_words import plain_answer
from bitleak.report.text_report import markdown_report


def with_headline(rows, chosen):
    """Return the rows with headline rows that copy those of the first attack."""
    copied = []
    for row in rows:
        if row.attack and row.variant not in ("control", "positive_control"):
            measure = replace(row.measure, chosen=chosen)
            copied.append(replace(row, attack="strongest", reference="", measure=measure))
    by_key = {(row.variant, row.target, row.metric): row for row in copied}
    return [*rows, *by_key.values()]


def words_of(document):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", document))


@pytest.fixture
def alone(make):
    """Rows of one model at full precision, whose headline is the pair that was named."""
    rows = [row for row in make.rows(verdict="lower") if row.variant in ("fp32", "control")]
    named = with_headline(rows, "some-attack/fp32 (named)")
    return named, make.summary(rows, models=1, targets=1, references=0, source="one.npz (logits)")


def test_a_headline_that_was_named_is_not_said_to_be_chosen_on_other_models(alone):
    rows, summary = alone
    table = tabulate(rows)
    assert named_beforehand(table, summary)
    first, *others = verdicts(table, summary)
    assert f"under attack {summary.headline_attack}, " in first
    assert first.endswith("named beforehand.")
    assert "No models could play a target to choose the strongest pair of fp32" in others[-1]
    (answer,) = plain_answer(table, summary)
    assert answer.startswith("The adversary named beforehand picks out")
    document = words_of(page(table, summary, []))
    for claim in ("chosen on other models", "chosen on players", "strongest adversary tried"):
        assert claim not in document
    assert "the attack and adversary named beforehand" in document


def test_a_headline_that_was_chosen_is_said_to_be(alone):
    rows, summary = alone
    plain = [row for row in rows if row.attack != "strongest"]
    table = tabulate(with_headline(plain, "some-attack/fp32"))
    assert not named_beforehand(table, summary)
    assert "chosen on other models" in verdicts(table, summary)[0]
    (answer,) = plain_answer(table, summary)
    assert answer.startswith("The strongest adversary tried picks out")


def test_one_model_is_written_of_as_one(alone):
    rows, summary = alone
    document = words_of(page(tabulate(rows), summary, []))
    assert "How much 1 model leaks about who was in its training set: scores from" in document
    assert "1 model, trained on about" in document
    assert "Figures are those of 1 target, with" in document
    assert "to train reference models on" not in document
    assert "is the verdict, with the paired difference" not in document


def test_the_chart_names_a_headline_that_was_named(make):
    rows = make.rows(verdict="lower")
    summary = make.summary(rows)
    for chosen, there in (("a/fp32 (named)", True), ("a/fp32", False)):
        chart = adversaries_chart(tabulate(with_headline(rows, chosen)), summary)
        assert (NAMED_HEADLINE in str(chart)) is there
        assert ("strongest, chosen on other models" in str(chart)) is not there


def test_a_control_is_not_judged_against_full_precision(make):
    """It is lower by design, so that a verdict would read as one on a variant."""
    rows = []
    for row in make.rows(verdict="not distinguishable"):
        if row.variant == "control":
            lower = {"difference": -0.2, "difference_low": -0.3, "difference_high": -0.1}
            row = replace(row, measure=replace(row.measure, verdict="lower", **lower))
        rows.append(row)
    table, summary = tabulate(rows), make.summary(rows)
    header, *lines = compact_table(table, summary)
    (line,) = [line for line in lines if line[0] == "control"]
    assert line[header.index("against fp32")] == DASH
    assert "-0.200" not in page(table, summary, [])


def test_verdicts_on_one_target_are_about_this_model(make):
    judged = []
    for row in make.rows(verdict="lower"):
        if (row.variant, row.metric, row.target) == ("rtn-2", "tpr@0.01", "all"):
            row = replace(row, measure=replace(row.measure, family="headline", about="records"))
        judged.append(row)
    for targets, subject in ((1, "this model"), (2, "these models")):
        first = verdicts(tabulate(judged), make.summary(judged, targets=targets))[0]
        assert first.endswith(f"and are about {subject} on other records.")


def test_the_markdown_has_notes_under_their_own_head(make):
    rows = make.rows()
    note = "Logits were divided by a temperature."
    texts = []
    for notes in ((note,), ()):
        text = markdown_report(tabulate(rows), make.summary(rows, notes=notes))
        texts.append([line for line in text.splitlines() if line.startswith(("## ", "- Logits"))])
    head = "## Notes on the method, and what was left out"
    assert texts[0][texts[0].index(head) + 1] == f"- {note}"
    assert head not in texts[1]


def test_a_tier_is_made_again_by_its_command_and_has_no_config_beside_the_page(make):
    rows = make.rows()
    lead = ("Tier 0: one target, nothing was trained.",)
    document = words_of(page(tabulate(rows), make.summary(rows, lead=lead), []))
    assert "the same command, with its --tier, or the same call of audit_model" in document
    assert "config.yaml" not in document
    assert "config.yaml, results.csv" in words_of(page(tabulate(rows), make.summary(rows), []))
