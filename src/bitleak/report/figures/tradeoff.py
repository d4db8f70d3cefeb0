"""The trade-off: test accuracy against TPR at the headline FPR, one panel per kind of reference.

Both axes carry the 95 % intervals of the table. The vertical axis is logarithmic, so a TPR of zero
has no place on it: it is drawn as an upper limit, a hollow marker at the upper end of its interval
with an arrow pointing down. Noise of a variant's accuracy, if it was measured, is a cross that a
dotted line joins to the variant.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bitleak.core.metric_names import NOISE_SCALE, TEST_ACCURACY, Metric
from bitleak.core.types import Measure
from bitleak.core.variants import CONTROLS, UNQUANTIZED, Variant, noise_like
from bitleak.report.figures.report_figure import FigureData, ReportFigure
from bitleak.report.figures.style import (
    CHANCE_LINE,
    INK,
    MUTED,
    accuracy_axis,
    colours,
    dashes,
    labels,
    log_axis,
    markers,
)
from bitleak.report.format import REFERENCE_TITLES, percent, precision_text
from bitleak.report.results_table import Table
from bitleak.report.summary import Summary

CROSS: dict[str, Any] = {
    "marker": "x",
    "markersize": 6.0,
    "markeredgewidth": 1.4,
    "linestyle": "none",
}
"""Marker of noise of a variant's accuracy."""


@dataclass(frozen=True)
class Point:
    """One variant in one panel: accuracy and TPR as shares.

    Attributes:
        accuracy: Test accuracy.
        rate: TPR at the headline FPR.
    """

    accuracy: Measure
    rate: Measure

    @property
    def height(self) -> float:
        """Height of the marker: the TPR, or its upper limit if it is zero."""
        return self.rate.value if self.measured else (self.rate.high or 0.0)

    @property
    def measured(self) -> bool:
        """Whether the TPR is above zero."""
        return self.rate.value > 0


def draw_tradeoff(data: FigureData) -> Figure | None:
    """Draw the trade-off; None if no accuracy is known.

    If a variant collapses, the accuracies span so wide a range that all others would be one blot: the
    horizontal axis is then compressed towards the low end, by an inverse hyperbolic sine.
    """
    table, summary = data.table, data.summary
    if table.find(UNQUANTIZED, TEST_ACCURACY) is None:
        return None
    references = table.references(summary.headline_attack)
    size = (10, 4.9) if len(references) > 1 else (7.5, 5.2)
    figure = Figure(figsize=size, layout="constrained")
    columns = max(1, len(references))
    panels = figure.subplots(1, columns, sharex=True, sharey=True, squeeze=False)[0]

    # All panels share both axes, so that adversaries can be compared by eye.
    bottom, top = _rate_limits(table, summary, references)
    low, high = _accuracy_limits(table)
    for axes, reference in zip(panels, references, strict=False):
        log_axis(axes, "y", bottom, top)
        accuracy_axis(axes, low, high)
        _draw_panel(axes, table, summary, reference)
        axes.set_title(REFERENCE_TITLES[reference])
        bent = axes.get_xscale() == "function"
        axes.set_xlabel("test accuracy (%)" + (", non-linear scale" if bent else ""))
    panels[0].set_ylabel(f"TPR at {percent(summary.headline_fpr)} FPR (log scale)")

    handles = _legend(table, limits=_has_limits(table, summary, references))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=9)
    return figure


TRADEOFF = ReportFigure(
    name="tradeoff",
    caption="Test accuracy against leakage, with 95 % intervals in both directions: up and to the left is worse. "
    "One panel per adversary. Lines join the precisions of a quantizer; a hollow marker with an "
    "arrow is a TPR of zero, drawn at the upper end of its interval. A cross, joined to a variant "
    "by a dotted line, is full precision with weight noise of the variant's accuracy.",
    draw=draw_tradeoff,
)


def _point(table: Table, summary: Summary, variant: Variant, reference: str) -> Point | None:
    """The variant's place in a panel; None if it was not measured."""
    metric = Metric("tpr", summary.headline_fpr)
    accuracy = table.find(variant, TEST_ACCURACY)
    rate = table.find(variant, metric, summary.headline_attack, reference)
    return None if accuracy is None or rate is None else Point(accuracy, rate)


def _noise_point(table: Table, summary: Summary, variant: Variant, reference: str) -> Point | None:
    """The place of full precision with noise as costly as the variant; None if there is none."""
    noise = Variant.parse(noise_like(str(variant)))
    scale = table.find(noise, NOISE_SCALE)
    if scale is None or scale.value == 0:
        return None
    return _point(table, summary, noise, reference)


def _points(table: Table, summary: Summary, references: Sequence[str]) -> Iterator[Point]:
    """The places of full precision and of all quantized variants in all panels."""
    for variant in (UNQUANTIZED, *table.quantized):
        for reference in references:
            point = _point(table, summary, variant, reference)
            if point is not None:
                yield point


def _noise_points(table: Table, summary: Summary, references: Sequence[str]) -> Iterator[Point]:
    for variant in table.quantized:
        for reference in references:
            point = _noise_point(table, summary, variant, reference)
            if point is not None:
                yield point


def _rate_limits(table: Table, summary: Summary, references: Sequence[str]) -> tuple[float, float]:
    """Ends of the vertical axis: all markers and the chance line, with room for an arrow below."""
    lowest = highest = summary.headline_fpr
    points = list(_points(table, summary, references))
    points += _noise_points(table, summary, references)
    for point in points:
        highest = max(highest, point.height, point.rate.high or 0.0)
        if point.height > 0:
            lowest = min(lowest, point.height)
    return lowest / 2.5, min(1.3, 1.3 * highest)


