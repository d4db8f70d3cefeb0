"""The trade-off: test accuracy against TPR at the headline FPR, one panel per kind of reference.

Both axes carry the 95 % intervals of the table. The vertical axis is logarithmic, so a TPR of zero
has no place on it: it is drawn as an upper limit, a hollow marker at the upper end of its interval
with an arrow pointing down. Noise of a variant's accuracy, where it was measured, is a cross that a dotted
line joins to the variant.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bitleak.core.types import Measure
from bitleak.core.variants import noise_like
from bitleak.report.figures.style import (
    INK,
    MUTED,
    accuracy_axis,
    colours,
    dashes,
    full_precision,
    labels,
    log_axis,
    markers,
)
from bitleak.report.format import REFERENCE_TITLES, percent, precision, tpr_metric
from bitleak.report.results_table import CONTROL, Table, Variant
from bitleak.report.summary import Summary

CROSS: dict[str, Any] = {"marker": "x", "markersize": 6.0, "markeredgewidth": 1.4, "linestyle": "none"}
"""Noise of a variant's accuracy."""


@dataclass(frozen=True)
class Point:
    """One variant in one panel: accuracy in percent, TPR as a share.

    Attributes:
        accuracy: Test accuracy.
        rate: TPR at the headline FPR.
    """

    accuracy: Measure
    rate: Measure

    @property
    def height(self) -> float:
        """Where the marker goes: the TPR, or its upper limit where it is zero."""
        return self.rate.value if self.rate.value > 0 else (self.rate.high or 0.0)


def tradeoff(table: Table, summary: Summary) -> Figure:
    """The trade-off figure.

    Where a variant collapses, the accuracies span so much that all others would be one blot: the
    horizontal axis is then compressed towards the low end, by an inverse hyperbolic sine.

    Args:
        table: The aggregated rows.
        summary: Names the headline attack and FPR.
    """
    references = table.references(summary.headline_attack)
    figure = Figure(figsize=(10, 4.9) if len(references) > 1 else (7.5, 5.2), layout="constrained")
    panels = figure.subplots(1, max(1, len(references)), sharex=True, sharey=True, squeeze=False)[0]
    bottom, top = _limits(table, summary, references)
    low, high = _accuracies(table)
    for axes, reference in zip(panels, references, strict=False):
        log_axis(axes, "y", bottom, top)
        accuracy_axis(axes, low, high)
        _panel(axes, table, summary, reference)
        axes.set_title(REFERENCE_TITLES[reference])
        axes.set_xlabel(
            "test accuracy (%), non-linear scale" if axes.get_xscale() == "function" else "test accuracy (%)"
        )
    panels[0].set_ylabel(f"TPR at {percent(summary.headline_fpr)} FPR (log scale)")
    figure.legend(
        handles=_legend(table, limits=_has_limits(table, summary, references)),
        loc="outside lower center",
        ncols=5,
        fontsize=9,
    )
    return figure


def point(table: Table, summary: Summary, variant: Variant, reference: str) -> Point | None:
    """Where the variant lies; None where it was not measured."""
    accuracy = table.find(variant.name, "test_accuracy")
    rate = table.find(variant.name, tpr_metric(summary.headline_fpr), summary.headline_attack, reference)
    return None if accuracy is None or rate is None else Point(accuracy, rate)


def noise_point(table: Table, summary: Summary, variant: Variant, reference: str) -> Point | None:
    """Where full precision with noise as costly as the variant lies; None where there is none or none is needed."""
    scale = table.find(noise_like(variant.name), "noise_scale")
    if scale is None or scale.value == 0:
        return None
    return point(table, summary, Variant(noise_like(variant.name), "", None), reference)


def _limits(table: Table, summary: Summary, references: Iterable[str]) -> tuple[float, float]:
    """Ends of the vertical axis: all markers and the chance line, with room for an arrow below."""
    variants = [full_precision(), *table.quantized]
    points = [point(table, summary, variant, reference) for variant in variants for reference in references]
    points += [noise_point(table, summary, variant, kind) for variant in table.quantized for kind in references]
    heights = [found.height for found in points if found and found.height > 0] + [summary.headline_fpr]
    tops = [found.rate.high or found.height for found in points if found]
    return min(heights) / 2.5, min(1.3, 1.3 * max([*tops, *heights]))


