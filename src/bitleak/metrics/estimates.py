"""One figure of one target with what is needed to average it and to compare it.

A figure is kept with the interval that suits it and with its *influence* on each record, and all
averages and differences are made from these two, so that every metric is treated in the same way.

The influence of record r is psi_r = d figure / d (weight of record r): the infinitesimal jackknife
(Jaeckel 1972; Efron 1982, chapter 6). The sum of psi_r^2 is the variance that resampling the records
would give, in the limit of many resamples, and the sum of products of two targets' influences is their
covariance *when the same draw of records is used for both*. That matters here because the targets of a
population share their records.

Estimates as arrays and back, bit for bit, so that a baseline's are made once for all that is compared with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
        choice_variance: The part of its variance that is no sum over records.
        pairing: Factor on the interval's reach in differences, where the centre's error is smaller than
            the interval of one figure has to allow for.
        bounded_below: False where the rule's bias is large against the interval, so that a mean over targets
            is bounded by `limits` alone from below.
        reaches_limit: Whether the population's figure may well be the least of `limits` while the centre is normal
            around it; the interval is then made by `interval_near_limit`.
    """

    value: float
    centre: float
    low: float
    high: float
    influence: Float64[np.ndarray, "records"]
    interval: str
    limits: tuple[float, float] = (0.0, 1.0)
    choice_variance: float = 0.0
    pairing: float = 1.0
    bounded_below: bool = True
    reaches_limit: bool = False

    @property
    def reach(self) -> tuple[float, float]:
        """How far the interval reaches below and above the centre."""
        return self.centre - self.low, self.high - self.centre


Estimates = Mapping[str, tuple[Estimate, ...]]
"""By metric name, one estimate per target."""

NUMBERS = ("value", "centre", "low", "high", "choice_variance", "pairing")
FLAGS = ("bounded_below", "reaches_limit")


def pack_estimates(estimates: Mapping[str, Estimates]) -> dict[str, Any]:
    """Arrays of all numbers, and of all influences, with what names their axes.

    Args:
        estimates: By attack; at least one, all with the same metrics, targets and records.
    """
    listed = [[list(figures) for figures in one.values()] for one in estimates.values()]
    flat = [figure for one in listed for figures in one for figure in figures]
    shape = (len(listed), len(listed[0]), len(listed[0][0]))
    limits = [figure.limits for figure in flat]
    numbers = np.array([[getattr(figure, name) for name in (*NUMBERS, *FLAGS)] for figure in flat], np.float64)
    return {
        "numbers": np.concatenate([numbers, limits], axis=1).reshape(*shape, len(NUMBERS) + len(FLAGS) + 2),
        "influences": np.stack([figure.influence for figure in flat]).reshape(*shape, -1),
        "names": {
            "attacks": list(estimates),
            "metrics": list(next(iter(estimates.values()))),
            "intervals": [figures[0].interval for figures in listed[0]],
        },
    }


def unpack_estimates(stored: Mapping[str, Any], attack: str) -> Estimates:
    """The estimates of one attack, from what `pack_estimates` gave.

    Raises:
        KeyError: There are none of this attack.
    """
    names = stored["names"]
    if attack not in names["attacks"]:
        raise KeyError(f"no estimates of attack {attack!r}, only of {', '.join(names['attacks'])}")
    index = names["attacks"].index(attack)
    pairs = zip(
        names["metrics"], names["intervals"], stored["numbers"][index], stored["influences"][index], strict=True
    )
    return {metric: _figures(interval, numbers, influences) for metric, interval, numbers, influences in pairs}


def _figures(
    interval: str,
    numbers: Float64[np.ndarray, "targets numbers"],
    influences: Float64[np.ndarray, "targets records"],
) -> tuple[Estimate, ...]:
    return tuple(_figure(interval, row, influence) for row, influence in zip(numbers.tolist(), influences, strict=True))


def _figure(interval: str, numbers: Sequence[float], influence: Float64[np.ndarray, "records"]) -> Estimate:
    *own, least, most = numbers
    flags = dict(zip(FLAGS, map(bool, own[len(NUMBERS) :]), strict=True))
    return Estimate(
        **dict(zip(NUMBERS, own[: len(NUMBERS)], strict=True)),
        influence=np.asarray(influence),
        interval=interval,
        limits=(least, most),
        bounded_below=flags["bounded_below"],
        reaches_limit=flags["reaches_limit"],
    )
