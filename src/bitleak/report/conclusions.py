"""Conclusions of an audit in sentences, and its compact table for a terminal.

The sentences repeat the verdicts of the rows (lower, higher, not distinguishable) and never go
beyond them; they call the figure leakage to an adversary, and never call a model harmless.
"""

from collections import Counter
from collections.abc import Sequence

from bitleak.core.metric_names import AUC, TEST_ACCURACY, Metric
from bitleak.core.types import Measure
from bitleak.core.variants import Variant
from bitleak.metrics import HEADLINE
from bitleak.report.format import (
    ABOUT,
    DASH,
    REFERENCE_TITLES,
    bits,
    count,
    figure,
    listed,
    percent,
    precision,
    tpr_decimals,
    value,
)
from bitleak.report.headline import judge_control
from bitleak.report.page_tables import audited
from bitleak.report.results_table import FULL, Table
from bitleak.report.sections import page_sections
from bitleak.report.summary import Summary

LOWER_BOUND = (
    "A measured leakage is a lower bound: it is what these attacks found. A stronger adversary may "
    "find more, in particular where little was found here."
)

_OPENINGS = {
    "lower": "less leakage than at full precision from",
    "higher": "more leakage than at full precision from",
    "not distinguishable": "no difference was found for",
    "": "no comparison was made for",
}


def sentences(table: Table, summary: Summary) -> list[str]:
    """Return the verdict, the sections' findings, the negative control and the lower bound."""
    conclusions = list(verdicts(table, summary))
    for section in page_sections(table, summary):
        conclusions += section.sentences
    attack, reference = summary.headline_attack, summary.headline_reference
    control = judge_control(table, attack, reference, targets=summary.targets)
    return [*conclusions, control.sentence, LOWER_BOUND]


def verdicts(table: Table, summary: Summary) -> tuple[str, ...]:
    """Return the verdict in sentences, the most general first.

    Args:
        table: The aggregated rows.
        summary: Names the headline attack, reference and FPR.

    Returns:
        The whole in a sentence; whether the attack works at all; a sentence per precision, the
        finest first; the verdicts for the other adversaries and by AUC.
    """
    chance = _chance(table, summary)
    if not table.quantized:
        return (_without_quantization(table, summary), *chance)
    conclusions = [_overall(table, summary), *chance]
    for levels in table.levels:
        conclusions.append(_at_precision(table, summary, levels))

    # The same question to the other adversaries, and by the other metric.
    rate = Metric("tpr", summary.headline_fpr)
    for kind in _other_references(table, summary):
        counts = _counts(table, summary, rate, kind)
        conclusions.append(f"With {REFERENCE_TITLES[kind]} instead: {counts}.")
    reference = summary.headline_reference
    counts = _counts(table, summary, AUC, reference)
    conclusions.append(f"By AUC instead, with {REFERENCE_TITLES[reference]}: {counts}.")
    return tuple(conclusions)


def compact_table(table: Table, summary: Summary) -> list[list[str]]:
    """Return the headline figures of every variant, as text.

    Args:
        table: The aggregated rows.
        summary: Names the headline attack, reference and FPR.

    Returns:
        The header, then a line per variant: full precision first, the negative control last. TPR
            and
        AUC are of the headline attack with the headline reference; further columns hold its TPR
        with the other kinds of reference.
    """
    others = _other_references(table, summary)
    header = ["variant", "bits", "test accuracy %", "AUC"]
    header += [f"TPR @ {percent(summary.headline_fpr)} FPR", "against fp32"]
    header += [f"TPR, {REFERENCE_TITLES[kind]}" for kind in others]
    lines = [_line(table, summary, variant, others) for variant in audited(table)]
    return [header, *filter(None, lines)]


def _line(table: Table, summary: Summary, variant: Variant, others: Sequence[str]) -> list[str]:
    """Return the line of one variant; empty if it was not attacked."""
    decimals = tpr_decimals(summary.headline_fpr)
    attack, reference = summary.headline_attack, summary.headline_reference
    area = table.find(variant, AUC, attack, reference)
    rate = _headline_rate(table, summary, variant)
    if area is None and rate is None:
        return []
    line = [str(variant), "" if variant.kind == "control" else bits(variant.levels)]
    line.append(figure(table.find(variant, TEST_ACCURACY), 1, factor=100.0))
    line += [figure(area, 3), figure(rate, decimals)]
    line.append(DASH if rate is None or not rate.verdict else rate.verdict)
    for kind in others:
        line.append(value(_headline_rate(table, summary, variant, kind), decimals))
    return line


def _other_references(table: Table, summary: Summary) -> list[str]:
    kinds = table.references(summary.headline_attack)
    return [kind for kind in kinds if kind != summary.headline_reference]


