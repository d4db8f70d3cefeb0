"""Decide which variants may be released under limits on leakage and on lost accuracy.

A limit is an upper bound on a figure of the results table, or on its paired difference from full
precision. Two one-sided tests belong to it:

- *pass* rejects "the figure is at the limit or above",
- *fail* rejects "the figure is at the limit or below".

So a variant passes because the data show it, and not because they show too little. The p-value of a
test is the level at which the one-sided end of the figure's interval touches the limit. With the
centre c, the reach r of the 95 % interval towards the limit L, and the distribution function F of
the interval's kind,

    p = F(-|L - c| / r * F^-1(0.975)).

F is the normal distribution; for intervals about trainings, the larger p of it and of Student's t
with the targets less 1 as degrees of freedom, between which the row's own distribution lies.

An end that was cut at 0 or 1, the possible range of the figure, tells nothing beyond it: the test
in that direction has p = 1.

A variant passes if all of its limits pass. The largest of their p-values is that of this
intersection-union test (Berger 1982, Technometrics 24, 295-300), and needs no correction. It fails
if one of its limits fails, by Bonferroni's correction over its limits. Passes and fails of several
variants are corrected apart, each by Holm's method (`verdicts.holm`): in a whole check, a wrong
pass is at most 5 % likely, and so is a wrong fail.

Neither pass nor fail is `inconclusive`. The share of more data that would decide it with a
probability of 80 %, if the estimate were true, follows from the reach's growth with the square root
of their number:

    factor = ((z_(1 - 0.05 / variants) + z_0.8) r / (|L - c| z_0.975))^2.
"""

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from scipy.special import ndtr, ndtri, stdtr, stdtrit

from bitleak.core.errors import ConfigError, InputError
from bitleak.core.metric_names import BYTES, TEST_ACCURACY, Metric
from bitleak.core.release_limits import BOUNDED, Limit
from bitleak.core.types import Measure, Row
from bitleak.core.variants import BLIND, FULL, STRONGEST, question_of
from bitleak.metrics import holm
from bitleak.metrics.verdicts import LEVEL
from bitleak.report.headline import judge_control
from bitleak.report.results_table import Table, tabulate
from bitleak.report.summary import Summary

GateOutcome = Literal["pass", "fail", "inconclusive", "not evaluable"]

_POWER = 0.8

RECOGNIZED = "members and others are told apart without the model, so that no attack was run"
"""Reason why a run whose members differ from the others cannot be evaluated."""

MOST_FACTOR = 10_000.0
"""Factor on the data from which on an estimate counts as at the limit, which no data decide."""


@dataclass(frozen=True)
class LimitCheck:
    """A limit on one variant, with both tests.

    Attributes:
        limit: The limit.
        value: The figure that it bounds; None if there is none.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p_pass: p-value of the test that the figure is below the limit.
        p_fail: p-value of the test that it is above.
        factor: Times the data that decide it with 80 % power if the estimate is true; infinite if
            no data do.
        about: Subject of the interval, see `Measure.about`.
        reason: The reason why it cannot be evaluated; empty if it can.
    """

    limit: Limit
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p_pass: float = 1.0
    p_fail: float = 1.0
    factor: float = math.inf
    about: str = ""
    reason: str = ""


class Decision(NamedTuple):
    """The outcome for a variant, with the p-values after the correction over all variants.

    Attributes:
        outcome: See the module.
        p_pass: Corrected p-value of the pass.
        p_fail: Corrected p-value of the fail.
    """

    outcome: GateOutcome
    p_pass: float
    p_fail: float


@dataclass(frozen=True)
class VariantCheck:
    """The outcome for one variant.

    Attributes:
        variant: As in `Row.variant`.
        outcome: See the module.
        p_pass: Corrected p-value of the pass.
        p_fail: Corrected p-value of the fail.
        limits: One entry per limit, in the order given.
        bytes: Size of the variant; None if it is not known.
        needed: Data that would decide an inconclusive outcome, in words; empty for the others.
    """

    variant: str
    outcome: GateOutcome
    p_pass: float
    p_fail: float
    limits: tuple[LimitCheck, ...]
    bytes: int | None
    needed: str = ""


