"""Which class models predict for which label, about records that they were trained on.

Models know their own members. Where they do not, the labels are of other records, or number the classes otherwise; then
the predictions say which numbers are meant.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from bitleak.answers.attack_design import Design
from bitleak.answers.model_answers import Answers

READ_NUMBERS = 1 << 22
"""Numbers of the source that are read, about."""

MEMBERS = 20
"""Answers about members of a class that it takes to say for what the models take it."""


@dataclass(frozen=True)
class Confusion:
    """Answers about own members, by label and by the predicted class.

    Attributes:
        counts: How many.
    """

    counts: Float64[np.ndarray, "labels predicted"]

    @property
    def chance(self) -> float:
        """Share of right answers if predictions knew nothing of the labels."""
        share = self.counts / max(1.0, float(self.counts.sum()))
        return float((share.sum(axis=0) * share.sum(axis=1)).sum())

    def usual(self) -> dict[int, int]:
        """The class that more than half of the answers about a label predict, by label."""
        found = {}
        for label, row in enumerate(self.counts):
            if row.sum() >= MEMBERS and row.max() > 0.5 * row.sum():
                found[label] = int(row.argmax())
        return found

    def cycle(self) -> list[int]:
        """Labels that are taken for one another in turn, ascending: no training makes such models."""
        usual = self.usual()
        for start in usual:
            path = [start]
            while (following := usual.get(path[-1])) is not None and following not in path:
                path.append(following)
            if following == start and len(path) > 1:
                return sorted(path)
        return []


def confusion_of(answers: Answers, design: Design) -> Confusion:
    """Predictions at the first query of every model about a sample of its own members."""
    records = max(50, READ_NUMBERS // (len(answers.pool) * answers.classes))
    at = np.unique(np.linspace(0, len(design.records) - 1, records).astype(np.int64))
    labels = np.asarray(answers.labels)[design.records[at]]
    counts = np.zeros((answers.classes, answers.classes))
    for array, member in zip(answers.pool, design.member[:, at], strict=True):
        predicted = np.argmax(array[design.records[at[member]], 0], axis=1)
        np.add.at(counts, (labels[member], predicted), 1)
    return Confusion(counts)


def renaming_sentence(confusion: Confusion) -> str:
    """A sentence on another numbering of the classes that would make most answers right; empty if there is none."""
    usual = confusion.usual()
    right = sum(confusion.counts[label, predicted] for label, predicted in usual.items())
    share = float(right / max(1.0, confusion.counts.sum()))
    if share < 0.5 or len(set(usual.values())) < len(usual) or len(usual) < 2:
        return ""
    shifts = {predicted - label for label, predicted in usual.items()}
    if len(shifts) == 1:
        shift = shifts.pop()
        return f"{share:.0%} of the answers are the label {'plus' if shift > 0 else 'minus'} {abs(shift)}."
    first = ", ".join(f"{label} as {predicted}" for label, predicted in list(usual.items())[:5])
    return f"{share:.0%} would be right if the classes were in another order (labels are answered {first}, ...)."
