"""The noise scale at which a network is as accurate as a quantized one: leakage at equal utility.

Quantization lowers accuracy and leakage at once. Whether it protects better than plain damage does
is seen by comparison with weights that carry Gaussian noise, its deviation relative to each
layer's, at a scale of equal accuracy. The scale is found by bisection of its logarithm.

Every evaluation uses the same seeds (common random numbers): the noise's direction stays and only
its length changes, so that the accuracy, which is monotone in expectation only, is nearly so in
fact. The goal is met within `tolerance`, or the nearest scale seen is returned and marked;
bisection never needs more than the evaluations allowed.

Cost: seeds x evaluations calls; each step halves the logarithm of the ratio of the bracket's ends.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bitleak.core.checks import integer_in, number_in

Accuracy = Callable[[float, int], float]
"""Accuracy of a network at a noise scale with a seed, in [0, 1]; falls with the scale."""


@dataclass(frozen=True)
class ScaleMatch:
    """The scale whose accuracy is nearest to the goal.

    Attributes:
        scale: Noise deviation relative to the deviation of the layer's weights.
        accuracy: Mean accuracy over the seeds at this scale.
        matched: Whether it is within the tolerance of the goal.
        evaluations: Number of scales tried.
    """

    scale: float
    accuracy: float
    matched: bool
    evaluations: int


def matched_scale(
    accuracy: Accuracy,
    goal: int | float,
    *,
    seeds: Sequence[int],
    low: int | float = 1e-3,
    high: int | float = 1.0,
    tolerance: int | float = 0.002,
    evaluations: int = 16,
) -> ScaleMatch:
    """Return the scale at which the mean accuracy over the seeds is the goal.

    Args:
        accuracy: Called with a scale and a seed; the same arguments must give the same result.
        goal: Accuracy to reach, in [0, 1].
        seeds: At least one; all are used at every scale.
        low: A harmless scale, > 0; if the accuracy is at or below the goal even there, the
            search ends.
        high: A larger scale; if the accuracy is still above the goal there, the search ends.
        tolerance: Tolerance of the accuracy, > 0.
        evaluations: Largest number of scales to try, the two ends included; at least 2.

    Returns:
        The nearest of all scales tried; the smaller one of two equally near.

    Raises:
        ValueError: An argument is out of range, or the accuracy is no number in [0, 1].

    Example:
        >>> falling = lambda scale, seed: 0.9 - 0.5 * scale
        >>> match = matched_scale(falling, 0.8, seeds=[0], tolerance=1e-4)
        >>> round(match.scale, 3), match.matched
        (0.2, True)
    """
    goal = number_in("goal", goal, 0, 1)
    left = number_in("low", low, 0, math.inf, ends="()")
    right = number_in("high", high, left, math.inf, ends="()")
    number_in("tolerance", tolerance, 0, 1, ends="(]")
    integer_in("evaluations", evaluations, 2)
    if not seeds:
        raise ValueError("seeds must hold at least one seed, got none")
    tried: dict[float, float] = {}
    for scale in (left, right):
        tried[scale] = _mean(accuracy, scale, seeds)

    # the bracket holds the goal as long as the accuracy is above it on the left, below on the right
    while len(tried) < evaluations and tried[left] > goal > tried[right]:
        middle = math.sqrt(left * right)
        if _near(tried, goal, tolerance) or not left < middle < right:
            break
        tried[middle] = _mean(accuracy, middle, seeds)
        left, right = (middle, right) if tried[middle] > goal else (left, middle)
    best = min(sorted(tried), key=lambda scale: abs(tried[scale] - goal))
    return ScaleMatch(best, tried[best], abs(tried[best] - goal) <= tolerance, len(tried))


def _near(tried: dict[float, float], goal: float, tolerance: int | float) -> bool:
    return any(abs(accuracy - goal) <= tolerance for accuracy in tried.values())


def _mean(accuracy: Accuracy, scale: float, seeds: Sequence[int]) -> float:
    # exactly rounded: the built-in sum of floats is compensated from Python 3.12 on only
    name = f"accuracy at scale {scale:g}"
    return math.fsum(number_in(name, accuracy(scale, seed), 0, 1) for seed in seeds) / len(seeds)
