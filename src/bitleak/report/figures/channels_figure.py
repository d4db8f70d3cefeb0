"""AUC of answers through channels: a filled marker for references that adapt, a hollow one for others."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bitleak.core.channel_names import LOGITS
from bitleak.core.metric_names import AUC
from bitleak.core.variants import FULL
from bitleak.report.channel_measures import ChannelMeasures, channel_measures
from bitleak.report.figures.report_figure import FigureData, ReportFigure
from bitleak.report.figures.style import CHANCE_LINE, INK, MARKERS, MUTED, colours
from bitleak.report.results_table import Table

_WIDTH = 0.7
"""Share of a channel's width that its markers take."""

_SHIFT = 0.15
"""Distance of an adversary's marker from the middle of the variant's place, as a share of it."""


def draw_channels(data: FigureData) -> Figure | None:
    """Draw the AUC of every variant through every channel; None without channels."""
    measures = channel_measures(data.table, data.summary)
    if measures is None:
        return None
    names: dict[str, None] = {}
    for channels in measures.channels.values():
        names.update(dict.fromkeys(channels))
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=False, axis="x")
    axes.axhline(0.5, linewidth=1, **CHANCE_LINE)

    # Markers of one channel stand next to each other, a place per variant.
    step = _WIDTH / len(measures.channels)
    handles = []
    for index, variant in enumerate(measures.channels):
        colour, marker = _colour(data.table, variant), MARKERS[index % len(MARKERS)]
        first = step * (index - (len(measures.channels) - 1) / 2)
        for adapted, shift in ((True, -_SHIFT), (False, _SHIFT)):
            places = {name: place + first + shift * step for place, name in enumerate(names)}
            _draw_points(axes, measures, variant, places, (colour, marker), adapted=adapted)
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle="none", label=variant))
    handles += _adversaries(measures)
    axes.set_xticks(range(len(names)), list(names))
    axes.set_ylabel(f"AUC by {measures.attack}")
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=9)
    return figure


CHANNELS_FIGURE = ReportFigure(
    name="channels",
    caption="AUC of the same models through coarser answers, with 95 % intervals: references that "
    "answer through the same interface (filled), and references that answer by logits (hollow).",
    draw=draw_channels,
)


def _draw_points(
    axes: Axes,
    measures: ChannelMeasures,
    variant: str,
    places: dict[str, float],
    style: tuple[str, str],
    *,
    adapted: bool,
) -> None:
    """Draw one adversary's points on one variant, with their intervals."""
    colour, marker = style
    if not adapted and not measures.kinds[variant]:
        return
    for channel in measures.channels[variant]:
        area = measures.find(variant, channel, AUC, adapted=adapted)
        if area is None or (channel == LOGITS and not adapted):
            continue
        low, high = area.low, area.high
        reach = None
        if low is not None and high is not None:
            reach = [[max(0.0, area.value - low)], [max(0.0, high - area.value)]]
        face = colour if adapted else "none"
        axes.errorbar(
            places[channel], area.value, yerr=reach, fmt=marker, color=colour,
            markerfacecolor=face, markersize=5.5, elinewidth=1.1, capsize=2.5,
        )  # fmt: skip


def _adversaries(measures: ChannelMeasures) -> list[Line2D]:
    """Return the legend's keys of both adversaries; none if the attack uses no references."""
    if not any(measures.kinds.values()):
        return []
    keys = []
    for label, face in (("adapted", MUTED), ("not adapted", "none")):
        keys.append(
            Line2D(
                [], [], color=MUTED, marker="o", linestyle="none", markerfacecolor=face, label=label
            )
        )
    return keys


def _colour(table: Table, variant: str) -> str:
    if variant == FULL:
        return INK
    palette = colours(table)
    for quantized in table.quantized:
        if str(quantized) == variant:
            return palette[quantized.family]
    return MUTED
