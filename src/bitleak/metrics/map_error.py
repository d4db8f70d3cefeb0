"""The error of the map of `recalibrated` rows, as a part of the intervals of their figures.

The map is fitted on population records, which are drawn as the audited records are. With unit
influences w_ki of population record i on parameter k of the map (shift and scale, each in its standard
errors), and the figure theta at the map and theta_k with parameter k off by one of them, record i has
the influence

    phi_i = sum_k (theta_k - theta) w_ki

on the figure, to first order. Population and audited records are drawn apart, so the phi_i follow the
figure's own influences as those of further records: targets with the same population have their
covariance from them, and so has a variant that is compared with full precision. A reach l becomes

    sqrt(l^2 + (1.96 |phi| / pairing)^2),

since differences multiply the reach by `pairing` (`estimates`). A TPR is averaged over the thresholds
within a standard deviation of the number of false positives, else its change would be that of the few
records next to one threshold. Values stay. Cost: two ROC curves of every target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from bitleak.core.metric_names import Metric
from bitleak.metrics.auc import auc
from bitleak.metrics.estimates import Estimate, Estimates, Z
from bitleak.metrics.roc import Roc, best_balanced_accuracy

NEAR_THRESHOLD = np.linspace(-1.0, 1.0, 9)
"""Thresholds that a TPR is averaged over, in standard deviations of the number of false positives."""

MapInfluence = Mapping[
    str, Sequence[Float64[np.ndarray, "population"]] | Float64[np.ndarray, "targets population"]
]
"""By metric: influence of every population record on the figure of each target."""


def map_influence(
    curve: Roc,
    moved: Sequence[Roc],
    influence: Float64[np.ndarray, "parameters population"],
    fprs: Sequence[float],
) -> dict[str, Float64[np.ndarray, "population"]]:
    """Return the influence of every population record on one target's figures.

    Args:
        curve: The ROC at the map.
        moved: The ROC with each parameter of the map off by one standard error.
        influence: Influence of every population record on each parameter, in its standard errors.
        fprs: FPRs of the TPRs.
    """
    at_map = _figures(curve, fprs)
    changes = np.array([_figures(other, fprs) - at_map for other in moved])
    names = ["auc", "balanced_accuracy", *(str(Metric("tpr", fpr)) for fpr in fprs)]
    return dict(zip(names, changes.T @ influence, strict=True))


def with_map_error(estimates: Estimates, influence: MapInfluence) -> Estimates:
    """Return the figures with intervals that include the error of the map.

    Args:
        estimates: Figures of every target by metric.
        influence: From `map_influence`; metrics that it lacks stay as they are.
    """
    widened = {}
    for metric, figures in estimates.items():
        widened[metric] = figures
        if metric in influence:
            pairs = zip(figures, influence[metric], strict=True)
            widened[metric] = tuple(_widened(figure, added) for figure, added in pairs)
    return widened


def _figures(curve: Roc, fprs: Sequence[float]) -> Float64[np.ndarray, "figures"]:
    rates = []
    for fpr in fprs:
        spread = np.sqrt(fpr * (1 - fpr) / curve.non_members)
        around = np.clip(fpr + spread * NEAR_THRESHOLD, 0.0, 1.0)
        rates.append(float(curve.tpr[curve.last_points(around)].mean()))
    return np.array([auc(curve), best_balanced_accuracy(curve), *rates])


def _widened(figure: Estimate, added: Float64[np.ndarray, "population"]) -> Estimate:
    """Return a figure with the influences of population records after its own."""
    width = Z * float(np.linalg.norm(added)) / figure.pairing
    below, above = (float(np.hypot(reach, width)) for reach in figure.reach)
    return replace(
        figure,
        low=figure.centre - below,
        high=figure.centre + above,
        influence=np.concatenate([figure.influence, added]),
    )
