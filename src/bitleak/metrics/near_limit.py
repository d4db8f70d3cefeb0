"""Intervals for a figure that lies near the least value it can have.

The balanced accuracy of the best threshold is never below 1/2 in the population, but its estimate, normal around the
truth, is below 1/2 half of the time on noise. The usual interval, cut at 1/2, then misses on one side only and covers
97.5 % instead of 95 %, and where it lies below 1/2 as a whole nothing is left of it. Feldman and Cousins (1998,
arXiv physics/9711021, section IV B) order the values x that may be seen, in standard errors above the limit, by

    R(x) = P(x | mu) / P(x | max(x, 0))

and accept for every mu >= 0 the most likely ones by R until they have 95 %; the interval of x holds the mu that accept
it. It covers 95 % at every mu, starts at 0 for x <= 1.645, and is x +- 1.96 from x = 3.92 on. For mu < 1.96 the
accepted values run from (mu^2 - d^2) / (2 mu) to mu + d, where both ends have the same R, with d solving
Phi(d) - Phi((mu^2 - d^2) / (2 mu) - mu) = 0.95.

Cost: a table of `POINTS` values, made once; an interval is two interpolations in it.
"""

from functools import cache

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr

from bitleak.metrics.estimate import Z

POINTS = 4001
BISECTIONS = 50


def near_limit(above: float) -> tuple[float, float]:
    """The 95 % interval of a normal mean that is at least 0.

    Args:
        above: The estimate, in its standard errors; may be negative.

    Returns:
        Both ends, in standard errors.

    Example:
        >>> [tuple(round(end, 2) for end in near_limit(x)) for x in (-1.0, 0.0, 2.0, 5.0)]
        [(0.0, 1.1), (0.0, 1.96), (0.35, 3.96), (3.04, 6.96)]
    """
    if above >= 2 * Z:
        return above - Z, above + Z
    mean, lowest, highest = _accepted()
    low = float(np.interp(above, highest, mean, left=0.0))
    return low, above + Z if above >= 0 else float(np.interp(above, lowest, mean))


@cache
def _accepted() -> tuple[Float64[np.ndarray, "means"], Float64[np.ndarray, "means"], Float64[np.ndarray, "means"]]:
    """Means from near 0 to 1.96, and the least and the largest estimate that each accepts."""
    mean = np.linspace(0, Z, POINTS)[1:]
    low, high = np.zeros_like(mean), np.full_like(mean, Z)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        enough = ndtr(middle) - ndtr(_least(mean, middle) - mean) > 2 * ndtr(Z) - 1
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return mean, _least(mean, high), mean + high


def _least(mean: Float64[np.ndarray, "means"], reach: Float64[np.ndarray, "means"]) -> Float64[np.ndarray, "means"]:
    return (mean**2 - reach**2) / (2 * mean)
