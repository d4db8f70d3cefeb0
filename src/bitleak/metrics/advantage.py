"""Membership advantage: how much more often is a member called one than a non-member is?

    advantage = max over thresholds of TPR - FPR

Yeom et al. 2018 (arXiv 1709.01604, definition 4), for the best threshold of the attack's scores. Under shifted normals
N(0, 1) and N(shift, 1) it is 2 Phi(shift / 2) - 1. Being a maximum over the target's own records it is biased upwards,
at chance by sqrt(pi / 8 (1 / members + 1 / non_members)), the mean of the one-sided Kolmogorov-Smirnov statistic;
`balanced_accuracy` chooses the threshold on other records and is not.

Cost: one sort of the scores.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from bitleak.metrics.roc import roc


@dataclass(frozen=True)
class Advantage:
    """The largest difference between the true- and the false-positive rate.

    Example:
        >>> Advantage()(np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, True, False, True]))
        0.5
    """

    @property
    def name(self) -> str:
        """`advantage`."""
        return "advantage"

    def __call__(
        self, scores: Float64[np.ndarray, "records"], member: Bool[np.ndarray, "records"]
    ) -> float:
        """Return the advantage, from 0 to 1."""
        curve = roc(scores, member)
        return float((curve.tpr - curve.fpr).max())
