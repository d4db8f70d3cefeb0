"""Metrics that a config names: functions of one target's scores and membership.

A metric is a frozen dataclass of parameters, or any object with a name, that is called with the
scores of one target and its membership. The smallest member is `Advantage`. Its rows follow those
of the metrics that every table has (AUC, TPR, balanced accuracy, epsilon, rates at chosen
thresholds), which are computed together and compared with full precision.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.core.checks import LONGEST_LABEL
from bitleak.core.errors import AttackError
from bitleak.core.metric_names import Metric
from bitleak.core.outside import versioned, what_it_raised
from bitleak.core.types import Measure, SplitMode
from bitleak.metrics.clusters import dense_clusters
from bitleak.metrics.estimates import Estimate, Z
from bitleak.metrics.measures import TotalAndTargets
from bitleak.metrics.trainings import mean_over_trainings, verdict_about
from bitleak.registry import METRICS, resolve

ALWAYS_MEASURED = (
    "auc",
    "tpr",
    "balanced_accuracy",
    "epsilon",
    "tpr_chosen",
    "fpr_chosen",
    "precision",
    "auc_within_class",
    "tpr_within_class",
    "test_accuracy",
    "train_accuracy",
    "agreement",
    "bytes",
    "bits_per_weight",
    "noise_scale",
    "noise_accuracy_gap",
    "calibration_detectable_auc",
)
"""Bases of the names of metrics that tables have anyway; no other metric may be called so."""


@runtime_checkable
class ScoreMetric(Protocol):
    """A metric as the rest of bitleak sees it."""

    @property
    def name(self) -> str:
        """Name in the results table: lower-case letters, digits and underlines."""

    def __call__(
        self, scores: Float64[np.ndarray, "records"], member: Bool[np.ndarray, "records"]
    ) -> float | Measure:
        """Return the figure of one target, alone or with the interval of that target.

        Args:
            scores: Larger = more likely a member.
            member: True for the target's members; both kinds are present.
        """


def load_metric(entry: str) -> ScoreMetric:
    """Return the metric that a config's entry names.

    Args:
        entry: A name of the registry's `METRICS`, or `package.module:Name` of a metric or of a class that makes one.

    Raises:
        ValueError: The name is unknown, or names no metric.

    Example:
        >>> load_metric("advantage").name
        'advantage'
    """
    metric = resolve(METRICS, entry, kind="metric")
    if isinstance(metric, type):
        try:
            metric = metric()
        except Exception as error:  # foreign code may raise anything
            raise ValueError(
                f"metric {entry!r} cannot be made: {type(error).__name__}: {error}"
            ) from error
    if not isinstance(metric, ScoreMetric):
        raise ValueError(
            f"metric {entry!r} must have a name and take scores and member, got {type(metric).__name__}"
        )
    _check_name(metric.name, entry)
    return metric


def metric_entries(entries: Iterable[str]) -> list[str]:
    """Return the entries as parameters of tasks: outside code with its version, each once."""
    return list(dict.fromkeys(versioned(entry) for entry in entries))


def further_measures(
    entries: Sequence[str],
    scores: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    *,
    mode: SplitMode,
    clusters: Int64[np.ndarray, "records"] | None = None,
) -> TotalAndTargets:
    """Return the measures of the metrics that a config names, for every target and for all of them.

    The total is the mean over the targets. The dependence of targets through shared records is not known of
    any function, so the total has an interval only for at least `FEWEST_TARGETS` dedicated targets whose figures
    have intervals: that of `trainings`, as if the targets' errors over records were the same.

    Args:
        entries: See `load_metric`.
        scores: Scores of one attack.
        member: Membership of the same records.
        mode: How the targets' training sets were drawn, see `measure`.
        clusters: As in `measure`; with clusters no figure has an interval, since the metric made it for independent
            records.

    Raises:
        ValueError: A metric gives no finite number.

    Example:
        >>> scores, member = np.array([[0.0, 1.0, 2.0, 3.0]]), np.array([[False, True, False, True]])
        >>> total, target = further_measures(["advantage"], scores, member, mode="population")["advantage"]
        >>> total.value, target.value
        (0.5, 0.5)
    """
    measures = {}
    clustered = dense_clusters(clusters) is not None
    for entry in entries:
        metric = load_metric(entry)
        targets = [_measure(metric, *target) for target in zip(scores, member, strict=True)]
        if clustered:
            targets = [Measure(target.value) for target in targets]
        measures[metric.name] = (_total(targets, mode), *targets)
    return measures


def _measure(
    metric: ScoreMetric, scores: Float64[np.ndarray, "records"], member: Bool[np.ndarray, "records"]
) -> Measure:
    try:
        figure = metric(scores, member)
        measure = figure if isinstance(figure, Measure) else Measure(float(figure))
    except Exception as error:  # foreign code may raise anything
        raise AttackError(
            f"metric {metric.name!r} must give a number or a bitleak Measure: {what_it_raised(error)}"
        ) from error
    if not math.isfinite(measure.value):
        raise ValueError(f"metric {metric.name!r} must give finite numbers, got {measure.value}")
    return measure if measure.low is None else replace(measure, about="records")


def _total(targets: Sequence[Measure], mode: SplitMode) -> Measure:
    if len(targets) == 1:
        return targets[0]
    values = np.array([measure.value for measure in targets])
    mean, std = float(values.mean()), float(values.std(ddof=1))
    estimates = [estimate for estimate in map(_estimate, targets) if estimate is not None]
    if len(estimates) < len(targets) or verdict_about(mode, len(targets)) == "records":
        return Measure(mean, std=std)
    total = mean_over_trainings(estimates)
    return Measure(mean, total.low, total.high, std, total.interval, about="trainings")


def _estimate(measure: Measure) -> Estimate | None:
    """Return a figure with its whole error on one record, so that all correlate fully; None without an interval."""
    if measure.low is None or measure.high is None:
        return None
    deviation = (measure.high - measure.low) / (2 * Z)
    low, high = measure.low, measure.high
    return Estimate(
        measure.value, measure.value, low, high, np.array([deviation]), measure.interval
    )


def _check_name(name: object, entry: str) -> None:
    try:
        parsed = Metric.parse(str(name))
    except ValueError as error:
        raise ValueError(f"metric {entry!r}: {error}") from None
    if parsed != Metric(parsed.base) or len(parsed.base) > LONGEST_LABEL:
        raise ValueError(
            f"metric {entry!r}: name must hold at most {LONGEST_LABEL} lower-case letters, digits and underlines, "
            f"got {name!r}"
        )
    if parsed.base in ALWAYS_MEASURED:
        raise ValueError(
            f"metric {entry!r}: every table has a metric {name!r}; give it another name"
        )
