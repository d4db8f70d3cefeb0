"""The answer of an audit for readers who know no attack by name.

Two sentences: how accurate a variant stays, and which share of the training records the strongest
adversary picks out of it and of full precision. A third one follows if no more than guessing is
shown at so few false accusations, while pairs of records are told apart. The variant is the
smallest one that is shown to lose at most two points of accuracy, by the test of `bitleak check`;
its leakage has no part in the choice, so that its interval means the same as every other. The words
never go beyond the rows' intervals and verdicts.
"""

from collections.abc import Sequence

from bitleak.core.metric_names import AUC, BYTES, TEST_ACCURACY, Metric
from bitleak.core.release_limits import Limit
from bitleak.core.types import Measure
from bitleak.core.variants import BLIND, FULL, Variant
from bitleak.metrics import holm
from bitleak.metrics.verdicts import LEVEL
from bitleak.report import format as text
from bitleak.report.headline import headline_key, judge_control, named_beforehand
from bitleak.report.limit_grid import FIRST_LOSS
from bitleak.report.memorising_target import judge_positive_control
from bitleak.report.release_gate import evaluate_limit
from bitleak.report.results_table import Table
from bitleak.report.summary import Summary

ALLOWED_LOSSES = (FIRST_LOSS, 0.05)
"""Losses of accuracy by which the variant of the sentence is chosen: the first that any keeps to."""

QUANTIZER_NAMES = {
    "rtn": "rounding to nearest",
    "adaround": "AdaRound",
    "brecq": "BRECQ",
    "obc": "OBC",
    "gptq": "GPTQ",
    "qat": "quantization-aware training on the training records",
}
"""Names in print; others are printed as they are."""

_NOT_EVALUABLE = (
    "The leakage could not be evaluated: training records and the others can be told apart without the "
    "model, by how they differ themselves."
)

_VERDICTS = {
    "lower": ", which the audit shows to be more",
    "higher": ", which the audit shows to be less",
    "not distinguishable": "; the audit does not show a difference",
    "": "",
}


def plain_answer(table: Table, summary: Summary) -> tuple[str, ...]:
    """Return the answer in one to three sentences, with intervals.

    Args:
        table: The aggregated rows.
        summary: Names the headline's pair and FPR.
    """
    if summary.headline_attack == BLIND:
        return (_NOT_EVALUABLE,)
    chosen, loss = featured(table, summary)
    if chosen is None:
        return (_leak_at_full_precision(table, summary), *_told_apart(table, summary, FULL))
    reason = ""
    if loss is not None:
        points = text.count(round(100 * loss), "point")
        alone = len(table.quantized) == 1
        smallest = "" if alone else "the smallest "
        reason = f"{smallest}shown to lose at most {points} of accuracy"
    return describe(table, summary, chosen, reason)


def describe(table: Table, summary: Summary, variant: Variant, reason: str = "") -> tuple[str, ...]:
    """Return the two or three sentences about one variant.

    Args:
        table: The aggregated rows.
        summary: Names the headline's pair and FPR.
        variant: A quantized variant.
        reason: Why it is described, a clause; may be empty.
    """
    name = QUANTIZER_NAMES.get(variant.quantizer, variant.quantizer)
    by = f" by {name}" if name and name != str(variant) else ""
    at = f" at {text.precision_text(variant.levels)}" if variant.levels else " quantized"
    stored = variant_bytes(table, summary, variant)
    known = [str(variant), "" if stored is None else text.size(stored), reason]
    shipped = f"Shipped{at}{by} ({', '.join(filter(None, known))}), "
    keeps = _keeps(table, variant)
    first = f"{shipped}{keeps or 'this model was attacked'}."
    return first, _leak(table, summary, variant), *_told_apart(table, summary, variant)


def in_short(table: Table, summary: Summary, variant: Variant) -> str:
    """Return accuracy and leakage of a variant in a clause."""
    accuracy, leakage = table.find(variant, TEST_ACCURACY), _leakage(table, summary, variant)
    clauses = []
    if accuracy is not None:
        loss = text.difference(accuracy, 1, factor=100.0)
        changed = f" ({loss} points)" if loss else ""
        clauses.append(f"accuracy {100 * accuracy.value:.1f} %{changed}")
    if leakage is not None:
        clauses.append(f"picked out {_share(leakage)}")
    return "; ".join(clauses)


