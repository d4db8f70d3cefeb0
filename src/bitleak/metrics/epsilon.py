"""Lower bounds on the epsilon of differential privacy, from TPR and FPR at one threshold.

If training is (epsilon, delta)-differentially private with respect to one record, no test of that
record's membership can do better than (Kairouz, Oh and Viswanath 2015, arXiv 1311.0776)

    TPR <= e^epsilon FPR + delta     and     TNR <= e^epsilon FNR + delta.

So with bounds TPR >= t and FPR <= f that hold together with the wanted confidence (Jagielski,
Ullman and Oprea 2020, arXiv 2006.07709, section 3; Nasr et al. 2021, arXiv 2101.04535),

    epsilon >= max(0, log((t - delta) / f), log((1 - f - delta) / (1 - t))).

A threshold that is chosen on the records it is judged on gives a positive bound on pure noise. So
the records are halved at random (members and non-members apart): on one half the threshold is
chosen, for each attack and each of the two inequalities the one with the largest bound there; on
the other half t and f are Clopper and Pearson's one-sided ends. With A attacks there are 2 A
thresholds with two ends each, and every end has the tail (1 - confidence) / (4 A), so that all
bounds hold together (Bonferroni), and the largest of them too.

Assumption: given the membership, the records' scores are independent, as they are if every record
has a model of its own. Scores of one model are dependent through the training, and the bound
is then as good as that approximation; `one_run` needs no such assumption, but coins. The bound
speaks of the average record of this kind, not of the worst one, and a stronger attack may give a
larger one.

Deviation: the published audits choose the threshold on separate models or correct over a grid; here
a half of the same records, since every record costs a model's capacity but a half costs only power.
Any choice on the first half is valid: only corners of its ROC are tried, at most 24 of them for
each inequality, the numbers of errors on that side spaced evenly on a log scale. Cost: O(records
log records) and 96 inverse incomplete beta functions per attack.

*Clusters.* Records that depend on each other (`clusters`) break the assumption: twenty copies that
are members together are one guess, not twenty. One record of each cluster is drawn, without looking
at scores or membership, and the bound is that of the records drawn, which are independent. The
inequalities hold for any mixture of records, so it is valid for any dependence within a cluster;
it spends the others. If a cluster's records are members together, the record that privacy is
about is the cluster.

*The rows of the results table.* By target: the bounds of all `comparisons` attacks on the target
hold together at 95 %. Over T targets: the largest of the targets' bounds, each at confidence
1 - 0.05 / T, so that it holds at 95 % too (Bonferroni). A mean would be no bound, and pooling the
targets' records would take a record's scores under several targets for independent. The thresholds
are chosen once, at the stricter confidence, and judged at both.
"""

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.core.checks import integer_in, number_array, number_in, truth_array
from bitleak.core.types import Measure, Scores
from bitleak.metrics.clusters import dense_clusters, single_records
from bitleak.metrics.measures import TotalAndTargets
from bitleak.metrics.proportions import exact_high, exact_low
from bitleak.metrics.roc import Roc, roc, spaced_counts

Direction = Literal["members", "non_members"]
DIRECTIONS: tuple[Direction, Direction] = ("members", "non_members")

DELTA = 1e-5
"""The delta at which epsilon is bounded in tables, unless another one is named."""

CORNERS = 24
"""Points of the first half's ROC that are tried for each inequality, at most."""

MISTAKE = 0.05
"""Chance that a bound, or any of those that hold together, is above the truth."""

_Points = Float64[np.ndarray, "points"]


