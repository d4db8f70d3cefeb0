"""Conclusions of an audit in sentences, and its compact table for a terminal.

The sentences repeat the verdicts of the rows (lower, higher, not distinguishable) and never go
beyond them; they call the figure leakage to an adversary, and never call a model harmless.
"""

from collections import Counter
from collections.abc import Sequence

from bitleak.core.metric_names import AUC, NAIVE, TEST_ACCURACY, Metric
from bitleak.core.types import Measure
from bitleak.core.variants import CONTROLS, NAMED, STRONGEST, Variant
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
    precision_text,
    tpr_decimals,
    value,
)
from bitleak.report.headline import headline_key, judge_control, named_beforehand
from bitleak.report.memorising_target import judge_positive_control
from bitleak.report.page_tables import audited
from bitleak.report.results_table import FULL, Table
from bitleak.report.sections import page_sections
from bitleak.report.summary import Summary

LOWER_BOUND = (
    "A measured leakage is a lower bound: a stronger adversary may find more than these attacks did, in "
    "particular where little was found here."
)

_OPENINGS = {
    "lower": "less leakage than at full precision from",
    "higher": "more leakage than at full precision from",
    "not distinguishable": "not distinguishable from full precision:",
    "": "no comparison was made for",
}


def sentences(table: Table, summary: Summary) -> list[str]:
    """Return the verdict, the sections' findings, the negative control and the lower bound."""
    conclusions = list(verdicts(table, summary))
    for section in page_sections(table, summary):
        conclusions += section.sentences
    attack, reference = summary.headline_attack, summary.headline_reference
    control = judge_control(table, attack, reference, targets=summary.targets)
    positive = judge_positive_control(table, attack, reference, summary.headline_fpr)
    return [*conclusions, control.sentence, *positive.sentences, LOWER_BOUND]


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
        sentences = (_without_quantization(table, summary), *chance)
        return (*sentences, *_named_instead(table, summary))
    conclusions = [_overall(table, summary), *chance]
    for levels in table.levels:
        conclusions.append(_at_precision(table, summary, levels))

    # Verdicts by the other adversaries, and by the other metric.
    rate, key = Metric("tpr", summary.headline_fpr), headline_key(table, summary)
    for kind in _other_references(table, summary):
        counts = _counts(table, rate, (summary.headline_attack, kind))
        by = f"By {summary.headline_attack} alone, with" if key[0] == STRONGEST else "With"
        end = "" if key[0] == STRONGEST else " instead"
        conclusions.append(f"{by} {REFERENCE_TITLES[kind]}{end}: {counts}.")
    counts = _counts(table, AUC, key)
    by = "of the same pairs" if key[0] == STRONGEST else f"with {REFERENCE_TITLES[key[1]]}"
    conclusions.append(f"By AUC instead, {by}: {counts}.")
    return (*conclusions, *_hidden(table, summary), *_named_instead(table, summary))


def compact_table(table: Table, summary: Summary) -> list[list[str]]:
    """Return the headline figures of every variant, as text.

    Args:
        table: The aggregated rows.
        summary: Names the headline attack, reference and FPR.

    Returns:
        The header, then a line per variant: full precision first, the negative control last. TPR
        and AUC are of the headline, the strongest pair if there is one; further columns hold the
        TPR of the named attack with each other kind of reference.
    """
    others = _other_references(table, summary)
    header = ["variant", "bits", "test accuracy %", "AUC"]
    header += [f"TPR @ {percent(summary.headline_fpr)} FPR", "against fp32"]
    by = f"{summary.headline_attack}, " if headline_key(table, summary)[0] == STRONGEST else "TPR, "
    header += [f"{by}{REFERENCE_TITLES[kind]}" for kind in others]
    lines = [_line(table, summary, variant, others) for variant in audited(table)]
    return [header, *filter(None, lines)]


def _line(table: Table, summary: Summary, variant: Variant, others: Sequence[str]) -> list[str]:
    """Return the line of one variant; empty if it was not attacked."""
    decimals = tpr_decimals(summary.headline_fpr)
    key = headline_key(table, summary)
    if str(variant) in CONTROLS:  # which are attacked by the named pair alone
        key = summary.headline_attack, summary.headline_reference
    area = table.find(variant, AUC, *key)
    rate = table.find(variant, Metric("tpr", summary.headline_fpr), *key)
    if area is None and rate is None:
        return []
    line = [str(variant), "" if str(variant) in CONTROLS else bits(variant.levels)]
    line.append(figure(table.find(variant, TEST_ACCURACY), 1, factor=100.0))
    line += [figure(area, 3), figure(rate, decimals)]
    # a control differs from full precision by design
    judged = rate is not None and rate.verdict and str(variant) not in CONTROLS
    line.append(rate.verdict if rate is not None and judged else DASH)
    for kind in others:
        line.append(value(_headline_rate(table, summary, variant, kind), decimals))
    return line


