"""From scores to a table: every metric of every target, the aggregate, and the comparison with fp32.

`estimate_metrics` computes the figures of all targets once; `measures_from` turns them, and those of the same
targets at fp32, into `Measure`s. `measure` does both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

from bitleak.core.metric_names import Metric
from bitleak.core.types import Measure, SplitMode
from bitleak.metrics.auc import estimate_auc
from bitleak.metrics.balanced_accuracy import estimate_balanced_accuracy, interval_near_limit, random_halvings
from bitleak.metrics.estimates import Estimate, Estimates, Z
from bitleak.metrics.intervals import (
    Difference,
    difference_over_records,
    difference_over_targets,
    interval_over_targets,
    mean_over_records,
)
from bitleak.metrics.roc import Roc, roc
from bitleak.metrics.tpr import estimate_tpr, why_unmeasurable
from bitleak.metrics.verdicts import verdict


@dataclass(frozen=True)
class Measures:
    """Every metric by its name in the results table.

    Attributes:
        targets: One measure per target, in the order the targets were given.
        aggregate: The mean over the targets; with one target the same as that target's.
    """

    targets: Mapping[str, tuple[Measure, ...]]
    aggregate: Mapping[str, Measure]

    def __or__(self, other: "Measures") -> "Measures":
        """The metrics of both."""
        return Measures({**self.targets, **other.targets}, {**self.aggregate, **other.aggregate})


TotalAndTargets = Mapping[str, tuple[Measure | None, ...]]
"""By metric: that of all targets first, then target by target; None where there is no such figure."""


def measure(
    scores: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    *,
    fprs: Sequence[float],
    mode: SplitMode = "population",
    seed: int = 0,
    baseline: Float64[np.ndarray, "targets records"] | None = None,
    balanced: bool = True,
) -> Measures:
    """AUC, TPR at each FPR and balanced accuracy with intervals, and their change from a baseline.

    Args:
        scores: Larger = more likely a member; finite.
        member: The truth, for the same targets and records.
        fprs: FPRs in (0, 1); each gives the metric `tpr@FPR`, if a target has the 1 / FPR non-members that it takes
            (`why_unmeasurable` says why not).
        mode: `population`: targets share records, which are resampled; `dedicated`: t over targets.
        seed: Of the halvings behind the balanced accuracy; the same for all that is compared.
        baseline: The same attack's scores of the same targets at fp32.
        balanced: Whether the balanced accuracy, which takes longer than the others, is one of the metrics.

    Raises:
        ValueError: Shapes differ, a score is not finite, or a target lacks members or non-members.

    Example:
        >>> member = np.arange(2000)[None] % 2 == 0
        >>> result = measure(np.random.default_rng(0).normal(size=(1, 2000)) + member, member, fprs=(0.01,))
        >>> sorted(result.aggregate)
        ['auc', 'balanced_accuracy', 'tpr@0.01']
        >>> auc = result.aggregate["auc"]
        >>> bool(auc.low < 0.7602 < auc.high), auc.interval
        (True, 'delong')
    """
    if baseline is not None and baseline.shape != scores.shape:
        raise ValueError(f"baseline must have the scores' shape {scores.shape}, got {baseline.shape}")
    at_baseline = None
    if baseline is not None:
        at_baseline = estimate_metrics(baseline, member, fprs=fprs, seed=seed, balanced=balanced)
    found = estimate_metrics(scores, member, fprs=fprs, seed=seed, balanced=balanced)
    return measures_from(found, mode=mode, baseline=at_baseline)


def estimate_metrics(
    scores: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    *,
    fprs: Sequence[float],
    seed: int = 0,
    balanced: bool = True,
) -> Estimates:
    """The figures of every target by metric name; arguments as for `measure`.

    A `tpr@FPR` that `why_unmeasurable` refuses for one of the targets is left out.
    """
    if scores.ndim != 2 or scores.shape != member.shape or len(scores) == 0:
        raise ValueError(f"scores and member must both be [targets records], got {scores.shape} and {member.shape}")
    curves = [roc(*target) for target in zip(scores, member, strict=True)]
    return estimate_from_curves(curves, fprs=fprs, seed=seed, balanced=balanced)


def estimate_from_curves(
    curves: Sequence[Roc], *, fprs: Sequence[float], seed: int = 0, balanced: bool = True
) -> Estimates:
    """Like `estimate_metrics`, for callers that already have the targets' ROC curves, all of the same records."""
    fewest = min(curve.non_members for curve in curves)
    measurable = [fpr for fpr in fprs if not why_unmeasurable(fpr, fewest)]
    rates = {str(Metric("tpr", fpr)): tuple(estimate_tpr(curve, fpr) for curve in curves) for fpr in measurable}
    areas = tuple(estimate_auc(curve) for curve in curves)
    found = {"auc": areas, **rates}
    if balanced:
        halves = random_halvings(len(curves[0].point), seed)
        found["balanced_accuracy"] = tuple(estimate_balanced_accuracy(curve, halves) for curve in curves)
    return found