@dataclass(frozen=True)
class Requirement:
    """A requirement with the evidence of a check.

    Attributes:
        name: Number in the standard, such as `v1.0-C11.2.5`.
        text: The requirement in our words.
        status: `evaluated`, `not assessed`, `not met`, `within the limits`, `not shown` or `not
            evaluable`.
        evidence: The outcomes that the status rests on, in a sentence.
        not_covered: Parts of the requirement that a check does not cover.
    """

    name: str
    text: str
    status: str
    evidence: str
    not_covered: str


@dataclass(frozen=True)
class GateResult:
    """The outcomes of all checked variants.

    Attributes:
        title: Title of the audit.
        adversary: The attack, and the references after a slash, that leakage is measured by.
        limits: The limits, in the order given.
        variants: One entry per variant, in the order of the results table.
        notes: Sentences on the tests' basis, and reasons that hold for all variants.
        requirements: Requirements of a standard with the evidence; empty without a profile.
    """

    title: str
    adversary: str
    limits: tuple[Limit, ...]
    variants: tuple[VariantCheck, ...]
    notes: tuple[str, ...] = ()
    requirements: tuple[Requirement, ...] = ()

    @property
    def outcome(self) -> GateOutcome:
        """The outcome of the whole check: a fail counts before all, a pass only if all pass."""
        outcomes = {check.outcome for check in self.variants}
        order: tuple[GateOutcome, ...] = ("fail", "not evaluable", "inconclusive")
        return next((outcome for outcome in order if outcome in outcomes), "pass")


def check_limits(
    rows: Iterable[Row],
    summary: Summary,
    limits: Sequence[Limit],
    *,
    adversary: str = STRONGEST,
    variants: Sequence[str] = (),
) -> GateResult:
    """Test every variant against every limit.

    Args:
        rows: The results table.
        summary: The audit.
        limits: At least one.
        adversary: `strongest`, or an attack and the kind of its references: `rmia-online/matched`.
        variants: Names of the variants; all quantized ones if empty.

    Raises:
        ConfigError: There are no limits, or a limit is given twice.
        InputError: The table lacks a variant, the adversary, or a metric.
    """
    if not limits:
        raise ConfigError(
            "a check needs at least one limit, such as --max auc=0.6, or a section limits in the "
            "config of the audit"
        )
    bounds = [(limit.metric, limit.change) for limit in limits]
    for bound in bounds:
        if bounds.count(bound) > 1:
            raise ConfigError(f"the limit on {bound[0]} is given twice")
    table = tabulate(rows)
    names = _variants(table, variants)
    # One doubt about the measurement itself is a doubt about every variant.
    if summary.headline_attack == BLIND:
        attack, reference, doubt = adversary, "", RECOGNIZED
    else:
        attack, reference = chosen_adversary(table, adversary, summary)
        _require_metrics(table, attack, limits)
        control = judge_control(table, attack, reference, targets=summary.targets)
        doubt = control.sentence if control.status == "not at chance" else ""
    checks: list[tuple[LimitCheck, ...]] = []
    for name in names:
        measures = [
            adversary_measure(table, name, limit.metric, attack, reference) for limit in limits
        ]
        checks_of_variant = []
        for limit, measure in zip(limits, measures, strict=True):
            check = evaluate_limit(limit, measure, summary.targets, len(names), doubt)
            checks_of_variant.append(check)
        checks.append(tuple(checks_of_variant))

    results = []
    for name, single, decision in zip(names, checks, decide(checks), strict=True):
        results.append(_variant(table, summary, name, single, decision))
    label = f"{attack}/{reference}" if reference else attack
    notes = [_basis(summary)]
    if doubt:
        notes.append(doubt)
    return GateResult(summary.title, label, tuple(limits), tuple(results), tuple(notes))


def decide(checks: Sequence[tuple[LimitCheck, ...]]) -> list[Decision]:
    """Return the outcome of every variant from the tests of its limits.

    Args:
        checks: The limits of each variant, checked together.
    """
    # Passes and fails are two families, each corrected over the variants.
    passes: list[float] = []
    fails: list[float] = []
    for single in checks:
        passes.append(max(check.p_pass for check in single))
        fails.append(_any_fails([check.p_fail for check in single]))
    p_pass, p_fail = holm(passes).tolist(), holm(fails).tolist()
    decisions = []
    for single, passed, failed in zip(checks, p_pass, p_fail, strict=True):
        outcome: GateOutcome = "inconclusive"
        if failed < LEVEL:
            outcome = "fail"
        elif any(check.reason for check in single):
            outcome = "not evaluable"
        elif passed < LEVEL:
            outcome = "pass"
        decisions.append(Decision(outcome, passed, failed))
    return decisions