def _other_references(table: Table, summary: Summary) -> list[str]:
    """Return the kinds of references of the named attack that are not the headline's."""
    kinds = table.references(summary.headline_attack)
    key = headline_key(table, summary)
    return [kind for kind in kinds if (summary.headline_attack, kind) != key]


def _without_quantization(table: Table, summary: Summary) -> str:
    full = f"{_headline_text(table, summary, FULL)} under {_adversary(table, summary)}"
    rate = f"TPR at {percent(summary.headline_fpr)} FPR at full precision"
    return f"No quantized variant was audited; {rate}: {full}."


def _overall(table: Table, summary: Summary) -> str:
    rate = Metric("tpr", summary.headline_fpr)
    counts = _counts(table, rate, headline_key(table, summary))
    number, fpr = count(len(table.quantized), "quantized variant"), percent(summary.headline_fpr)
    adversary = _adversary(table, summary)
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
            if summary.targets == 1:
                subject = subject.replace("these models", "this model")
            return f" These verdicts are corrected over {number}, and are about {subject}."
    return ""


def _adversary(table: Table, summary: Summary) -> str:
    """Return the attack and the adversary of the headline as a noun."""
    attack, reference = headline_key(table, summary)
    if attack != STRONGEST:
        return f"attack {attack}, {REFERENCE_TITLES[reference]}"
    if named_beforehand(table, summary):
        named = REFERENCE_TITLES[summary.headline_reference]
        return f"attack {summary.headline_attack}, {named}, named beforehand"
    rate = str(Metric("tpr", summary.headline_fpr))
    pairs = {key[1:3] for key in table.cells if key[1] in table.attacks and key[3] == rate}
    number = count(len(pairs), "pair")
    return f"the strongest of {number} of attack and adversary, chosen on other models"


def _hidden(table: Table, summary: Summary) -> tuple[str, ...]:
    """Return a sentence on the leakage that references at full precision do not show, if tested."""
    metric = Metric("tpr", summary.headline_fpr).compared_with(NAIVE)
    shown, undecided = [], 0
    for variant in table.quantized:
        measure = table.find(variant, metric, STRONGEST)
        if measure is None or not measure.verdict:
            continue
        if measure.verdict == "higher":
            decimals = tpr_decimals(summary.headline_fpr)
            shown.append(f"{variant} ({figure(measure, decimals)})")
        else:
            undecided += 1
    if not shown and not undecided:
        return ()
    at = f"TPR at {percent(summary.headline_fpr)} FPR"
    if not shown:
        return (
            f"By {at}, the strongest adversary does not find distinguishably more than full-precision "
            f"references alone ({count(undecided, 'variant')}).",
        )
    rest = f"in {count(undecided, 'variant')} not distinguishably more"
    more = f"the strongest adversary finds more than full-precision references alone in {listed(shown)}"
    return (f"By {at}, {more}{f'; {rest}' if undecided else ''}.",)


def _named_instead(table: Table, summary: Summary) -> tuple[str, ...]:
    """Return a sentence on variants whose headline is the pair that was named beforehand."""
    rate, names = Metric("tpr", summary.headline_fpr), []
    for name in (FULL, *map(str, table.quantized)):
        measure = table.find(name, rate, STRONGEST)
        if measure is not None and NAMED in measure.chosen:
            names.append(name)
    if not names:
        return ()
    pair = f"{summary.headline_attack}, {REFERENCE_TITLES[summary.headline_reference]}"
    return (
        f"No models could play a target to choose the strongest pair of {listed(names)} (too few, or no attack that "
        f"compares a target with others): the headline there is the pair named beforehand ({pair}).",
    )


def _counts(table: Table, metric: Metric, key: tuple[str, str]) -> str:
    """Return the number of variants with each verdict, as a clause."""
    numbers: Counter[str] = Counter()
    measures = [table.find(variant, metric, *key) for variant in table.quantized]
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
    measure = table.find(FULL, AUC, *headline_key(table, summary))
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
    heading = f"At {precision_text(levels)}" if levels else "At a precision that is not stated"
    return f"{heading} ({scale}): {'; '.join(clauses)}."


def _headline_rate(
    table: Table, summary: Summary, variant: Variant | str, reference: str | None = None
) -> Measure | None:
    """Return the headline TPR, or with a `reference` the TPR of the named attack."""
    rate = Metric("tpr", summary.headline_fpr)
    key = headline_key(table, summary)
    if reference is not None:
        key = summary.headline_attack, reference
    return table.find(variant, rate, *key)


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
    if points == 0:
        return "test accuracy unchanged"
    # a change that rounds to nothing is still a change
    size = f"{points:+.1f} points" if abs(points) >= 0.05 else "changed by less than 0.05 points"
    distinguishable = measure.verdict != "not distinguishable"
    return f"test accuracy {size}" + ("" if distinguishable else ", a change within its error")
