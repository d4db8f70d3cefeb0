"""Outcomes of `bitleak check` at every pair of limits that the sliders of the page can be set to.

The page's script has no statistics of its own: it looks an outcome up. There is a limit on the loss
of test accuracy and one on the leakage to the strongest adversary, and every pair of them is decided
by the functions of `release_gate`, with its corrections over limits and variants.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bitleak.core.metric_names import AUC, TEST_ACCURACY, Metric
from bitleak.core.release_limits import Limit
from bitleak.core.types import Measure
from bitleak.core.variants import BLIND, FULL, STRONGEST
from bitleak.report.headline import headline_key, judge_control
from bitleak.report.release_gate import (
    Decision,
    LimitCheck,
    adversary_measure,
    chosen_adversary,
    data_needed,
    decide,
    evaluate_limit,
)
from bitleak.report.results_table import Table
from bitleak.report.summary import Summary

_LOSSES = (0.0, 0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.07,
          0.1, 0.15, 0.2, 0.3, 0.5, 1.0)  # fmt: skip
"""Limits on the loss of test accuracy, as shares."""

FIRST_LOSS = 0.02
"""Loss that the page and the sentence of the terminal begin with."""

_SLIDER_FIGURES = ("tpr", "auc")
"""Figures of leakage that the page has words for."""

_MOST_STEPS = 40
"""Steps of the limit on leakage, at most."""


@dataclass(frozen=True)
class LimitGrid:
    """Outcomes of all variants at all pairs of limits.

    Attributes:
        variants: Names, in the order of the results table; full precision alone if nothing is
            quantized.
        metric: The figure of leakage that is bounded.
        attack: Attack of the adversary.
        reference: Kind of its references.
        losses: Limits on the loss of accuracy; empty if accuracies were not compared.
        leakages: Limits on the leakage.
        decisions: By loss, by leakage, by variant; a single entry for the loss if `losses` is empty.
        checks: Tests of the limits of a variant, by the same indices; the loss first.
        first: Indices of the limits that the page begins with.
        doubt: The reason why nothing is evaluable; empty if there is none.
    """

    variants: tuple[str, ...]
    metric: str
    attack: str
    reference: str
    losses: tuple[float, ...]
    leakages: tuple[float, ...]
    decisions: tuple[tuple[tuple[Decision, ...], ...], ...]
    checks: tuple[tuple[tuple[tuple[LimitCheck, ...], ...], ...], ...]
    first: tuple[int, int]
    doubt: str

    def needed(self, summary: Summary, loss: int, leakage: int, variant: int) -> str:
        """Return the data that would decide a variant at a pair of limits, as `check` does."""
        return data_needed(summary, self.checks[loss][leakage][variant])


def limit_grid(table: Table, summary: Summary) -> LimitGrid | None:
    """Decide every pair of limits; None if there is no leakage that a limit can bound."""
    attack, reference = _adversary(table, summary)
    if attack == BLIND:
        return None
    names = tuple(map(str, table.quantized)) or (FULL,)
    metric = _bounded_metric(table, summary, names, attack, reference)
    if not metric:
        return None
    accuracies = [table.find(name, TEST_ACCURACY) for name in names]
    compared = any(measure and measure.difference is not None for measure in accuracies)
    named = _named_limits(summary, metric)
    losses = _with_limit(_LOSSES, named.loss) if compared else ()
    leakages = _ladder(table, metric, names, attack, reference)
    leakages = _with_limit(leakages, named.leakage)
    control = judge_control(table, attack, reference, targets=summary.targets)
    doubt = control.sentence if control.status == "not at chance" else ""

    # Each limit is tested once per variant; pairs of limits only combine the tests.
    measures = [adversary_measure(table, name, metric, attack, reference) for name in names]
    by_leakage = _tests(metric, leakages, measures, summary, doubt)
    by_loss: list[list[LimitCheck]] | list[None] = [None]
    if losses:
        by_loss = _tests(str(TEST_ACCURACY), losses, accuracies, summary, doubt)
    decisions, checks = [], []
    for loss in by_loss:
        decided, tested = [], []
        for leakage in by_leakage:
            pairs = list(
                zip(leakage, strict=True) if loss is None else zip(loss, leakage, strict=True)
            )
            tested.append(tuple(pairs))
            decided.append(tuple(decide(pairs)))
        decisions.append(tuple(decided))
        checks.append(tuple(tested))
    first_loss = FIRST_LOSS if named.loss is None else named.loss
    if named.leakage is None:
        first_leakage = _first_leakage(table, leakages, metric, (attack, reference))
    else:
        first_leakage = leakages.index(named.leakage)
    first = (losses.index(first_loss) if losses else 0, first_leakage)
    return LimitGrid(names, metric, attack, reference, losses, leakages, tuple(decisions),
                     tuple(checks), first, doubt)  # fmt: skip


class _NamedLimits(NamedTuple):
    """Limits of the audit's config that a slider begins with; None if it names none."""

    loss: float | None
    leakage: float | None


