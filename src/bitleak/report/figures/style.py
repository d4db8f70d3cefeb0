"""Colours, markers and axes that all figures share.

The colours are those of Okabe and Ito (Color Universal Design, 2008), which people with any form of
colour blindness can tell apart; a quantizer has the same colour everywhere, whatever else is audited.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bitleak.report.results_table import Table, Variant

INK = "#1a1a1b"
"""Text, axes and full precision; the page replaces it in dark mode, so nothing else has this colour."""

FAINT = "#d5d5d6"
"""Grid lines; replaced in dark mode likewise."""

MUTED = "#7a7a7b"
"""Chance lines and legend keys that stand for a shape; legible on light and on dark."""

COLOURS = {"rtn": "#cc79a7", "adaround": "#0072b2", "brecq": "#d55e00", "obc": "#009e73"}
SPARE_COLOURS = ("#e69f00", "#56b4e9", "#b79f00", "#8a6ed1", "#8c564b")
DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "p", "h", "X", "P")
"""By precision, the finest first. The downward triangle is kept for upper limits."""


_WIDE, _BEND = 20.0, 5.0
"""Accuracies further apart than this many points get an axis that bends this far below the highest."""


def settings() -> dict[str, Any]:
    """Matplotlib's settings for all figures, on top of its defaults."""
    return {
        "svg.hashsalt": "bitleak",
        "svg.fonttype": "path",
        "text.parse_math": False,
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "axes.titlesize": 10.5,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": FAINT,
        "grid.linewidth": 0.6,
        "xtick.color": INK,
        "ytick.color": INK,
        "legend.frameon": False,
        "figure.facecolor": "white",
        "axes.facecolor": "none",
    }


def colours(table: Table) -> dict[tuple[str, str], str]:
    """The colour of every family: the quantizer's, lighter for the second suffix of the same quantizer."""
    spare = iter(SPARE_COLOURS)
    chosen: dict[str, str] = {}
    seen: dict[str, int] = {}
    result = {}
    for quantizer, suffix in table.families:
        if quantizer not in chosen:
            chosen[quantizer] = COLOURS.get(quantizer) or next(spare, MUTED)
        result[quantizer, suffix] = _lighter(chosen[quantizer], seen.get(quantizer, 0))
        seen[quantizer] = seen.get(quantizer, 0) + 1
    return result


def dashes(table: Table) -> dict[tuple[str, str], Any]:
    """The line style of every family, so that overlapping lines stay visible."""
    return {family: DASHES[index % len(DASHES)] for index, family in enumerate(table.families)}


def markers(table: Table) -> dict[int, str]:
    """The marker of every precision."""
    return {levels: MARKERS[index % len(MARKERS)] for index, levels in enumerate(table.levels)}


def labels(table: Table) -> dict[tuple[str, str], str]:
    """The name of every family in a legend."""
    return {family: table.label(members[0]) for family, members in table.families.items()}


def full_precision() -> Variant:
    """The variant that every other is compared with."""
    return Variant("fp32", "", None)


def log_axis(axes: Axes, which: str, low: float, high: float) -> None:
    """A logarithmic axis from `low` to `high` with plain decimal labels and at least three of them."""
    axis = getattr(axes, f"{which}axis")
    getattr(axes, f"set_{which}scale")("log")
    getattr(axes, f"set_{which}lim")(low, high)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        ticks = [step * 10.0**power for power in range(-9, 1) for step in steps]
        shown = [tick for tick in ticks if low <= tick <= high]
        if len(shown) >= 3:
            break
    axis.set_major_locator(FixedLocator(shown))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value >= 1e-4 else f"{value:.0e}"))


def accuracy_axis(axes: Axes, low: float, high: float) -> None:
    """A horizontal axis of accuracies in percent, compressed at the low end if they span more than 20 points."""
    if high - low > _WIDE:
        axes.set_xscale(
            "function", functions=(lambda x: -np.arcsinh((high - x) / _BEND), lambda u: high + _BEND * np.sinh(u))
        )
    transform = axes.xaxis.get_transform().transform
    ends = transform(np.array([low, high]))
    margin = 0.08 * max(ends[1] - ends[0], 0.2 if high - low > _WIDE else 6.0)
    limits = axes.xaxis.get_transform().inverted().transform(np.array([ends[0] - margin, ends[1] + margin]))
    axes.set_xlim(*limits)
    axes.xaxis.set_major_locator(FixedLocator(_spaced(transform, *limits)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value + 0.0:g}"))


def _spaced(transform: Callable[[np.ndarray], np.ndarray], low: float, high: float) -> list[float]:
    """Round numbers that lie at least a seventh of the axis apart, the roundest first."""
    chosen: list[float] = []
    start, stop = transform(np.array([low, high]))
    for step in (50, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1):
        for tick in step * np.arange(np.ceil(low / step), np.floor(min(high, 100.0) / step) + 1):
            gaps = [abs(transform(np.array([tick, other])) @ [1, -1]) for other in chosen]
            if min(gaps, default=np.inf) >= (stop - start) / 7:
                chosen.append(round(float(tick), 1))
    return sorted(chosen)


def _lighter(colour: str, times: int) -> str:
    """The colour mixed with white, a third more each time."""
    share = (2 / 3) ** times
    red, green, blue = (share * part + 1 - share for part in to_rgb(colour))
    return to_hex((red, green, blue))
