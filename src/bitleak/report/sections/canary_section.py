"""The section on canaries: how much do the most exposed records leak?"""

from bitleak.core.metric_names import AUC, Metric
from bitleak.core.types import Measure
from bitleak.core.variants import Variant, canaries_of, question_of
from bitleak.report import format as text
from bitleak.report.page_tables import Cell, PageSection, PageTable, change_cell, figure_cell
from bitleak.report.results_table import FULL, Table
from bitleak.report.summary import Summary

_METHOD = (
    "Canaries are records that all models were trained on with the same wrong label, if they are "
    "members. Only memory can make a model right about them, so they stand for the most exposed "
    "records. They are in no other table: not among the attacked records, not in the accuracy, not "
    "in the population. Adversaries have references that were trained on canaries too, and set "
    "thresholds on the canaries that a player was not trained on."
)
_READING = (
    "A variant that hides ordinary records may still give canaries away: what a release means for "
    "the person who is most at risk is read here. A canary is a designed worst case, and no share of "
    "a data set."
)

_KNOWING = ("matched", "recalibrated", "fp32", "")
"""Kinds of references, the most knowing adversary first."""


def canary_section(table: Table, summary: Summary) -> PageSection | None:
    """Make the section; None if there are no canaries."""
    rows = [key for key in table.cells if question_of(*key[:2]) == "canaries"]
    if not rows:
        return None
    attacks = list(dict.fromkeys(attack for _, attack, *_ in rows))
    attack = summary.headline_attack if summary.headline_attack in attacks else attacks[0]
    present = {reference for _, name, reference, _ in rows if name == attack}
    kinds = [kind for kind in text.REFERENCES if kind in present]
    rates: dict[float, None] = {}
    for *_, name in rows:
        metric = Metric.parse(name) if name.startswith("tpr@") else None
        if metric is not None and metric.fpr is not None:
            rates[float(metric.fpr)] = None
    variants = list(dict.fromkeys(Variant.parse(name).labels[0] for name, *_ in rows))
    findings = []
    for variant in variants:
        finding = _finding(table, variant, attack, kinds, list(rates))
        if finding:
            findings.append(finding)
    tables = []
    for kind in kinds:
        tables.append(_figures(table, variants, attack, kind, list(rates)))
    title = "The most exposed: mislabelled canaries"
    return PageSection(title, (_METHOD, _READING), tuple(findings), tuple(tables))


def _figures(
    table: Table, variants: list[str], attack: str, kind: str, rates: list[float]
) -> PageTable:
    # Columns: the AUC next to that on other records, then the rates.
    header = ["variant", "AUC on canaries", "against fp32", "AUC on other records"]
    for rate in rates:
        share = text.percent(rate)
        header += [
            f"TPR @ {share} FPR",
            "against fp32",
            f"TPR, threshold chosen for {share}",
            "FPR there",
        ]
    # A line per variant that this adversary attacked.
    lines = []
    for variant in variants:
        area = _measure(table, variant, AUC, attack, kind)
        if area is None:
            continue
        cells: list[Cell] = [figure_cell(area, 3), change_cell(_judged(variant, area), 3)]
        cells.append(figure_cell(table.find(variant, AUC, attack, kind), 3))
        for rate in rates:
            tpr = _measure(table, variant, Metric("tpr", rate), attack, kind)
            cells += [figure_cell(tpr, 3), change_cell(_judged(variant, tpr), 3)]
            for name in ("tpr_chosen", "fpr_chosen"):
                cells.append(
                    figure_cell(_measure(table, variant, Metric(name, rate), attack, kind), 3)
                )
        lines.append((variant, tuple(cells)))
    return PageTable(f"{attack}, {text.REFERENCE_TITLES[kind]}", "", tuple(header), tuple(lines))


def _measure(table: Table, variant: str, metric: Metric, attack: str, kind: str) -> Measure | None:
    return table.cells.get((canaries_of(variant), attack, kind, str(metric)))


def _judged(variant: str, measure: Measure | None) -> Measure | None:
    return None if variant == FULL else measure


def _finding(table: Table, variant: str, attack: str, kinds: list[str], rates: list[float]) -> str:
    """Return the figures of the adversary who knows most; empty if there are none."""
    for kind in sorted(kinds, key=_KNOWING.index):
        area = _measure(table, variant, AUC, attack, kind)
        if area is None:
            continue
        figures = [f"AUC {text.figure(area, 3)}"]
        for rate in rates:
            tpr = _measure(table, variant, Metric("tpr", rate), attack, kind)
            if tpr is not None:
                figures.append(f"TPR {text.figure(tpr, 3)} at {text.percent(rate)} FPR")
        ordinary = table.find(variant, AUC, attack, kind)
        beside = "" if ordinary is None else f"; AUC on other records {ordinary.value:.3f}"
        by = f"{attack}, {text.REFERENCE_TITLES[kind]}"
        return f"Canaries of {variant}: {' and '.join(figures)} ({by}{beside})."
    return ""
