"""ROC curves of a variant and of full precision, with the range over targets and intervals.

A band is the range of the targets' own curves, and no interval; the bars at the audited FPRs are
the 95 % intervals of the table.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bitleak.core.metric_names import Metric
from bitleak.core.variants import FULL, STRONGEST
from bitleak.report.charts.chart_config import chart
from bitleak.report.headline import headline_key
from bitleak.report.results_table import ALL, Table
from bitleak.report.row_files import RocCurve
from bitleak.report.summary import Summary

POINTS = 36
"""FPRs of a curve, evenly spaced on the logarithmic axis."""


def curves_chart(
    table: Table, curves: Sequence[RocCurve], summary: Summary
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the chart and its data by variant; None if there are no curves.

    The page's script puts the data of full precision and of the chosen variant into the data sets
    `curves` and `bars`.

    Args:
        table: The aggregated rows.
        curves: All curves.
        summary: Names the headline's pair.
    """
    key = headline_key(table, summary)
    named = summary.headline_attack, summary.headline_reference
    wanted = (FULL, *map(str, table.quantized))
    by_variant: dict[str, dict[str, Any]] = {}
    low = min(1 / max(2, summary.non_members), *summary.fprs)
    grid = np.geomspace(low, 1.0, POINTS)
    for name in wanted:
        for attack, reference in (key, named, (named[0], FULL)):
            lines, mean = _curves_of(curves, name, attack, reference)
            if mean is not None:
                title = "strongest" if attack == STRONGEST else attack
                by_variant[name] = {
                    "attack": title,
                    "curves": _samples(name, grid, mean, lines),
                    "bars": _bars(table, summary, name, attack, reference),
                }
                break
    if FULL not in by_variant:
        return None
    return _specification(low), by_variant


def _curves_of(
    curves: Sequence[RocCurve], name: str, attack: str, reference: str
) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Return the targets' curves, and their mean or None."""
    lines, mean = [], None
    for curve in curves:
        if (curve.variant, curve.attack, curve.reference) == (name, attack, reference):
            if curve.target == ALL:
                mean = curve.points
            else:
                lines.append(curve.points)
    return lines, mean


def _samples(
    name: str, grid: np.ndarray, mean: np.ndarray, lines: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    """Return the curve at the grid's FPRs, with the range over the targets."""
    middle = _at(mean, grid)
    ranged = np.array([_at(line, grid) for line in lines]) if lines else middle[None]
    lows, highs = np.minimum(ranged.min(axis=0), middle), np.maximum(ranged.max(axis=0), middle)
    floor = float(grid[0]) / 3
    samples = []
    for place, values in zip(grid, np.column_stack([middle, lows, highs]), strict=True):
        tpr, low, high = (round(max(float(value), floor), 5) for value in values)
        samples.append(
            {"name": name, "fpr": float(f"{place:.4g}"), "tpr": tpr, "low": low, "high": high}
        )
    return samples


def _at(points: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return the TPR at the last point whose FPR does not exceed each of the grid's."""
    index = np.searchsorted(points[:, 0], grid * (1 + 1e-12), side="right") - 1
    return np.where(index >= 0, points[np.maximum(index, 0), 1], 0.0)


def _bars(
    table: Table, summary: Summary, name: str, attack: str, reference: str
) -> list[dict[str, Any]]:
    bars = []
    for fpr in summary.fprs:
        measure = table.find(name, Metric("tpr", fpr), attack, reference)
        if measure is not None and measure.low is not None and measure.high is not None:
            floor = min(summary.fprs) / 10
            low, high = max(measure.low, floor), max(measure.high, floor)
            bars.append({"name": name, "fpr": fpr, "low": round(low, 5), "high": round(high, 5)})
    return bars


def _specification(low: float) -> dict[str, Any]:
    # Axes, both logarithmic, and one colour and dash per variant.
    scale = {"type": "log", "domain": [low, 1]}
    axis = {"format": "~g"}
    x = {"field": "fpr", "type": "quantitative", "scale": scale, "axis": axis,
         "title": "share of the others that are accused falsely (FPR)"}  # fmt: skip
    y = {"type": "quantitative", "scale": {**scale, "domain": [low / 3, 1]}, "axis": axis,
         "title": "share of the training records picked out (TPR)"}  # fmt: skip
    colour = {"field": "name", "type": "nominal", "title": None, "sort": None,
              "scale": {"range": ["var(--ink)", "#d55e00"]}, "legend": {"orient": "top"}}  # fmt: skip
    dash = {"field": "name", "type": "nominal", "sort": None, "title": None,
            "scale": {"range": [[1, 0], [6, 2]]}, "legend": {"orient": "top"}}  # fmt: skip
    # Layers from back to front: guessing, bands, curves, intervals of the table.
    chance = {"values": [{"fpr": low, "tpr": low}, {"fpr": 1, "tpr": 1}]}
    curves = {"name": "curves", "values": []}
    bars = {"name": "bars", "values": []}
    layers: list[dict[str, Any]] = [
        {"data": chance, "mark": {"type": "line", "strokeDash": [2, 2], "stroke": "var(--soft)", "aria": False},
         "encoding": {"x": x, "y": {**y, "field": "tpr"}}},
        {"data": curves, "mark": {"type": "area", "opacity": 0.2, "clip": True, "aria": False},
         "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": colour}},
        {"data": curves, "mark": {"type": "line", "strokeWidth": 2, "clip": True},
         "encoding": {"x": x, "y": {**y, "field": "tpr"}, "color": colour, "strokeDash": dash}},
        {"data": bars, "mark": {"type": "rule", "strokeWidth": 3, "clip": True},
         "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": colour}},
    ]  # fmt: skip
    return chart(
        "ROC curves of full precision and of a variant, both axes logarithmic.", layers, height=380
    )
