"""The trade-off beside the sliders: accuracy lost against leakage to the strongest adversary.

Lower and further left is better. The limits are a shaded corner. The outcome of a variant is its
size, its fill and a sign with its name, and not its colour, which is the quantizer's.
"""

from typing import Any

from bitleak.core.metric_names import AUC, TEST_ACCURACY
from bitleak.core.types import Measure
from bitleak.core.variants import FULL, Variant
from bitleak.report import format as text
from bitleak.report.charts.chart_config import SHAPES, chart, colour_range
from bitleak.report.limit_grid import LimitGrid
from bitleak.report.results_table import Table

FULL_TITLE = "full precision"

TICKS = (-1, 0, 1, 2, 5, 10, 20, 30, 50, 100)
"""Labelled losses of accuracy, in points."""


def limits_chart(table: Table, grid: LimitGrid) -> dict[str, Any] | None:
    """Return the chart, with the data sets `variants` and `limits`; None without accuracies.

    Args:
        table: The aggregated rows.
        grid: The limits and the adversary.
    """
    if not grid.losses:
        return None
    points = [_point(table, grid, name) for name in (*grid.variants, FULL)]
    shown = [point for point in points if point]
    if len(shown) < 2 or shown[-1]["name"] != FULL:
        return None
    channels = _channels(table, grid, shown)
    # The lowest layer first: the corner of the limits must not hide a variant.
    layers = [
        _limits_layer(channels),
        _guessing_layer(channels, grid),
        _variants_layer(channels, shown),
    ]
    return chart(
        "Test accuracy lost against leakage, a point per variant; the same figures are in the table.",
        layers,
        height=300,
    )