def measures_from(estimates: Estimates, *, mode: SplitMode, baseline: Estimates | None = None) -> Measures:
    """Measures from estimates.

    Args:
        estimates: Figures of the targets.
        mode: See `measure`.
        baseline: Figures of the same targets at fp32; metrics that it lacks are not compared.
    """
    base = {} if baseline is None else baseline
    targets = {name: _targets(figures, base.get(name)) for name, figures in estimates.items()}
    aggregate = {name: _aggregate(figures, base.get(name), mode) for name, figures in estimates.items()}
    return Measures(targets, aggregate)


def _targets(figures: Sequence[Estimate], baseline: Sequence[Estimate] | None) -> tuple[Measure, ...]:
    if baseline is None:
        return tuple(_measure(figure) for figure in figures)
    pairs = zip(figures, baseline, strict=True)
    return tuple(_measure(one, difference=difference_over_records(one, other)) for one, other in pairs)


def _aggregate(figures: Sequence[Estimate], baseline: Sequence[Estimate] | None, mode: SplitMode) -> Measure:
    if len(figures) == 1:
        return _targets(figures, baseline)[0]
    mean = mean_over_records(figures)
    std = float(np.std([figure.value for figure in figures], ddof=1))
    if mode == "population":
        change = None if baseline is None else difference_over_records(mean, mean_over_records(baseline))
        return _measure(mean, std=std, difference=change)
    change = None if baseline is None else difference_over_targets(figures, baseline)
    low, high = interval_over_targets(figures)
    return _measure(replace(mean, low=low, high=high, interval="t"), std=std, difference=change)


def _measure(figure: Estimate, *, std: float | None = None, difference: Difference | None = None) -> Measure:
    """A measure whose interval is cut to what is possible and contains its value."""
    least, most = figure.limits
    below, above = _ends(figure)
    low, high = _around(figure.value, max(below, least), min(above, most))
    if difference is None:
        return Measure(figure.value, low, high, std, figure.interval)
    widest = most - least
    ends = max(difference.low, -widest), min(difference.high, widest)
    change_low, change_high = _around(difference.value, *ends)
    return Measure(
        value=figure.value,
        low=low,
        high=high,
        std=std,
        interval=figure.interval,
        difference=difference.value,
        difference_low=change_low,
        difference_high=change_high,
        verdict=verdict(difference.value, difference.p_value),
        p_value=difference.p_value,
    )


def _ends(figure: Estimate) -> tuple[float, float]:
    """The interval before it is cut; near a limit that the truth may lie on, the one that is made for that."""
    least, (below, above) = figure.limits[0], figure.reach
    if not figure.reaches_limit or not 0 < below < np.inf:
        return figure.low if figure.bounded_below else least, figure.high
    low, _ = interval_near_limit((figure.centre - least) * Z / below)
    _, high = interval_near_limit((figure.centre - least) * Z / above)
    return least + low * below / Z, least + high * above / Z


def _around(value: float, low: float, high: float) -> tuple[float, float]:
    """The interval, moved out to the value where a correction for bias has carried it past."""
    return float(min(low, value)), float(max(high, value))