@dataclass(frozen=True)
class EpsilonBound:
    """A lower bound on epsilon, with the threshold and the rates it comes from.

    Attributes:
        epsilon: At least 0, in nats; 0 if nothing was shown.
        direction: Inequality that gave it: `members` (TPR over FPR) or `non_members` (TNR over
            FNR).
        threshold: Chosen on the first half; scores of at least this are called members.
        tpr: Smallest TPR that the second half allows, t of the module's docstring.
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
    """Return a lower bound on epsilon by every attack, all of them valid together.

    Args:
        scores: Scores of all attacks on the same target; larger = more likely a member; finite.
        member: True for the members; at least 2 members and 2 non-members.
        seed: Seed for the halving.
        delta: The delta of differential privacy, in [0, 1).
        confidence: Chance, in (0, 1), that no bound is above the truth.

    Returns:
        One per attack; their maximum is a valid bound too.

    Raises:
        ValueError: A shape or a number is out of range.

    Example:
        >>> member = np.arange(4000) % 2 == 0
        >>> wrong = np.random.default_rng(0).random(4000) < 1 / (1 + np.e)  # epsilon = 1
        >>> (bound,) = epsilon_bounds((member ^ wrong)[None].astype(float), member, seed=0)
        >>> 0.7 < bound.epsilon < 1
        True
    """
    scores, member = number_array("scores", scores), truth_array("member", member)
    number_in("delta", delta, 0, 1, ends="[)")
    tail = (1 - number_in("confidence", confidence, 0, 1, ends="()")) / (4 * max(len(scores), 1))
    if scores.ndim != 2 or len(scores) == 0 or scores.shape[1:] != member.shape:
        records = f"{member.shape[0]} records, got {scores.shape}"
        raise ValueError(f"scores must be [attacks records] with {records}")
    first = random_half(member, seed)
    bounds = []
    for row in scores:
        thresholds = best_thresholds(roc(row[first], member[first]), float(delta), tail)
        bounds.append(_best_bound(thresholds, row[~first], member[~first], float(delta), tail))
    return tuple(bounds)


def random_half(member: Bool[np.ndarray, "records"], seed: int) -> Bool[np.ndarray, "records"]:
    """Return a random half of the members with a random half of the non-members.

    The halves of a membership are drawn once for all attacks; the array is read-only.

    Raises:
        ValueError: There are fewer than 2 members or non-members.
    """
    return _half(np.asarray(member, bool).tobytes(), seed)


@functools.lru_cache(maxsize=64)
def _half(truths: bytes, seed: int) -> Bool[np.ndarray, "records"]:
    """Return `random_half` of a membership as bytes."""
    member = np.frombuffer(truths, bool)
    first, generator = np.zeros(len(member), bool), np.random.default_rng(seed)
    for group in (member, ~member):
        indices = np.flatnonzero(group)
        if len(indices) < 2:
            counts = f"{int(member.sum())} of {len(member)}"
            raise ValueError(f"both halves need members and non-members, got {counts}")
        first[generator.permutation(indices)[: len(indices) // 2]] = True
    first.setflags(write=False)
    return first


def epsilon_measures(
    scores: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    *,
    seed: int,
    delta: int | float,
    comparisons: int,
    clusters: Int64[np.ndarray, "records"] | None = None,
) -> TotalAndTargets:
    """Return the metric `epsilon` of one attack: a lower bound, so that there is no upper end.

    Args:
        scores: Larger = more likely a member; finite.
        member: The truth, for the same targets and records. A target with fewer than 2 members or
            non-members has the bound 0.
        seed: Seed for the halvings.
        delta: The delta of differential privacy, in [0, 1).
        comparisons: Attacks on the same targets whose bounds hold together, this one included.
        clusters: As in `measure`; one record of each is judged, drawn with the seed.

    Raises:
        ValueError: Shapes differ or a number is out of range.

    Example:
        >>> member = np.tile(np.arange(4000) % 2 == 0, (2, 1))
        >>> wrong = np.random.default_rng(0).random((2, 4000)) < 1 / (1 + np.e)  # epsilon = 1
        >>> answer = (member ^ wrong).astype(float)
        >>> measures = epsilon_measures(answer, member, seed=0, delta=1e-5, comparisons=1)
        >>> [round(measure.value, 2) for measure in measures["epsilon"]]  # of both, then of each
        [0.83, 0.85, 0.75]
    """
    scores, member = number_array("scores", scores), truth_array("member", member)
    number_in("delta", delta, 0, 1, ends="[)")
    if scores.ndim != 2 or scores.shape != member.shape or len(scores) == 0:
        shapes = f"{scores.shape} and {member.shape}"
        raise ValueError(f"scores and member must both be [targets records], got {shapes}")
    dense = dense_clusters(clusters)
    if dense is not None:
        drawn = single_records(dense, seed)
        scores, member = scores[:, drawn], member[:, drawn]
    alone = MISTAKE / (4 * integer_in("comparisons", comparisons, 1))
    together = alone / len(scores)
    # One half of the records chooses the threshold, and the other half bounds epsilon there.
    singles: list[float] = []
    joint: list[float] = []
    for row, truth in zip(scores, member, strict=True):
        if min(truth.sum(), (~truth).sum()) < 2:
            joint.append(0.0)
            singles.append(0.0)
            continue
        first = random_half(truth, seed)
        thresholds = best_thresholds(roc(row[first], truth[first]), float(delta), together)
        rest = row[~first], truth[~first]
        for bounds, tail in ((joint, together), (singles, alone)):
            bounds.append(_best_bound(thresholds, *rest, float(delta), tail).epsilon)
    return {"epsilon": (_measure(max(joint)), *map(_measure, singles))}


def _measure(bound: float) -> Measure:
    return Measure(bound, low=bound, interval="lower_bound")


def best_thresholds(curve: Roc, delta: float, tail: float) -> tuple[float, float]:
    """Return the threshold with the largest bound on the first half, for each of `DIRECTIONS`."""
    ascending = curve.false_positives
    members = _best_threshold("members", curve, ascending, delta, tail)
    descending = curve.members - curve.true_positives
    return members, _best_threshold("non_members", curve, descending, delta, tail)


def _best_threshold(
    direction: Direction,
    curve: Roc,
    errors: Int64[np.ndarray, "points"],
    delta: float,
    tail: float,
) -> float:
    """Return the best of the corners, the last points with their number of errors.

    Args:
        direction: Inequality.
        curve: ROC of the first half.
        errors: False positives at each point, or false negatives, which descend.
        delta: The delta of differential privacy.
        tail: Chance that one end of an interval is wrong.
    """
    upwards = errors if direction == "members" else errors[::-1]
    steps = spaced_counts(max(int(upwards[-1]), 1), CORNERS - 1)
    points = np.searchsorted(upwards, steps, side="right") - 1
    if direction == "non_members":
        points = len(errors) - 1 - points
    tpr = exact_low(curve.true_positives[points], curve.members, tail)
    fpr = exact_high(curve.false_positives[points], curve.non_members, tail)
    return float(curve.thresholds[points[int(_log_ratio(direction, tpr, fpr, delta).argmax())]])


def _best_bound(
    thresholds: tuple[float, float],
    scores: Scores,
    member: Bool[np.ndarray, "records"],
    delta: float,
    tail: float,
) -> EpsilonBound:
    """Return the larger bound of the two directions' thresholds."""
    bounds = []
    for direction, threshold in zip(DIRECTIONS, thresholds, strict=True):
        bounds.append(bound_at_threshold(direction, threshold, scores, member, delta, tail))
    return max(bounds, key=lambda bound: bound.epsilon)


def bound_at_threshold(
    direction: Direction,
    threshold: float,
    scores: Scores,
    member: Bool[np.ndarray, "records"],
    delta: float,
    tail: float,
) -> EpsilonBound:
    """Return the bound by a threshold that was chosen without these records."""
    called = scores >= threshold
    tpr = exact_low(np.array([called[member].sum()]), int(member.sum()), tail)
    fpr = exact_high(np.array([called[~member].sum()]), int((~member).sum()), tail)
    epsilon = max(0.0, float(_log_ratio(direction, tpr, fpr, delta)[0]))
    return EpsilonBound(epsilon, direction, threshold, float(tpr[0]), float(fpr[0]))


def _log_ratio(direction: Direction, tpr: _Points, fpr: _Points, delta: float) -> _Points:
    """Return an inequality's bounds; minus infinity if delta alone explains the rates."""
    with np.errstate(divide="ignore"):
        if direction == "members":
            return np.log(np.maximum(tpr - delta, 0)) - np.log(fpr)
        return np.log(np.maximum(1 - fpr - delta, 0)) - np.log(1 - tpr)
