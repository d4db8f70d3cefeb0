"""Settings and pieces that all charts share."""

from collections.abc import Sequence
from typing import Any

from bitleak.report.figures.style import COLOURS, SPARE_COLOURS

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
"""Identifier of the specification's language; nothing is loaded from it."""

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-left", "triangle-right",
          "stroke")  # fmt: skip

_CONFIG: dict[str, Any] = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--ink)",
        "gridColor": "var(--line)",
        "domainColor": "var(--soft)",
        "tickColor": "var(--soft)",
        "labelFontSize": 12,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
    },
    "legend": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--soft)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "symbolStrokeColor": "var(--ink)",
        "labelLimit": 260,
        # below each other: side by side, the second one is cut on a narrow page
        "layout": {"bottom": {"anchor": "start", "direction": "vertical"}},
    },
}


def chart(description: str, layers: Sequence[dict[str, Any]], **settings: Any) -> dict[str, Any]:
    """Return a specification that is as wide as its place on the page.

    Args:
        description: Text in place of the chart for a screen reader.
        layers: Its layers, the lowest first.
        settings: Further entries, such as `height`.
    """
    return {
        "$schema": _SCHEMA,
        "description": description,
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": _CONFIG,
        **settings,
        "layer": list(layers),
    }


def colour_range(names: Sequence[str]) -> list[str]:
    """Return a colour per quantizer, the same as in the figures for papers."""
    spare = iter(SPARE_COLOURS * (1 + len(names)))
    return [COLOURS.get(name.split("+")[0]) or next(spare) for name in names]
