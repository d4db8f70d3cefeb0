"""Colours, markers and axes that all figures share.

The colours are from Okabe and Ito (Color Universal Design, 2008): people with any form of colour
blindness can distinguish them. A quantizer has the same colour in every figure of every audit.
"""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bitleak.report.results_table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:
    Axes = Any  # the page takes its colours from here without Matplotlib

INK = "#1a1a1b"
"""Text, axes and full precision; no quantizer has it, since a dark page replaces it."""

FAINT = "#d5d5d6"
"""Grid lines; replaced in dark mode likewise."""

MUTED = "#7a7a7b"
"""Chance lines, and legend keys that stand for a shape; legible on a light and on a dark page."""

COLOURS = {"rtn": "#cc79a7", "adaround": "#0072b2", "brecq": "#d55e00", "obc": "#009e73"}
SPARE_COLOURS = ("#e69f00", "#56b4e9", "#b79f00", "#8a6ed1", "#8c564b")
DASHES: tuple[Any, ...] = (
    "solid",
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
)
MARKERS = ("o", "s", "^", "D", "p", "h", "X", "P")
"""By precision, the finest first. The downward triangle is reserved for upper limits."""

CHANCE_LINE: dict[str, Any] = {"color": MUTED, "linestyle": (0, (2, 2))}
"""Style of lines at chance."""

_WIDE, _BEND = 20.0, 5.0
"""Span of accuracies from which on the axis bends, and points below the highest where it does."""

Transform = Callable[[np.ndarray], np.ndarray]


def settings() -> dict[str, Any]:
    """Return Matplotlib's settings for all figures, on top of its defaults."""
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
    """Return each family's colour: the quantizer's, lighter for each further suffix."""
    spare = iter(SPARE_COLOURS)
    of_quantizer: dict[str, str] = {}
    suffixes: dict[str, int] = {}
    palette = {}
    for quantizer, suffix in table.families:
        if quantizer not in of_quantizer:
            of_quantizer[quantizer] = COLOURS.get(quantizer) or next(spare, MUTED)
        times = suffixes.get(quantizer, 0)
        palette[quantizer, suffix] = _lighter(of_quantizer[quantizer], times)
        suffixes[quantizer] = times + 1
    return palette


def dashes(table: Table) -> dict[tuple[str, str], Any]:
    """Return each family's line style, so that overlapping lines stay visible."""
    return dict(zip(table.families, itertools.cycle(DASHES), strict=False))


def markers(table: Table) -> dict[int, str]:
    """Return the marker of each precision."""
    return dict(zip(table.levels, itertools.cycle(MARKERS), strict=False))


def labels(table: Table) -> dict[tuple[str, str], str]:
    """Return each family's name in a legend."""
    names = {}
    for family, members in table.families.items():
        names[family] = table.label(members[0])
    return names


def log_axis(axes: Axes, which: Literal["x", "y"], low: float, high: float) -> None:
    """Make an axis logarithmic, from `low` to `high`, with at least three plain decimal labels."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis = getattr(axes, f"{which}axis")
    getattr(axes, f"set_{which}scale")("log")
    getattr(axes, f"set_{which}lim")(low, high)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        ticks = np.outer(10.0 ** np.arange(-9, 1), steps).ravel()
        shown = ticks[(ticks >= low) & (ticks <= high)].tolist()
        if len(shown) >= 3:
            break
    axis.set_major_locator(FixedLocator(shown))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_decimal_label))


def accuracy_axis(axes: Axes, low: float, high: float) -> None:
    """Make the horizontal axis one of accuracies in percent.

    If they span more than 20 points, the axis is u = -asinh((high - x) / 5), which compresses its
    low end.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if high - low > _WIDE:
        axes.set_xscale("function", functions=(_bent(high), _straightened(high)))
    transform = axes.xaxis.get_transform().transform
    ends = transform(np.array([low, high]))
    margin = 0.08 * max(ends[1] - ends[0], 0.2 if high - low > _WIDE else 6.0)
    inverted = axes.xaxis.get_transform().inverted().transform
    limits = inverted(np.array([ends[0] - margin, ends[1] + margin]))
    axes.set_xlim(*limits)
    axes.xaxis.set_major_locator(FixedLocator(_spaced(transform, *limits)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_plain_label))


def _bent(high: float) -> Transform:
    return lambda x: -np.arcsinh((high - x) / _BEND)


def _straightened(high: float) -> Transform:
    return lambda u: high + _BEND * np.sinh(u)


def _decimal_label(value: float, _: object) -> str:
    return f"{value:g}" if value >= 1e-4 else f"{value:.0e}"


def _plain_label(value: float, _: object) -> str:
    return f"{value + 0.0:g}"  # no negative zero


def _spaced(transform: Transform, low: float, high: float) -> list[float]:
    """Choose round numbers that are at least a seventh of the axis apart, the roundest first."""
    chosen: list[float] = []
    places: list[float] = []
    start, stop = transform(np.array([low, high]))
    for step in (50, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1):
        first, last = np.ceil(low / step), np.floor(min(high, 100.0) / step)
        for tick in step * np.arange(first, last + 1):
            place = float(transform(np.array([tick]))[0])
            gap = min((abs(place - taken) for taken in places), default=np.inf)
            if gap >= (stop - start) / 7:
                chosen.append(round(float(tick), 1))
                places.append(float(transform(np.array([chosen[-1]]))[0]))
    return sorted(chosen)


def _lighter(colour: str, times: int) -> str:
    """Mix the colour with white, a third more each time."""
    from matplotlib.colors import to_hex, to_rgb

    share = (2 / 3) ** times
    red, green, blue = share * np.array(to_rgb(colour)) + (1 - share)
    return to_hex((red, green, blue))
