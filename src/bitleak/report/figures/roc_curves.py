"""ROC curves with both axes logarithmic, one panel per precision.

The curves are those of `target = all` (the mean over targets) under the headline attack and
reference. FPRs below one non-member have no place on the axis: a curve enters at the left edge with
the TPR it has there.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bitleak.report.figures.style import FAINT, INK, MUTED, colours, dashes, labels, log_axis
from bitleak.report.format import precision
from bitleak.report.results_table import ALL, FULL, Table
from bitleak.report.row_files import RocCurve
from bitleak.report.summary import Summary

_COLUMNS = 3


def roc(table: Table, curves: Sequence[RocCurve], summary: Summary) -> Figure:
    """The ROC figure.

    Args:
        table: The aggregated rows.
        curves: All curves; those of the headline are picked.
        summary: Names the headline attack, reference and FPR; its non-members end the axis.
    """
    panels: list[int | None] = [*table.levels] or [None]
    columns = min(_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = Figure(
        figsize=(10 if columns > 1 else 6, 0.9 + (3.5 if columns > 1 else 4.5) * lines), layout="constrained"
    )
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    found = {curve.variant: curve for curve in curves if _headline(curve, summary)}
    for axes, levels in zip(grid, panels, strict=False):
        _panel(axes, table, found, summary, levels)
        axes.set_xlabel("false-positive rate")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.supylabel("true-positive rate", fontsize=10)
    figure.legend(handles=_legend(table), loc="outside lower center", ncols=7, fontsize=9)
    return figure


def _headline(curve: RocCurve, summary: Summary) -> bool:
    """Whether the curve belongs to the figure; full precision may be listed under `fp32` only."""
    kinds = (summary.headline_reference, FULL) if curve.variant == FULL else (summary.headline_reference,)
    return curve.target == ALL and curve.attack == summary.headline_attack and curve.reference in kinds


def _panel(axes: Axes, table: Table, found: dict[str, RocCurve], summary: Summary, levels: int | None) -> None:
    low = min(1 / max(2, summary.non_members), min(summary.fprs, default=0.1))
    log_axis(axes, "x", low, 1.0)
    log_axis(axes, "y", low, 1.0)
    axes.set_title(precision(levels))
    axes.plot([low, 1], [low, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
    axes.axvline(summary.headline_fpr, color=FAINT, linewidth=2.5, zorder=0.9)
    if FULL in found:
        _curve(axes, found[FULL], low, color=INK, linewidth=2.2, zorder=2)
    palette, styles = colours(table), dashes(table)
    for variant in table.quantized:
        if variant.levels == levels and variant.name in found:
            style = {"color": palette[variant.family], "linestyle": styles[variant.family]}
            _curve(axes, found[variant.name], low, linewidth=1.6, zorder=3, **style)


def _curve(axes: Axes, curve: RocCurve, low: float, **style: Any) -> None:
    """The part of a curve that the axes show; a TPR of zero stays below their edge."""
    points = curve.points
    entry = points[points[:, 0] <= low, 1].max(initial=0.0)
    shown = np.vstack([[low, entry], points[points[:, 0] > low]])
    axes.plot(shown[:, 0], np.maximum(shown[:, 1], low / 10), **style)


def _legend(table: Table) -> list[Line2D]:
    palette, styles, names = colours(table), dashes(table), labels(table)
    return [
        Line2D([], [], color=INK, linewidth=2.2, label="full precision"),
        *[Line2D([], [], color=palette[family], linestyle=styles[family], label=names[family]) for family in names],
        Line2D([], [], color=MUTED, linestyle=(0, (2, 2)), linewidth=1, label="chance"),
        Line2D([], [], color=FAINT, linewidth=2.5, label="headline FPR"),
    ]
