"""The section `limits` of a config: conditions for a release, which `bitleak check` tests."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bitleak.attacks import RECALIBRATED_SIGNALS, Attack, expand
from bitleak.config.fields import plain_values, section
from bitleak.core.checks import unknown_name
from bitleak.core.errors import ConfigError
from bitleak.core.metric_names import AUC, AUC_WITHIN_CLASS, TEST_ACCURACY, Metric
from bitleak.core.release_limits import Limit, ReleaseLimits
from bitleak.core.variants import OTHER, STRONGEST

_STRONGEST_FIGURES = ("auc", "tpr")
"""Figures of the strongest adversary; the others are measured attack by attack."""


def read_limits(raw: Any, errors: list[str]) -> ReleaseLimits | None:
    """Return the section; None if it is missing or wrong, with the mistakes added to `errors`."""
    if raw is None:
        return None
    for key in ("max", "margin"):
        entries = raw.get(key) if isinstance(raw, dict) else None
        for name, number in entries.items() if isinstance(entries, dict) else ():
            if isinstance(number, bool):  # which pydantic takes for a number
                errors.append(f"limits.{key}: expected a number for {name}, got {number}")
                return None
    try:
        limits: ReleaseLimits | None = section(ReleaseLimits, raw, "limits", errors)
    except ConfigError as error:
        errors.append(f"limits: {error}")
        return None
    return limits


def resolved_limits(limits: ReleaseLimits) -> dict[str, Any]:
    """Return the section in the form that `read_limits` reads, without empty keys."""
    values = plain_values(asdict(limits))
    return {key: value for key, value in values.items() if value not in (None, {})}


def check_limit_figures(config: Mapping[str, Any], errors: list[str]) -> None:
    """Check that the audit measures every figure that the section bounds.

    Args:
        config: Sections by name, right by themselves.
        errors: Mistakes are added to it.
    """
    limits: ReleaseLimits | None = config["limits"]
    if limits is None:
        return
    _check_adversary(limits.adversary, config, errors)
    for limit in limits.limits:
        where = f"limits.{'margin' if limit.change else 'max'}"
        if limit.metric == str(TEST_ACCURACY):
            where = "limits.max_accuracy_drop"
        compared = limit.change or limit.metric == str(TEST_ACCURACY)
        if compared and not config["quantize"] and config["target"] is None:
            errors.append(
                f"{where}: nothing is quantized, so nothing is compared with full precision; leave "
                "it out, or add quantize"
            )
        elif limit.metric != str(TEST_ACCURACY):
            problem = _why_not_measured(limit, limits.adversary, config)
            if problem:
                errors.append(f"{where}: {limit.metric} is not measured: {problem}")


def _why_not_measured(limit: Limit, adversary: str, config: Mapping[str, Any]) -> str:
    """Return the reason why the results will lack a figure; empty if they have it."""
    metric = Metric.parse(limit.metric)
    if metric.base == str(AUC_WITHIN_CLASS) or metric.over:
        return "an audit has no such figure of an adversary"
    if adversary == STRONGEST and metric.base not in _STRONGEST_FIGURES:
        return (
            f"the strongest adversary has {AUC} and tpr@FPR alone; name an attack in "
            "limits.adversary, such as lira-online-shrunk/matched"
        )
    rates = [float(f"{rate:g}") for rate in config["fpr"]]
    if metric.base in ("tpr", "tpr_chosen", "precision") and metric.fpr not in rates:
        return f"expected @ and one of fpr: {', '.join(f'{rate:g}' for rate in rates)}"
    priors = [float(f"{prior:g}") for prior in config["priors"]]
    if metric.base == "precision" and metric.prior not in priors:
        return f"expected ,prior and one of priors: {', '.join(f'{prior:g}' for prior in priors)}"
    return ""


def _check_adversary(adversary: str, config: Mapping[str, Any], errors: list[str]) -> None:
    if adversary == STRONGEST:
        return
    known: list[str] = []
    kinds = [*config["references"], *(f"matched-{count}" for count in config["partly_quantized"])]
    kinds += [f"{OTHER}{name}" for name in (*config["other_references"], *config["other_presets"])]
    for entry in config["attacks"]:
        for form in expand(entry):
            if form.fewest_population <= config["split"].population:
                known += _pairs_of(form, kinds)
    if adversary not in known:
        problem = unknown_name("adversary", adversary, [STRONGEST, *known])
        errors.append(f"limits.adversary: not run: {problem}")


def _pairs_of(form: Attack, references: Sequence[str]) -> list[str]:
    """Return the names of an attack with each kind of references that it is run with."""
    if not form.uses_references:
        return [form.name]
    pairs = []
    for kind in references:
        if kind != "recalibrated" or form.signal in RECALIBRATED_SIGNALS:
            pairs.append(f"{form.name}/{kind}")
    return pairs