def _without_quantization(table: Table, summary: Summary) -> str:
    full = f"{_headline_text(table, summary, FULL)} under {summary.headline_attack}"
    rate = f"TPR at {percent(summary.headline_fpr)} FPR at full precision"
    return f"No quantized variant was audited; {rate}: {full}."


def _overall(table: Table, summary: Summary) -> str:
    rate = Metric("tpr", summary.headline_fpr)
    counts = _counts(table, summary, rate, summary.headline_reference)
    number, fpr = count(len(table.quantized), "quantized variant"), percent(summary.headline_fpr)
    reference = REFERENCE_TITLES[summary.headline_reference]
    adversary = f"attack {summary.headline_attack}, {reference}"
    full = f"full precision: {_headline_text(table, summary, FULL)}"
    overall = f"Of {number}, {counts}, by TPR at {fpr} FPR ({adversary}; {full})."
    return f"{overall}{_subject(table, summary)}"


def _subject(table: Table, summary: Summary) -> str:
    """Return a sentence on the number of the headline's comparisons and on their subject."""
    for variant in table.quantized:
        measure = _headline_rate(table, summary, variant)
        if measure is not None and measure.family and measure.about:
            number = count(table.comparisons(measure.family), "planned comparison")
            subject = ABOUT[measure.about]
            return f" These verdicts are corrected over {number}, and are about {subject}."
    return ""


def _counts(table: Table, summary: Summary, metric: Metric, reference: str) -> str:
    """Return the number of variants with each verdict, as a clause."""
    numbers: Counter[str] = Counter()
    attack = summary.headline_attack
    measures = [table.find(variant, metric, attack, reference) for variant in table.quantized]
    for measure in measures:
        numbers[measure.verdict if measure else ""] += 1
    families = {measure.family for measure in measures if measure and measure.family}
    if families - {HEADLINE}:
        number = sum(map(table.comparisons, families))
        corrected = f", corrected over {count(number, 'comparison')}"
    else:
        corrected = ""
    clause = (
        f"{numbers['lower']} measured lower than full precision, {numbers['not distinguishable']} "
        f"not distinguishable from it and {numbers['higher']} higher{corrected}"
    )
    return f"{clause} ({numbers['']} not compared)" if numbers[""] else clause


def _chance(table: Table, summary: Summary) -> tuple[str, ...]:
    """Return a warning if the attack does no better than guessing at full precision."""
    attack, reference = summary.headline_attack, summary.headline_reference
    measure = table.find(FULL, AUC, attack, reference)
    if measure is None or measure.low is None or measure.high is None:
        return ()
    if not measure.low <= 0.5 <= measure.high:
        return ()
    return (
        "At full precision the attack itself cannot be distinguished from guessing (AUC "
        f"{figure(measure, 3)}), so there is little for quantization to lower.",
    )


def _at_precision(table: Table, summary: Summary, levels: int) -> str:
    """Return the verdicts on the variants of one precision, with their evidence."""
    groups: dict[str, list[str]] = {verdict: [] for verdict in _OPENINGS}
    for variant in table.quantized:
        if variant.levels == levels:
            measure = _headline_rate(table, summary, variant)
            evidence = [_headline_text(table, summary, variant), _accuracy(table, variant)]
            known = ", ".join(filter(None, evidence))
            verdict = measure.verdict if measure else ""
            groups[verdict].append(f"{table.label(variant)} ({known})")
    clauses = []
    for verdict, names in groups.items():
        if names:
            clauses.append(f"{_OPENINGS[verdict]} {listed(names)}")
    full = f"full precision {_headline_text(table, summary, FULL)}"
    scale = f"TPR at {percent(summary.headline_fpr)} FPR, {full}"
    heading = f"At {precision(levels)}" if levels else "At a precision that is not stated"
    return f"{heading} ({scale}): {'; '.join(clauses)}."


def _headline_rate(
    table: Table, summary: Summary, variant: Variant | str, reference: str | None = None
) -> Measure | None:
    """Return the headline TPR; a `reference` of None is the headline's."""
    rate = Metric("tpr", summary.headline_fpr)
    kind = summary.headline_reference if reference is None else reference
    return table.find(variant, rate, summary.headline_attack, kind)


def _headline_text(table: Table, summary: Summary, variant: Variant | str) -> str:
    rate = _headline_rate(table, summary, variant)
    return figure(rate, tpr_decimals(summary.headline_fpr))


def _accuracy(table: Table, variant: Variant) -> str:
    """Return the variant's change of test accuracy, in points; empty if it is not known."""
    measure, full = table.find(variant, TEST_ACCURACY), table.find(FULL, TEST_ACCURACY)
    if measure is None or full is None:
        return ""
    change = measure.difference
    points = 100 * (measure.value - full.value if change is None else change)
    if abs(points) < 0.05:
        return "test accuracy unchanged"
    clause = f"test accuracy {points:+.1f} points"
    distinguishable = measure.verdict != "not distinguishable"
    return clause if distinguishable else f"{clause}, not distinguishable"
