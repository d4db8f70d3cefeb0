"""Metrics of every target and of all together, and their comparison with fp32, from scores.

`estimate_metrics` computes the figures of all targets once; `measures_from` turns them, and those
of the same targets at fp32, into `Measure`s. `measure` does both.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.core.checks import number_array, truth_array
from bitleak.core.metric_names import Metric
from bitleak.core.types import About, Measure, SplitMode
from bitleak.metrics.auc import estimate_auc
from bitleak.metrics.balanced_accuracy import (
    estimate_balanced_accuracy,
    interval_near_limit,
    random_halvings,
)
from bitleak.metrics.estimates import Estimate, Estimates, Z
from bitleak.metrics.intervals import Difference, difference_over_records, mean_over_records
from bitleak.metrics.roc import Roc, roc
from bitleak.metrics.tpr import estimate_tpr, why_unmeasurable
from bitleak.metrics.trainings import (
    difference_over_trainings,
    mean_over_trainings,
    verdict_about,
)
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
        """Return the metrics of both."""
        return Measures({**self.targets, **other.targets}, {**self.aggregate, **other.aggregate})


TotalAndTargets = Mapping[str, tuple[Measure | None, ...]]
"""By metric: the measure of all targets, then one per target; None if there is no such figure."""


def measure(
    scores: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    *,
    fprs: Sequence[float],
    mode: SplitMode = "population",
    seed: int = 0,
    baseline: Float64[np.ndarray, "targets records"] | None = None,
    balanced: bool = True,
    clusters: Int64[np.ndarray, "clustered"] | None = None,
) -> Measures:
    """Return AUC, TPR at each FPR and balanced accuracy, with intervals and change from a baseline.

    Args:
        scores: Larger = more likely a member; finite.
        member: The truth, for the same targets and records.
        fprs: FPRs in (0, 1); each gives the metric `tpr@FPR`, if a target has the 1 / FPR
            non-members that it takes (`why_unmeasurable` says why not).
        mode: `population`: targets share records, which are resampled; `dedicated`: as in
            `trainings`, about models trained anew from 5 targets on.
        seed: Seed for the halvings of the balanced accuracy; equal for all scores that are
            compared.
        baseline: Scores of this attack for these targets at fp32.
        balanced: Whether the balanced accuracy, which takes longer than the others, is one of the
            metrics.
        clusters: Number of each record's cluster: records with equal numbers may depend on each
            other (`clusters`). None if all records are independent.

    Raises:
        ValueError: Shapes differ, a score is not finite, or a target lacks members or non-members.

    Example:
        >>> member = np.arange(2000)[None] % 2 == 0
        >>> scores = np.random.default_rng(0).normal(size=(1, 2000)) + member
        >>> result = measure(scores, member, fprs=(0.01,))
        >>> sorted(result.aggregate)
        ['auc', 'balanced_accuracy', 'tpr@0.01']
        >>> auc = result.aggregate["auc"]
        >>> bool(auc.low < 0.7602 < auc.high), auc.interval
        (True, 'delong')
    """
    scores, member = number_array("scores", scores), truth_array("member", member)
    baseline = None if baseline is None else number_array("baseline", baseline)
    if baseline is not None and baseline.shape != scores.shape:
        shapes = f"{scores.shape}, got {baseline.shape}"
        raise ValueError(f"baseline must have the scores' shape {shapes}")
    estimated = partial(
        estimate_metrics, member=member, fprs=fprs, seed=seed, balanced=balanced, clusters=clusters
    )
    at_baseline = None if baseline is None else estimated(baseline)
    estimates = estimated(scores)
    return measures_from(estimates, mode=mode, baseline=at_baseline)


def estimate_metrics(
    scores: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    *,
    fprs: Sequence[float],
    seed: int = 0,
    balanced: bool = True,
    clusters: Int64[np.ndarray, "clustered"] | None = None,
) -> Estimates:
    """Return the figures of every target by metric name; arguments as for `measure`.

    A `tpr@FPR` that `why_unmeasurable` refuses for one of the targets is left out.
    """
    scores, member = number_array("scores", scores), truth_array("member", member)
    if scores.ndim != 2 or scores.shape != member.shape or len(scores) == 0:
        shapes = f"{scores.shape} and {member.shape}"
        raise ValueError(f"scores and member must both be [targets records], got {shapes}")
    curves = [roc(*target, clusters) for target in zip(scores, member, strict=True)]
    return estimate_from_curves(curves, fprs=fprs, seed=seed, balanced=balanced)


def estimate_from_curves(
    curves: Sequence[Roc], *, fprs: Sequence[float], seed: int = 0, balanced: bool = True
) -> Estimates:
    """Like `estimate_metrics`, for callers that already have the ROC curves of all targets."""
    fewest = min(curve.non_members for curve in curves)
    estimates = {"auc": tuple(map(estimate_auc, curves))}
    for fpr in fprs:
        if why_unmeasurable(fpr, fewest) is None:
            figures = tuple(estimate_tpr(curve, fpr) for curve in curves)
            estimates[str(Metric("tpr", fpr))] = figures
    if balanced:
        halves = random_halvings(len(curves[0].point), seed, curves[0].clusters)
        figures = tuple(estimate_balanced_accuracy(curve, halves) for curve in curves)
        estimates["balanced_accuracy"] = figures
    return estimates


def measures_from(
    estimates: Estimates,
    *,
    mode: SplitMode,
    baseline: Estimates | None = None,
) -> Measures:
    """Return the measures of estimates: intervals within the possible range, totals, verdicts.

    A TPR at a step of the ROC (`ties`) has both ends of the step, no interval and no verdict.
    From `FEWEST_TARGETS` dedicated targets on, a total and its verdict are about models trained
    anew; with fewer, and in a population, about these models on other records (`verdict_about`).

    Args:
        estimates: Figures of the targets.
        mode: See `measure`.
        baseline: Figures of the same targets at fp32; metrics that it lacks are not compared.
    """
    targets, aggregate = {}, {}
    for metric, figures in estimates.items():
        at_fp32 = None if baseline is None else baseline.get(metric)
        targets[metric] = _targets(figures, at_fp32)
        aggregate[metric] = _aggregate(figures, at_fp32, mode)
    return Measures(targets, aggregate)


def _targets(
    figures: Sequence[Estimate],
    baseline: Sequence[Estimate] | None,
) -> tuple[Measure, ...]:
    if baseline is None:
        return tuple(map(_measure, figures))
    measures = []
    for figure, at_fp32 in zip(figures, baseline, strict=True):
        change = None
        if not (figure.is_step or at_fp32.is_step):
            change = difference_over_records(figure, at_fp32)
        measures.append(_measure(figure, difference=change))
    return tuple(measures)


def _aggregate(
    figures: Sequence[Estimate],
    baseline: Sequence[Estimate] | None,
    mode: SplitMode,
) -> Measure:
    if len(figures) == 1:
        return _targets(figures, baseline)[0]
    std = float(np.std([figure.value for figure in figures], ddof=1))
    mean, change = mean_over_records(figures), None
    about = verdict_about(mode, len(figures))
    if baseline is not None and any(figure.is_step for figure in (*figures, *baseline)):
        baseline = None
    if mode == "population":
        if baseline is not None:
            change = difference_over_records(mean, mean_over_records(baseline))
        return _measure(mean, std=std, difference=change)
    if baseline is not None:
        change = difference_over_trainings(figures, baseline)
    return _measure(mean_over_trainings(figures), std=std, difference=change, about=about)


def _measure(
    figure: Estimate,
    *,
    std: float | None = None,
    difference: Difference | None = None,
    about: About = "records",
) -> Measure:
    """Return a measure whose interval is in the possible range and contains its value."""
    obtained = None if math.isnan(figure.fpr) else figure.fpr
    if figure.is_step:
        return Measure(
            value=figure.value,
            std=std,
            interval="step",
            fpr_obtained=obtained,
            step_fpr=figure.step_fpr,
            step_value=figure.step_value,
        )
    smallest, largest = figure.limits
    below, above = _ends(figure)
    low, high = _around(figure.value, max(below, smallest), min(above, largest))
    alone = Measure(
        value=figure.value,
        low=low,
        high=high,
        std=std,
        interval=figure.interval,
        about=about,
        fpr_obtained=obtained,
        unbiased=None if figure.centre == figure.value else figure.centre,
    )
    if difference is None:
        return alone

    # two figures cannot differ by more than the whole range
    widest = largest - smallest
    ends = max(difference.low, -widest), min(difference.high, widest)
    change_low, change_high = _around(difference.value, *ends)
    return replace(
        alone,
        difference=difference.value,
        difference_low=change_low,
        difference_high=change_high,
        verdict=verdict(difference.value, difference.p_value),
        p_value=difference.p_value,
    )


def _ends(figure: Estimate) -> tuple[float, float]:
    """Return the interval before it is cut; Feldman and Cousins' near a limit of the truth."""
    least, (below, above) = figure.limits[0], figure.reach
    if not figure.reaches_limit or not 0 < below < np.inf:
        return figure.low if figure.bounded_below else least, figure.high
    low, _ = interval_near_limit((figure.centre - least) * Z / below)
    _, high = interval_near_limit((figure.centre - least) * Z / above)
    return least + low * below / Z, least + high * above / Z


def _around(value: float, low: float, high: float) -> tuple[float, float]:
    # a correction for bias may have carried the interval past the value
    return float(min(low, value)), float(max(high, value))
