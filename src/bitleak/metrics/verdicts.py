"""Holm's correction of p-values, and verdicts that hold for a whole table at once.

With p-values sorted upwards, p_(1) <= ... <= p_(m), the adjusted ones are

    adjusted_(i) = min(1, max_{j <= i} (m - j + 1) p_(j))

(Holm 1979). Calling a difference where its adjusted p-value is below 0.05 makes any false call in the family at most
5 % likely, whatever the dependence between the comparisons: variants of one network on the same records are far
from independent. It is uniformly more powerful than Bonferroni's. Cost: one sort.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from bitleak.core.types import Measure, Row
from bitleak.core.variants import question_of

LOWER, SAME, HIGHER = "lower", "not distinguishable", "higher"
LEVEL = 0.05

Family = Callable[[Row], Hashable]
"""Rows with equal values are corrected together."""


def holm(p_values: Sequence[float] | Float64[np.ndarray, "tests"]) -> Float64[np.ndarray, "tests"]:
    """Holm's adjusted p-values, in the order given.

    Args:
        p_values: Each in [0, 1]; may be empty.

    Raises:
        ValueError: A p-value is out of range.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(4).tolist()
        [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values must lie in [0, 1], got {values[~((values >= 0) & (values <= 1))][0]}")
    order = np.argsort(values, kind="stable")
    stepped = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def verdict(change: float, p_value: float) -> str:
    """`lower` or `higher` where the p-value (adjusted or not) is below 0.05, else `not distinguishable`.

    Example:
        >>> verdict(-0.1, 0.01), verdict(-0.1, 0.06)
        ('lower', 'not distinguishable')
    """
    if p_value >= LEVEL:
        return SAME
    return LOWER if change < 0 else HIGHER


def by_metric_and_target(row: Row) -> Hashable:
    """The family of a results table: all variants, attacks and references of one metric on one target.

    The negative control is no claim about a variant, so it is left out of the others' family; several releases
    together, and noise in the place of quantization, are questions of their own, with a family each.
    """
    return row.metric, row.target, question_of(row.variant, row.attack)


def adjust_verdicts(rows: Iterable[Row], family: Family = by_metric_and_target) -> list[Row]:
    """The rows of a whole table with `p_adjusted`, and with verdicts by it.

    Args:
        rows: All rows that are reported together; those without a p-value stay as they are.
        family: Which rows are corrected together.

    Example:
        >>> def compared(variant, p):
        ...     moved = Measure(0.6, difference=-0.1, difference_low=-0.2, difference_high=-0.01, p_value=p)
        ...     return Row(variant, "rtn", 4, "threshold", "", "all", "auc", moved)
        >>> rows = adjust_verdicts([compared("rtn-4", 0.001), compared("rtn-2", 0.03), compared("rtn-1", 0.04)])
        >>> [(row.measure.p_adjusted, row.measure.verdict) for row in rows]
        [(0.003, 'lower'), (0.06, 'not distinguishable'), (0.06, 'not distinguishable')]
    """
    listed = list(rows)
    families: dict[Hashable, list[int]] = {}
    for index, row in enumerate(listed):
        if row.measure.p_value is not None:
            families.setdefault(family(row), []).append(index)
    for members in families.values():
        adjusted = holm([listed[index].measure.p_value or 0.0 for index in members])
        for index, p_value in zip(members, adjusted.tolist(), strict=True):
            listed[index] = replace(listed[index], measure=_judged(listed[index].measure, p_value))
    return listed


def _judged(measure: Measure, adjusted: float) -> Measure:
    change = 0.0 if measure.difference is None else measure.difference
    return replace(measure, p_adjusted=adjusted, verdict=verdict(change, adjusted))
