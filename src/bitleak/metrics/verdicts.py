"""Holm's correction of p-values, and verdicts that hold for a whole table at once.

With p-values sorted upwards, p_(1) <= ... <= p_(m), the adjusted ones are

    adjusted_(i) = min(1, max_{j <= i} (m - j + 1) p_(j))

(Holm 1979). Calling a difference if its adjusted p-value is below 0.05 makes any false call in
the family at most 5 % likely, under any dependence between the comparisons: variants of one
network on the same records are far from independent. It is uniformly more powerful than
Bonferroni's. Cost: one sort.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from bitleak.core.types import Measure, Row
from bitleak.core.variants import question_of

LOWER, UNDECIDED, HIGHER = "lower", "not distinguishable", "higher"
LEVEL = 0.05

Family = Callable[[Row], Hashable]
"""Rows with equal values are corrected together."""


def holm(p_values: Sequence[float] | Float64[np.ndarray, "tests"]) -> Float64[np.ndarray, "tests"]:
    """Return Holm's adjusted p-values, in the order given.

    Args:
        p_values: Each in [0, 1]; may be empty.

    Raises:
        ValueError: A p-value is out of range.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(4).tolist()
        [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, np.float64)
    possible = (values >= 0) & (values <= 1)
    if not possible.all():
        raise ValueError(f"p-values must lie in [0, 1], got {values[~possible][0]}")
    order = np.argsort(values, kind="stable")
    stepped = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def verdict(change: float, p_value: float) -> str:
    """Return `lower` or `higher` if the p-value is below 0.05, else `not distinguishable`.

    Example:
        >>> verdict(-0.1, 0.01), verdict(-0.1, 0.06)
        ('lower', 'not distinguishable')
    """
    if p_value >= LEVEL:
        return UNDECIDED
    return LOWER if change < 0 else HIGHER


def by_metric_and_target(row: Row) -> Hashable:
    """Return the family of a row: all variants, attacks and references of a metric on a target.

    The negative control is no claim about a variant, so it is left out of the others' family;
    several releases together, and noise in the place of quantization, are questions of their own,
    with a family each.
    """
    return row.metric, row.target, question_of(row.variant, row.attack)


def adjust_verdicts(rows: Iterable[Row], family: Family = by_metric_and_target) -> list[Row]:
    """Return the rows of a whole table with `p_adjusted`, and with verdicts by it.

    Args:
        rows: All rows that are reported together; those without a p-value stay as they are.
        family: Rows with an equal result are corrected together.

    Example:
        >>> rows = []
        >>> for variant, p in (("rtn-4", 0.001), ("rtn-2", 0.03), ("rtn-1", 0.04)):
        ...     measure = Measure(0.6, difference=-0.1, p_value=p)
        ...     rows.append(Row(variant, "rtn", 4, "threshold", "", "all", "auc", measure))
        >>> [(row.measure.p_adjusted, row.measure.verdict) for row in adjust_verdicts(rows)]
        [(0.003, 'lower'), (0.06, 'not distinguishable'), (0.06, 'not distinguishable')]
    """
    adjusted = list(rows)
    families: dict[Hashable, list[int]] = {}
    for index, row in enumerate(adjusted):
        if row.measure.p_value is not None:
            families.setdefault(family(row), []).append(index)
    for members in families.values():
        p_values = holm([adjusted[index].measure.p_value or 0.0 for index in members])
        for index, p_value in zip(members, p_values.tolist(), strict=True):
            measure = _with_verdict(adjusted[index].measure, p_value)
            adjusted[index] = replace(adjusted[index], measure=measure)
    return adjusted


def _with_verdict(measure: Measure, adjusted: float) -> Measure:
    change = 0.0 if measure.difference is None else measure.difference
    return replace(measure, p_adjusted=adjusted, verdict=verdict(change, adjusted))
