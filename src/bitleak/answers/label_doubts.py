"""Doubts about labels: of other records or classes, of the population, or a model's own predictions.

A model knows its labels if its accuracy on its own members exceeds chance. Each doubt rests on a test that ordinary
files pass.

Cost: one pass over the first query's correctness.
"""

import numpy as np
from jaxtyping import Bool

from bitleak.answers.answer_signals import AnswerSignals
from bitleak.answers.attack_design import Design
from bitleak.answers.label_confusion import Confusion, confusion_of, renaming_sentence
from bitleak.answers.model_answers import Answers
from bitleak.report.format import listed


def label_doubts(answers: Answers, signals: AnswerSignals, design: Design) -> list[str]:
    """Return a doubt about models that do not know the labels of their own members."""
    labels = answers.labels
    if answers.kind == "scores" or labels is None:
        return []
    asked = labels[design.records]
    right, inside = np.zeros(answers.classes), np.zeros(answers.classes)
    for row, own in enumerate(design.member):
        right += np.bincount(asked[own], signals.correct[row, own], answers.classes)
        inside += np.bincount(asked[own], minlength=answers.classes)
    accuracy, occurring = right.sum() / max(1.0, inside.sum()), inside > 0
    # Labels in another order leave some class mostly wrong.
    if (right[occurring] >= 0.5 * inside[occurring]).all():
        return _population_labels(answers, signals, accuracy)
    confusion = confusion_of(answers, design)
    chance = confusion.chance
    if len(asked) >= 50 and not knows(accuracy, chance, len(asked)):
        return [
            f"The models are right on {accuracy:.1%} of their own members at the first query, by chance on "
            f"{chance:.1%}: labels count from 0, in the order of the classes of the answers and of the records; do "
            f"they here?{_renaming(confusion)}"
        ]
    swapped = confusion.cycle()
    if swapped:
        return [
            f"Records with the labels {listed([str(one) for one in swapped])} are taken for one another in turn by "
            "models trained on them: are these classes in another order in the labels than in the answers?"
        ]
    return _population_labels(answers, signals, accuracy)


def prediction_doubts(signals: AnswerSignals, answers: Answers, design: Design) -> list[str]:
    """Return doubts about models that, unlike the others, are right on every record outside their training set."""
    if answers.kind == "scores" or len(signals.names) < 2:
        return []
    right = signals.correct
    outside = (~design.member).sum(axis=1)
    share = np.array(
        [
            row[~own].mean() if (~own).any() else 0
            for row, own in zip(right, design.member, strict=True)
        ]
    )
    doubts = []
    for row in np.flatnonzero((share == 1) & (right.min(axis=1) == 1)):
        best = float(np.delete(share, row).max())
        # The chance that a model as good as the best of the others makes no mistake.
        if outside[row] * np.log(max(best, 1e-12)) < -20:
            doubts.append(
                f"Model {signals.names[row]} is right on all {outside[row]} records that it was not trained on, the "
                f"others on at most {best:.1%}: are the labels its predictions, or were its mistakes left out?"
            )
    return doubts


def known_labels(
    answers: Answers, signals: AnswerSignals, design: Design
) -> Bool[np.ndarray, "models"] | None:
    """Return whether each model knows the labels of its own members; None for scores."""
    if answers.kind == "scores" or answers.labels is None:
        return None
    labels = answers.labels[design.records]
    share = np.bincount(labels, minlength=answers.classes) / len(labels)
    chance = float((share**2).sum())
    known: list[bool] = []
    for right, own in zip(signals.correct, design.member, strict=True):
        known.append(bool(own.any()) and knows(float(right[own].mean()), chance, int(own.sum())))
    return np.array(known)


def knows(accuracy: float, chance: float, records: int) -> bool:
    """Return whether an accuracy exceeds chance: by 4 standard errors, or by a tenth of the way to 1."""
    error = np.sqrt(max(chance * (1 - chance), 1e-12) / records)
    return bool(accuracy > chance + 4 * error or accuracy > chance + 0.1 * (1 - chance))


def _population_labels(answers: Answers, signals: AnswerSignals, known: float) -> list[str]:
    labels = answers.population_labels
    if labels is None or len(labels) < 50 or not answers.population:
        return []
    share = np.bincount(labels, minlength=answers.classes) / len(labels)
    chance = float((share**2).sum())
    accuracy = float(signals.population_correct.mean())
    if knows(accuracy, chance, len(labels)) or not (known - chance) > 0.5 * (1 - chance):
        return []
    return [
        f"The models are right on {known:.1%} of their own members but on {accuracy:.1%} of the population, by chance "
        f"on {chance:.1%}: are the population_labels those of these records?"
    ]


def _renaming(confusion: Confusion) -> str:
    sentence = renaming_sentence(confusion)
    return f" {sentence}" if sentence else ""
