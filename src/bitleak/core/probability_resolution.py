"""The resolution of stored probabilities: how far apart their values are, and how an exact 0 or 1 is read.

Probabilities that were rounded (decimals, 8-bit softmax outputs) are multiples of a step s. A 0 then means "below half
a step", and a 1 "above 1 - s / 2": both are read at half a step from the end. Read as the smallest number of the dtype,
a single 0 would have a confidence of -103 or -744, which spoils the moments of all references. Where values have no
common step, their precision is relative, and a 0 is read as half of the smallest positive value of the file.

A step s fits if every value p is a multiple of it up to the rounding of the dtype, |p / s - n| <= n eps. It is taken
if values that are no multiples would pass with a probability below `CHANCE`; the largest such step counts.
Cost: one pass over the file, O(numbers).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

BLOCK_NUMBERS = 1 << 19
"""Numbers handled at a time."""

SUM_TOLERANCE = 1e-2
"""Largest deviation of a row of probabilities from the sum 1, besides half a step per class."""

CHANCE = 1e-12
"""Probability with which values of no common step may be taken for multiples of one."""

INFORMATIVE = 0.125
"""A value says something about a step only if the dtype places it to within this share of the step."""

FINEST_MULTIPLE = 1 / 1024
"""Smallest step that is guessed from the smallest positive value; below, float16's own spacing would pass."""

SAMPLED_NUMBERS = 4096
"""Numbers of a block that a step is first tried on."""

_STEPS = {
    **{2.0**-bits: f"1/{2**bits}" for bits in range(17)},
    **{1 / (2**bits - 1): f"1/{2**bits - 1}" for bits in (2, 3, 4, 5, 6, 7, 8, 10, 12, 16)},
    **{10.0**-digits: f"{digits} decimal{'s' if digits > 1 else ''}" for digits in range(1, 13)},
}


@dataclass(frozen=True)
class Resolution:
    """How far apart the values of a file are.

    Attributes:
        name: For people, such as `1/256`, `4 decimals`, or the dtype.
        step: Distance between neighbouring values, in (0, 1]; 0 if the precision is relative.
        floor: Reading of an exact 0, and of the complement of an exact 1; above 0.
        numbers: Finite numbers in the file.
        zeros: How many of them are exactly 0.
        complement: Whether 1 - p is as precise as p, which it is not if the dtype is coarser than the step near 1.
    """

    name: str
    step: float
    floor: float
    numbers: int = 0
    zeros: int = 0
    complement: bool = False


def of_dtype(dtype: np.dtype) -> Resolution:
    """The resolution of values of which nothing but the dtype is known: half its smallest positive number.

    Example:
        >>> float(np.log2(of_dtype(np.dtype(np.float16)).floor))
        -25.0
    """
    return Resolution(str(dtype), 0.0, _half(float(np.finfo(dtype).smallest_subnormal)))


def resolution_of(arrays: Sequence[np.ndarray]) -> Resolution:
    """Return the resolution of probabilities that have one source, over all of its arrays together.

    Args:
        arrays: At least one array of probabilities, of any shape and one floating-point type.

    Example:
        >>> p = np.array([[[0.25, 0.75], [0.996, 0.004], [1.0, 0.0]]] * 9)
        >>> rounded = np.round(np.random.default_rng(0).dirichlet([1, 1, 1], (1, 50, 1)), 3)
        >>> found = resolution_of([rounded])
        >>> found.name, found.step, found.floor
        ('3 decimals', 0.001, 0.0005)
    """
    dtype = arrays[0].dtype
    eps = float(np.finfo(dtype).eps)
    numbers, zeros, smallest = 0, 0, math.inf
    steps: dict[float, float] | None = None  # log of the chance that the step fits by accident
    for values in _blocks(arrays):
        positive = values[values > 0]
        finite = int(np.isfinite(values).sum())
        numbers, zeros = numbers + finite, zeros + int((values == 0).sum())
        if not len(positive):
            continue
        smallest = min(smallest, float(positive.min()))
        steps = dict.fromkeys(_candidates(smallest), 0.0) if steps is None else steps
        steps = _surviving(steps, positive, eps)
    fitting = [step for step, chance in (steps or {}).items() if chance < math.log(CHANCE)]
    if fitting:
        step = max(fitting)
        name = _STEPS.get(step, f"{step:.4g}")
        return Resolution(name, step, step / 2, numbers, zeros, complement=eps / 2 < step)
    floor = of_dtype(dtype).floor if math.isinf(smallest) else _half(smallest)
    return Resolution(str(dtype), 0.0, floor, numbers, zeros)


def _blocks(arrays: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    for array in arrays:
        rows = max(1, BLOCK_NUMBERS // int(np.prod(array.shape[1:])))
        for start in range(0, len(array), rows):
            yield np.ascontiguousarray(array[start : start + rows]).ravel()


def _candidates(smallest: float) -> list[float]:
    """Known steps, and those of which the smallest positive value is a small multiple."""
    guessed = [smallest / times for times in (1, 2, 3)]
    known = list(_STEPS)
    new = [
        step
        for step in guessed
        if FINEST_MULTIPLE <= step <= 1 and not np.isclose(step, known, rtol=1e-5).any()
    ]
    return known + new


def _surviving(steps: dict[float, float], positive: np.ndarray, eps: float) -> dict[float, float]:
    """The steps of which all these values are multiples, each with its chance so far, as a logarithm."""
    found = {}
    sample = positive[:: max(1, len(positive) // SAMPLED_NUMBERS)].astype(np.float64)
    whole = None
    for step, chance in steps.items():
        if math.isinf(_log_chance(sample, step, eps)):
            continue
        whole = positive.astype(np.float64) if whole is None else whole
        added = _log_chance(whole, step, eps)
        if not math.isinf(added):
            found[step] = chance + added
    return found


def _log_chance(values: np.ndarray, step: float, eps: float) -> float:
    """Logarithm of the chance that values of no step would all be multiples of this one; inf if they are not."""
    multiples = values / step
    tolerance = np.maximum(multiples, 1.0) * eps
    informative = tolerance < INFORMATIVE
    multiples, tolerance = multiples[informative], tolerance[informative]
    if (np.abs(multiples - np.rint(multiples)) > tolerance).any():
        return math.inf
    # equal values are one observation: a file with one value in all places is no evidence
    distinct = np.unique(np.rint(multiples))
    return float(np.log(np.maximum(2 * np.maximum(distinct, 1.0) * eps, 1e-3)).sum())


def _half(value: float) -> float:
    """Half of a number, but above 0."""
    return max(value / 2, float(np.finfo(np.float64).smallest_subnormal))
