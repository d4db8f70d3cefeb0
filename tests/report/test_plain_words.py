"""The answer in plain words, and the table at the end of the terminal."""

from dataclasses import replace

import pytest
import yaml

from bitleak.core.types import Measure, Row
from bitleak.report import plain_answer, tabulate, terminal_table
from bitleak.report.limit_grid import limit_grid
from bitleak.report.plain_words import certainty, featured, reading
from bitleak.report.text_report import markdown_report, model_card


def audit(*variants, strongest=True):
    """Rows of full precision and of variants: name, levels, loss with its ends, TPR, verdict, bytes."""
    attack, reference = ("strongest", "") if strongest else ("lira-online-fixed", "fp32")
    full = Measure(0.0886, low=0.0738, high=0.1057, about="records")
    rows = [
        Row("fp32", "", None, "", "", "all", "test_accuracy", Measure(0.987, low=0.98, high=0.99)),
        Row("fp32", "", None, attack, reference, "all", "tpr@0.01", full),
        Row("fp32", "", None, "lira-online-fixed", "fp32", "all", "auc", Measure(0.66)),
    ]
    for name, levels, (loss, low, high), rate, verdict, size in variants:
        accuracy = Measure(
            0.987 - loss, difference=-loss, difference_low=-high, difference_high=-low
        )
        leak = Measure(
            rate, low=rate - 0.0111, high=rate + 0.0121, verdict=verdict, about="records"
        )
        quantizer = name.split("-")[0]
        rows += [
            Row(name, quantizer, levels, "", "", "all", "test_accuracy", accuracy),
            Row(name, quantizer, levels, attack, reference, "all", "tpr@0.01", leak),
            Row(name, quantizer, levels, "", "", "all", "bytes", Measure(float(size))),
        ]
    return tabulate(rows)


SMALL = ("brecq-2", 4, (0.003, -0.002, 0.008), 0.0502, "lower", 8000)
LARGE = ("brecq-4", 16, (0.0, -0.005, 0.005), 0.0871, "not distinguishable", 12_900)
COLLAPSED = ("rtn-1.58", 3, (0.5, 0.45, 0.55), 0.02, "lower", 7000)


@pytest.fixture
def settings(make):
    return make.summary(make.rows(), variants=())


def test_the_answer_is_about_the_smallest_variant_that_keeps_its_accuracy(settings):
    assert plain_answer(audit(SMALL, LARGE, COLLAPSED), settings) == (
        "Shipped at 2 bits by BRECQ (brecq-2, 8 kB, the smallest shown to lose at most 2 points of "
        "accuracy), this model keeps 98.4 of 98.7 % accuracy (-0.3 [-0.8, 0.2] points).",
        "The strongest adversary tried picks out 5.0 % [3.9, 6.2] of the training records at 1 false "
        "accusation in a hundred; of the full-precision model, 8.9 % [7.4, 10.6], which the audit shows "
        "to be more.",
    )


def test_a_difference_that_was_not_found_is_not_claimed(settings):
    answer = plain_answer(audit(LARGE), settings)
    assert answer[1].endswith("8.9 % [7.4, 10.6]; the audit does not show a difference.")


def with_pairs(table, *, rate, area):
    """The rows with other figures of every variant: a TPR of this value and an AUC of that."""
    rows = []
    for (variant, attack, reference, metric), measure in table.cells.items():
        if metric == "tpr@0.01":
            measure = replace(measure, value=rate, low=rate - 0.003, high=rate + 0.003)
            pairs = Measure(area, low=area - 0.01, high=area + 0.01)
            rows.append(Row(variant, "", 4, attack, reference, "all", "auc", pairs))
        quantizer = "" if variant == "fp32" else "brecq"
        rows.append(Row(variant, quantizer, 4, attack, reference, "all", metric, measure))
    return tabulate(rows)


