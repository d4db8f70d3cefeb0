"""Lower bounds on the epsilon of differential privacy from an attack's TPR and FPR at one threshold.

If training is (epsilon, delta)-differentially private with respect to one record, no test of that record's
membership can do better than (Kairouz, Oh and Viswanath 2015, arXiv 1311.0776)

    TPR <= e^epsilon FPR + delta     and     TNR <= e^epsilon FNR + delta.

So with bounds TPR >= t and FPR <= f that hold together with the wanted confidence (Jagielski, Ullman and Oprea 2020,
arXiv 2006.07709, section 3; Nasr et al. 2021, arXiv 2101.04535),

    epsilon >= max(0, log((t - delta) / f), log((1 - f - delta) / (1 - t))).

A threshold that is chosen on the records it is judged on gives a positive bound on pure noise. So the records are
halved at random (members and non-members apart): on one half the threshold is chosen, for each attack and each of the
two inequalities the one with the largest bound there; on the other half t and f are Clopper and Pearson's one-sided
ends. With A attacks there are 2 A thresholds with two ends each, and every end has the tail (1 - confidence) / (4 A),
so that all bounds hold together (Bonferroni), and the largest of them too.

What it assumes: given the membership, the records' scores are independent, as they are where every record has a model
of its own. Scores of one model are dependent through the training, and the bound is then as good as that
approximation; `one_run` needs no such assumption, but coins. The bound speaks of the average record of this kind, not
of the worst one, and a stronger attack may give a larger one.

Deviation: the published audits choose the threshold on separate models or correct over a grid; here a half of the same
records, since every record costs a model's capacity but a half costs only power. Any choice on the first half is
valid: only corners of its ROC are looked at, at most 24 of them for each inequality, the numbers of errors on that side
spaced evenly on a log scale. Cost: O(records log records) and 96 inverse incomplete beta functions per attack.

Lower bounds on epsilon of many attacks on several targets, as rows of the results table.

By target: the bound of `epsilon`, all `comparisons` attacks on the target holding together at 95 %. Over T targets: the
largest of the targets' bounds, each at confidence 1 - 0.05 / T, so that it holds at 95 % too (Bonferroni). A mean would
be no bound, and pooling the targets' records would take a record's scores under several targets for independent.

The thresholds are chosen once, at the stricter confidence, and judged at both. Cost: that of `epsilon_bounds`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.core.checks import integer_in, number_in
from bitleak.core.types import Measure, Scores
from bitleak.metrics.measures import TotalAndTargets
from bitleak.metrics.proportions import exact_high, exact_low
from bitleak.metrics.roc import Roc, roc

Direction = Literal["members", "non_members"]
DIRECTIONS: tuple[Direction, Direction] = ("members", "non_members")

CORNERS = 24
"""Points of the first half's ROC that are looked at for each inequality, at most."""


@dataclass(frozen=True)
class EpsilonBound:
    """A lower bound on epsilon, and where it comes from.

    Attributes:
        epsilon: At least 0, in nats; 0 says that nothing was shown.
        direction: Which inequality gave it: `members` (TPR over FPR) or `non_members` (TNR over FNR).
        threshold: Chosen on the first half; scores of at least this are called members.
        tpr: Smallest (`members`) TPR that the second half allows; it is the bound t of the module.
        fpr: Largest FPR that it allows, f.
    """

    epsilon: float
    direction: Direction
    threshold: float
    tpr: float
    fpr: float


def epsilon_bounds(
    scores: Float64[np.ndarray, "attacks records"],
    member: Bool[np.ndarray, "records"],
    *,
    seed: int,
    delta: int | float = 0.0,
    confidence: int | float = 0.95,
) -> tuple[EpsilonBound, ...]:
    """A lower bound on epsilon by every attack, all of them valid together.

    Args:
        scores: Of all attacks that are looked at, on the same target; larger = more likely a member; finite.
        member: True for the members; at least 2 members and 2 non-members.
        seed: Of the halving.
        delta: The delta of differential privacy, in [0, 1).
        confidence: Chance, in (0, 1), that no bound is above the truth.

    Returns:
        One per attack; their maximum is a valid bound too.

    Raises:
        ValueError: A shape or a number is out of range.

    Example:
        >>> member = np.arange(4000) % 2 == 0
        >>> answer = member ^ (np.random.default_rng(0).random(4000) < 1 / (1 + np.e))  # epsilon = 1
        >>> (bound,) = epsilon_bounds(answer[None].astype(float), member, seed=0)
        >>> 0.7 < bound.epsilon < 1
        True
    """
    number_in("delta", delta, 0, 1, ends="[)")
    tail = (1 - number_in("confidence", confidence, 0, 1, ends="()")) / (4 * max(len(scores), 1))
    if scores.ndim != 2 or len(scores) == 0 or scores.shape[1:] != member.shape:
        raise ValueError(f"scores must be [attacks records] with {member.shape[0]} records, got {scores.shape}")
    first = random_half(member, seed)
    return tuple(_bound(row, member, first, float(delta), tail) for row in scores)


