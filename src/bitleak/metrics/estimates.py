"""One figure of one target, with the parts that averages and comparisons are made from.

A figure is kept with the interval that suits it and with its *influence* on each record, and all
averages and differences are made from these two, so that every metric is treated in the same way.

The influence of record r is psi_r = d figure / d (weight of record r): the infinitesimal jackknife
(Jaeckel 1972; Efron 1982, chapter 6). The sum of psi_r^2 is the variance that resampling the
records would give, in the limit of many resamples, and the sum of products of two targets'
influences is their covariance *when the same draw of records is used for both*. That matters here
because the targets of a population share their records.

Estimates can be packed into arrays and unpacked bit for bit, so that a baseline's are made once for
all variants that are compared with it.
"""

import math
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
        low: Lower end of the 95 % interval, not yet cut to `limits`; minus infinity if the data
            say nothing from below.
        high: Upper end.
        influence: Derivative of the figure with respect to each record's weight; sums to 0. After the
            audited records may come others that the figure depends on (`map_error`), which count 0
            for figures that lack them.
        interval: How the interval was made.
        limits: Least and largest value that the population's figure can take.
        choice_variance: The part of its variance that is no sum over records.
        pairing: Factor on the interval's reach in differences, below 1 if the centre's error is
            smaller than the interval of a single figure has to allow for.
        bounded_below: False if the rule's bias is large against the interval, so that only `limits`
            bound a mean over targets from below.
        reaches_limit: Whether the population's figure may well be the least of `limits` while the
            centre is normal around it; the interval is then made by `interval_near_limit`.
        fpr: FPR of the ROC point that a TPR is taken at; NaN for other figures.
        step_fpr: FPR at the other end of a step that tied scores make of the ROC there; NaN if
            there is no step. With a step, the interval says nothing and nothing is compared.
        step_value: TPR at the other end.
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
    fpr: float = math.nan
    step_fpr: float = math.nan
    step_value: float = math.nan

    @property
    def is_step(self) -> bool:
        """Whether tied scores make a step of the ROC at the FPR asked for."""
        return not math.isnan(self.step_value)

    @property
    def reach(self) -> tuple[float, float]:
        """Lengths of the interval below and above the centre."""
        return self.centre - self.low, self.high - self.centre


Estimates = Mapping[str, tuple[Estimate, ...]]
"""By metric name, one estimate per target."""


def stacked_influences(
    influences: Sequence[Float64[np.ndarray, "_"]],
) -> Float64[np.ndarray, "figures most"]:
    """Return the influences of several figures; records that one lacks have none on it.

    Example:
        >>> stacked_influences([np.array([1.0, -1.0]), np.array([2.0, -2.0, 0.5])]).tolist()
        [[1.0, -1.0, 0.0], [2.0, -2.0, 0.5]]
    """
    stacked = np.zeros((len(influences), max(map(len, influences), default=0)))
    for row, influence in zip(stacked, influences, strict=True):
        row[: len(influence)] = influence
    return stacked


ESTIMATE_NUMBERS = (
    "value",
    "centre",
    "low",
    "high",
    "choice_variance",
    "pairing",
    "fpr",
    "step_fpr",
    "step_value",
)
ESTIMATE_FLAGS = ("bounded_below", "reaches_limit")


def pack_estimates(estimates: Mapping[str, Estimates]) -> dict[str, Any]:
    """Return arrays of all numbers and of all influences, and the names on their axes.

    Args:
        estimates: By attack; at least one, all with the same metrics, targets and records.
    """
    numbers, influences = [], []
    for by_metric in estimates.values():
        for figures in by_metric.values():
            for figure in figures:
                fields = [getattr(figure, name) for name in (*ESTIMATE_NUMBERS, *ESTIMATE_FLAGS)]
                numbers.append([*fields, *figure.limits])
                influences.append(figure.influence)
    first = next(iter(estimates.values()))
    shape = (len(estimates), len(first), len(next(iter(first.values()))))
    return {
        "numbers": np.array(numbers, np.float64).reshape(*shape, -1),
        "influences": np.stack(influences).reshape(*shape, -1),
        "names": {
            "attacks": list(estimates),
            "metrics": list(first),
            "intervals": [figures[0].interval for figures in first.values()],
        },
    }


def unpack_estimates(stored: Mapping[str, Any], attack: str) -> Estimates:
    """Return the estimates of one attack from the arrays of `pack_estimates`.

    Raises:
        KeyError: There are none of this attack.
    """
    names = stored["names"]
    if attack not in names["attacks"]:
        raise KeyError(f"no estimates of attack {attack!r}, only of {', '.join(names['attacks'])}")
    index = names["attacks"].index(attack)
    numbers, influences = stored["numbers"][index], stored["influences"][index]
    estimates: dict[str, tuple[Estimate, ...]] = {}
    for place, metric in enumerate(names["metrics"]):
        figures = []
        for row, influence in zip(numbers[place].tolist(), influences[place], strict=True):
            figures.append(_figure(names["intervals"][place], row, influence))
        estimates[metric] = tuple(figures)
    return estimates


def _figure(
    interval: str,
    row: Sequence[float],
    influence: Float64[np.ndarray, "records"],
) -> Estimate:
    *fields, smallest, largest = row
    bounded_below, reaches_limit = map(bool, fields[len(ESTIMATE_NUMBERS) :])
    return Estimate(
        **dict(zip(ESTIMATE_NUMBERS, fields[: len(ESTIMATE_NUMBERS)], strict=True)),
        influence=np.asarray(influence),
        interval=interval,
        limits=(smallest, largest),
        bounded_below=bounded_below,
        reaches_limit=reaches_limit,
    )