def _accuracy_limits(table: Table) -> tuple[float, float]:
    """Ends of all intervals of the test accuracy, in percent."""
    lows, highs = [], []
    for (variant, _, _, metric), measure in table.cells.items():
        if metric == str(TEST_ACCURACY) and variant not in CONTROLS:
            lows.append(measure.value if measure.low is None else measure.low)
            highs.append(measure.value if measure.high is None else measure.high)
    return 100 * min(lows, default=0.0), 100 * max(highs, default=1.0)


def _draw_panel(axes: Axes, table: Table, summary: Summary, reference: str) -> None:
    axes.axhline(summary.headline_fpr, linewidth=1, zorder=1, **CHANCE_LINE)
    shapes, palette, styles = markers(table), colours(table), dashes(table)
    for family, members in table.families.items():
        colour = palette[family]

        # One line joins the precisions of a family.
        shown: list[tuple[Variant, Point]] = []
        for variant in members:
            point = _point(table, summary, variant, reference)
            if point is not None and point.height > 0:
                shown.append((variant, point))
        accuracies = [100 * point.accuracy.value for _, point in shown]
        heights = [point.height for _, point in shown]
        axes.plot(accuracies, heights, color=colour, linestyle=styles[family], linewidth=1.4,
                  zorder=2)  # fmt: skip

        # A dotted line joins each variant to noise of its accuracy.
        _draw_intervals(axes, [point for _, point in shown], colour)
        for variant, point in shown:
            _mark(axes, point, colour, shapes[variant.levels or 0], size=6.0)
            noise = _noise_point(table, summary, variant, reference)
            if noise is not None and noise.height > 0:
                across = [100 * point.accuracy.value, 100 * noise.accuracy.value]
                along = [point.height, noise.height]
                axes.plot(across, along, color=colour, linestyle=(0, (1, 1.5)), linewidth=1,
                          zorder=2.2)  # fmt: skip
                axes.plot(across[1:], along[1:], color=colour, zorder=2.9, **CROSS)
    full = _point(table, summary, UNQUANTIZED, reference)
    if full is not None and full.height > 0:
        _draw_intervals(axes, [full], INK)
        _mark(axes, full, INK, "*", size=17.0)


def _mark(axes: Axes, point: Point, colour: str, shape: str, *, size: float) -> None:
    """Draw a marker, hollow for an upper limit."""
    face, layer = colour if point.measured else "none", 2.8 if shape == "*" else 3.0
    style: dict[str, Any] = {"color": colour, "markerfacecolor": face, "zorder": layer}
    x, y = [100 * point.accuracy.value], [point.height]
    axes.plot(x, y, marker=shape, markersize=size, markeredgewidth=1.2, linestyle="none", **style)


def _draw_intervals(axes: Axes, points: Sequence[Point], colour: str) -> None:
    """Draw the error bars of points of one colour, or arrows for upper limits.

    One call for all points: Matplotlib takes ten milliseconds for each.
    """
    style: dict[str, Any] = {"color": colour, "ecolor": colour, "elinewidth": 0.9, "zorder": 2.5}
    bottom = axes.get_ylim()[0]
    across, along = [], []
    for point in points:
        x, y = 100 * point.accuracy.value, point.height
        if (length := _bar_length(point.accuracy, 100.0)) is not None:
            across.append((x, y, *length))
        # A bar that would leave the axis ends at its edge; an arrow has a fixed length.
        cut = Measure(y, low=max(point.rate.low or bottom, bottom), high=point.rate.high)
        length = _bar_length(cut, 1.0) if point.measured else (y / 2.2, 0.0)
        if length is not None:
            along.append((x, y, *length, not point.measured))
    if across:
        xs, ys, below, above = map(list, zip(*across, strict=True))
        axes.errorbar(xs, ys, xerr=[below, above], fmt="none", **style)
    if along:
        xs, ys, below, above, limits = map(list, zip(*along, strict=True))
        axes.errorbar(xs, ys, yerr=[below, above], uplims=limits, fmt="none", **style)


def _bar_length(measure: Measure, factor: float) -> tuple[float, float] | None:
    """Return the lengths of an error bar to both sides; None if there is no interval."""
    if measure.low is None or measure.high is None:
        return None
    below = factor * max(0.0, measure.value - measure.low)
    above = factor * max(0.0, measure.high - measure.value)
    return below, above


def _has_limits(table: Table, summary: Summary, references: Sequence[str]) -> bool:
    return any(point.rate.value <= 0 for point in _points(table, summary, references))


def _has_noise(table: Table) -> bool:
    for variant in table.quantized:
        scale = table.find(noise_like(str(variant)), NOISE_SCALE)
        if scale is not None and scale.value > 0:
            return True
    return False


def _legend(table: Table, *, limits: bool) -> list[Artist]:
    palette, styles = colours(table), dashes(table)
    handles: list[Artist] = []
    for family, label in labels(table).items():
        line = Line2D([], [], color=palette[family], linestyle=styles[family], label=label)
        handles.append(line)
    handles.append(_key(INK, "full precision", marker="*", markersize=12, linestyle="none"))
    for levels, shape in markers(table).items():
        handles.append(
            _key(MUTED, precision_text(levels), marker=shape, markersize=7, linestyle="none")
        )
    if limits:
        hollow = _key(MUTED, "hollow: TPR 0, upper limit", marker="o", markersize=6,
                      linestyle="none", markerfacecolor="none")  # fmt: skip
        handles.append(hollow)
    if _has_noise(table):
        handles.append(_key(MUTED, "noise of equal accuracy", **CROSS))
    chance = Line2D([], [], linewidth=1, label="chance (TPR = FPR)", **CHANCE_LINE)
    return [*handles, chance]


def _key(colour: str, label: str, **style: Any) -> Line2D:
    return Line2D([], [], color=colour, label=label, **style)
