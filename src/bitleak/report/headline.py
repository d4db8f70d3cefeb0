"""Which attack and which adversary the report puts first, and whether the negative control is at chance."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bitleak.core.types import Measure, Row
from bitleak.report.format import count, figure
from bitleak.report.results_table import CONTROL, FULL, Table, tabulate

ControlStatus = Literal["at chance", "not at chance", "unknown"]


WITHIN = "auc_within_class"
"""The metric that there is where membership depends on the class."""

WIDENING = 3.2905 / 1.9600
"""From the ends of a 95 % interval to those of a 99.9 % interval, of a normal."""


@dataclass(frozen=True)
class Control:
    """What the negative control says: targets whose scores are noise.

    Attributes:
        status: `unknown` where the table holds no control with an interval.
        measure: AUC of the control under the headline attack, within classes where membership depends on the class;
            None where there is none.
        sentence: The same for people.
    """

    status: ControlStatus
    measure: Measure | None
    sentence: str


def headline(rows: Iterable[Row]) -> tuple[str, str]:
    """The attack and the kind of reference that figures and verdicts use.

    The attack with the largest AUC (mean over targets) on full-precision targets with `fp32`
    references; the first of several. It is chosen once, at full precision, and used for all
    variants. Attacks without references come into question only where there are no others. The
    reference is `matched` where the attack was run with it, else `recalibrated`, else `fp32`.

    Args:
        rows: The results table.

    Returns:
        Names of the attack and of the kind of reference (empty for an attack without references).

    Raises:
        ValueError: No row holds the AUC of an attack on full-precision targets.

    Example:
        >>> headline([Row("fp32", "", None, name, "fp32", "all", "auc", Measure(auc))
        ...           for name, auc in [("lira-online-fixed", 0.67), ("lira-online-paper", 0.63)]])
        ('lira-online-fixed', 'fp32')
    """
    table = tabulate(rows)
    for reference in (FULL, ""):
        cells = {attack: table.cells.get((FULL, attack, reference, "auc")) for attack in table.attacks}
        areas = {attack: cell.value for attack, cell in cells.items() if cell is not None}
        if areas:
            attack = max(areas, key=areas.__getitem__)
            kinds = table.references(attack)
            return attack, next((kind for kind in ("matched", "recalibrated", "fp32") if kind in kinds), "")
    raise ValueError("no row holds the AUC of an attack on full-precision targets (variant fp32, target all)")


def judge_control(table: Table, attack: str, reference: str) -> Control:
    """The AUC of the negative control under the headline attack, against 0.5.

    Args:
        table: The aggregated rows.
        attack: The headline attack.
        reference: The headline reference; where the control has no such row, another one answers.
    """
    # where membership depends on the class, so does what references say, and only figures within classes must be 0.5
    within = any(key[0] == CONTROL and key[3] == WITHIN for key in table.cells)
    metric, what = (WITHIN, "AUC within classes") if within else ("auc", "AUC")
    measures = {key[1:3]: cell for key, cell in table.cells.items() if key[0] == CONTROL and key[3] == metric}
    own = [(attack, kind) for kind in (reference, FULL, "", "recalibrated", "matched")]
    measure = next((measures[key] for key in [*own, *measures] if key in measures), None)
    if measure is None:
        return Control(
            "unknown", None, "The results hold no negative control: nothing shows that the measurement is sound."
        )
    if measure.low is None or measure.high is None:
        return Control("unknown", measure, f"Negative control: {what} {figure(measure, 3)}, without an interval.")
    chance = _covers_half(measure)
    status: ControlStatus = "at chance" if chance else "not at chance"
    verdict = (
        "at chance, as it must be (judged by the 99.9 % interval)"
        if chance
        else "NOT at chance by its 99.9 % interval: the measurement is biased; do not rely on the figures"
    )
    return Control(
        status,
        measure,
        f"Negative control (targets whose scores are noise): {what} {figure(measure, 3)}, {verdict}."
        f"{_others(measures)}",
    )


def _others(measures: dict[tuple[str, str], Measure]) -> str:
    """How many of all controls are off."""
    if len(measures) < 2:
        return ""
    off = sum(not _covers_half(measure) for measure in measures.values())
    all_of_them = f"Of all {count(len(measures), 'control')} (one per attack and adversary)"
    return f" {all_of_them}, {off} have a 99.9 % interval without 0.5."


def _covers_half(measure: Measure) -> bool:
    """Whether the 99.9 % interval holds 0.5: a check of the machinery must not cry wolf in one audit of twenty."""
    if measure.low is None or measure.high is None:
        return True
    low = measure.value - WIDENING * (measure.value - measure.low)
    return low <= 0.5 <= measure.value + WIDENING * (measure.high - measure.value)
