"""The verdict on the positive control: would these attacks with these references have found a leak?"""

from dataclasses import dataclass
from typing import Literal

from bitleak.attacks import STRENGTH, perfect_auc, perfect_tpr
from bitleak.core.metric_names import AUC, Metric
from bitleak.core.types import Measure
from bitleak.core.variants import POSITIVE
from bitleak.report.format import figure, percent, tpr_decimals, value
from bitleak.report.results_table import FULL, Table

PositiveStatus = Literal["found", "partly found", "not found", "absent"]

ENOUGH = 0.5
"""Share of a perfect adversary's AUC above 0.5 from which on the control counts as found."""


@dataclass(frozen=True)
class PositiveControl:
    """The verdict on a target that memorises by a known amount.

    Attributes:
        status: `absent` if the table holds no such row; `not found` if the interval of its AUC reaches
            down to 0.5.
        sentence: The verdict for people; empty if absent.
    """

    status: PositiveStatus
    sentence: str

    @property
    def sentences(self) -> list[str]:
        """The sentence, if there is one."""
        return [self.sentence] if self.sentence else []


def judge_positive_control(
    table: Table, attack: str, reference: str, fpr: float
) -> PositiveControl:
    """Compare the headline attack's figure on a memorising target with the largest possible one.

    If the headline attack shows less than half, the attack with the largest AUC is named too: an online
    attack weighs each record by the change that membership made in the references, so with references that
    hardly memorise it overlooks a leak that an offline attack finds.

    Args:
        table: The aggregated rows.
        attack: The headline attack.
        reference: The headline reference; the control has rows of `fp32` references only.
        fpr: The headline FPR.
    """
    area = table.find(POSITIVE, AUC, attack, FULL if reference else "")
    if area is None:
        return PositiveControl("absent", "")
    rate = table.find(POSITIVE, Metric("tpr", fpr), attack, FULL if reference else "")
    status = _status(area)
    decimals = tpr_decimals(fpr)
    found = f"AUC {figure(area, 3)}"
    possible = f"AUC {perfect_auc():.3f}"
    if rate is not None:
        found += f", TPR at {percent(fpr)} FPR {value(rate, decimals)}"
        possible += f" and TPR {perfect_tpr(fpr):.{decimals}f}"
    target = f"a target whose members' confidences are {STRENGTH:g} deviations above a non-member's"
    sentence = (
        f"Positive control ({target}): {attack} has {found}; an adversary who knows every record's distribution has "
        f"{possible}. {_MEANINGS[status]}"
    )
    if status != "found":
        sentence += _best_other(table, attack, area)
    return PositiveControl(status, sentence)


def _best_other(table: Table, attack: str, area: Measure) -> str:
    """Return a sentence about the attack that finds most of the control; empty if it is the headline's."""
    best, name = area, attack
    for other in table.attacks:
        for reference in (FULL, ""):
            row = table.find(POSITIVE, AUC, other, reference)
            if row is not None and row.value > best.value:
                best, name = row, other
    if name == attack or _status(best) == "not found":
        return ""
    return (
        f" Of all attacks, {name} finds most of it: AUC {figure(best, 3)}. {_OTHERS[_status(best)]}"
    )


_OTHERS: dict[PositiveStatus, str] = {
    "found": (
        "So a target that memorises where its references do not would show in the rows of that attack "
        "rather than in the headline."
    ),
    "partly found": "So no attack here shows more than half of the leak.",
}

_MEANINGS: dict[PositiveStatus, str] = {
    "found": "So a target that memorises by as much would have shown.",
    "partly found": (
        "It is found in part: with these references the attack shows less than half of the leak, so small "
        "figures are weak evidence."
    ),
    "not found": (
        "It is NOT found: with these references the attack would not have noticed a target that memorises, so its "
        "figures are no evidence of privacy. Are the references trained as the target is, and do their answers vary?"
    ),
}


def _status(area: Measure) -> PositiveStatus:
    low = area.value if area.low is None else area.low
    if low <= 0.5:
        return "not found"
    reached = (area.value - 0.5) / (perfect_auc() - 0.5)
    return "found" if reached >= ENOUGH else "partly found"