def _accuracies(table: Table) -> tuple[float, float]:
    """Ends of all intervals of the test accuracy, in percent."""
    cells = [cell for key, cell in table.cells.items() if key[3] == "test_accuracy" and key[0] != CONTROL]
    lows = [cell.value if cell.low is None else cell.low for cell in cells]
    highs = [cell.value if cell.high is None else cell.high for cell in cells]
    return 100 * min(lows, default=0.0), 100 * max(highs, default=1.0)


def _panel(axes: Axes, table: Table, summary: Summary, reference: str) -> None:
    axes.axhline(summary.headline_fpr, color=MUTED, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
    shapes, palette, styles = markers(table), colours(table), dashes(table)
    for family, members in table.families.items():
        found = [(variant, point(table, summary, variant, reference)) for variant in members]
        shown = [(variant, spot) for variant, spot in found if spot is not None and spot.height > 0]
        places = [100 * spot.accuracy.value for _, spot in shown], [spot.height for _, spot in shown]
        axes.plot(*places, color=palette[family], linestyle=styles[family], linewidth=1.4, zorder=2)
        for variant, spot in shown:
            _mark(axes, spot, palette[family], shapes[variant.levels or 0], size=6.0)
            noise = noise_point(table, summary, variant, reference)
            if noise is not None and noise.height > 0:
                ends = [100 * each.accuracy.value for each in (spot, noise)], [spot.height, noise.height]
                axes.plot(*ends, color=palette[family], linestyle=(0, (1, 1.5)), linewidth=1, zorder=2.2)
                axes.plot(*[[end[1]] for end in ends], color=palette[family], zorder=2.9, **CROSS)
    full = point(table, summary, full_precision(), reference)
    if full is not None and full.height > 0:
        _mark(axes, full, INK, "*", size=17.0)


def _mark(axes: Axes, spot: Point, colour: str, shape: str, *, size: float) -> None:
    """A marker with its error bars, or an upper limit."""
    measured = spot.rate.value > 0
    x, y, bottom = 100 * spot.accuracy.value, spot.height, axes.get_ylim()[0]
    across = _bar(spot.accuracy, 100.0)
    along = _bar(Measure(y, low=max(spot.rate.low or bottom, bottom), high=spot.rate.high), 1.0)
    reach = along if measured else [[y / 2.2], [0.0]]
    style: dict[str, Any] = {"color": colour, "ecolor": colour, "elinewidth": 0.9, "zorder": 2.5}
    axes.errorbar(x, y, yerr=reach, xerr=across, uplims=not measured, fmt="none", **style)
    face, layer = colour if measured else "none", 2.8 if shape == "*" else 3.0
    style = {"color": colour, "markerfacecolor": face, "markeredgewidth": 1.2, "zorder": layer}
    axes.plot([x], [y], marker=shape, markersize=size, linestyle="none", **style)


def _bar(measure: Measure, factor: float) -> list[list[float]] | None:
    """Lengths of an error bar to both sides; None where there is no interval."""
    if measure.low is None or measure.high is None:
        return None
    return [[factor * max(0.0, measure.value - measure.low)], [factor * max(0.0, measure.high - measure.value)]]


def _has_limits(table: Table, summary: Summary, references: Iterable[str]) -> bool:
    variants = [full_precision(), *table.quantized]
    points = [point(table, summary, variant, reference) for variant in variants for reference in references]
    return any(found is not None and found.rate.value <= 0 for found in points)


def _has_noise(table: Table) -> bool:
    scales = [table.find(noise_like(variant.name), "noise_scale") for variant in table.quantized]
    return any(scale is not None and scale.value > 0 for scale in scales)


def _legend(table: Table, *, limits: bool) -> list[Artist]:
    palette, styles, names = colours(table), dashes(table), labels(table)
    lines = [Line2D([], [], color=palette[family], linestyle=styles[family], label=names[family]) for family in names]
    shapes = [
        Line2D([], [], color=MUTED, marker=shape, markersize=7, linestyle="none", label=precision(levels))
        for levels, shape in markers(table).items()
    ]
    hollow: dict[str, Any] = {"marker": "o", "markersize": 6, "linestyle": "none", "markerfacecolor": "none"}
    return [
        *lines,
        Line2D([], [], color=INK, marker="*", markersize=12, linestyle="none", label="full precision"),
        *shapes,
        *([Line2D([], [], color=MUTED, label="hollow: TPR 0, upper limit", **hollow)] if limits else []),
        *([Line2D([], [], color=MUTED, label="noise of equal accuracy", **CROSS)] if _has_noise(table) else []),
        Line2D([], [], color=MUTED, linestyle=(0, (2, 2)), linewidth=1, label="chance (TPR = FPR)"),
    ]
