"""AUC and TPR at the headline FPR against the number of references a side, one row of panels per group of attacks."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bitleak.report.figures.style import COLOURS, DASHES, INK, MUTED, SPARE_COLOURS
from bitleak.report.format import percent, tpr_metric
from bitleak.report.power_file import PowerRow, grouped, short
from bitleak.report.results_table import ALL
from bitleak.report.summary import Summary

_PALETTE = (COLOURS["adaround"], COLOURS["brecq"], COLOURS["obc"], COLOURS["rtn"], *SPARE_COLOURS)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")


def power(rows: Sequence[PowerRow], summary: Summary) -> Figure:
    """The curves of all attacks, mean over targets, with 95 % bands.

    Args:
        rows: At least one; those of `target = all` are drawn.
        summary: Names the headline attack and FPR.
    """
    shown = [row for row in rows if row.target == ALL]
    groups = grouped(shown)
    metrics = [("auc", "AUC", 0.5), (tpr_metric(summary.headline_fpr), f"TPR at {percent(summary.headline_fpr)} FPR",
                                     summary.headline_fpr)]  # fmt: skip
    metrics = [one for one in metrics if any(row.metric == one[0] for row in shown)]
    figure = Figure(figsize=(10, 0.5 + 2.5 * len(groups)), layout="constrained")
    grid = figure.subplots(len(groups), len(metrics), sharex=True, sharey="col", squeeze=False)
    for panels, (title, attacks) in zip(grid, groups.items(), strict=True):
        for axes, (metric, label, chance) in zip(panels, metrics, strict=True):
            axes.axhline(chance, color=MUTED, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
            for index, attack in enumerate(attacks):
                _curve(axes, [row for row in shown if (row.attack, row.metric) == (attack, metric)], index, summary)
            _count_axis(axes, sorted({row.references for row in shown}))
            axes.set_ylabel(label)
        panels[0].set_title(title)
        panels[-1].legend(*panels[0].get_legend_handles_labels(), loc="center left", bbox_to_anchor=(1.01, 0.5),
                          fontsize=8.5)  # fmt: skip
    for axes in grid[-1]:
        axes.set_xlabel("references a side")
    return figure


def _curve(axes: Axes, rows: Sequence[PowerRow], index: int, summary: Summary) -> None:
    if not rows:
        return
    ordered = sorted(rows, key=lambda row: row.references)
    headline = ordered[0].attack == summary.headline_attack
    colour = INK if headline else _PALETTE[index % len(_PALETTE)]
    counts, values = [row.references for row in ordered], [row.measure.value for row in ordered]
    bounded = [row for row in ordered if row.measure.low is not None and row.measure.high is not None]
    axes.fill_between(
        [row.references for row in bounded],
        [row.measure.low or 0.0 for row in bounded],
        [row.measure.high or 0.0 for row in bounded],
        color=MUTED if headline else colour,
        alpha=0.15,
        linewidth=0,
    )
    axes.plot(
        counts,
        values,
        color=colour,
        linestyle=DASHES[index % len(DASHES)],
        marker=_MARKERS[index % len(_MARKERS)],
        markersize=4.5,
        linewidth=2.2 if headline else 1.5,
        label=short(ordered[0].attack) + (" (headline)" if headline else ""),
    )


def _count_axis(axes: Axes, counts: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator([float(count) for count in counts]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