def _named_limits(summary: Summary, metric: str) -> _NamedLimits:
    limits = summary.limits
    if limits is None:
        return _NamedLimits(None, None)
    return _NamedLimits(limits.max_accuracy_drop, limits.max.get(metric))


def _with_limit(limits: Sequence[float], named: float | None) -> tuple[float, ...]:
    """Return the limits with the named one in its place."""
    return tuple(limits) if named is None else tuple(sorted({*limits, named}))


def _adversary(table: Table, summary: Summary) -> tuple[str, str]:
    """Return the adversary that the config's limits name, or the headline's if they name none."""
    limits = summary.limits
    if limits is None or limits.adversary == STRONGEST:
        return headline_key(table, summary)
    return chosen_adversary(table, limits.adversary, summary)


def _tests(
    metric: str,
    limits: Sequence[float],
    measures: Sequence[Measure | None],
    summary: Summary,
    doubt: str,
) -> list[list[LimitCheck]]:
    """Test every variant's figure against every limit; by limit, then by variant."""
    tests = []
    for most in limits:
        limit = Limit(metric, most)
        of_limit = []
        for measure in measures:
            check = evaluate_limit(limit, measure, summary.targets, len(measures), doubt)
            of_limit.append(check)
        tests.append(of_limit)
    return tests


def _bounded_metric(
    table: Table, summary: Summary, names: Sequence[str], attack: str, reference: str
) -> str:
    """Return the first figure that a variant has; empty if none has any.

    First come the figures that the config limits, then the TPR of the headline, then the AUC.
    """
    named = () if summary.limits is None else summary.limits.max
    limited = [metric for metric in named if Metric.parse(metric).base in _SLIDER_FIGURES]
    for metric in (*limited, str(Metric("tpr", summary.headline_fpr)), str(AUC)):
        for name in names:
            measure = adversary_measure(table, name, metric, attack, reference)
            if measure is not None and measure.low is not None:
                return metric
    return ""


def _ladder(
    table: Table,
    metric: str,
    names: Sequence[str],
    attack: str,
    reference: str,
) -> tuple[float, ...]:
    """Return round limits from chance to beyond the upper end of every interval."""
    start = Metric.parse(metric).fpr or 0.5
    top = start
    for name in (FULL, *names):
        measure = adversary_measure(table, name, metric, attack, reference)
        if measure is not None:
            top = max(top, measure.value, measure.high or 0.0)
    span = 1.3 * (top - start) + 1e-9
    scale = 10.0 ** math.floor(math.log10(span / _MOST_STEPS))
    step = next(
        scale * factor for factor in (1, 2, 5, 10) if span / (scale * factor) <= _MOST_STEPS
    )
    count = math.ceil(span / step - 1e-9)
    places = [round(start + step * index, 10) for index in range(count + 1)]
    return tuple(place for place in places if place <= 1.0)


def _first_leakage(
    table: Table, leakages: Sequence[float], metric: str, key: tuple[str, str]
) -> int:
    """Return the largest limit that full precision's figure exceeds, or the next above it alone."""
    full = adversary_measure(table, FULL, metric, *key)
    if full is None:
        return len(leakages) // 2
    below = sum(most <= full.value for most in leakages[1:])
    return below if table.quantized else min(below + 1, len(leakages) - 1)
