"""The leakage that every adversary found, from the naive one to the strongest, a line per variant."""

from typing import Any

from bitleak.core.metric_names import AUC, Metric
from bitleak.core.types import Measure
from bitleak.core.variants import FULL, JOINT, JOINT_LEARNED, STRONGEST, question_of
from bitleak.report import format as text
from bitleak.report.charts.chart_config import SHAPES, chart
from bitleak.report.headline import named_beforehand
from bitleak.report.results_table import Table
from bitleak.report.summary import Summary

ADVERSARY_NAMES = {
    "fp32": "naive: full-precision references",
    "recalibrated": "naive, recalibrated",
    "matched": "knows the recipe: matched references",
    "": "no references",
    STRONGEST: "strongest, chosen on other models",
    JOINT: "sees several releases",
    JOINT_LEARNED: "sees several releases, learned",
}
"""Names in the legend, by kind of reference, and of the two attacks that are no single pair."""

NAMED_HEADLINE = "headline: the pair named beforehand"
"""Name of the headline in the legend if no pair could be chosen on other models."""

_COLOURS = ("#e69f00", "#cc79a7", "#0072b2", "var(--soft)", "var(--ink)", "#009e73")


def adversaries_chart(table: Table, summary: Summary) -> dict[str, Any] | None:
    """Return the chart; None if there is one adversary alone."""
    metric = Metric("tpr", summary.headline_fpr)
    values = _points(table, summary, metric)
    # Without a rate that can be measured, the figure is the AUC.
    if not values:
        metric, values = AUC, _points(table, summary, AUC)
    present = {point["adversary"] for point in values}
    names = [name for name in (*ADVERSARY_NAMES.values(), NAMED_HEADLINE) if name in present]
    if len(names) < 2:
        return None
    order = list(dict.fromkeys(point["name"] for point in values))
    y = {"field": "name", "type": "nominal", "sort": order, "title": None,
         "axis": {"labelLimit": 220, "grid": False}, "scale": {"paddingInner": 0.3}}  # fmt: skip
    offset = {"field": "adversary", "sort": names}
    title = "AUC" if metric == AUC else "training records picked out (%)"
    x = {"type": "quantitative", "title": title, "scale": {"zero": metric != AUC}}
    colour = {
        "field": "adversary",
        "type": "nominal",
        "sort": names,
        "title": "adversary",
        "scale": {"domain": names, "range": list(_COLOURS[: len(names)])},
        "legend": {"orient": "top", "columns": 2, "symbolSize": 90},
    }
    shape = {**colour, "scale": {"domain": names, "range": list(SHAPES[: len(names)])}}
    chance = 0.5 if metric == AUC else 100 * summary.headline_fpr
    layers: list[dict[str, Any]] = [
        {"data": {"values": [{"chance": chance}]},
         "mark": {"type": "rule", "strokeDash": [2, 2], "stroke": "var(--soft)", "aria": False},
         "encoding": {"x": {**x, "field": "chance"}}},
        {"mark": {"type": "rule", "aria": False},
         "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y,
                      "yOffset": offset, "color": colour}},
        {"mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
         "encoding": {"x": {**x, "field": "value"}, "y": y, "yOffset": offset, "color": colour,
                      "shape": shape, "description": {"field": "tip"},
                      "tooltip": [{"field": "name", "title": "variant"},
                                  {"field": "adversary"}, {"field": "shown", "title": title}]}},
    ]  # fmt: skip
    return chart(
        "Leakage to every adversary, a line per variant; the same figures are in the table.",
        layers,
        data={"values": values},
        height=len(order) * (10 + 12 * len(names)),
    )


def _points(table: Table, summary: Summary, metric: Metric) -> list[dict[str, Any]]:
    points = []
    named = named_beforehand(table, summary)
    headline = NAMED_HEADLINE if named else ADVERSARY_NAMES[STRONGEST]
    for name in (FULL, *map(str, table.quantized)):
        for kind in table.references(summary.headline_attack):
            measure = table.cells.get((name, summary.headline_attack, kind, str(metric)))
            points += _point(ADVERSARY_NAMES[kind], name, measure, metric)
        points += _point(headline, name, table.find(name, metric, STRONGEST), metric)
    for name, attack, reference, figure in table.cells:
        joint = question_of(name, attack) == "joint" and "&" in name
        if joint and figure == str(metric) and reference == "matched":
            measure = table.find(name, metric, attack, reference)
            points += _point(ADVERSARY_NAMES[attack], name, measure, metric)
    return points


def _point(
    adversary: str, name: str, measure: Measure | None, metric: Metric
) -> list[dict[str, Any]]:
    """Return the point in a list, which is empty if nothing was measured."""
    if measure is None:
        return []
    factor, decimals = (1.0, 3) if metric == AUC else (100.0, 1)
    shown = text.figure(measure, decimals, factor=factor)
    return [
        {
            "name": name,
            "adversary": adversary,
            "value": factor * measure.value,
            "low": factor * (measure.value if measure.low is None else measure.low),
            "high": factor * (measure.value if measure.high is None else measure.high),
            "shown": shown,
            "tip": f"{name}, {adversary}: {shown}",
        }
    ]
