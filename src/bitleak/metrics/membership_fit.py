"""How well lists of members fit a network's answers, before any attack: rank sums.

A network is surer of the records that it was trained on. With the ranks of its confidence, the AUC of
a list has, if the list means nothing, the mean 1/2 and the variance (n + 1) / (12 m (n - m)) for m
members among n records (Mann and Whitney 1947); `membership_fit` returns both AUC and deviations.
Cost: a sort per network.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64
from scipy.stats import rankdata

CERTAIN = 4.0
"""Deviations from which a list fits, or fits backwards."""

BETTER = 6.0
"""Deviations by which another list must fit better, over the root of two by `CERTAIN`."""


class MembershipFit(NamedTuple):
    """Fit of every list to every network.

    Attributes:
        auc: Chance that the network is surer of a listed record than of another one.
        deviations: Its distance from 1/2, in deviations of a list that means nothing.
    """

    auc: Float64[np.ndarray, "models lists"]
    deviations: Float64[np.ndarray, "models lists"]


def membership_fit(
    confidence: Float64[np.ndarray, "models records"], listed: Bool[np.ndarray, "lists records"]
) -> MembershipFit:
    """Return how well each list of members fits the answers of each network.

    Args:
        confidence: Confidence in the true class; larger is surer.
        listed: True for members; a list without members, or without others, fits nothing.

    Example:
        >>> fit = membership_fit(np.array([[0.1, 0.2, 0.8, 0.9]]), np.array([[False, False, True, True]]))
        >>> fit.auc.tolist()
        [[1.0]]
    """
    ranks = rankdata(confidence, axis=1)
    records, members = confidence.shape[1], listed.sum(axis=1)
    pairs = np.maximum(members * (records - members), 1)
    area = (ranks @ listed.T - members * (members + 1) / 2) / pairs
    area = np.where(members * (records - members) > 0, area, 0.5)
    return MembershipFit(area, (area - 0.5) / np.sqrt((records + 1) / (12 * pairs)))