def featured(table: Table, summary: Summary) -> tuple[Variant | None, float | None]:
    """Return the variant of the sentence, and the loss of accuracy that it is shown to keep to.

    Without a variant that is shown to keep to one of `ALLOWED_LOSSES`, it is the most accurate, and
    the loss is None.
    """
    variants = table.quantized
    if not variants:
        return None, None
    measures = [table.find(variant, TEST_ACCURACY) for variant in variants]
    for loss in ALLOWED_LOSSES:
        limit = Limit(str(TEST_ACCURACY), loss)
        checks = []
        for measure in measures:
            checks.append(evaluate_limit(limit, measure, summary.targets, len(variants)))
        shown = holm([check.p_pass for check in checks])
        passing = [variant for variant, p in zip(variants, shown, strict=True) if p < LEVEL]
        if passing:
            return min(passing, key=lambda variant: _order_by_size(table, summary, variant)), loss
    known = [variant for variant, measure in zip(variants, measures, strict=True) if measure]
    if not known:
        return min(variants, key=lambda variant: _order_by_size(table, summary, variant)), None
    return max(known, key=lambda variant: _value(table.find(variant, TEST_ACCURACY))), None


def variant_bytes(table: Table, summary: Summary, variant: Variant | str) -> float | None:
    """Return the size of a variant in bytes; None if it is not known."""
    measure = table.find(variant, BYTES)
    if measure is not None:
        return measure.value
    sizes = {entry.name: float(entry.bytes) for entry in summary.variants}
    return sizes.get(str(variant))


def smallest_first(table: Table, summary: Summary) -> Sequence[Variant]:
    """Return the quantized variants, the smallest first."""
    return sorted(table.quantized, key=lambda variant: _order_by_size(table, summary, variant))


def false_accusations(fpr: float) -> str:
    """Return a false-positive rate in words.

    Example:
        >>> false_accusations(0.02), false_accusations(0.001), false_accusations(0.00025)
        ('2 false accusations in a hundred', '1 false accusation in a thousand', '2.5 false accusations in 10,000')
    """
    bases = ((100, "a hundred"), (1000, "a thousand"), (10_000, "10,000"))
    base, name = next((pair for pair in bases if fpr * pair[0] > 0.999), bases[-1])
    count = round(fpr * base, 6)
    return f"{count:g} false accusation{'' if count == 1 else 's'} in {name}"


def reading(table: Table, summary: Summary) -> str:
    """Return how to read the figures of the answer, in a sentence or two."""
    rate = text.percent(summary.headline_fpr)
    guess = (
        f"Guessing picks out {rate}. A false accusation: a record that was not trained on is taken for "
        "one that was."
    )
    if not _has_rate(table, summary):
        guess = "Guessing is right in 50 % of such pairs."
    below = ""
    full = _leakage(table, summary, FULL)
    if full is not None and _has_rate(table, summary) and full.value <= summary.headline_fpr:
        below = " An adversary at or below that has found nothing in the full-precision model."
    means = ""
    if summary.targets > 1:
        means = f" Figures are means of {text.count(summary.targets, 'model')} trained alike."
    return f"{guess}{below} Brackets are 95 % intervals.{means}"


def certainty(table: Table, summary: Summary) -> tuple[str, ...]:
    """Return how sure the figures are: the intervals' subject and both controls, in plain words."""
    lines = [_subject(table, summary)]
    attack, reference = summary.headline_attack, summary.headline_reference
    control = judge_control(table, attack, reference, targets=summary.targets)
    lines.append(_CONTROLS[control.status])
    positive = judge_positive_control(table, attack, reference, summary.headline_fpr)
    lines.append(_POSITIVE_CONTROLS[positive.status])
    return tuple(filter(None, lines))


_CONTROLS = {
    "at chance": "Tried on targets with nothing to find, the measurement finds nothing, as it must.",
    "not at chance": "Tried on targets with nothing to find, the measurement finds something: it is "
    "biased, and its figures must not be relied on.",
    "unknown": "No target with nothing to find was tried, so that a bias would not be noticed.",
}

_POSITIVE_CONTROLS = {
    "found": "Tried on a target made to memorise, it finds at least half of the leak.",
    "partly found": "Tried on a target made to memorise, it finds less than half of the leak, so "
    "small figures are weak evidence.",
    "not found": "Tried on a target made to memorise, it does not do distinguishably better than guessing: "
    "small figures are no evidence.",
    "absent": "",
}


def _leak(table: Table, summary: Summary, variant: Variant) -> str:
    """Return the sentence on the leakage of a variant and of full precision."""
    here, full = _leakage(table, summary, variant), _leakage(table, summary, FULL)
    if here is None:
        return "Its leakage was not measured at a number of false accusations that can be stated."
    beside = ""
    if full is not None:
        shown = _share(full)
        beside = f"; of the full-precision model, {shown}{_VERDICTS[here.verdict]}"
    return f"{_picks_out(table, summary, here)}{beside}."


