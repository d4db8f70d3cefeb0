"""The section on several releases of one target: do they betray more than the best alone?"""

from bitleak.core.metric_names import AUC, Metric
from bitleak.core.types import Measure
from bitleak.core.variants import JOINT, JOINT_LEARNED, Variant, question_of
from bitleak.report import format as text
from bitleak.report.page_tables import Cell, PageSection, PageTable, change_cell, figure_cell
from bitleak.report.results_table import FULL, Table
from bitleak.report.summary import Summary

_METHOD = (
    "The adversary sees several releases of one target, such as a model and its quantized copy, "
    "and every reference model in the same releases. The joint attack is one likelihood ratio over "
    "the scores of all of them; alone, it is applied to a single release in the same way."
)
_LEARNED_METHOD = (
    "The learned joint attack is a classifier of membership on the scores of all releases, their "
    "products and differences. It was trained on other models of the population, whose training sets "
    "the adversary knows, and never on the target."
)
_READING = (
    "\u201cOver the best alone\u201d is the paired difference from the release with the largest "
    "figure. That release is chosen on the same data, so the difference is a little too small "
    "rather than too large."
)

_ATTACKS = {JOINT: _METHOD, JOINT_LEARNED: _LEARNED_METHOD}

_VERDICTS = {
    "higher": "more than",
    "lower": "less than",
    "not distinguishable": "not distinguishable from",
}


def joint_section(table: Table, summary: Summary) -> PageSection | None:
    """Make the section; None if no set of releases was audited."""
    sets, alone = _variants(table)
    if not sets:
        return None
    # the attacks of the config, the Gaussian one first
    present = {key[1] for key in table.cells}
    attacks = [attack for attack in _ATTACKS if attack in present]
    findings = []
    for attack in attacks:
        for variant in sets:
            finding = _finding(table, summary, variant, attack)
            if finding:
                findings.append(finding)
    page_tables = tuple(_figures(table, summary, [*alone, *sets], attack) for attack in attacks)
    methods = [method for attack, method in _ATTACKS.items() if attack in present]
    title = "Several releases of one target"
    return PageSection(title, (*methods, _READING), tuple(findings), page_tables)


def _variants(table: Table) -> tuple[list[Variant], list[Variant]]:
    """Return the sets of releases and the single releases that the joint attack was run on."""
    sets: list[Variant] = []
    alone: list[Variant] = []
    for name in dict.fromkeys(key[0] for key in table.cells if question_of(*key[:2]) == "joint"):
        variant = Variant.parse(name)
        (sets if variant.kind == "joint" else alone).append(variant)
    return sets, alone


def _finding(table: Table, summary: Summary, variant: Variant, attack: str) -> str:
    """Return a sentence that compares a set with its best release alone; empty if it was not measured."""
    rate, decimals = Metric("tpr", summary.headline_fpr), text.tpr_decimals(summary.headline_fpr)
    clauses = []
    for label, metric, digits in (("AUC", AUC, 3), ("TPR", rate, decimals)):
        verdict = _verdict(table, variant, metric, digits, attack)
        if verdict:
            clauses.append(f"{label} {verdict}")
    if not clauses:
        return ""
    figures = " and ".join(clauses)
    releases = text.listed(variant.labels)
    title = "learned joint attack" if attack == JOINT_LEARNED else "joint attack"
    return f"The {title} on {releases} together reaches {figures}, by paired differences."


def _verdict(table: Table, variant: Variant, metric: Metric, decimals: int, attack: str) -> str:
    """Return a text such as `0.700 [0.690, 0.710], more than fp32 alone (0.680; +0.020)`."""
    together = table.find(variant, metric, attack, "matched")
    difference = table.find(variant, metric.compared_with("best"), attack, "matched")
    if together is None or difference is None:
        return ""
    alone = {}
    for label in variant.labels:
        measure = _measure(table, Variant.parse(label), metric, attack)
        if measure is not None:
            alone[label] = measure.value
    best = max(alone, key=alone.__getitem__)
    evidence = f"{alone[best]:.{decimals}f}; {text.difference(difference, decimals)}"
    compared = f"{_VERDICTS[difference.verdict]} {best} alone ({evidence})"
    return f"{text.figure(together, decimals)}, {compared}"


def _measure(table: Table, variant: Variant, metric: Metric, attack: str) -> Measure | None:
    """Return the joint attack's figure; full precision has references at full precision."""
    reference = FULL if variant.kind == "full" else "matched"
    return table.find(variant, metric, attack, reference)


def _figures(table: Table, summary: Summary, variants: list[Variant], attack: str) -> PageTable:
    fpr = summary.headline_fpr
    rate = (f"TPR @ {text.percent(fpr)} FPR", Metric("tpr", fpr), text.tpr_decimals(fpr))
    columns = [("AUC", AUC, 3), rate]
    header = ["releases seen"]
    for title, _, _ in columns:
        header += [title, f"{title} against fp32", f"{title} over the best alone"]
    lines = []
    for variant in variants:
        cells: list[Cell] = []
        for _, metric, decimals in columns:
            measure = _measure(table, variant, metric, attack)
            difference = table.find(variant, metric.compared_with("best"), attack, "matched")
            cells += [figure_cell(measure, decimals), change_cell(measure, decimals)]
            cells.append(change_cell(difference, decimals))
        lines.append((str(variant), tuple(cells)))
    return PageTable(f"{attack}, matched references", "", tuple(header), tuple(lines))
