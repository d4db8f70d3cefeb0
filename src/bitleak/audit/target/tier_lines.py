"""First lines of the report of one target: its tier, its limits, and the gain of the next tier."""

from collections.abc import Sequence
from dataclasses import dataclass

from bitleak.core.types import Row
from bitleak.core.variants import FULL

REFERENCES = 10
"""References of tier 1."""

SHADOWS = 64
"""Shadow models of tier 2."""

STEP = 3.0
"""Cost of a training step over that of a forward pass."""

_CERTAIN = 3.29
"""Deviations of a difference that is no chance: two-sided 0.001."""

_LIMITS = {
    0: (
        "Tier 0: one target, nothing was trained. It shows the leakage to an adversary without reference "
        "models, who sees confidence, entropy, or the label alone. It cannot show the leakage to one who "
        "compares each record with other models: such attacks mostly find several times as many members at a "
        "small false positive rate, so a small figure here does not mean a small leakage."
    ),
    1: (
        "Tier 1: one target, and a few references that were trained on no evaluated record. It shows the "
        "leakage to an adversary with offline attacks. It cannot show the leakage to one who trains references "
        "with each record as well as without it (online attacks), nor that of a network trained anew."
    ),
    2: (
        "Tier 2: one target among shadow models trained by the given recipe, with and without each record. "
        "It shows the leakage of this one network to an adversary who knows the recipe. It cannot show that of "
        "a network trained anew: that takes several targets."
    ),
}


@dataclass(frozen=True)
class TrainingWork:
    """Work of training one reference.

    Attributes:
        epochs: Passes over the records; the recipe's, or its default.
        references: References of tier 1.
        shadows: Shadow models of tier 2.
        known: Whether the recipe is given.
    """

    epochs: int = 100
    references: int = REFERENCES
    shadows: int = SHADOWS
    known: bool = False


def tier_lines(
    tier: int, seconds: float, work: TrainingWork, members: int, releases: int
) -> tuple[str, ...]:
    """Return the tier with its limits, and the next tier with its hours.

    Args:
        tier: 0, 1 or 2.
        seconds: Measured seconds of a forward pass per record.
        work: Work of training one reference.
        members: Members of the target, which references are trained on as many records as.
        releases: Releases besides full precision.
    """
    limits = _LIMITS[tier]
    if tier == 2:
        return (limits,)
    models = work.references if tier == 0 else work.shadows
    hours = models * STEP * seconds * work.epochs * members / 3600
    recipe = (
        f"{work.epochs} epochs" if work.known else f"{work.epochs} epochs, as no recipe is given"
    )
    times = "once" if releases == 1 else f"{releases} times"
    quantized = f", besides quantizing each {times}" if releases else ""
    gain = {
        0: "offline attacks, which compare each record with models that were not trained on it",
        1: "online attacks, matched references and the power by number of references",
    }[tier]
    return (
        limits,
        f"Next, tier {tier + 1}: {gain}. It trains {models} models ({recipe}), about "
        f"{_hours(hours)} on this machine by the speed measured here{quantized}.",
    )


def swap_warning(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return a warning if the target is right on others far more often than on its members."""
    figures = {}
    for row in rows:
        if row.variant == FULL and row.target == "all" and row.metric.endswith("_accuracy"):
            figures[row.metric] = row.measure
    train, test = figures.get("train_accuracy"), figures.get("test_accuracy")
    if train is None or test is None or train.high is None or test.low is None:
        return ()
    if train.high >= test.low:
        return ()
    return (
        f"The target is right on {100 * train.value:.1f} % of its members but on {100 * test.value:.1f} % of "
        "the others: are members and others exchanged?",
    )


def _hours(hours: float) -> str:
    if hours < 0.1:
        return f"{max(1, round(60 * hours))} minutes" if hours * 60 >= 1.5 else "a minute"
    return f"{hours:.1f} hours"
