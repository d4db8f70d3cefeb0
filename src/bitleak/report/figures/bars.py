"""Bars of test accuracy, AUC and TPR at the headline FPR, grouped by precision.

AUC bars start at 0.5, which is chance; the others start at zero.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bitleak.core.types import Measure
from bitleak.report.figures.style import INK, MUTED, colours, full_precision, labels
from bitleak.report.format import percent, precision, tpr_metric
from bitleak.report.results_table import Table, Variant
from bitleak.report.summary import Summary

_WIDTH = 0.8
"""Share of a group's width that its bars take."""


def bars(table: Table, summary: Summary) -> Figure:
    """The bars of every variant under the headline attack and reference; of the accuracy where it is known.

    Args:
        table: The aggregated rows.
        summary: Names the headline attack, reference and FPR.
    """
    attacked = (summary.headline_attack, summary.headline_reference)
    fpr = summary.headline_fpr
    shown = [
        ("test accuracy", ("test_accuracy", "", ""), 0.0),
        ("AUC (0.5 is chance)", ("auc", *attacked), 0.5),
        (f"TPR at {percent(fpr)} FPR", (tpr_metric(fpr), *attacked), 0.0),
    ]
    if table.find(full_precision().name, "test_accuracy") is None:
        del shown[0]
    figure = Figure(figsize=(10, 2.4 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, sharex=True)
    for axes, (title, metric, base) in zip(panels, shown, strict=True):
        _panel(axes, table, metric, base=base)
        axes.set_ylabel(title)
    panels[-1].axhline(fpr, color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
    panels[-1].set_xticks(range(1 + len(table.levels)), [precision(levels) for levels in (None, *table.levels)])
    figure.legend(handles=_legend(table), loc="outside lower center", ncols=7, fontsize=9)
    return figure


def _panel(axes: Axes, table: Table, metric: tuple[str, str, str], *, base: float) -> None:
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="x", length=0)
    axes.spines["bottom"].set_visible(False)
    palette = colours(table)
    _bar(axes, table.find(full_precision().name, *metric), 0.0, INK, width=_WIDTH / max(2, len(palette)), base=base)
    for group, levels in enumerate(table.levels, start=1):
        members = [variant for variant in table.quantized if variant.levels == levels]
        for place, variant in zip(_places(members), members, strict=True):
            width = _WIDTH / len(members)
            _bar(
                axes, table.find(variant.name, *metric), group + place, palette[variant.family], width=width, base=base
            )
    axes.axhline(base, color=INK, linewidth=0.8)


def _places(members: list[Variant]) -> list[float]:
    """Centres of a group's bars around zero."""
    width = _WIDTH / len(members)
    return [width * (index - (len(members) - 1) / 2) for index in range(len(members))]


def _bar(axes: Axes, measure: Measure | None, x: float, colour: str, *, width: float, base: float) -> None:
    if measure is None:
        return
    axes.bar(x, measure.value - base, bottom=base, width=0.9 * width, color=colour)
    if measure.low is not None and measure.high is not None:
        reach = [[max(0.0, measure.value - measure.low)], [max(0.0, measure.high - measure.value)]]
        axes.errorbar(
            x,
            measure.value,
            yerr=reach,
            fmt="none",
            ecolor=MUTED if colour == INK else INK,
            elinewidth=1.1,
            capsize=2.5,
        )


def _legend(table: Table) -> list[Patch]:
    palette, names = colours(table), labels(table)
    families = [Patch(color=palette[family], label=names[family]) for family in names]
    return [Patch(color=INK, label="full precision"), *families]
