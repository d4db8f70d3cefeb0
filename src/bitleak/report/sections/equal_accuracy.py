"""The section at equal accuracy: does quantization leak less than noise that costs as much?"""

from bitleak.core.variants import noise_like
from bitleak.report import format as text
from bitleak.report.page_tables import Cell, Grid, Section, change_cell, figure_cell
from bitleak.report.results_table import FULL, Table
from bitleak.report.summary import Summary

WHAT = (
    "Leakage falls whenever accuracy does. Beside each variant stand the same full-precision models with Gaussian "
    "noise on their weights, its deviation the same share of that of every layer's weights (the noise scale), so large "
    "that the mean accuracy over the targets is the variant's. They are attacked in the same way; matched references "
    "have noise of the same scale and draws of their own."
)
READ = (
    "The accuracies are made equal on each target's own non-members, and compared here on the test records. Where a "
    "variant is as accurate as full precision within error, the scale is 0 and the comparison is with full precision."
)

_VERDICTS = {
    "lower": "less than noise of equal accuracy",
    "higher": "more than noise of equal accuracy",
    "not distinguishable": "as much as noise of equal accuracy, as far as can be told",
}


def utility_section(table: Table, summary: Summary) -> Section | None:
    """Accuracy and leakage of variants and of noise; None where nothing was matched."""
    variants = matched_variants(table)
    if not variants:
        return None
    rate, decimals = text.tpr_metric(summary.headline_fpr), text.tpr_decimals(summary.headline_fpr)
    told = f"TPR @ {text.percent(summary.headline_fpr)} FPR"
    header = ("variant", "test accuracy %", "of noise", "over noise, points", "noise scale",
              "AUC", "of noise", "over noise", told, "of noise", "over noise")  # fmt: skip
    attack, reference = summary.headline_attack, summary.headline_reference
    lines = []
    for variant in variants:
        noise = noise_like(variant)
        accuracy = table.find(variant, "test_accuracy"), table.find(noise, "test_accuracy")
        cells = [
            *[figure_cell(each, 1, factor=100.0) for each in accuracy],
            change_cell(table.find(variant, "test_accuracy_over_noise"), 1, factor=100.0),
            Cell(text.value(table.find(noise, "noise_scale"), 3)),
        ]
        for metric, digits in (("auc", 3), (rate, decimals)):
            cells += [figure_cell(table.find(name, metric, attack, reference), digits) for name in (variant, noise)]
            cells.append(change_cell(table.find(variant, f"{metric}_over_noise", attack, reference), digits))
        lines.append((variant, tuple(cells)))
    title = f"{attack}, {text.REFERENCE_TITLES[reference]}"
    grid = Grid(title, "", header, tuple(lines))
    return Section("At equal accuracy", (WHAT, READ), utility_sentences(table, summary), (grid,))


def utility_sentences(table: Table, summary: Summary) -> tuple[str, ...]:
    """One per variant: what it leaks beside noise of equal accuracy, by TPR, with the AUC's verdict."""
    attack, reference = summary.headline_attack, summary.headline_reference
    rate, decimals = text.tpr_metric(summary.headline_fpr), text.tpr_decimals(summary.headline_fpr)
    found = []
    for variant in matched_variants(table):
        over = table.find(variant, f"{rate}_over_noise", attack, reference)
        area = table.find(variant, "auc_over_noise", attack, reference)
        if over is None or area is None:
            continue
        shown = [
            text.figure(table.find(name, rate, attack, reference), decimals) for name in (variant, noise_like(variant))
        ]
        found.append(
            f"{variant} leaks {_VERDICTS[over.verdict]} (TPR at {text.percent(summary.headline_fpr)} FPR {shown[0]}, "
            f"noise {shown[1]}; by AUC {text.difference(area, 3)}, {area.verdict}){_doubt(table, variant)}."
        )
    return tuple(found)


def matched_variants(table: Table) -> list[str]:
    """The variants that noise was matched to, in their order."""
    return [each.name for each in table.quantized if table.find(noise_like(each.name), "noise_scale") is not None]


def _doubt(table: Table, variant: str) -> str:
    """What a reader has to know of the match."""
    scale = table.find(noise_like(variant), "noise_scale")
    gap = table.find(noise_like(variant), "noise_accuracy_gap")
    if scale is not None and scale.value == 0:
        return f"; it is as accurate as {FULL} within error, so this is {FULL} without noise"
    if gap is not None and abs(gap.value) > 0.005:
        points = f"{100 * gap.value:+.1f} points"
        return f"; the noise is off in accuracy by {points}, so this is no comparison at equal accuracy"
    return ""
