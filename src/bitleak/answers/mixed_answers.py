"""Reasons to doubt that all rows and queries of a file hold the same quantity: some models' probabilities beside the
logits of others, another scale, one query twice.

Mixed rows look ordinary in a total, and an attack compares numbers of different meaning. Each model is compared with
the others; cost: a sample of the answers, and one pass over the confidences.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from bitleak.answers.model_answers import Answers
from bitleak.core.errors import DataError
from bitleak.report.format import count

SCALE_RATIO = 4
"""Factor between the spreads of confidences that models which are trained alike do not reach."""

FEWEST_SAMPLES = 10
"""Rows of a model that it takes to say what all of them are."""

_TOLERANCE = 1e-2

_TRUNCATED_SHARE = 0.95
"""Share of rows with as many values above their smallest as the row that has most."""


def refuse_some_probabilities(answers: Answers, samples: Sequence[np.ndarray]) -> None:
    """Refuse logits of which some models', and not all, are probabilities.

    Args:
        answers: Logits.
        samples: Some answers of each model, `[records queries classes]`.

    Raises:
        DataError: They are; names the models.
    """
    probable = []
    for sample in samples:
        rows = np.asarray(sample, np.float64).reshape(-1, answers.classes)
        is_distribution = (rows >= 0).all() and bool(
            (np.abs(rows.sum(axis=1) - 1) <= _TOLERANCE).all()
        )
        probable.append(len(rows) >= FEWEST_SAMPLES and is_distribution)
    if all(probable) or not any(probable):
        return
    names = [name for name, is_probable in zip(answers.names, probable, strict=True) if is_probable]
    raise DataError(
        f"{answers.source}: logits of {count(len(names), 'model')} ({_first_names(names)}) are from 0 to 1 and sum to "
        "1 in every row, so they are probabilities, and those of the other models are not; save the same of all models"
    )


def scale_doubts(
    answers: Answers, confidence: Float64[np.ndarray, "models records queries"]
) -> list[str]:
    """Return a sentence on models whose confidences spread far more, or less, than those of the others."""
    spreads = confidence.std(axis=(1, 2))
    usual = float(np.median(spreads))
    if len(spreads) < 4 or not usual > 0:
        return []

    # A constant row is told as one that was never filled.
    varied = spreads > 1e-9 * usual
    ratios = np.where(varied, spreads, usual) / usual
    names = [
        answers.names[row] for row in np.flatnonzero(np.maximum(ratios, 1 / ratios) > SCALE_RATIO)
    ]
    if not names:
        return []
    return [
        f"The confidences of {count(len(names), 'model')} of {answers.source} ({_first_names(names)}) spread over "
        f"{SCALE_RATIO} times more, or less, than those of most models: do all rows hold the same (logits, "
        "probabilities, a temperature)?"
    ]


def same_query_doubts(answers: Answers, samples: Sequence[np.ndarray]) -> list[str]:
    """Return a sentence on two queries that all models answer number by number alike.

    Args:
        answers: Answers that the samples were taken from.
        samples: Some answers of each model, the second axis being the queries.
    """
    if len(np.unique(samples[0])) <= 16:
        return []
    for second in range(1, answers.queries):
        for first in range(second):
            if all(np.array_equal(sample[:, first], sample[:, second]) for sample in samples):
                return [
                    f"All models answer the queries {first} and {second} alike, number by number: were the images of "
                    "both the same? Such a query adds nothing."
                ]
    return []


def truncation_doubts(answers: Answers, samples: Sequence[np.ndarray]) -> list[str]:
    """Return a sentence if every row has values for its k most probable classes alone.

    Interfaces often return the best classes only, and the others are filled with one value.

    Args:
        answers: Answers from which the samples are drawn; scores have no classes.
        samples: Some answers of each model, `[records queries classes]`.
    """
    if answers.kind == "scores" or answers.classes < 4:
        return []
    rows = np.concatenate(samples).reshape(-1, answers.classes)
    larger = (rows > rows.min(axis=1, keepdims=True)).sum(axis=1)
    most = int(larger.max())
    is_constant = (larger == most).mean() >= _TRUNCATED_SHARE
    if not is_constant or not 2 <= most <= answers.classes - 2:
        return []
    return [
        f"{answers.source}: all rows have values for their {most} best classes of {answers.classes} alone, and "
        "one value for the others. A true class among these others is not told from them, so that figures are lower "
        f"than those of complete answers. Save the {answers.kind} of all classes."
    ]


def _first_names(names: Sequence[str]) -> str:
    return f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
