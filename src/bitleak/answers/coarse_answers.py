"""Doubts about confidences that cannot be distinguished: few values, ties, rows that were never filled, near twins.

They apply to full-precision and to quantized models. Each rests on an equality that does not occur by chance, since
ordinary files must pass.

Cost: one pass over the confidences, and the distances of all pairs of models on 512 records.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from bitleak.answers.answer_signals import AnswerSignals
from bitleak.answers.mixed_answers import scale_doubts
from bitleak.answers.model_answers import Answers
from bitleak.answers.refused_answers import identical_models
from bitleak.core.types import SIGNALS
from bitleak.report.format import count, listed

DISTINCT = 256
"""Confidences of at most this many values, each of them of `REPEATED` records on average, are few."""

REPEATED = 4

REPEATED_RECORDS = 1 << 12
"""Records at which an answer that is repeated is looked for."""

EQUAL_CONFIDENCES = 1e-6
"""Share of the middle half's range within which two confidences are equal up to the rounding of float32."""

SHOWN_VALUES = 1 << 17
"""Confidences near an end of the scale whose distinct values are counted."""

_CONFIDENCE = SIGNALS.index("logit_scaled")


def coarse_confidences(
    answers: Answers, signals: AnswerSignals, fprs: Sequence[float]
) -> tuple[str, ...]:
    """Return sentences on confidences of full-precision or quantized models that cannot be distinguished."""
    confidence = signals.pool[_CONFIDENCE]
    rows = [answers.names.index(name) for name in signals.names]
    return (
        *_near_twins(answers, confidence, rows),
        *scale_doubts(answers, confidence),
        *_values(answers, confidence),
        *_repeated(answers, confidence),
        *_ties(answers, signals, confidence, min(fprs)),
    )


def _near_twins(
    answers: Answers, confidence: Float64[np.ndarray, "models records queries"], rows: list[int]
) -> list[str]:
    """Return a doubt about models that differ a hundred times less than others: one checkpoint on two machines?"""
    at = np.unique(np.linspace(0, confidence.shape[1] - 1, 512).astype(np.int64))
    values = np.stack([one[at, 0] for one in confidence])
    squares = (values**2).sum(axis=1)
    distance = np.maximum(squares[:, None] + squares - 2 * values @ values.T, 0.0)
    pairs = np.triu_indices(len(values), 1)
    if len(pairs[0]) < 3:
        return []
    usual = float(np.median(distance[pairs]))
    near = np.flatnonzero((distance[pairs] < 1e-4 * usual) & (np.ptp(values, axis=1)[pairs[0]] > 0))
    known = set(identical_models(answers)) if len(near) else set()
    left = [(int(pairs[0][one]), int(pairs[1][one])) for one in near]
    left = [pair for pair in left if (rows[pair[0]], rows[pair[1]]) not in known]
    few_valued = len(np.unique(values)) <= 16
    if not left or few_valued:
        return []
    names = listed(
        [f"{answers.names[rows[one]]} and {answers.names[rows[other]]}" for one, other in left[:5]]
    )
    return [
        f"Models whose answers differ a hundred times less than those of others: {names}"
        f"{', ...' if len(left) > 5 else ''}. Is this one checkpoint, evaluated twice? Then leave one out."
    ]


def _values(
    answers: Answers, confidence: Float64[np.ndarray, "models records queries"]
) -> list[str]:
    """Return doubts about confidences of few values, and about scores that are no log-odds."""
    doubts = []
    # Few values of one model: ties, between which an attack guesses.
    shown = np.asarray(confidence[0][:100_000, 0])
    distinct = len(np.unique(shown))
    if distinct <= DISTINCT and len(shown) >= REPEATED * distinct:
        doubts.append(
            f"{answers.source}: the confidences of model {answers.names[0]} about {count(len(shown), 'record')} have "
            f"{count(distinct, 'distinct value')}: records of one value cannot be told apart, and rates between their "
            "steps are those of a guess."
        )
    # The range of ready scores shows probabilities and their logarithms.
    if answers.kind == "scores" and len(shown) >= 50 and len(confidence):
        low, high = (
            min(float(one.min()) for one in confidence),
            max(float(one.max()) for one in confidence),
        )
        if low >= 0 and high <= 1:
            doubts.append(
                "All scores are from 0 to 1: are they probabilities p of the true class? Scores are read as log-odds, "
                "log p / (1 - p)."
            )
        elif high <= 0:
            doubts.append(
                "No score is above 0: are they log-probabilities log p of the true class? Scores are read as log-odds, "
                "log p / (1 - p)."
            )
    return doubts


