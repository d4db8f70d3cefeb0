"""Lower bounds on epsilon of many attacks on several targets, as rows of the results table.

By target: the bound of `epsilon`, all `comparisons` attacks on the target holding together at 95 %. Over T targets: the
largest of the targets' bounds, each at confidence 1 - 0.05 / T, so that it holds at 95 % too (Bonferroni). A mean would
be no bound, and pooling the targets' records would take a record's scores under several targets for independent.

The thresholds are chosen once, at the stricter confidence, and judged at both. Cost: that of `epsilon_bounds`.
"""

import numpy as np
from jaxtyping import Bool, Float64

from bitleak.core.checks import integer_in, number_in
from bitleak.core.types import Measure
from bitleak.metrics.chosen import Shown
from bitleak.metrics.epsilon import DIRECTIONS, chosen_thresholds, halved, judged
from bitleak.metrics.roc import roc

MISTAKE = 0.05
"""Chance that a bound, or any of those that hold together, is above the truth."""


def epsilon_measures(
    scores: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    *,
    seed: int,
    delta: int | float,
    comparisons: int,
) -> Shown:
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
        first = halved(truth, seed)
        thresholds = chosen_thresholds(roc(own[first], truth[first]), float(delta), together)
        rest = own[~first], truth[~first]
        bounds.append(
            [
                max(judged(one, threshold, *rest, float(delta), tail).epsilon
                    for one, threshold in zip(DIRECTIONS, thresholds, strict=True))
                for tail in (together, alone)
            ]
        )  # fmt: skip
    largest = max(joint for joint, _ in bounds)
    return {"epsilon": (_measure(largest), *[_measure(single) for _, single in bounds])}


def _measure(bound: float) -> Measure:
    return Measure(bound, low=bound, interval="lower_bound")