def _leak_at_full_precision(table: Table, summary: Summary) -> str:
    full = _leakage(table, summary, FULL)
    if full is None:
        return "No leakage was measured at a number of false accusations that can be stated."
    return f"{_picks_out(table, summary, full)}. No quantized variant was audited."


def _told_apart(table: Table, summary: Summary, variant: Variant | str) -> tuple[str, ...]:
    """Return a sentence on the AUC if the rate is not shown to exceed guessing, and the AUC is."""
    key, names = headline_key(table, summary), dict.fromkeys((str(variant), FULL))
    hidden = False
    shares = []
    for name in names:
        rate = table.find(name, Metric("tpr", summary.headline_fpr), *key)
        area = table.find(name, AUC, *key)
        if rate is None or area is None or rate.low is None or area.low is None:
            return ()
        hidden = hidden or (rate.low <= summary.headline_fpr and area.low > 0.5)
        shares.append(_share(area))
    if not hidden:
        return ()
    beside = f"; of the full-precision model, {shares[1]}" if len(shares) > 1 else ""
    return (
        "With more false accusations it finds more: shown a training record and another record, it tells "
        f"which is which in {shares[0]} of such pairs{beside}. Guessing is right in 50 %.",
    )


def _picks_out(table: Table, summary: Summary, measure: Measure) -> str:
    named = named_beforehand(table, summary)
    who = "The adversary named beforehand" if named else "The strongest adversary tried"
    if not _has_rate(table, summary):
        return (
            f"{who}, shown a training record and another record, tells which is which in "
            f"{_share(measure)} of such pairs"
        )
    price = false_accusations(summary.headline_fpr)
    return f"{who} picks out {_share(measure)} of the training records at {price}"


def _has_rate(table: Table, summary: Summary) -> bool:
    rate = Metric("tpr", summary.headline_fpr)
    key = headline_key(table, summary)
    names = (FULL, *map(str, table.quantized))
    return any(table.find(name, rate, *key) for name in names)


def _leakage(table: Table, summary: Summary, variant: Variant | str) -> Measure | None:
    metric = Metric("tpr", summary.headline_fpr) if _has_rate(table, summary) else AUC
    return table.find(variant, metric, *headline_key(table, summary))


def _share(measure: Measure) -> str:
    """Return a share in percent, with its interval.

    Example:
        >>> _share(Measure(0.0502, low=0.0391, high=0.0623))
        '5.0 % [3.9, 6.2]'
    """
    decimals = 1 if measure.value >= 0.01 else 2
    shown = f"{text.value(measure, decimals, factor=100.0)} %"
    return f"{shown} {text.interval(measure, decimals, factor=100.0)}".strip()


def _keeps(table: Table, variant: Variant) -> str:
    """Return a clause on the accuracy that a variant keeps; empty if it is not known."""
    here, full = table.find(variant, TEST_ACCURACY), table.find(FULL, TEST_ACCURACY)
    if here is None or full is None:
        return ""
    kept = f"this model keeps {100 * here.value:.1f} of {100 * full.value:.1f} % accuracy"
    if here.difference is None or here.difference_low is None or here.difference_high is None:
        return kept
    return f"{kept} ({text.difference(here, 1, factor=100.0)} points)"


def _subject(table: Table, summary: Summary) -> str:
    """Return the subject of the intervals in a sentence."""
    key, metric = headline_key(table, summary), Metric("tpr", summary.headline_fpr)
    for name in (*map(str, table.quantized), FULL):
        for figure in (metric, AUC):
            measure = table.find(name, figure, *key)
            if measure is not None and measure.about == "trainings":
                return (
                    "The intervals are about models trained anew in the same way, on other records."
                )
    models = "this model" if summary.targets == 1 else "these models"
    return (
        f"The intervals are about {models} on other records; another training could differ by more."
    )


def _order_by_size(table: Table, summary: Summary, variant: Variant) -> tuple[float, float, str]:
    """Return a key that sorts the smallest first, the most accurate first among equals."""
    stored = variant_bytes(table, summary, variant)
    accuracy = _value(table.find(variant, TEST_ACCURACY))
    return (float("inf") if stored is None else stored, -accuracy, str(variant))


def _value(measure: Measure | None) -> float:
    return float("-inf") if measure is None else measure.value
