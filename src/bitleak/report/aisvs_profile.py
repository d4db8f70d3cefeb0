"""Outcomes of a check as evidence for requirements of OWASP's AISVS 1.0.

The Artificial Intelligence Security Verification Standard, version 1.0 (2026), has three requirements
to which a check contributes evidence, and each requires more than a check can show:

- *v1.0-C3.2.2* (level 2): a model that was quantized after training is evaluated again, as the
  compressed artifact, by the tests for safety and alignment that the original went through, before
  it is deployed, and the results are kept as records of that artifact. A check contributes one such
  test, membership inference, of every quantized variant and of full precision by the same attacks.
- *v1.0-C11.2.3* (level 2): outputs are calibrated so that predictions are less overconfident. Nothing
  here measures calibration; the outcomes hold for the outputs as they were audited.
- *v1.0-C11.2.5* (level 3): simulated membership-inference attacks are not meaningfully more accurate
  than random guesses; how much is meaningful is left open. No finite audit shows equality. A
  one-sided test at 5 %, by Holm's method over the variants, shows an AUC above 0.5; without that, a
  limit that a variant passes is the excess that is excluded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from bitleak.core.metric_names import AUC
from bitleak.core.release_limits import Limit
from bitleak.core.types import Measure
from bitleak.metrics import holm
from bitleak.metrics.verdicts import LEVEL
from bitleak.report.release_gate import (
    GateResult,
    LimitCheck,
    Requirement,
    VariantCheck,
    evaluate_limit,
)
from bitleak.report.results_table import Table
from bitleak.report.summary import Summary

_CHANCE = 0.5
"""AUC of a random guess."""

_RETESTED = (
    "every quantized variant is evaluated again by the tests that full precision went through, "
    "before deployment"
)
_CALIBRATED = "outputs are calibrated, so that predictions are less overconfident"
_GUESSING = (
    "simulated membership-inference attacks are not meaningfully more accurate than random guesses"
)

_NOT_RETESTED = (
    "other tests for safety and alignment, that the deployed artifact is the one that was audited, "
    "the time of the evaluation, and that its records are kept with the artifact"
)
_NOT_CALIBRATED = (
    "calibration itself, which is not measured: the outcomes hold for the outputs as audited, and "
    "`bitleak compare` shows a change of leakage by calibration"
)
_NOT_GUESSED = (
    "attacks that were not run, other data and models, how much above 50 % is meaningful, and an "
    "accuracy of exactly 50 %, which no finite number of records shows"
)


def with_aisvs(result: GateResult, table: Table, summary: Summary) -> GateResult:
    """Return the result with the requirements and the evidence of the check.

    Args:
        result: A check of limits.
        table: The aggregated rows that were checked.
        summary: The audit.
    """
    attack, _, reference = result.adversary.partition("/")
    areas = {}
    for check in result.variants:
        areas[check.variant] = table.find(check.variant, AUC, attack, reference)
    guessing = _guessing(result.variants, areas, summary.targets)
    requirements = (_retested(result.variants), _calibrated(), guessing)
    return replace(result, requirements=requirements)


PROFILES: Mapping[str, Callable[[GateResult, Table, Summary], GateResult]] = {"aisvs": with_aisvs}
"""Mappings to a standard by the name that `bitleak check --profile` takes."""


def _retested(variants: Sequence[VariantCheck]) -> Requirement:
    missing = [check.variant for check in variants if check.outcome == "not evaluable"]
    evidence = (
        f"evaluated for membership inference: {_names(variants, ('pass', 'fail', 'inconclusive'))}"
    )
    if missing:
        evidence += f"; not evaluable: {', '.join(missing)}"
    status = "not evaluable" if missing else "evaluated"
    return Requirement("v1.0-C3.2.2", _RETESTED, status, evidence, _NOT_RETESTED)


def _calibrated() -> Requirement:
    evidence = "no outcome of a check is evidence for it"
    return Requirement("v1.0-C11.2.3", _CALIBRATED, "not assessed", evidence, _NOT_CALIBRATED)


def _guessing(
    variants: Sequence[VariantCheck], areas: Mapping[str, Measure | None], targets: int
) -> Requirement:
    chance = Limit(str(AUC), _CHANCE)
    checks = [evaluate_limit(chance, areas.get(check.variant), targets) for check in variants]
    p_values = holm([check.p_fail for check in checks]).tolist()
    above = []
    for check, tested, p_value in zip(variants, checks, p_values, strict=True):
        if not tested.reason and p_value < LEVEL:
            above.append(
                f"{check.variant} ({tested.value:.3f} [{tested.low:.3f}, {tested.high:.3f}])"
            )

    # An AUC that is shown to be above chance counts before all, and so does a limit that is exceeded.
    outcomes = {check.outcome for check in variants}
    status, evidence = "within the limits", "no AUC is shown to be above 0.5, and every limit holds"
    if above or "fail" in outcomes:
        status = "not met"
        evidence = f"AUC above 0.5: {', '.join(above)}" if above else "a limit is exceeded"
    elif "not evaluable" in outcomes or any(tested.reason for tested in checks):
        status, evidence = "not evaluable", f"without figures: {_lacking(variants, checks)}"
    elif "inconclusive" in outcomes:
        status = "not shown"
        evidence = f"not decided at the limits: {_names(variants, ('inconclusive',))}"
    return Requirement("v1.0-C11.2.5", _GUESSING, status, evidence, _NOT_GUESSED)


def _names(variants: Sequence[VariantCheck], outcomes: Sequence[str]) -> str:
    return ", ".join(check.variant for check in variants if check.outcome in outcomes) or "none"


def _lacking(variants: Sequence[VariantCheck], checks: Sequence[LimitCheck]) -> str:
    names = []
    for check, tested in zip(variants, checks, strict=True):
        if check.outcome == "not evaluable" or tested.reason:
            names.append(check.variant)
    return ", ".join(names)