def _repeated(
    answers: Answers, confidence: Float64[np.ndarray, "models records queries"]
) -> list[str]:
    """Return a doubt about one answer on many records, inside the scale, as in rows that were never filled."""
    at = np.unique(np.linspace(0, confidence.shape[1] - 1, REPEATED_RECORDS).astype(np.int64))
    low, high = float(confidence.min()), float(confidence.max())
    margin = _margin(confidence)
    filled, worst = [], 0.0
    for name, values in zip(answers.names, confidence, strict=True):
        for query in np.moveaxis(values[at], 1, 0):
            distinct, times = np.unique(query, return_counts=True)
            if len(distinct) > 1 and len(distinct) <= len(at) / 4 and times.max() < len(at) / 2:
                continue  # few values, which `_values` reports
            usual, most = float(distinct[times.argmax()]), int(times.max())
            if low + margin < usual < high - margin and most >= max(10, len(at) / 100):
                filled.append(name)
                worst = max(worst, most / len(at))
                break
    if not filled:
        return []
    return [
        f"{count(len(filled), 'model')} of {answers.source} give one and the same answer about many records, up to "
        f"{worst:.1%} ({', '.join(filled[:5])}{', ...' if len(filled) > 5 else ''}): were these rows never filled?"
    ]


def _ties(
    answers: Answers,
    signals: AnswerSignals,
    confidence: Float64[np.ndarray, "models records queries"],
    fpr: float,
) -> list[str]:
    """Return a doubt about ties at the ends of the scale, where the records that leak most are."""
    low, high = float(confidence.min()), float(confidence.max())
    margin = _margin(confidence)
    if low == high:
        return []
    shares = []
    for near in (lambda one: one <= low + margin, lambda one: one >= high - margin):
        found = np.concatenate([one[near(one)] for one in confidence])
        shown = found[:SHOWN_VALUES]
        # Values that differ are told apart, however near each other they are.
        tied = len(found) >= 10 and REPEATED * len(np.unique(shown)) <= len(shown)
        shares.append(len(found) / confidence.size if tied else 0.0)
    if max(shares) < fpr / 2:
        return []
    resolution = signals.resolution
    cause = ""
    if resolution is not None:
        cause = (
            f" The probabilities have the resolution {resolution.name}, {resolution.zeros / resolution.numbers:.1%} of "
            f"them are 0, and 0 is read as {resolution.floor:.2g}."
        )
    low_share, high_share = shares
    at_ends = [f"{high_share:.1%} of the answers of {answers.source} share the largest confidence"]
    if low_share:
        at_ends.append(f"{low_share:.1%} the smallest")
    most = f", TPRs at rates below {high_share:.1%} most of all"
    if not high_share:
        at_ends = [
            f"{low_share:.1%} of the answers of {answers.source} share the smallest confidence"
        ]
        most = ""
    return [
        f"{', and '.join(at_ends)}, so that the records there cannot be told apart; figures are lower than those of "
        f"exact answers{most}.{cause} Save logits."
    ]


def _margin(confidence: Float64[np.ndarray, "models records queries"]) -> float:
    """Return the distance within which confidences are equal: sums of float32 probabilities differ from 1.

    It is taken from the middle half of the first model's, since one far value may stretch the whole range.
    """
    lower, upper = np.quantile(np.asarray(confidence[0])[: 1 << 17], (0.25, 0.75))
    return EQUAL_CONFIDENCES * float(upper - lower)
