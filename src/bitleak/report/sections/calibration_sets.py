"""The section on calibration sets: on which members was a quantized target calibrated?"""

from bitleak.core.metric_names import AUC, CALIBRATION_DETECTABLE_AUC, Metric
from bitleak.core.types import Measure
from bitleak.core.variants import AttackName, on_calibration, question_of
from bitleak.report import format as text
from bitleak.report.page_tables import Cell, PageSection, PageTable, figure_cell
from bitleak.report.results_table import Table
from bitleak.report.summary import Summary

_READING = (
    "All candidates are members of the target, so an AUC above 0.5 betrays the calibration set and "
    "not the training set. The references are the target's other quantized versions: this "
    "adversary has the full-precision model and the recipe. Intervals resample the candidates, the "
    "same draw for all versions of a target, and are wider near 0.5, since the versions are one "
    "another's references."
)


def calibration_section(table: Table, summary: Summary) -> PageSection | None:
    """Make the section; None if no calibration set was attacked."""
    keys = [key for key in table.cells if question_of(key[0], key[1]) == "calibration"]
    if not keys:
        return None
    variants = list(dict.fromkeys(variant for variant, *_ in keys))
    attacks = list(dict.fromkeys(attack for _, attack, *_ in keys))
    metrics = [AUC]
    for variant, attack, _, name in keys:
        metric = Metric.parse(name)
        if (variant, attack) == (variants[0], attacks[0]) and metric.base == "tpr":
            metrics.append(metric)

    method = f"{summary.calibration_inference} {_READING}".strip()
    page_table = _figures(table, variants, attacks, metrics)
    findings = _findings(table, summary, variants, attacks)
    title = "Who was in the calibration set"
    return PageSection(title, (method,), findings, (page_table,))


def _figures(
    table: Table,
    variants: list[str],
    attacks: list[str],
    metrics: list[Metric],
) -> PageTable:
    titles = []
    for metric in metrics:
        titles.append("AUC" if metric.fpr is None else f"TPR @ {text.percent(metric.fpr)} FPR")
    header = ["attack"]
    for variant in variants:
        header += [f"{variant}, {title}" for title in titles]
    lines = []
    for attack in attacks:
        cells: list[Cell] = []
        for variant in variants:
            for metric in metrics:
                cells.append(figure_cell(table.find(variant, metric, attack, "matched"), 3))
        lines.append((AttackName.parse(attack).attack, tuple(cells)))
    return PageTable("Calibration sets, matched references", "", tuple(header), tuple(lines))


def _findings(
    table: Table,
    summary: Summary,
    variants: list[str],
    attacks: list[str],
) -> tuple[str, ...]:
    """Return a sentence per variant, by the headline attack if it was run, else by the first."""
    headline = on_calibration(summary.headline_attack)
    attack = headline if headline in attacks else attacks[0]
    name = AttackName.parse(attack).attack
    findings = []
    for variant in variants:
        area = table.find(variant, AUC, attack, "matched")
        detectable = table.find(variant, CALIBRATION_DETECTABLE_AUC)
        if area is not None:
            finding = f"AUC {text.figure(area, 3)} by {name}, {_against_chance(area)}"
            if detectable is not None:
                area_noticed = f"an AUC of {detectable.value:.3f}"
                finding += f"; {area_noticed} would have been noticed in four of five audits"
            findings.append(f"Who was in the calibration set of {variant}: {finding}.")
    return tuple(findings)


def _against_chance(area: Measure) -> str:
    if area.low is None or area.high is None:
        return "without an interval"
    if area.low > 0.5:
        return "better than guessing"
    return "worse than guessing" if area.high < 0.5 else "not distinguishable from guessing"