def chosen_adversary(table: Table, adversary: str, summary: Summary) -> tuple[str, str]:
    """Return the attack and the kind of its references.

    Args:
        table: The aggregated rows.
        adversary: `strongest`, or an attack and the kind of its references with a slash between.
        summary: The audit, whose headline is named in errors.

    Raises:
        InputError: The table has no such rows.
    """
    pairs: dict[str, tuple[str, str]] = {}
    for variant, attack, reference, _ in table.cells:
        if attack and question_of(variant, attack) == "plain":
            pairs[f"{attack}/{reference}" if reference else attack] = attack, reference
    for name, (attack, reference) in pairs.items():
        if adversary == name or adversary == attack == STRONGEST:
            return attack, reference
    usual = "/".join(filter(None, (summary.headline_attack, summary.headline_reference)))
    if adversary == STRONGEST:
        advice = f"this run has no row of the strongest adversary; name one, such as {usual}"
    else:
        near = difflib.get_close_matches(adversary, pairs, n=3, cutoff=0.5)
        advice = f"did you mean {' or '.join(near or [usual])}? results.csv has {len(pairs)}"
    raise InputError(f"--adversary: no adversary {adversary!r}; {advice}")


def adversary_measure(
    table: Table, variant: str, metric: str, attack: str, reference: str
) -> Measure | None:
    """Return a figure by an attack, or the test accuracy, in which no attack has a part."""
    if metric == str(TEST_ACCURACY):
        return table.find(variant, metric)
    return table.find(variant, metric, attack, reference)


def evaluate_limit(
    limit: Limit, measure: Measure | None, targets: int, variants: int = 1, doubt: str = ""
) -> LimitCheck:
    """Test one figure against one limit.

    Args:
        limit: The limit.
        measure: The row's measure; None if there is no such row.
        targets: Number of targets, which counts for intervals about trainings.
        variants: Number of variants that are checked together.
        doubt: A reason why no figure of this table can be relied on; empty if there is none.

    Example:
        >>> check = evaluate_limit(Limit("auc", 0.6), Measure(0.55, low=0.53, high=0.57), targets=1)
        >>> check.p_pass < 1e-5, check.p_fail > 0.99
        (True, True)
    """
    reason = doubt or _why_not(limit, measure)
    if reason or measure is None:
        return LimitCheck(limit, reason=reason)
    value, low, high, centre = _figure(limit, measure)
    difference = limit.change or limit.metric == str(TEST_ACCURACY)
    least = -1.0 if difference else 0.0

    # Distances in reaches of the 95 % interval; an end at the range's own end bounds nothing.
    freedom = targets - 1 if measure.about == "trainings" else None
    below = centre - low if low > least else math.inf
    above = high - centre if high < 1.0 else math.inf
    p_pass = _tail(_reaches(limit.most - centre, above), freedom)
    p_fail = _tail(_reaches(centre - limit.most, below), freedom)

    towards = above if limit.most > centre else below
    distance = abs(_reaches(limit.most - centre, towards)) * float(ndtri(0.975))
    wanted = float(ndtri(1 - LEVEL / variants) + ndtri(_POWER))
    factor = (wanted / distance) ** 2 if distance > 0 else math.inf
    return LimitCheck(
        limit, value, low, high, p_pass, p_fail, factor=factor, about=measure.about or "records"
    )


def _variants(table: Table, names: Sequence[str]) -> list[str]:
    present = [str(variant) for variant in table.quantized]
    if not names:
        if not present:
            raise InputError("the run has no quantized variant; name one, such as --variant fp32")
        return present
    known = [FULL, *present]
    for name in names:
        if name not in known:
            raise InputError(f"--variant: no variant {name!r}; the run has {', '.join(known)}")
    return list(dict.fromkeys(names))


