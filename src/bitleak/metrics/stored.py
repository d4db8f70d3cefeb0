"""Estimates as arrays and back, bit for bit, so that a baseline's are made once for all that is compared with it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from bitleak.metrics.estimate import Estimate
from bitleak.metrics.measures import Estimates

NUMBERS = ("value", "centre", "low", "high", "own_variance", "pairing")
FLAGS = ("bounded_below", "reaches_limit")


def packed(estimates: Mapping[str, Estimates]) -> dict[str, Any]:
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


def unpacked(stored: Mapping[str, Any], attack: str) -> Estimates:
    """The estimates of one attack, from what `packed` gave.

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
