"""The attack and the adversary of the headline, and the verdict on the negative control."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from bitleak.config.headline_pair import NAMED_ATTACK
from bitleak.core.metric_names import AUC, AUC_WITHIN_CLASS, Metric
from bitleak.core.types import Measure, Row
from bitleak.core.variants import BLIND, NAMED, STRONGEST, question_of
from bitleak.metrics import widening
from bitleak.report.format import count, figure
from bitleak.report.results_table import ALL, CONTROL, FULL, Table, tabulate
from bitleak.report.summary import Summary

ControlStatus = Literal["at chance", "not at chance", "unknown"]

WIDENING = 3.2905 / 1.9600
"""Reach of a normal distribution's 99.9 % interval over the reach of its 95 % interval."""


@dataclass(frozen=True)
class Control:
    """The verdict on the negative control: targets whose answers are noise.

    Attributes:
        status: `unknown` if the table holds no control with an interval.
        measure: AUC of the control under the headline attack, within classes if membership depends
            on the class; None if there is none.
        sentence: The verdict for people.
    """

    status: ControlStatus
    measure: Measure | None
    sentence: str


def headline(rows: Iterable[Row], attack: str = "", adversary: str = "") -> tuple[str, str]:
    """Return the pair of attack and kind of references that is named beforehand.

    Nothing measured has a part in it. Details are reported for this pair, and the headline if there
    is no row of the strongest.

    Args:
        rows: The results table.
        attack: Attack that was named; empty is `lira-online-shrunk` or, if it was not run on
            full-precision targets, the first attack with references, else the first.
        adversary: Kind that was named; if it is empty or not in the table, `matched` if the attack
            was run with it, else `recalibrated`, else `fp32`.

    Returns:
        Names of the attack and of the kind of reference (empty for an attack without references).

    Raises:
        ValueError: No row holds the AUC of an attack on full-precision targets.

    Example:
        >>> headline([Row("fp32", "", None, name, "fp32", "all", "auc", Measure(auc))
        ...           for name, auc in [("lira-online-shrunk", 0.63), ("lira-online-paper", 0.67)]])
        ('lira-online-shrunk', 'fp32')
    """
    table = tabulate(rows)
    measured = []
    for reference in (FULL, ""):
        for name in table.attacks:
            if (FULL, name, reference, str(AUC)) in table.cells:
                measured.append(name)
    if not measured:
        raise ValueError(
            "no row holds the AUC of an attack on full-precision targets (variant fp32, target all)"
        )
    # a guess without the model is shown next to the attacks, and alone if there are none
    if set(measured) != {BLIND}:
        measured = [name for name in measured if name != BLIND]
    chosen = next((name for name in (attack, NAMED_ATTACK) if name in measured), measured[0])
    kinds = table.references(chosen)
    for kind in (adversary, "matched", "recalibrated", FULL):
        if kind in kinds:
            return chosen, kind
    return chosen, ""


def headline_key(table: Table, summary: Summary) -> tuple[str, str]:
    """Return attack and reference of the rows of the headline: the strongest, if there are such rows.

    Args:
        table: The aggregated rows.
        summary: Names the pair that stands for the strongest in tables without it.
    """
    rate = str(Metric("tpr", summary.headline_fpr))
    if (FULL, STRONGEST, "", rate) in table.cells:
        return STRONGEST, ""
    return summary.headline_attack, summary.headline_reference


def named_beforehand(table: Table, summary: Summary) -> bool:
    """Whether every headline is the pair that was named beforehand, since too few models could play a target."""
    if headline_key(table, summary)[0] != STRONGEST:
        return True
    rate = Metric("tpr", summary.headline_fpr)
    measures = [table.find(name, rate, STRONGEST) for name in (FULL, *map(str, table.quantized))]
    return all(NAMED in measure.chosen for measure in measures if measure is not None)


def in_headline(row: Row, key: tuple[str, str], fpr: float) -> bool:
    """Whether a row is one of the headline's comparisons: a variant's TPR, all targets together.

    Args:
        row: Row of the results.
        key: Attack and reference, from `headline_key`.
        fpr: FPR of the headline.
    """
    if row.variant == FULL or row.target != ALL or question_of(row.variant, row.attack) != "plain":
        return False
    return (row.attack, row.reference, row.metric) == (*key, str(Metric("tpr", fpr)))


def judge_control(table: Table, attack: str, reference: str, *, targets: int = 2) -> Control:
    """Compare the AUC of the negative control under the headline attack with 0.5.

    Args:
        table: The aggregated rows.
        attack: The headline attack.
        reference: The headline reference; if the control has no such row, a row of another kind
            counts.
        targets: Number of targets; it counts for intervals about models trained anew.
    """
    title, measures = _control_areas(table)
    keys = [(attack, kind) for kind in (reference, FULL, "", "recalibrated", "matched")]
    present = [key for key in (*keys, *measures) if key in measures]
    if not present:
        doubt = "nothing shows that the measurement is sound"
        return Control("unknown", None, f"The results hold no negative control: {doubt}.")
    measure = measures[present[0]]
    shown = f"{title} {figure(measure, 3)}"
    if measure.low is None or measure.high is None:
        return Control("unknown", measure, f"Negative control: {shown}, without an interval.")
    if _covers_half(measure, targets):
        status: ControlStatus = "at chance"
        verdict = "at chance, as it must be (judged by the 99.9 % interval)"
    else:
        status = "not at chance"
        verdict = "NOT at chance by its 99.9 % interval: the measurement is biased; do not rely on the figures"
    sentence = f"Negative control (targets whose answers are noise): {shown}, {verdict}."
    return Control(status, measure, f"{sentence}{_all_controls(measures, targets)}")


def _control_areas(table: Table) -> tuple[str, dict[tuple[str, str], Measure]]:
    """Return the title of the control's AUC and its values by attack and reference.

    If membership depends on the class, so do the references' answers, and only the AUC within
    classes must be 0.5.
    """
    areas: dict[str, dict[tuple[str, str], Measure]] = {}
    for (variant, attack, reference, metric), measure in table.cells.items():
        if variant == CONTROL:
            areas.setdefault(metric, {})[attack, reference] = measure
    if str(AUC_WITHIN_CLASS) in areas:
        return "AUC within classes", areas[str(AUC_WITHIN_CLASS)]
    return "AUC", areas.get(str(AUC), {})


def _all_controls(measures: Mapping[tuple[str, str], Measure], targets: int) -> str:
    """Return a sentence on the number of controls off chance; empty if there is one control."""
    if len(measures) < 2:
        return ""
    off = 0
    for measure in measures.values():
        off += not _covers_half(measure, targets)
    controls = f"{count(len(measures), 'control')} (one per attack and adversary)"
    return f" Of all {controls}, {off} have a 99.9 % interval without 0.5."


def _covers_half(measure: Measure, targets: int) -> bool:
    """Whether the 99.9 % interval holds 0.5; the 95 % one fails in one sound audit of twenty."""
    if measure.low is None or measure.high is None:
        return True
    # an interval over few trainings has longer tails than the normal's
    trainings = measure.about == "trainings"
    factor = widening(0.999, "trainings", targets) if trainings else WIDENING
    low = measure.value - factor * (measure.value - measure.low)
    return low <= 0.5 <= measure.value + factor * (measure.high - measure.value)
