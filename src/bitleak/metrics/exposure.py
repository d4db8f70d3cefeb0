"""Exposed records: per-record scores, their stability, and their change under quantization.

*Exposure* of a record is the attack's score (a log-likelihood ratio for LiRA) averaged over the
targets that were trained on it: how strongly a model that holds the record betrays it. Its
stability is judged in two ways: the deviation over targets, and the reliability, which is the rank
correlation over records between the means of two random halves of every record's targets. Half as
many targets go into each, so the reliability of the whole is larger: 2 r / (1 + r) by Spearman
(1910) and Brown (1910).

*Memorisation* of a record is (Feldman and Zhang 2020, arXiv 2008.03703)

    mem = mean over models trained on it of a(model, record) - mean over the other models,

with a the probability of the true class, or 1 if the model is right and 0 if not. It needs no
attack.

Everything here is a function of arrays, so any score, model and variant will do. A record that no
target (or every target) was trained on has NaN, and counts in no ranking or correlation. Cost:
O(targets records).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.core.checks import integer_in, number_array, truth_array

RELIABILITY_HALVINGS = 16
"""Random halvings that a reliability is averaged over."""

_Matrix = Float64[np.ndarray, "models records"]
_Membership = Bool[np.ndarray, "models records"]
_Records = Float64[np.ndarray, "records"]


@dataclass(frozen=True)
class Exposure:
    """How strongly each record is betrayed by the targets trained on it.

    Attributes:
        mean: Mean score over these targets; NaN for a record without any.
        std: Deviation (n - 1) over these targets; NaN for fewer than 2.
        targets: Number of these targets.
    """

    mean: _Records
    std: _Records
    targets: Int64[np.ndarray, "records"]


@dataclass(frozen=True)
class Memorisation:
    """How much better models answer about a record that they were trained on.

    Attributes:
        mean: Mean over models trained on it minus mean over the other models, in [-1, 1] for
            probabilities; NaN if one of the two groups is empty.
        error: Standard error over models; NaN if one of the two groups has fewer than 2.
    """

    mean: _Records
    error: _Records


@dataclass(frozen=True)
class Movement:
    """Change of the records' exposure (or memorisation) by a variant.

    Attributes:
        change: After minus before; NaN if either is.
        mean_change: Mean over the records that have both.
        rank_correlation: Spearman's, over the same records: 1 if the order is kept.
    """

    change: _Records
    mean_change: float
    rank_correlation: float


def exposure(scores: _Matrix, member: _Membership) -> Exposure:
    """Return mean and deviation of every record's score over the targets trained on it.

    Args:
        scores: By target; larger = more likely a member; finite.
        member: True if the target was trained on the record.

    Raises:
        ValueError: The shapes differ, or a score is not finite.

    Example:
        >>> scores = np.array([[3.0, 0.0], [5.0, 1.0], [0.0, 0.0]])
        >>> exposed = exposure(scores, np.array([[1, 0], [1, 1], [0, 0]]) > 0)
        >>> exposed.mean.tolist(), exposed.targets.tolist()
        ([4.0, 1.0], [2, 1])
    """
    scores, member = _checked(scores, member)
    mean, variance, count = _moments(scores, member)
    return Exposure(mean, np.sqrt(variance), count)


def reliability(scores: _Matrix, member: _Membership, *, seed: int) -> float:
    """Return how well the exposures of two halves of the targets agree, corrected to all targets.

    Args:
        scores: As for `exposure`.
        member: As for `exposure`.
        seed: Seed for the halvings: every record's targets are halved at random, 16 times.

    Returns:
        Spearman and Brown's 2 r / (1 + r) of the mean rank correlation r; r itself if it is below
        0. At 1 the order of the records is certain.

    Raises:
        ValueError: Fewer than 3 records have 2 targets trained on them, or the scores do not vary.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> member = rng.permuted(np.arange(8)[:, None].repeat(500, 1) < 4, axis=0)
        >>> reliability(rng.normal(size=500) + rng.normal(size=(8, 500)), member, seed=0) > 0.7
        True
    """
    scores, member = _checked(scores, member)
    enough = member.sum(axis=0) >= 2
    if enough.sum() < 3:
        count = int(enough.sum())
        needed = "3 records with 2 targets trained on them"
        raise ValueError(f"a reliability needs {needed}, got {count}")
    scores, member = scores[:, enough], member[:, enough]
    generator = np.random.default_rng(seed)
    correlations = []
    for _ in range(RELIABILITY_HALVINGS):
        half = _first_half(member, generator)
        first, second = _moments(scores, half)[0], _moments(scores, member & ~half)[0]
        correlations.append(rank_correlation(first, second))
    r = float(np.mean(correlations))
    return 2 * r / (1 + r) if r > 0 else r


def memorisation(answers: _Matrix, member: _Membership) -> Memorisation:
    """Return how much better the models trained on a record answer about it than the others do.

    Args:
        answers: Probability of the record's true class, or 1.0 and 0.0 for right and wrong; finite.
        member: True if the model was trained on the record.

    Raises:
        ValueError: The shapes differ, or an answer is not finite.

    Example:
        >>> answers = np.array([[0.9, 0.5], [0.7, 0.5], [0.2, 0.5], [0.4, 0.5]])
        >>> member = np.array([True, True, False, False])[:, None].repeat(2, 1)
        >>> memorisation(answers, member).mean.round(6).tolist()
        [0.5, 0.0]
    """
    answers, member = _checked(answers, member)
    inside, inside_variance, inside_count = _moments(answers, member)
    outside, outside_variance, outside_count = _moments(answers, ~member)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(inside_variance / inside_count + outside_variance / outside_count)
    return Memorisation(inside - outside, error)


def movement(before: _Records, after: _Records) -> Movement:
    """Return the change of every record's exposure or memorisation, and how far its order is kept.

    Args:
        before: Values at full precision; NaN if unknown.
        after: Values of the variant, for the same records.

    Raises:
        ValueError: The lengths differ, fewer than 3 records have both, or one of the two does not
            vary.

    Example:
        >>> moved = movement(np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.5, 2.0]))
        >>> moved.change.tolist(), moved.rank_correlation
        ([-1.0, -0.5, -2.0], 1.0)
    """
    if before.shape != after.shape:
        lengths = f"{len(before)} and {len(after)}"
        raise ValueError(f"before and after must have the same length, got {lengths}")
    known = np.isfinite(before) & np.isfinite(after)
    if known.sum() < 3:
        count = int(known.sum())
        raise ValueError(f"a movement needs at least 3 records known before and after, got {count}")
    change = after - before
    correlation = rank_correlation(before[known], after[known])
    return Movement(change, float(change[known].mean()), correlation)


def extremes(
    values: _Records,
    count: int,
    *,
    end: Literal["most", "least"] = "most",
) -> Int64[np.ndarray, "chosen"]:
    """Return the records with the largest (or smallest) values, in order; ties by record number.

    Args:
        values: Exposures or memorisations; NaN is never chosen.
        count: Number of records, at least 1; fewer are returned if fewer are known.
        end: `most` or `least`.

    Example:
        >>> extremes(np.array([2.0, np.nan, 7.0, 7.0]), 2).tolist()
        [2, 3]
    """
    known = np.flatnonzero(np.isfinite(values))
    signed = -values[known] if end == "most" else values[known]
    return known[np.argsort(signed, kind="stable")[: integer_in("count", count, 1)]]


def extremes_by_class(
    values: _Records,
    labels: Int64[np.ndarray, "records"],
    count: int,
    *,
    end: Literal["most", "least"] = "most",
) -> dict[int, Int64[np.ndarray, "chosen"]]:
    """Return `extremes` within every class that occurs.

    Args:
        values: As for `extremes`.
        labels: True classes.
        count: Number of records of each class.
        end: `most` or `least`.

    Raises:
        ValueError: The lengths differ.

    Example:
        >>> most = extremes_by_class(np.array([2.0, 3.0, 7.0, 1.0]), np.array([0, 0, 1, 1]), 1)
        >>> {label: records.tolist() for label, records in most.items()}
        {0: [1], 1: [2]}
    """
    if values.shape != labels.shape:
        lengths = f"{len(values)} and {len(labels)}"
        raise ValueError(f"values and labels must have the same length, got {lengths}")
    by_class: dict[int, Int64[np.ndarray, chosen]] = {}
    for label in np.unique(labels):
        within = np.where(labels == label, values, np.nan)
        by_class[int(label)] = extremes(within, count, end=end)
    return by_class


def rank_correlation(first: _Records, second: _Records) -> float:
    """Return Spearman's rank correlation, ties sharing their mean rank.

    Raises:
        ValueError: One of the two does not vary.
    """
    from scipy.stats import rankdata  # here, since it takes long

    ranks = np.array([rankdata(first), rankdata(second)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    scale = np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
    if scale == 0:
        raise ValueError("a rank correlation needs values that vary, got one value for all records")
    return float(np.clip(ranks[0] @ ranks[1] / scale, -1.0, 1.0))


def _checked(values: _Matrix, member: _Membership) -> tuple[_Matrix, _Membership]:
    """Return numbers and truth values of the same models and records."""
    values, member = number_array("values", values), truth_array("member", member)
    if values.ndim != 2 or values.shape != member.shape:
        shapes = f"{values.shape} and {member.shape}"
        raise ValueError(f"values and member must be [models records] alike, got {shapes}")
    if not np.isfinite(values).all():
        model, record = np.argwhere(~np.isfinite(values))[0]
        where = f"{values[model, record]} of model {model} at record {record}"
        raise ValueError(f"values must be finite, got {where}")
    return values, member


def _moments(
    values: _Matrix,
    chosen: _Membership,
) -> tuple[_Records, _Records, Int64[np.ndarray, "records"]]:
    """Return mean, variance (n - 1) and number of the chosen values of every record."""
    count = chosen.sum(axis=0)
    total = np.where(chosen, values, 0.0).sum(axis=0)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    squares = (np.where(chosen, values - mean, 0.0) ** 2).sum(axis=0)
    return mean, np.where(count > 1, squares / np.maximum(count - 1, 1), np.nan), count


def _first_half(member: _Membership, generator: np.random.Generator) -> _Membership:
    """Return half of every record's targets, at random; of an odd number the smaller half."""
    keys = np.where(member, generator.random(member.shape), np.inf)
    ranks = keys.argsort(axis=0).argsort(axis=0)
    return member & (ranks < member.sum(axis=0) // 2)
