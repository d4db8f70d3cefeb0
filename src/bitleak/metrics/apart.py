"""Averages over figures whose records have nothing in common."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bitleak.metrics.estimate import Estimate


def apart(estimates: Sequence[Estimate]) -> tuple[Estimate, ...]:
    """The same figures on records of their own, so that their errors are independent in every average.

    Example:
        >>> one = Estimate(0.6, 0.6, 0.5, 0.7, np.array([0.1, -0.1]), "delong")
        >>> [each.influence.tolist() for each in apart([one, one])]
        [[0.1, -0.1, 0.0, 0.0], [0.0, 0.0, 0.1, -0.1]]
    """
    lengths = [len(estimate.influence) for estimate in estimates]
    ends = np.cumsum(lengths)
    found = []
    for estimate, end, length in zip(estimates, ends, lengths, strict=True):
        influence = np.zeros(ends[-1])
        influence[end - length : end] = estimate.influence
        found.append(replace(estimate, influence=influence))
    return tuple(found)