def random_half(member: Bool[np.ndarray, "records"], seed: int) -> Bool[np.ndarray, "records"]:
    """A random half of the members and a random half of the non-members."""
    first, generator = np.zeros(len(member), bool), np.random.default_rng(seed)
    for group in (member, ~member):
        indices = np.flatnonzero(group)
        if len(indices) < 2:
            raise ValueError(f"both halves need members and non-members, got {int(member.sum())} of {len(member)}")
        first[generator.permutation(indices)[: len(indices) // 2]] = True
    return first


def _bound(
    scores: Scores, member: Bool[np.ndarray, "records"], first: Bool[np.ndarray, "records"], delta: float, tail: float
) -> EpsilonBound:
    thresholds = best_thresholds(roc(scores[first], member[first]), delta, tail)
    bounds = []
    for direction, threshold in zip(DIRECTIONS, thresholds, strict=True):
        bounds.append(bound_at_threshold(direction, threshold, scores[~first], member[~first], delta, tail))
    return max(bounds, key=lambda bound: bound.epsilon)


def best_thresholds(curve: Roc, delta: float, tail: float) -> tuple[float, float]:
    """The threshold with the largest bound on the first half, for each of `DIRECTIONS`."""
    chosen = []
    for index, errors in enumerate((curve.false_positives, curve.members - curve.true_positives[::-1])):
        steps = np.unique(np.append(np.geomspace(1, max(errors[-1], 1), CORNERS - 1).round(), 0))
        points = np.searchsorted(errors, steps, side="right") - 1  # the last of those with equal errors on this side
        points = points if index == 0 else len(errors) - 1 - points
        ends = _ends(curve.true_positives[points], curve.false_positives[points], curve, tail)
        chosen.append(float(curve.thresholds[points[int(_log_ratios(*ends, delta)[index].argmax())]]))
    return chosen[0], chosen[1]


def bound_at_threshold(
    direction: Direction,
    threshold: float,
    scores: Scores,
    member: Bool[np.ndarray, "records"],
    delta: float,
    tail: float,
) -> EpsilonBound:
    """The bound by a threshold that these records had no part in choosing."""
    called, index = scores >= threshold, DIRECTIONS.index(direction)
    true_positives, false_positives = (np.array([called[group].sum()]) for group in (member, ~member))
    tpr = exact_low(true_positives, int(member.sum()), tail)
    fpr = exact_high(false_positives, int((~member).sum()), tail)
    epsilon = _log_ratios(tpr, fpr, delta)[index][0]
    return EpsilonBound(max(0.0, float(epsilon)), direction, threshold, float(tpr[0]), float(fpr[0]))


def _ends(
    true_positives: Int64[np.ndarray, "points"], false_positives: Int64[np.ndarray, "points"], curve: Roc, tail: float
) -> tuple[Float64[np.ndarray, "points"], Float64[np.ndarray, "points"]]:
    return exact_low(true_positives, curve.members, tail), exact_high(false_positives, curve.non_members, tail)


def _log_ratios(
    tpr: Float64[np.ndarray, "points"], fpr: Float64[np.ndarray, "points"], delta: float
) -> tuple[Float64[np.ndarray, "points"], Float64[np.ndarray, "points"]]:
    """Both inequalities' bounds; minus infinity where delta alone explains what was seen."""
    with np.errstate(divide="ignore"):
        return (
            np.log(np.maximum(tpr - delta, 0)) - np.log(fpr),
            np.log(np.maximum(1 - fpr - delta, 0)) - np.log(1 - tpr),
        )


MISTAKE = 0.05
"""Chance that a bound, or any of those that hold together, is above the truth."""


def epsilon_measures(
    scores: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    *,
    seed: int,
    delta: int | float,
    comparisons: int,
) -> TotalAndTargets:
    """The metric `epsilon` of one attack: a lower bound, which is the interval's lower end too; there is no upper end.

    Args:
        scores: Larger = more likely a member; finite.
        member: The truth, for the same targets and records; at least 2 members and 2 non-members of each.
        seed: Of the halvings.
        delta: The delta of differential privacy, in [0, 1).
        comparisons: How many attacks on the same targets hold together, this one included.

    Raises:
        ValueError: Shapes differ or a number is out of range.

    Example:
        >>> member = np.tile(np.arange(4000) % 2 == 0, (2, 1))
        >>> answer = member ^ (np.random.default_rng(0).random((2, 4000)) < 1 / (1 + np.e))  # epsilon = 1
        >>> found = epsilon_measures(answer.astype(float), member, seed=0, delta=1e-5, comparisons=1)
        >>> [round(measure.value, 2) for measure in found["epsilon"]]  # of both targets, then each
        [0.83, 0.85, 0.75]
    """
    number_in("delta", delta, 0, 1, ends="[)")
    if scores.ndim != 2 or scores.shape != member.shape or len(scores) == 0:
        raise ValueError(f"scores and member must both be [targets records], got {scores.shape} and {member.shape}")
    alone = MISTAKE / (4 * integer_in("comparisons", comparisons, 1))
    together = alone / len(scores)
    bounds = []
    for own, truth in zip(scores, member, strict=True):
        first = random_half(truth, seed)
        thresholds = best_thresholds(roc(own[first], truth[first]), float(delta), together)
        rest = own[~first], truth[~first]
        bounds.append(
            [
                max(bound_at_threshold(one, threshold, *rest, float(delta), tail).epsilon
                    for one, threshold in zip(DIRECTIONS, thresholds, strict=True))
                for tail in (together, alone)
            ]
        )  # fmt: skip
    largest = max(joint for joint, _ in bounds)
    return {"epsilon": (_measure(largest), *[_measure(single) for _, single in bounds])}


def _measure(bound: float) -> Measure:
    return Measure(bound, low=bound, interval="lower_bound")
