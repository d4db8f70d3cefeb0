"""ROC curves with both axes logarithmic, one panel per precision.

The curves are those of `target = all` (the mean over targets) under the headline attack and
reference. FPRs below one non-member have no place on the axis: a curve enters at the left edge with
the TPR it has there.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bitleak.report.figures.report_figure import FigureData, ReportFigure
from bitleak.report.figures.style import (
    CHANCE_LINE,
    FAINT,
    INK,
    colours,
    dashes,
    labels,
    log_axis,
)
from bitleak.report.format import precision_text
from bitleak.report.results_table import ALL, FULL, Table
from bitleak.report.row_files import RocCurve
from bitleak.report.summary import Summary

_COLUMNS = 3


def draw_roc(data: FigureData) -> Figure:
    """Draw the mean ROC curves of the headline attack."""
    table, summary = data.table, data.summary
    panels: list[int | None] = [*table.levels] or [None]
    columns = min(_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    size = (10, 0.9 + 3.5 * lines) if columns > 1 else (6, 0.9 + 4.5 * lines)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()

    curves: dict[str, RocCurve] = {}
    for curve in data.curves:
        if _is_headline(curve, summary):
            curves[curve.variant] = curve
    for axes, levels in zip(grid, panels, strict=False):
        _draw_panel(axes, table, curves, summary, levels)
        axes.set_xlabel("false-positive rate")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()

    figure.supylabel("true-positive rate", fontsize=10)
    figure.legend(handles=_legend(table), loc="outside lower center", ncols=7, fontsize=9)
    return figure


ROC = ReportFigure(
    name="roc",
    caption="ROC curves with both axes logarithmic, the mean over targets by the named attack "
    "and adversary, one panel per precision.",
    draw=draw_roc,
)


def _is_headline(curve: RocCurve, summary: Summary) -> bool:
    """Whether the curve is in the figure; full precision may be listed under `fp32` only."""
    if curve.target != ALL or curve.attack != summary.headline_attack:
        return False
    as_full = curve.variant == FULL and curve.reference == FULL
    return as_full or curve.reference == summary.headline_reference


def _draw_panel(
    axes: Axes,
    table: Table,
    curves: Mapping[str, RocCurve],
    summary: Summary,
    levels: int | None,
) -> None:
    low = min(1 / max(2, summary.non_members), min(summary.fprs, default=0.1))
    log_axis(axes, "x", low, 1.0)
    log_axis(axes, "y", low, 1.0)
    axes.set_title(precision_text(levels))
    axes.plot([low, 1], [low, 1], linewidth=1, zorder=1, **CHANCE_LINE)
    axes.axvline(summary.headline_fpr, color=FAINT, linewidth=2.5, zorder=0.9)
    if FULL in curves:
        _draw_curve(axes, curves[FULL], low, color=INK, linewidth=2.2, zorder=2)
    palette, styles = colours(table), dashes(table)
    for variant in table.quantized:
        if variant.levels == levels and str(variant) in curves:
            style = {"color": palette[variant.family], "linestyle": styles[variant.family]}
            _draw_curve(axes, curves[str(variant)], low, linewidth=1.6, zorder=3, **style)


def _draw_curve(axes: Axes, curve: RocCurve, low: float, **style: Any) -> None:
    """Draw the part of a curve that the axes show; a TPR of zero stays below their edge."""
    points = curve.points
    entry = points[points[:, 0] <= low, 1].max(initial=0.0)
    shown = np.vstack([[low, entry], points[points[:, 0] > low]])
    axes.plot(shown[:, 0], np.maximum(shown[:, 1], low / 10), **style)


def _legend(table: Table) -> list[Line2D]:
    palette, styles = colours(table), dashes(table)
    handles = [Line2D([], [], color=INK, linewidth=2.2, label="full precision")]
    for family, label in labels(table).items():
        line = Line2D([], [], color=palette[family], linestyle=styles[family], label=label)
        handles.append(line)
    handles.append(Line2D([], [], linewidth=1, label="chance", **CHANCE_LINE))
    handles.append(Line2D([], [], color=FAINT, linewidth=2.5, label="headline FPR"))
    return handles
