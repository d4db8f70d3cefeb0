"""Holm's correction of p-values, and verdicts that hold for a whole table at once.

With p-values sorted upwards, p_(1) <= ... <= p_(m), the adjusted ones are

    adjusted_(i) = min(1, max_{j <= i} (m - j + 1) p_(j))

(Holm 1979). Calling a difference if its adjusted p-value is below 0.05 makes any false call in
the family at most 5 % likely, under any dependence between the comparisons: variants of one
network on the same records are far from independent. It is uniformly more powerful than
Bonferroni's. Cost: one sort.

A family with a *headline*, few comparisons that are planned before the data are seen, is corrected
in two parts, so that hundreds of other comparisons do not hide it. Each part is corrected by Holm's
method at its share of the 5 %: 4/5 for the headline, 1/5 for the rest. A part whose null hypotheses
are all rejected passes its share on, and the other part is then tested at 5 %. This is the graphical
procedure of Bretz, Maurer, Brannath and Posch (2009, Statistics in Medicine 28, section 2) on two
nodes, each a Holm procedure. With h and r the values adjusted by Holm's method within each part,

    headline: min(h / 0.8, max(h, max r / 0.2)),    rest: min(r / 0.2, max(r, max h / 0.8)).

The family-wise error is controlled strongly, under any dependence, whichever differences are real:
if both parts hold true null hypotheses, a first false call needs one within a part's own share, and
the shares add up to 5 %; if one part holds none, the other is never tested above 5 %. Deviation
from plain gatekeeping, which gives the headline the whole 5 %: there nothing else would be tested
unless every single variant of the headline differs.

The guarantee is that of a headline which does not depend on the differences that it tests.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from bitleak.core.types import Measure, Row
from bitleak.core.variants import question_of

LOWER, UNDECIDED, HIGHER = "lower", "not distinguishable", "higher"
LEVEL = 0.05

HEADLINE = "headline"
"""Name of the family of planned comparisons."""

HEADLINE_SHARE = 0.8
"""Share of the level at which the headline is tested."""

Family = Callable[[Row], str]
"""Name of a row's family: rows with equal names are corrected together."""


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


def holm_with_headline(
    headline: Sequence[float] | Float64[np.ndarray, "planned"],
    rest: Sequence[float] | Float64[np.ndarray, "others"],
) -> tuple[Float64[np.ndarray, "planned"], Float64[np.ndarray, "others"]]:
    """Return the adjusted p-values of planned comparisons and of the others of their family.

    Args:
        headline: p-values of the planned comparisons; without any, the rest has Holm's.
        rest: p-values of the others; may be empty.

    Example:
        >>> headline, rest = holm_with_headline([0.001, 0.02], [0.004] * 50)
        >>> headline.round(4).tolist(), float(rest[0])
        ([0.0025, 0.025], 0.2)
    """
    first, others = holm(headline), holm(rest)
    first_alone, others_alone = first / HEADLINE_SHARE, others / (1 - HEADLINE_SHARE)
    first_after = np.maximum(first, others_alone.max(initial=0.0))
    others_after = np.maximum(others, first_alone.max(initial=0.0))
    adjusted = np.minimum(first_alone, first_after), np.minimum(others_alone, others_after)
    return np.minimum(adjusted[0], 1.0), np.minimum(adjusted[1], 1.0)


def by_metric_and_target(row: Row) -> str:
    """Return the family of a row: all variants, attacks and references of a metric on a target.

    The negative control is no claim about a variant, so it is left out of the others' family;
    several releases together, and noise in the place of quantization, are questions of their own,
    with a family each.
    """
    question = question_of(row.variant, row.attack)
    return f"{'' if question == 'plain' else f'{question}/'}{row.metric}/{row.target}"


def adjust_verdicts(
    rows: Iterable[Row],
    family: Family = by_metric_and_target,
    *,
    planned: Callable[[Row], bool] | None = None,
) -> list[Row]:
    """Return the rows of a whole table with `family` and `p_adjusted`, and with verdicts by it.

    Args:
        rows: All rows that are reported together; those without a p-value stay as they are.
        family: Names the rows that are corrected together.
        planned: Whether a row is one of the headline's comparisons, which are named `HEADLINE`;
            all of one family.

    Example:
        >>> rows = []
        >>> for variant, p in (("rtn-4", 0.001), ("rtn-2", 0.03), ("rtn-1", 0.04)):
        ...     measure = Measure(0.6, difference=-0.1, p_value=p)
        ...     rows.append(Row(variant, "rtn", 4, "threshold", "", "all", "auc", measure))
        >>> [(row.measure.p_adjusted, row.measure.verdict) for row in adjust_verdicts(rows)]
        [(0.003, 'lower'), (0.06, 'not distinguishable'), (0.06, 'not distinguishable')]
    """
    adjusted = list(rows)
    families: dict[str, tuple[list[int], list[int]]] = {}
    for index, row in enumerate(adjusted):
        if row.measure.p_value is not None:
            headline, rest = families.setdefault(family(row), ([], []))
            (headline if planned is not None and planned(row) else rest).append(index)
    for name, parts in families.items():
        headline, rest = parts
        corrected = holm_with_headline(_p_values(adjusted, headline), _p_values(adjusted, rest))
        for part, values, label in zip(parts, corrected, (HEADLINE, name), strict=True):
            for index, p_value in zip(part, values.tolist(), strict=True):
                measure = _with_verdict(adjusted[index].measure, p_value, label)
                adjusted[index] = replace(adjusted[index], measure=measure)
    return adjusted


def _p_values(rows: Sequence[Row], places: Sequence[int]) -> list[float]:
    return [rows[place].measure.p_value or 0.0 for place in places]


def _with_verdict(measure: Measure, adjusted: float, family: str) -> Measure:
    change = 0.0 if measure.difference is None else measure.difference
    decided = verdict(change, adjusted)
    return replace(measure, p_adjusted=adjusted, verdict=decided, family=family)
