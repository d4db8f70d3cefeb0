"""Bars of test accuracy, AUC and TPR at the headline FPR, grouped by precision.

AUC bars start at 0.5, which is chance; the others start at zero.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bitleak.core.metric_names import AUC, TEST_ACCURACY, Metric
from bitleak.core.types import Measure
from bitleak.core.variants import UNQUANTIZED
from bitleak.report.figures.report_figure import FigureData, ReportFigure
from bitleak.report.figures.style import CHANCE_LINE, INK, MUTED, colours, labels
from bitleak.report.format import percent, precision_text
from bitleak.report.results_table import Table

_WIDTH = 0.8
"""Share of a group's width that its bars take."""


class Panel(NamedTuple):
    """The figure that one panel shows, and where its bars start.

    Attributes:
        title: Label of the vertical axis.
        metric: Figure of the table.
        attack: As in `Row`.
        reference: As in `Row`.
        base: Value at which bars start.
    """

    title: str
    metric: Metric
    attack: str
    reference: str
    base: float


class Bar(NamedTuple):
    """A bar and its interval.

    Attributes:
        place: Middle of the bar on the horizontal axis.
        width: Width of its place, a tenth of which stays free.
        measure: Its height.
        colour: Its colour.
    """

    place: float
    width: float
    measure: Measure
    colour: str

    @property
    def interval_colour(self) -> str:
        """Colour in which its interval can be seen."""
        return MUTED if self.colour == INK else INK

    @property
    def length(self) -> tuple[float, float] | None:
        """Lengths of the interval below and above; None if there is none."""
        value, low, high = self.measure.value, self.measure.low, self.measure.high
        if low is None or high is None:
            return None
        return max(0.0, value - low), max(0.0, high - value)


def draw_bars(data: FigureData) -> Figure:
    """Draw the bars of every variant; the accuracy has a panel if it is known."""
    table, summary = data.table, data.summary
    attack, reference = summary.headline_attack, summary.headline_reference
    fpr = summary.headline_fpr
    panels = []
    if table.find(UNQUANTIZED, TEST_ACCURACY) is not None:
        panels.append(Panel("test accuracy", TEST_ACCURACY, "", "", 0.0))
    panels.append(Panel("AUC (0.5 is chance)", AUC, attack, reference, 0.5))
    rate = Metric("tpr", fpr)
    panels.append(Panel(f"TPR at {percent(fpr)} FPR", rate, attack, reference, 0.0))

    figure = Figure(figsize=(10, 2.4 * len(panels)), layout="constrained")
    column = figure.subplots(len(panels), 1, sharex=True)
    for axes, panel in zip(column, panels, strict=True):
        _draw_panel(axes, table, panel)
        axes.set_ylabel(panel.title)
    column[-1].axhline(fpr, linewidth=1, **CHANCE_LINE)
    groups = [precision_text(levels) for levels in (None, *table.levels)]
    column[-1].set_xticks(range(len(groups)), groups)
    figure.legend(handles=_legend(table), loc="outside lower center", ncols=7, fontsize=9)
    return figure


BARS = ReportFigure(
    name="bars",
    caption="Test accuracy, AUC and TPR by the named attack and adversary, with 95 % intervals.",
    draw=draw_bars,
)


def _draw_panel(axes: Axes, table: Table, panel: Panel) -> None:
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="x", length=0)
    axes.spines["bottom"].set_visible(False)
    bars = _bars(table, panel)

    # One call per kind for all bars: Matplotlib takes ten milliseconds for each.
    axes.bar(
        [bar.place for bar in bars],
        [bar.measure.value - panel.base for bar in bars],
        bottom=panel.base,
        width=[0.9 * bar.width for bar in bars],
        color=[bar.colour for bar in bars],
    )
    for colour in (MUTED, INK):
        _draw_intervals(axes, [bar for bar in bars if bar.interval_colour == colour], colour)
    axes.axhline(panel.base, color=INK, linewidth=0.8)


def _bars(table: Table, panel: Panel) -> list[Bar]:
    """Return the bars of a panel from left to right."""
    palette = colours(table)
    bars = []

    # Full precision is a group of its own, its bar as wide as if every family had one next to it.
    full = table.find(UNQUANTIZED, panel.metric, panel.attack, panel.reference)
    if full is not None:
        bars.append(Bar(0.0, _WIDTH / max(2, len(palette)), full, INK))
    for group, levels in enumerate(table.levels, start=1):
        members = [variant for variant in table.quantized if variant.levels == levels]
        width = _WIDTH / len(members)
        for index, variant in enumerate(members):
            place = group + width * (index - (len(members) - 1) / 2)
            measure = table.find(variant, panel.metric, panel.attack, panel.reference)
            if measure is not None:
                bars.append(Bar(place, width, measure, palette[variant.family]))
    return bars


def _draw_intervals(axes: Axes, bars: Sequence[Bar], colour: str) -> None:
    shown = [bar for bar in bars if bar.length is not None]
    if not shown:
        return
    axes.errorbar(
        [bar.place for bar in shown],
        [bar.measure.value for bar in shown],
        yerr=np.transpose([bar.length for bar in shown]),
        fmt="none",
        ecolor=colour,
        elinewidth=1.1,
        capsize=2.5,
    )


def _legend(table: Table) -> list[Patch]:
    palette = colours(table)
    handles = [Patch(color=INK, label="full precision")]
    for family, label in labels(table).items():
        handles.append(Patch(color=palette[family], label=label))
    return handles
