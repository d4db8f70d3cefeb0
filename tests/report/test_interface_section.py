"""The section on channels: shares of what logits leak, and the adversaries in the table."""

from dataclasses import replace

import pytest

from bitleak.core.types import Measure, Row
from bitleak.report import tabulate
from bitleak.report.format import DASH
from bitleak.report.sections.interface_section import interface_section


def row(name, reference, metric, value, *, attack="lira-online-fixed", half=0.02, **fields):
    measure = Measure(value, value - half, value + half, **fields)
    return Row(name, "", None, attack, reference, "all", metric, measure)


def through(kind="matched", variant="rtn-4", attack="lira-online-fixed"):
    unadapted = f"unadapted:{kind}" if kind else None
    rows = [row(f"logits@{variant}", kind, "auc", 0.7, attack=attack)]
    for channel, area, naive in (("round-2", 0.68, 0.66), ("label", 0.55, 0.51)):
        rows.append(row(f"{channel}@{variant}", kind, "auc", area, attack=attack))
        over = {"difference": area - 0.7, "verdict": "lower"}
        rows.append(
            row(f"{channel}@{variant}", kind, "auc_over_logits", area - 0.7, attack=attack, **over)
        )
        if unadapted:
            rows.append(row(f"{channel}@{variant}", unadapted, "auc", naive, attack=attack))
    return rows


@pytest.fixture
def section(rows, summary):
    def made(added):
        return interface_section(tabulate([*rows, *added]), replace(summary, headline_attack=NAMED))

    return made


NAMED = "lira-online-fixed"


def test_an_audit_without_channels_has_no_section(section):
    assert section([]) is None


def test_the_sentence_has_the_share_of_the_auc_beyond_one_half(section):
    assert section(through()).sentences == (
        "Of the AUC beyond 0.5 that lira-online-fixed finds in logits of rtn-4, other answers leave: "
        "round-2 90 % (80 %) and label 25 % (5 %) (in brackets: references that do not adapt).",
    )


def test_nothing_is_said_of_shares_if_logits_show_no_leakage(section):
    quiet = [row("logits@rtn-4", "matched", "auc", 0.51), *through()[1:]]
    assert section(quiet).sentences == ()


def test_the_table_has_both_adversaries_and_the_difference_from_logits(section):
    (table,) = section(through()).tables
    assert table.header == (
        "answer", "AUC, adapted", "over logits", "AUC, not adapted", "over logits",
        "TPR @ 1 % FPR, adapted", "over logits", "TPR @ 1 % FPR, not adapted", "over logits",
    )  # fmt: skip
    lines = {name: [cell.main for cell in cells] for name, cells in table.lines}
    assert lines["logits of rtn-4"][:4] == ["0.700", DASH, "0.700", DASH]
    assert lines["label of rtn-4"][:4] == ["0.550", "lower", "0.510", DASH]
    assert table.title == "lira-online-fixed, matched references"


def test_an_attack_without_references_has_no_second_adversary(section):
    (table,) = section(through(kind="", attack="threshold")).tables
    assert table.header[:3] == ("answer", "AUC", "over logits")
    assert section(through(kind="", attack="threshold")).sentences == (
        "Of the AUC beyond 0.5 that threshold finds in logits of rtn-4, other answers leave: "
        "round-2 90 % and label 25 %.",
    )


def test_channel_rows_are_no_attacks_and_no_variants_of_the_other_tables(rows):
    plain, more = tabulate(rows), tabulate([*rows, *through(attack="rmia-online")])
    assert (more.quantized, more.attacks) == (plain.quantized, plain.attacks)