def _channels(table: Table, grid: LimitGrid, shown: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the encodings that the layers share: both axes, colour by quantizer, shape by precision."""
    families = list(dict.fromkeys(point["family"] for point in shown[:-1]))
    precisions = [FULL_TITLE, *map(text.precision_text, table.levels)]
    lowest = min([-0.5, *(point["loss_low"] for point in shown)])
    highest = max([2.5, *(point["loss_high"] for point in shown)])
    # A symmetric logarithm: most variants lose less than a point, and a collapsed one tens.
    loss_scale = {
        "type": "symlog",
        "constant": 2,
        "domain": [lowest, highest],
        "nice": False,
        "clamp": True,
    }
    x = {
        "field": "loss",
        "type": "quantitative",
        "scale": loss_scale,
        "title": "test accuracy lost (points)",
        # a tick outside the domain would be drawn at its end, where another loss lies
        "axis": {"values": [tick for tick in TICKS if lowest <= tick <= highest], "grid": True},
    }
    y = {
        "field": "leakage",
        "type": "quantitative",
        "title": _leakage_title(grid),
        "scale": {"zero": grid.metric != str(AUC)},
    }
    colour = {
        "field": "family",
        "type": "nominal",
        "title": "quantizer",
        "scale": {
            "domain": [FULL_TITLE, *families],
            "range": ["var(--ink)", *colour_range(families)],
        },
    }
    repeated = SHAPES * (1 + len(precisions) // len(SHAPES))
    shape = {
        "field": "precision",
        "type": "nominal",
        "title": "precision",
        "sort": None,
        "scale": {"domain": precisions, "range": list(repeated[: len(precisions)])},
    }
    return {"x": x, "y": y, "colour": colour, "shape": shape}


def _limits_layer(channels: dict[str, Any]) -> dict[str, Any]:
    """Return the shaded corner, whose data the page's script sets."""
    return {
        "data": {"name": "limits", "values": []},
        "mark": {"type": "rect", "fill": "var(--good)", "fillOpacity": 0.14,
                 "stroke": "var(--good)", "strokeDash": [5, 3], "clip": True, "aria": False},
        "encoding": {
            "x": {**channels["x"], "field": "left"},
            "x2": {"field": "loss"},
            "y": {**channels["y"], "field": "bottom"},
            "y2": {"field": "leakage"},
        },
    }  # fmt: skip


def _guessing_layer(channels: dict[str, Any], grid: LimitGrid) -> dict[str, Any]:
    """Return the line of guessing, with its label."""
    y = channels["y"]
    return {
        "data": {"values": [{"leakage": 100 * grid.leakages[0], "label": "guessing"}]},
        "layer": [
            {"mark": {"type": "rule", "strokeDash": [2, 2], "stroke": "var(--soft)", "aria": False},
             "encoding": {"y": y}},
            {"mark": {"type": "text", "align": "right", "x": "width", "dx": -4, "dy": 10,
                      "fill": "var(--soft)", "fontSize": 12, "aria": False},
             "encoding": {"y": y, "text": {"field": "label"}}},
        ],
    }  # fmt: skip


def _variants_layer(channels: dict[str, Any], shown: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the points of the variants with their intervals, signs and names."""
    x, y, colour, shape = (channels[name] for name in ("x", "y", "colour", "shape"))
    columns = {"expr": "width > 500 ? 6 : 4"}
    legend = {"orient": "bottom", "columns": columns, "symbolSize": 90}
    faded = {"condition": {"test": "datum.outcome === 'fail'", "value": 0.35}, "value": 1}
    # The page's script fills in the outcome, so the marks test it while they are drawn.
    passes = "datum.outcome === 'pass'"
    return {
        "data": {"name": "variants", "values": shown},
        "layer": [
            {"mark": {"type": "rule", "aria": False},
             "encoding": {"x": {**x, "field": "loss_low"}, "x2": {"field": "loss_high"}, "y": y,
                          "color": {**colour, "legend": legend}, "opacity": faded}},
            {"mark": {"type": "rule", "aria": False},
             "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"},
                          "color": colour, "opacity": faded}},
            {"mark": {"type": "point", "filled": True, "strokeWidth": 2, "opacity": 1},
             "encoding": {
                 "x": x, "y": y, "color": colour,
                 "shape": {**shape, "legend": {**legend, "symbolFillColor": "var(--ink)"}},
                 "opacity": faded,
                 "size": {"condition": {"test": passes, "value": 260}, "value": 110},
                 "stroke": {"condition": {"test": passes, "value": "var(--ink)"}, "value": None},
                 "tooltip": [
                     {"field": "name", "title": "variant"},
                     {"field": "accuracy", "title": "test accuracy"},
                     {"field": "leak", "title": "leakage"},
                     {"field": "word", "title": "at these limits"},
                 ],
                 "description": {"field": "tip"},
             }},
            {"mark": {"type": "text", "dy": -14, "fontSize": 12, "fontWeight": 700,
                      "fill": "var(--ink)", "aria": False},
             "encoding": {"x": x, "y": y, "text": {"field": "mark"}}},
            *_names(x, {**y, "field": "high"}, "full", rise=-7),
            *_names(x, {**y, "field": "low"}, "best", rise=13),
        ],
    }  # fmt: skip


def _names(x: dict[str, Any], y: dict[str, Any], field: str, *, rise: int) -> list[dict[str, Any]]:
    """Return the names in a field of the points, at an end of the bar, on a rim of the page's colour."""
    rim = {"stroke": "var(--paper)", "strokeWidth": 4, "fill": "var(--paper)"}
    layers = []
    for paint in (rim, {"fill": "var(--ink)"}):
        mark = {"type": "text", "align": "left", "dx": -8, "dy": rise, "fontSize": 13,
                "fontWeight": 600, "aria": False, **paint}  # fmt: skip
        layers.append({"mark": mark, "encoding": {"x": x, "y": y, "text": {"field": field}}})
    return layers


def _leakage_title(grid: LimitGrid) -> str:
    if grid.metric == str(AUC):
        return "pairs told apart (%)"
    return "training records picked out (%)"


def _point(table: Table, grid: LimitGrid, name: str) -> dict[str, Any]:
    """Return a variant's place in percent; empty if a figure is missing."""
    accuracy = table.find(name, TEST_ACCURACY)
    leakage = table.find(name, grid.metric, grid.attack, grid.reference)
    if accuracy is None or leakage is None:
        return {}
    loss, low, high = _loss(accuracy) if name != FULL else (0.0, 0.0, 0.0)
    variants = {str(variant): variant for variant in table.quantized}
    variant = variants.get(name)
    leak = text.figure(leakage, 1, factor=100.0)
    shown = f"{text.figure(accuracy, 1, factor=100.0)} %"
    # The page's script fills in outcome, word and mark for the sliders' places.
    return {
        "name": name,
        "family": FULL_TITLE if variant is None else variant.quantizer or name,
        "precision": _precision(variant),
        "loss": 100 * loss,
        "loss_low": 100 * low,
        "loss_high": 100 * high,
        "leakage": 100 * leakage.value,
        "low": 100 * (leakage.value if leakage.low is None else leakage.low),
        "high": 100 * (leakage.value if leakage.high is None else leakage.high),
        "accuracy": shown,
        "leak": f"{leak} %",
        "tip": f"{name}: test accuracy {shown}, leakage {leak} %",
        "outcome": "",
        "word": "",
        "mark": "",
        "best": "",
        "full": FULL_TITLE if variant is None else "",
    }


def _precision(variant: Variant | None) -> str:
    return text.precision_text(None if variant is None else variant.levels or 0)


def _loss(accuracy: Measure) -> tuple[float, float, float]:
    """Return the loss from full precision with its ends, or zeros if it was not compared."""
    if accuracy.difference is None:
        return 0.0, 0.0, 0.0
    low, high = accuracy.difference_low, accuracy.difference_high
    loss = -accuracy.difference
    return loss, loss if high is None else -high, loss if low is None else -low
