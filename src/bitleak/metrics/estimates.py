"""One figure of one target with what is needed to average it and to compare it.

A figure is kept with the interval that suits it and with its *influence* on each record, and all
averages and differences are made from these two, so that every metric is treated in the same way.

The influence of record r is psi_r = d figure / d (weight of record r): the infinitesimal jackknife
(Jaeckel 1972; Efron 1982, chapter 6). The sum of psi_r^2 is the variance that resampling the records
would give, in the limit of many resamples, and the sum of products of two targets' influences is their
covariance *when the same draw of records is used for both*. That matters here because the targets of a
population share their records.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

Z = 1.959963984540054
"""The normal's 97.5 % quantile: all intervals are 95 % intervals."""


@dataclass(frozen=True)
class Estimate:
    """A figure of one target.

    Attributes:
        value: The figure as its rule defines it.
        centre: Estimate of the population's figure that is free of the rule's own bias, which
            matters when targets are averaged; often the same as `value`.
        low: Lower end of the 95 % interval, not yet cut to `limits`; minus infinity where the data say
            nothing from below.
        high: Upper end.
        influence: Derivative of the figure with respect to each record's weight; sums to 0.
        interval: How the interval was made.
        limits: Least and largest value that the population's figure can take.
        own_variance: The part of its variance that is no sum over records.
        pairing: Factor on the interval's reach in differences, where the centre's error is smaller than
            the interval of one figure has to allow for.
        bounded_below: False where the rule's bias is large against the interval, so that a mean over targets
            is bounded by `limits` alone from below.
        reaches_limit: Whether the population's figure may well be the least of `limits` while the centre is normal
            around it; the interval is then made by `near_limit`.
    """

    value: float
    centre: float
    low: float
    high: float
    influence: Float64[np.ndarray, "records"]
    interval: str
    limits: tuple[float, float] = (0.0, 1.0)
    own_variance: float = 0.0
    pairing: float = 1.0
    bounded_below: bool = True
    reaches_limit: bool = False

    @property
    def reach(self) -> tuple[float, float]:
        """How far the interval reaches below and above the centre."""
        return self.centre - self.low, self.high - self.centre
