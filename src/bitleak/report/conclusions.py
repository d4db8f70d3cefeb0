"""Sentences of verdict, made from the rows: what was lower, what was higher, what cannot be told apart.

The sentences repeat the verdicts of the rows and never go beyond them; they call what was measured
leakage to an adversary, and never call a model harmless.
"""

from collections import Counter

from bitleak.core.types import Measure
from bitleak.report.format import REFERENCE_TITLES, count, figure, listed, percent, precision, tpr_decimals, tpr_metric
from bitleak.report.results_table import FULL, Table, Variant
from bitleak.report.summary import Summary

LOWER_BOUND = (
    "A measured leakage is a lower bound: it is what these attacks found. A stronger adversary may find more, in "
    "particular where little was found here."
)

_OPENINGS = {
    "lower": "less leakage than at full precision from",
    "higher": "more leakage than at full precision from",
    "not distinguishable": "no difference was found for",
    "": "no comparison was made for",
}


def verdicts(table: Table, summary: Summary) -> tuple[str, ...]:
    """The verdict in sentences, the most general first.

    Args:
        table: The aggregated rows.
        summary: Names the headline attack, reference and FPR.

    Returns:
        The whole in a sentence; whether the attack works at all; a sentence per precision, the finest
        first; what the other adversaries and the AUC say.
    """
    if not table.quantized:
        return (_alone(table, summary), *_chance(table, summary))
    others = [kind for kind in table.references(summary.headline_attack) if kind != summary.headline_reference]
    return (
        _overall(table, summary),
        *_chance(table, summary),
        *[_at_precision(table, summary, levels) for levels in table.levels],
        *[_other_reference(table, summary, kind) for kind in others],
        f"By AUC instead, with {REFERENCE_TITLES[summary.headline_reference]}: "
        f"{_counts(table, summary, 'auc', summary.headline_reference)}.",
    )


def _alone(table: Table, summary: Summary) -> str:
    full = f"{_tpr(table, summary, FULL)} under {summary.headline_attack}"
    return f"No quantized variant was audited; TPR at {percent(summary.headline_fpr)} FPR at full precision: {full}."


def _overall(table: Table, summary: Summary) -> str:
    metric = tpr_metric(summary.headline_fpr)
    counts = _counts(table, summary, metric, summary.headline_reference)
    number, rate = count(len(table.quantized), "quantized variant"), percent(summary.headline_fpr)
    adversary = f"attack {summary.headline_attack}, {REFERENCE_TITLES[summary.headline_reference]}"
    full = f"full precision: {_tpr(table, summary, FULL)}"
    return f"Of {number}, {counts}, by TPR at {rate} FPR ({adversary}; {full})."


def _counts(table: Table, summary: Summary, metric: str, reference: str) -> str:
    """How many variants have which verdict."""
    cells = [table.find(variant.name, metric, summary.headline_attack, reference) for variant in table.quantized]
    found = Counter(cell.verdict if cell else "" for cell in cells)
    text = (
        f"{found['lower']} measured lower than full precision, {found['not distinguishable']} not distinguishable "
        f"from it and {found['higher']} higher"
    )
    return f"{text} ({found['']} not compared)" if found[""] else text


def _chance(table: Table, summary: Summary) -> tuple[str, ...]:
    """A warning where the attack does no better than guessing at full precision."""
    measure = table.find(FULL, "auc", summary.headline_attack, summary.headline_reference)
    if measure is None or measure.low is None or measure.high is None or not measure.low <= 0.5 <= measure.high:
        return ()
    return (
        f"At full precision the attack itself cannot be told from guessing (AUC {figure(measure, 3)}), "
        "so there is little for quantization to lower.",
    )


def _at_precision(table: Table, summary: Summary, levels: int) -> str:
    groups: dict[str, list[str]] = {verdict: [] for verdict in _OPENINGS}
    for variant in (variant for variant in table.quantized if variant.levels == levels):
        measure = _headline(table, summary, variant.name)
        evidence = ", ".join(filter(None, (_tpr(table, summary, variant.name), _accuracy(table, variant))))
        groups[measure.verdict if measure else ""].append(f"{table.label(variant)} ({evidence})")
    clauses = [f"{_OPENINGS[verdict]} {listed(names)}" for verdict, names in groups.items() if names]
    scale = f"TPR at {percent(summary.headline_fpr)} FPR, full precision {_tpr(table, summary, FULL)}"
    where = f"At {precision(levels)}" if levels else "At a precision that is not stated"
    return f"{where} ({scale}): {'; '.join(clauses)}."


def _other_reference(table: Table, summary: Summary, reference: str) -> str:
    counts = _counts(table, summary, tpr_metric(summary.headline_fpr), reference)
    return f"With {REFERENCE_TITLES[reference]} instead: {counts}."


def _headline(table: Table, summary: Summary, variant: str) -> Measure | None:
    metric = tpr_metric(summary.headline_fpr)
    return table.find(variant, metric, summary.headline_attack, summary.headline_reference)


def _tpr(table: Table, summary: Summary, variant: str) -> str:
    return figure(_headline(table, summary, variant), tpr_decimals(summary.headline_fpr))


def _accuracy(table: Table, variant: Variant) -> str:
    """What the variant costs in test accuracy, in percentage points."""
    measure, full = table.find(variant.name, "test_accuracy"), table.find(FULL, "test_accuracy")
    if measure is None or full is None:
        return ""
    points = 100 * (measure.value - full.value if measure.difference is None else measure.difference)
    if abs(points) < 0.05:
        return "test accuracy unchanged"
    change = f"test accuracy {points:+.1f} points"
    return f"{change}, not distinguishable" if measure.verdict == "not distinguishable" else change