def test_pairs_that_are_told_apart_are_named_where_few_false_accusations_show_nothing(settings):
    answer = plain_answer(with_pairs(audit(SMALL), rate=0.011, area=0.85), settings)
    assert answer[2:] == (
        "With more false accusations it finds more: shown a training record and another record, it tells "
        "which is which in 85.0 % [84.0, 86.0] of such pairs; of the full-precision model, 85.0 % "
        "[84.0, 86.0]. Guessing is right in 50 %.",
    )
    assert len(plain_answer(with_pairs(audit(SMALL), rate=0.05, area=0.85), settings)) == 2
    assert len(plain_answer(with_pairs(audit(SMALL), rate=0.011, area=0.505), settings)) == 2


def test_the_choice_of_the_variant_does_not_look_at_its_leakage(settings):
    leaky = (*SMALL[:3], 0.9, "higher", SMALL[5])
    assert featured(audit(leaky, LARGE), settings) == featured(audit(SMALL, LARGE), settings)


def test_without_a_variant_that_keeps_its_accuracy_the_most_accurate_is_described(settings):
    worse = ("obc-2", 4, (0.3, 0.25, 0.35), 0.05, "lower", 6000)
    variant, loss = featured(audit(COLLAPSED, worse), settings)
    assert (str(variant), loss) == ("obc-2", None)
    assert "smallest" not in plain_answer(audit(COLLAPSED, worse), settings)[0]


def test_the_only_variant_is_not_called_the_smallest(settings):
    first = plain_answer(audit(SMALL), settings)[0]
    assert "kB, shown to lose at most 2 points of accuracy" in first


def test_full_precision_alone_has_one_sentence(settings):
    [answer] = plain_answer(audit(strongest=False), settings)
    assert answer == (
        "The adversary named beforehand picks out 8.9 % [7.4, 10.6] of the training records at 1 "
        "false accusation in a hundred. No quantized variant was audited."
    )


def test_the_answer_uses_no_term_of_the_field(rows, summary):
    table = tabulate(rows)
    words = " ".join(
        (*plain_answer(table, summary), reading(table, summary), *certainty(table, summary))
    )
    for term in (
        "TPR",
        "FPR",
        "AUC",
        "LiRA",
        "lira",
        "reference",
        "shadow",
        "member",
        "private",
        "safe",
    ):
        assert term not in words


def test_the_table_fits_80_columns_and_cuts_no_word(rows, summary):
    lines = terminal_table(tabulate(rows), summary, 80)
    assert max(map(len, lines)) <= 80
    assert len(lines) == 2 + 13
    words = " ".join(lines).split()
    for name in ("adaround-1.58", "distinguishable", "accuracy"):
        assert name in words


def test_a_long_name_costs_columns_and_not_letters(settings):
    name = f"brecq-{'x' * 40}"
    lines = terminal_table(audit((name, *SMALL[1:])), settings, 80)
    assert name in " ".join(lines).split()
    assert "size" not in lines[1]
    assert "size" in terminal_table(audit(SMALL), settings, 80)[1]


def test_a_target_that_is_told_apart_without_the_model_gets_no_figure(make):
    rows = make.rows(names=("rtn-2", "rtn", "blind"))
    [answer] = plain_answer(tabulate(rows), make.summary(rows))
    assert answer.startswith("The leakage could not be evaluated")
    assert limit_grid(tabulate(rows), make.summary(rows)) is None


def test_markdown_and_model_card_hold_the_same_figures_and_no_markup_of_a_name(make):
    rows = make.rows()
    summary = make.summary(rows, title="A *b* <c>")
    content = markdown_report(tabulate(rows), summary)
    assert content.startswith("# A \\*b\\* \\<c\\>\n")
    assert "| rtn-2 | 2 |" in content
    block = content.split("```yaml\n")[1].split("```")[0]
    [model] = yaml.safe_load(block)["model-index"]
    assert model["name"] == "A *b* <c>"
    [rate] = [m for m in model["results"][1]["metrics"] if m["type"] == "tpr@0.01"]
    assert (rate["value"], rate["args"]["low"], rate["args"]["high"]) == (0.05, 0.04, 0.06)
    assert yaml.safe_load(model_card(tabulate(rows), summary)) == yaml.safe_load(block)
