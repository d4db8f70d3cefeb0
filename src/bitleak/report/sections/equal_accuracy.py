"""The section at equal accuracy: does quantization leak less than noise that costs as much?"""

from bitleak.core.metric_names import (
    AUC,
    NOISE_ACCURACY_GAP,
    NOISE_SCALE,
    TEST_ACCURACY,
    Metric,
)
from bitleak.core.variants import Variant, noise_like
from bitleak.report import format as text
from bitleak.report.page_tables import Cell, PageSection, PageTable, change_cell, figure_cell
from bitleak.report.results_table import FULL, Table
from bitleak.report.summary import Summary

_METHOD = (
    "Leakage falls whenever accuracy does. Each variant is therefore compared with the same "
    "full-precision models with Gaussian noise on their weights. In every layer, the noise has the "
    "same standard deviation relative to that of the layer's weights (the noise scale), chosen so "
    "that the mean accuracy over the targets is that of the variant. The noisy models are attacked "
    "in the same way; matched references have noise of the same scale, drawn anew."
)
_READING = (
    "The accuracies are made equal on each target's own non-members, whose number limits how equal "
    "they are; the intervals of the differences in leakage include that error. Here, accuracies are "
    "compared on the test records. If a variant is as accurate as full precision within error, the "
    "scale is 0 and the comparison is with full precision."
)

TEST_OVER_NOISE = TEST_ACCURACY.compared_with("noise")

_VERDICTS = {
    "lower": "leaks less than noise of equal accuracy",
    "higher": "leaks more than noise of equal accuracy",
    "not distinguishable": "is not distinguishable from noise of equal accuracy",
}

_VERDICTS_ON_FULL = {
    "lower": "leaks less than full precision",
    "higher": "leaks more than full precision",
    "not distinguishable": "is not distinguishable from full precision",
}

_GAP = 0.005
"""Difference in accuracy beyond which the noise does not count as equally accurate."""


def utility_section(table: Table, summary: Summary) -> PageSection | None:
    """Make the section; None if no variant has noise of its accuracy."""
    variants = []
    for variant in table.quantized:
        if table.find(noise_like(str(variant)), NOISE_SCALE) is not None:
            variants.append(variant)
    if not variants:
        return None
    findings = []
    for variant in variants:
        finding = _finding(table, summary, variant)
        if finding:
            findings.append(finding)
    page_table = _figures(table, summary, variants)
    return PageSection("At equal accuracy", (_METHOD, _READING), tuple(findings), (page_table,))


def _figures(table: Table, summary: Summary, variants: list[Variant]) -> PageTable:
    attack, reference = summary.headline_attack, summary.headline_reference
    fpr = summary.headline_fpr
    columns = ((AUC, 3), (Metric("tpr", fpr), text.tpr_decimals(fpr)))
    header = ("variant", "test accuracy %", "of noise", "over noise, points", "noise scale",
              "AUC", "of noise", "over noise",
              f"TPR @ {text.percent(fpr)} FPR", "of noise", "over noise")  # fmt: skip
    lines = []
    for variant in variants:
        noise = noise_like(str(variant))
        over = table.find(variant, TEST_OVER_NOISE)
        cells = [
            figure_cell(table.find(variant, TEST_ACCURACY), 1, factor=100.0),
            figure_cell(table.find(noise, TEST_ACCURACY), 1, factor=100.0),
            change_cell(over, 1, factor=100.0),
            Cell(text.value(table.find(noise, NOISE_SCALE), 3)),
        ]
        for metric, decimals in columns:
            for name in (str(variant), noise):
                cells.append(figure_cell(table.find(name, metric, attack, reference), decimals))
            over = table.find(variant, metric.compared_with("noise"), attack, reference)
            cells.append(change_cell(over, decimals))
        lines.append((str(variant), tuple(cells)))
    title = f"{attack}, {text.REFERENCE_TITLES[reference]}"
    return PageTable(title, "", header, tuple(lines))


def _finding(table: Table, summary: Summary, variant: Variant) -> str:
    """Return a sentence that compares a variant with noise, by TPR and by AUC; empty if one is not known."""
    attack, reference = summary.headline_attack, summary.headline_reference
    rate, decimals = Metric("tpr", summary.headline_fpr), text.tpr_decimals(summary.headline_fpr)
    over = table.find(variant, rate.compared_with("noise"), attack, reference)
    area = table.find(variant, AUC.compared_with("noise"), attack, reference)
    if over is None or area is None:
        return ""
    noise = noise_like(str(variant))
    rate_here = text.figure(table.find(variant, rate, attack, reference), decimals)
    rate_there = text.figure(table.find(noise, rate, attack, reference), decimals)
    by_rate = f"TPR at {text.percent(summary.headline_fpr)} FPR {rate_here}"
    by_area = f"by AUC {text.difference(area, 3)}, {area.verdict}"
    scale = table.find(noise, NOISE_SCALE)
    if scale is not None and scale.value == 0:
        known = f"{by_rate}, {FULL} {rate_there}; {by_area}"
        alike = (
            f"{variant} is as accurate as {FULL} within error, so that no noise is equally accurate"
        )
        return f"{alike}; it {_VERDICTS_ON_FULL[over.verdict]} ({known})."
    evidence = f"({by_rate}, noise {rate_there}; {by_area})"
    return f"{variant} {_VERDICTS[over.verdict]} {evidence}{_doubt(table, variant, noise)}."


def _doubt(table: Table, variant: Variant, noise: str) -> str:
    """Return a clause on an accuracy that is not that of the variant; empty for a good match."""
    gap, over = table.find(noise, NOISE_ACCURACY_GAP), table.find(variant, TEST_OVER_NOISE)
    if gap is not None and abs(gap.value) > _GAP:
        points = f"{100 * gap.value:+.1f} points"
        off = f"the noise is off in accuracy by {points} where it was matched"
        return f"; {off}, so this is no comparison at equal accuracy"
    if over is None or over.low is None or over.high is None or abs(over.value) <= _GAP:
        return ""

    # the match is on other records: only these show whether it holds
    off = f"on the test records its accuracy is {text.difference(over, 1, factor=100.0)} points over the noise's"
    if over.low <= 0 <= over.high:
        return f"; {off}, which may be chance"
    return f"; {off}, so this is no comparison at equal accuracy"
