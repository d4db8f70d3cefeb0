"""The result of an audit for a terminal: a compact table and sentences, as plain strings."""

from bitleak.core.types import Measure
from bitleak.report.conclusions import LOWER_BOUND, verdicts
from bitleak.report.format import DASH, REFERENCE_TITLES, bits, figure, percent, tpr_decimals, tpr_metric, value
from bitleak.report.headline import judge_control
from bitleak.report.results_table import CONTROL, FULL, Table, Variant
from bitleak.report.sections import sections
from bitleak.report.summary import Summary


def compact_table(table: Table, summary: Summary) -> list[list[str]]:
    """The headline figures of every variant, as text.

    Args:
        table: The aggregated rows.
        summary: Names the headline attack, reference and FPR.

    Returns:
        The header, then a line per variant: full precision first, the negative control last. TPR and
        AUC are those of the headline attack with the headline reference; the further columns hold the
        TPR that the other kinds of reference find.
    """
    others = [kind for kind in table.references(summary.headline_attack) if kind != summary.headline_reference]
    header = ["variant", "bits", "test accuracy %", "AUC", f"TPR @ {percent(summary.headline_fpr)} FPR", "against fp32"]
    variants = [Variant(FULL, "", None), *table.quantized, Variant(CONTROL, "", None)]
    lines = [_line(table, summary, variant, others) for variant in variants]
    return [[*header, *[f"TPR, {REFERENCE_TITLES[kind]}" for kind in others]], *[line for line in lines if line]]


def sentences(table: Table, summary: Summary) -> list[str]:
    """The verdict, what the further sections found, the negative control and the lower bound."""
    control = judge_control(table, summary.headline_attack, summary.headline_reference)
    further = [sentence for section in sections(table, summary) for sentence in section.sentences]
    return [*verdicts(table, summary), *further, control.sentence, LOWER_BOUND]


def _line(table: Table, summary: Summary, variant: Variant, others: list[str]) -> list[str]:
    """One variant; empty where nothing is known of it."""
    decimals = tpr_decimals(summary.headline_fpr)
    area = _attacked(table, summary, variant, "auc", summary.headline_reference)
    rate = _attacked(table, summary, variant, tpr_metric(summary.headline_fpr), summary.headline_reference)
    if area is None and rate is None:
        return []
    return [
        variant.name,
        "" if variant.name == CONTROL else bits(variant.levels),
        figure(table.find(variant.name, "test_accuracy"), 1, factor=100.0),
        figure(area, 3),
        figure(rate, decimals),
        (rate.verdict if rate else "") or DASH,
        *[
            value(_attacked(table, summary, variant, tpr_metric(summary.headline_fpr), kind), decimals)
            for kind in others
        ],
    ]


def _attacked(table: Table, summary: Summary, variant: Variant, metric: str, reference: str) -> Measure | None:
    return table.find(variant.name, metric, summary.headline_attack, reference)
