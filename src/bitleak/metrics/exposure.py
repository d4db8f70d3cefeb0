"""Which records are exposed: per-record scores, how stable they are, and what quantization does to them.

*Exposure* of a record is the attack's score (a log-likelihood ratio for LiRA) averaged over the targets that were
trained on it: how strongly a model that holds the record betrays it. Its stability is judged in two ways: the deviation
over targets, and the reliability, which is the rank correlation over records between the means of two random halves of
every record's targets. Half as many targets go into each, so the reliability of the whole is larger:
2 r / (1 + r) by Spearman (1910) and Brown (1910).

*Memorisation* of a record is (Feldman and Zhang 2020, arXiv 2008.03703)

    mem = mean over models trained on it of a(model, record) - mean over the other models,

with a the probability of the true class, or 1 where the model is right and 0 where not. It needs no attack.

Everything here is a function of arrays, so any score, model and variant will do. A record that no target (or every
target) was trained on has NaN, and counts in no ranking or correlation. Cost: O(targets records).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.stats import rankdata

from bitleak.core.checks import integer_in

SPLITS = 16
"""Random halvings that a reliability is averaged over."""


@dataclass(frozen=True)
class Exposure:
    """How strongly each record is betrayed by the targets trained on it.

    Attributes:
        mean: Mean score over these targets; NaN where there are none.
        std: Deviation (n - 1) over these targets; NaN where there are fewer than 2.
        targets: Their number.
    """

    mean: Float64[np.ndarray, "records"]
    std: Float64[np.ndarray, "records"]
    targets: Int64[np.ndarray, "records"]


@dataclass(frozen=True)
class Memorisation:
    """How much more is made of a record by models trained on it.

    Attributes:
        mean: Mean over its models minus mean over the others, in [-1, 1] for probabilities; NaN where a side is empty.
        error: Standard error over models; NaN where a side has fewer than 2.
    """

    mean: Float64[np.ndarray, "records"]
    error: Float64[np.ndarray, "records"]


@dataclass(frozen=True)
class Movement:
    """What a variant does to the records' exposure (or memorisation).

    Attributes:
        change: After minus before; NaN where either is.
        mean_change: Mean over the records that have both.
        rank_correlation: Spearman's, over the same records: 1 where the order is kept.
    """

    change: Float64[np.ndarray, "records"]
    mean_change: float
    rank_correlation: float


def exposure(scores: Float64[np.ndarray, "targets records"], member: Bool[np.ndarray, "targets records"]) -> Exposure:
    """Mean and deviation of every record's score over the targets trained on it.

    Args:
        scores: Larger = more likely a member; finite.
        member: True where the target was trained on the record.

    Raises:
        ValueError: The shapes differ, or a score is not finite.

    Example:
        >>> found = exposure(np.array([[3.0, 0.0], [5.0, 1.0], [0.0, 0.0]]), np.array([[1, 0], [1, 1], [0, 0]]) > 0)
        >>> found.mean.tolist(), found.targets.tolist()
        ([4.0, 1.0], [2, 1])
    """
    _check(scores, member)
    mean, variance, count = _moments(scores, member)
    return Exposure(mean, np.sqrt(variance), count)


def reliability(
    scores: Float64[np.ndarray, "targets records"], member: Bool[np.ndarray, "targets records"], *, seed: int
) -> float:
    """How well the exposures of two halves of the targets agree, corrected to all targets; 1 = the order is certain.

    Args:
        scores: As for `exposure`.
        member: As for `exposure`.
        seed: Of the halvings: every record's targets are halved at random, 16 times.

    Returns:
        Spearman and Brown's 2 r / (1 + r) of the mean rank correlation r; r itself where it is below 0.

    Raises:
        ValueError: Fewer than 3 records have 2 targets trained on them, or the scores do not vary.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> member = rng.permuted(np.arange(8)[:, None].repeat(500, 1) < 4, axis=0)
        >>> reliability(rng.normal(size=500) + rng.normal(size=(8, 500)), member, seed=0) > 0.7
        True
    """
    _check(scores, member)
    enough = member.sum(axis=0) >= 2
    if enough.sum() < 3:
        raise ValueError(f"a reliability needs 3 records with 2 targets trained on them, got {int(enough.sum())}")
    scores, member = scores[:, enough], member[:, enough]
    generator = np.random.default_rng(seed)
    halves = [_first_half(member, generator) for _ in range(SPLITS)]
    pairs = [(_moments(scores, half)[0], _moments(scores, member & ~half)[0]) for half in halves]
    r = float(np.mean([rank_correlation(*pair) for pair in pairs]))
    return 2 * r / (1 + r) if r > 0 else r


def memorisation(
    answers: Float64[np.ndarray, "models records"], member: Bool[np.ndarray, "models records"]
) -> Memorisation:
    """How much more the models trained on a record make of it than the others do.

    Args:
        answers: Probability of the record's true class, or 1.0 and 0.0 for right and wrong; finite.
        member: True where the model was trained on the record.

    Raises:
        ValueError: The shapes differ, or an answer is not finite.

    Example:
        >>> answers = np.array([[0.9, 0.5], [0.7, 0.5], [0.2, 0.5], [0.4, 0.5]])
        >>> memorisation(answers, np.array([True, True, False, False])[:, None].repeat(2, 1)).mean.round(6).tolist()
        [0.5, 0.0]
    """
    _check(answers, member)
    (inside, inside_variance, inside_count), (outside, outside_variance, outside_count) = (
        _moments(answers, side) for side in (member, ~member)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(inside_variance / inside_count + outside_variance / outside_count)
    return Memorisation(inside - outside, error)


def movement(before: Float64[np.ndarray, "records"], after: Float64[np.ndarray, "records"]) -> Movement:
    """The change of every record's exposure or memorisation, and whether the order is kept.

    Args:
        before: At full precision; NaN where unknown.
        after: Of the variant, for the same records.

    Raises:
        ValueError: The lengths differ, fewer than 3 records have both, or one of the two does not vary.

    Example:
        >>> found = movement(np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.5, 2.0]))
        >>> found.change.tolist(), found.rank_correlation
        ([-1.0, -0.5, -2.0], 1.0)
    """
    if before.shape != after.shape:
        raise ValueError(f"before and after must have the same length, got {len(before)} and {len(after)}")
    known = np.isfinite(before) & np.isfinite(after)
    if known.sum() < 3:
        raise ValueError(f"a movement needs at least 3 records known before and after, got {int(known.sum())}")
    change = after - before
    return Movement(change, float(change[known].mean()), rank_correlation(before[known], after[known]))


def extremes(
    values: Float64[np.ndarray, "records"], count: int, *, end: Literal["most", "least"] = "most"
) -> Int64[np.ndarray, "chosen"]:
    """The records with the largest (or smallest) values, the most extreme first; ties by their place.

    Args:
        values: Exposures or memorisations; NaN is never chosen.
        count: How many, at least 1; fewer where fewer are known.
        end: `most` or `least`.

    Example:
        >>> extremes(np.array([2.0, np.nan, 7.0, 7.0]), 2).tolist()
        [2, 3]
    """
    known = np.flatnonzero(np.isfinite(values))
    signed = -values[known] if end == "most" else values[known]
    return known[np.argsort(signed, kind="stable")[: integer_in("count", count, 1)]]


def extremes_by_class(
    values: Float64[np.ndarray, "records"],
    labels: Int64[np.ndarray, "records"],
    count: int,
    *,
    end: Literal["most", "least"] = "most",
) -> dict[int, Int64[np.ndarray, "chosen"]]:
    """`extremes` within every class that occurs.

    Args:
        values: As for `extremes`.
        labels: True classes.
        count: How many of each class.
        end: `most` or `least`.

    Raises:
        ValueError: The lengths differ.

    Example:
        >>> found = extremes_by_class(np.array([2.0, 3.0, 7.0, 1.0]), np.array([0, 0, 1, 1]), 1)
        >>> {label: records.tolist() for label, records in found.items()}
        {0: [1], 1: [2]}
    """
    if values.shape != labels.shape:
        raise ValueError(f"values and labels must have the same length, got {len(values)} and {len(labels)}")
    own = {int(label): np.where(labels == label, values, np.nan) for label in np.unique(labels)}
    return {label: extremes(only, count, end=end) for label, only in own.items()}


def rank_correlation(first: Float64[np.ndarray, "records"], second: Float64[np.ndarray, "records"]) -> float:
    """Spearman's rank correlation, ties sharing their mean rank.

    Raises:
        ValueError: One of the two does not vary.
    """
    ranks = np.array([rankdata(first), rankdata(second)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    scale = np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
    if scale == 0:
        raise ValueError("a rank correlation needs values that vary, got one value for all records")
    return float(np.clip(ranks[0] @ ranks[1] / scale, -1.0, 1.0))


def _check(values: Float64[np.ndarray, "models records"], member: Bool[np.ndarray, "models records"]) -> None:
    if values.ndim != 2 or values.shape != member.shape:
        raise ValueError(f"values and member must be [models records] alike, got {values.shape} and {member.shape}")
    if not np.isfinite(values).all():
        model, record = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(f"values must be finite, got {values[model, record]} of model {model} at record {record}")


def _moments(
    values: Float64[np.ndarray, "models records"], chosen: Bool[np.ndarray, "models records"]
) -> tuple[Float64[np.ndarray, "records"], Float64[np.ndarray, "records"], Int64[np.ndarray, "records"]]:
    """Mean, variance (n - 1) and number of the chosen values of every record."""
    count = chosen.sum(axis=0)
    mean = np.where(count > 0, np.where(chosen, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
    squares = (np.where(chosen, values - mean, 0.0) ** 2).sum(axis=0)
    return mean, np.where(count > 1, squares / np.maximum(count - 1, 1), np.nan), count


def _first_half(
    member: Bool[np.ndarray, "targets records"], generator: np.random.Generator
) -> Bool[np.ndarray, "targets records"]:
    """Half of every record's targets, at random; of an odd number the smaller half."""
    keys = np.where(member, generator.random(member.shape), np.inf)
    ranks = keys.argsort(axis=0).argsort(axis=0)
    return member & (ranks < member.sum(axis=0) // 2)
