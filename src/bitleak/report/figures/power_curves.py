"""AUC and TPR at the headline FPR against the number of references per side.

There is one row of panels per group of attacks, in the order of `_GROUPS`.
"""

from collections.abc import Iterable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bitleak.core.metric_names import AUC, Metric
from bitleak.report.figures.report_figure import FigureData, ReportFigure
from bitleak.report.figures.style import (
    CHANCE_LINE,
    COLOURS,
    DASHES,
    INK,
    MUTED,
    SPARE_COLOURS,
)
from bitleak.report.format import percent
from bitleak.report.power_file import PowerRow
from bitleak.report.results_table import ALL

_GROUPS = {
    "LiRA online": "lira-online",
    "LiRA offline, one-sided": "lira-offline-one_sided",
    "LiRA offline, two-sided": "lira-offline-two_sided",
    "RMIA": "rmia",
    "difficulty calibration": "calibrated",
}
"""Attacks that are drawn together, by how their names begin; the rest is a group of its own."""

REST = "other attacks"

_PALETTE = (COLOURS["adaround"], COLOURS["brecq"], COLOURS["obc"], COLOURS["rtn"], *SPARE_COLOURS)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")


def draw_power(data: FigureData) -> Figure | None:
    """Draw the mean curves of all attacks with 95 % bands; None if power was not measured."""
    if not data.power:
        return None
    fpr = data.summary.headline_fpr
    shown = [row for row in data.power if row.target == ALL]
    groups = grouped(row.attack for row in shown)

    # An FPR that needs more non-members than there are has no TPR, and so no column of panels.
    measured = {row.metric for row in shown}
    columns: list[tuple[Metric, str, float]] = []
    for column in ((AUC, "AUC", 0.5), (Metric("tpr", fpr), f"TPR at {percent(fpr)} FPR", fpr)):
        if str(column[0]) in measured:
            columns.append(column)
    size = (10, 0.5 + 2.5 * len(groups))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(groups), len(columns), sharex=True, sharey="col", squeeze=False)

    for panels, (title, attacks) in zip(grid, groups.items(), strict=True):
        for axes, (metric, label, chance) in zip(panels, columns, strict=True):
            axes.axhline(chance, linewidth=1, zorder=1, **CHANCE_LINE)
            curves = _curves(shown, metric)
            for index, attack in enumerate(attacks):
                headline = attack == data.summary.headline_attack
                _draw_curve(axes, curves.get(attack, []), index, headline=headline)
            _count_axis(axes, sorted({row.references for row in shown}))
            axes.set_ylabel(label)
        panels[0].set_title(title)
        keys = panels[0].get_legend_handles_labels()
        panels[-1].legend(*keys, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5)
    for axes in grid[-1]:
        axes.set_xlabel("references per side")
    return figure


POWER = ReportFigure(
    name="power",
    caption="AUC and TPR at the headline FPR on full-precision targets by the number of reference models per side, "
    "for every attack that uses references, mean over targets with 95 % bands. All attacks are "
    "given the same references, and smaller sets are parts of larger ones. An attack has no point "
    "at a number of references that is too small for it.",
    draw=draw_power,
    section="power",
)


def grouped(attacks: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return attacks by the group in which they are drawn, without empty groups.

    Example:
        >>> grouped(["rmia-online", "reference", "rmia-offline", "rmia-online"])
        {'RMIA': ('rmia-online', 'rmia-offline'), 'other attacks': ('reference',)}
    """
    groups: dict[str, tuple[str, ...]] = dict.fromkeys((*_GROUPS, REST), ())
    for attack in dict.fromkeys(attacks):
        title = _group_of(attack)
        groups[title] = (*groups[title], attack)
    return {title: names for title, names in groups.items() if names}


def short_name(attack: str) -> str:
    """Return an attack's name without the part that its group's title repeats.

    Example:
        >>> short_name("lira-offline-one_sided-fixed"), short_name("reference")
        ('fixed', 'reference')
    """
    start = _GROUPS.get(_group_of(attack), "")
    return attack.removeprefix(f"{start}-") if start else attack


def _group_of(attack: str) -> str:
    for title, start in _GROUPS.items():
        if attack.startswith(start):
            return title
    return REST


def _curves(rows: Iterable[PowerRow], metric: Metric) -> Mapping[str, Sequence[PowerRow]]:
    """The rows of a metric by attack, from few to many references."""
    curves: dict[str, list[PowerRow]] = {}
    for row in sorted(rows, key=lambda row: row.references):
        if row.metric == str(metric):
            curves.setdefault(row.attack, []).append(row)
    return curves


def _draw_curve(axes: Axes, rows: Sequence[PowerRow], index: int, *, headline: bool) -> None:
    if not rows:
        return
    colour = INK if headline else _PALETTE[index % len(_PALETTE)]

    # A figure without an interval is a point without a band.
    counts, lows, highs = [], [], []
    for row in rows:
        if row.measure.low is not None and row.measure.high is not None:
            counts.append(row.references)
            lows.append(row.measure.low)
            highs.append(row.measure.high)
    shade = MUTED if headline else colour
    axes.fill_between(counts, lows, highs, color=shade, alpha=0.15, linewidth=0)

    axes.plot(
        [row.references for row in rows],
        [row.measure.value for row in rows],
        color=colour,
        linestyle=DASHES[index % len(DASHES)],
        marker=_MARKERS[index % len(_MARKERS)],
        markersize=4.5,
        linewidth=2.2 if headline else 1.5,
        label=short_name(rows[0].attack) + (" (headline)" if headline else ""),
    )


def _count_axis(axes: Axes, counts: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