def _require_metrics(table: Table, attack: str, limits: Sequence[Limit]) -> None:
    """Refuse a metric that no variant has: a typing mistake, or an FPR that was not audited."""
    for limit in limits:
        of = "" if limit.metric == str(TEST_ACCURACY) else attack
        present = {metric for _, name, _, metric in table.cells if name == of}
        if limit.metric not in present:
            bounded = [name for name in present if Metric.parse(name).base in BOUNDED]
            raise InputError(
                f"limit on {limit.metric!r}: the run has no such figure; "
                f"it has {', '.join(sorted(bounded)) or 'none that can be bounded'}"
            )


def _why_not(limit: Limit, measure: Measure | None) -> str:
    """Return the reason why a figure cannot be tested; empty if it can."""
    if measure is None:
        return f"{limit.metric} was not measured: too few records, or the adversary was not run"
    if measure.step_value is not None:
        return f"{limit.metric} has no interval: tied scores leave it open"
    ends = (measure.low, measure.high)
    if limit.change or limit.metric == str(TEST_ACCURACY):
        ends = (measure.difference_low, measure.difference_high)
        if measure.difference is None:
            return f"{limit.metric} was not compared with full precision"
    return "" if None not in ends else f"{limit.metric} has no interval"


def _figure(limit: Limit, measure: Measure) -> tuple[float, float, float, float]:
    """Return value, ends and centre of the bounded figure."""
    if limit.metric == str(TEST_ACCURACY):
        drop = -(measure.difference or 0.0)
        return drop, -(measure.difference_high or 0.0), -(measure.difference_low or 0.0), drop
    if limit.change:
        change = measure.difference or 0.0
        return change, measure.difference_low or 0.0, measure.difference_high or 0.0, change
    centre = measure.value if measure.unbiased is None else measure.unbiased
    low, high = measure.low or 0.0, measure.high or 0.0
    return measure.value, low, high, min(max(centre, low), high)


def _reaches(distance: float, reach: float) -> float:
    """Return a distance in units of the reach; 0 for an infinite reach."""
    if math.isinf(reach) or distance == 0:
        return 0.0
    return distance / reach if reach > 0 else math.copysign(math.inf, distance)


def _tail(reaches: float, freedom: int | None) -> float:
    """Return the p-value of a distance in reaches of the 95 % interval; 1 for none."""
    if reaches <= 0:
        return 1.0
    normal = float(ndtr(-reaches * ndtri(0.975)))
    if freedom is None:
        return normal
    # The degrees of freedom of the row are at least these. The larger p-value holds for all.
    return max(normal, float(stdtr(freedom, -reaches * stdtrit(freedom, 0.975))))


def _any_fails(p_values: Sequence[float]) -> float:
    return min(1.0, len(p_values) * min(p_values))


def _variant(
    table: Table,
    summary: Summary,
    name: str,
    limits: tuple[LimitCheck, ...],
    decision: Decision,
) -> VariantCheck:
    size = table.find(name, BYTES)
    needed = data_needed(summary, limits) if decision.outcome == "inconclusive" else ""
    stored = None if size is None else int(size.value)
    return VariantCheck(name, *decision, limits, stored, needed)


def data_needed(summary: Summary, limits: Sequence[LimitCheck]) -> str:
    """Return how many records or targets would decide the limits that are open, in two digits."""
    worst = max(limits, key=lambda check: check.factor)
    if worst.factor > MOST_FACTOR:
        return f"none: the estimate lies at the limit ({worst.limit})"
    noun, number = "records", summary.records
    if worst.about == "trainings":
        noun, number = "targets", summary.targets
    if worst.limit.metric == str(TEST_ACCURACY):
        noun, number = "test records", summary.test_records
    wanted = math.ceil(number * max(worst.factor, 1.0))
    step = 10 ** max(0, len(str(wanted)) - 2)
    return f"about {math.ceil(wanted / step) * step:,} {noun} ({worst.limit})"


def _basis(summary: Summary) -> str:
    about = "these models on other records"
    if summary.mode == "dedicated":
        about = "what each row's interval is about (column `about`)"
    return (
        "p-values come from the ends of the 95 % intervals in results.csv, "
        f"scaled to other levels; they hold for {about}"
    )
