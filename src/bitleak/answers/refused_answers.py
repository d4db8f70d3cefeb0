"""Answers of which no reading is right: refused before an attack runs.

| sign | message |
|---|---|
| rows of `logits` are from 0 to 1 and sum to 1 | probabilities |
| rows of `logits` are negative log-probabilities | change their sign |
| two models with different training sets have identical answers | one checkpoint twice |

Cost: a sample of every model, and one pass over models whose samples are equal.
"""

import numpy as np

from bitleak.answers.mixed_answers import refuse_some_probabilities
from bitleak.answers.model_answers import Answers
from bitleak.core.errors import DataError
from bitleak.core.probability_resolution import SUM_TOLERANCE, resolution_of

SAMPLED_RECORDS = 256
"""Records of every model that are looked at before the answers are read."""

FEWEST_SAMPLED_ROWS = 10
"""Fewest rows from which the kind of all rows is concluded."""


def refuse_answers(answers: Answers) -> None:
    """End a run on answers of which no reading is right.

    Raises:
        DataError: `logits` hold probabilities or negative log-probabilities, or two models with different training
            sets have identical answers.
    """
    if answers.kind == "logits":
        _refuse_probabilities(answers)
        refuse_some_probabilities(answers, sampled_answers(answers))
    if answers.member is not None:
        for first, second in identical_models(answers):
            if (answers.member[first] != answers.member[second]).any():
                raise DataError(
                    f"{answers.source}: models {answers.names[first]} and {answers.names[second]} have identical "
                    "answers but different rows of member; one checkpoint was evaluated twice, or a row of member is "
                    "of another model"
                )


def _refuse_probabilities(answers: Answers) -> None:
    shown = sampled_answers(answers)
    rows = np.concatenate(shown).astype(np.float64).reshape(-1, answers.classes)
    if len(rows) < FEWEST_SAMPLED_ROWS or not np.isfinite(rows).all() or (rows < 0).any():
        return
    if (rows <= 1 + SUM_TOLERANCE).all():
        step = resolution_of(shown).step
        tolerance = min(SUM_TOLERANCE + answers.classes * step / 2, 0.2)
        if (np.abs(rows.sum(axis=1) - 1) <= tolerance).all():
            raise DataError(
                f"{answers.source}: logits are from 0 to 1 and sum to 1 in every row, so they are probabilities; name "
                "the array probabilities"
            )
    if (np.abs(np.logaddexp.reduce(-rows, axis=1)) <= SUM_TOLERANCE).all():
        raise DataError(
            f"{answers.source}: logits are negative log-probabilities in every row; change their sign, and they are "
            "logits"
        )


def identical_models(answers: Answers) -> list[tuple[int, int]]:
    """Return pairs of models with identical answers on all records.

    A model is the second of at most one pair.
    """
    first: dict[bytes, int] = {}
    pairs = []
    for row, sample in enumerate(sampled_answers(answers)):
        # models that answer with a class alone may well agree
        if len(np.unique(sample)) <= 16:
            continue
        other = first.setdefault(sample.tobytes(), row)
        if other != row and np.array_equal(answers.pool[other], answers.pool[row]):
            pairs.append((other, row))
    return pairs


def sampled_answers(answers: Answers) -> tuple[np.ndarray, ...]:
    """Return every model's answers on `SAMPLED_RECORDS` records, evenly spaced."""
    at = np.unique(np.linspace(0, answers.records - 1, SAMPLED_RECORDS).astype(np.int64))
    return tuple(np.ascontiguousarray(one[at]) for one in answers.pool)
