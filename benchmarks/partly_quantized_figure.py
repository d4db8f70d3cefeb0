"""Leakage against the number of quantized references, drawn.

    python benchmarks/partly_quantized_figure.py "NAME=FILE" ... --out docs/figures/quantized-references.png
        [--attack lira-online-shrunk]

FILE is a CSV file of `benchmarks/partly_quantized.py`, NAME what its networks are called in the figure.
Each gets two rows of panels, AUC and TPR, with a panel per variant: k quantized references with the
others predicted, the k alone, and all references quantized as a line. Bars are two standard errors, over the
targets, of the difference from that line.
"""

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from bitleak.report.figures.style import COLOURS, INK, MUTED, settings

ORDER = ("adaround-2", "adaround-1.58", "brecq-1.58", "obc-1.58", "rtn-4")
METRICS = {"auc": "AUC", "tpr": "TPR at 1 % FPR, %"}
STYLES = {
    "predicted": {"marker": "o", "linestyle": "solid"},
    "alone": {"marker": "o", "linestyle": (0, (4, 2)), "markerfacecolor": "white"},
}


def main() -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--out", type=Path, default=Path("docs/figures/quantized-references.png"))
    parser.add_argument("--attack", default="lira-online-shrunk")
    options = parser.parse_args()
    tables = [table.partition("=") for table in options.tables]
    rows = 2 * len(tables)
    with plt.rc_context(settings() | {"font.size": 9, "axes.titlesize": 9.5}):
        figure, axes = plt.subplots(
            rows,
            len(ORDER),
            figsize=(9.6, 1.75 * rows + 0.7),
            sharex="row",
            sharey="row",
            squeeze=False,
            layout="constrained",
        )
        for place, (name, _, file) in enumerate(tables):
            values = of_attack(Path(file), options.attack)
            for metric, panels in zip(METRICS, axes[2 * place : 2 * place + 2], strict=True):
                draw_row(panels, values, metric)
                panels[0].set_ylabel(f"{name}\n{METRICS[metric]}")
            for panel, variant in zip(axes[2 * place], ORDER, strict=True):
                panel.set_title(variant)
        for panel in axes[-1]:
            panel.set_xlabel("quantized references")
        figure.legend(*legend(), loc="outside upper center", ncols=4)
        figure.savefig(options.out, dpi=160)


def of_attack(file: Path, attack: str) -> list[dict[str, str]]:
    """Return the rows of an attack."""
    with file.open(newline="") as opened:
        rows = [row for row in csv.DictReader(opened) if row["attack"] == attack]
    if not rows:
        raise SystemExit(f"{file} has no rows of {attack}")
    return rows


def draw_row(panels: list[Axes], rows: list[dict[str, str]], metric: str) -> None:
    """Draw a panel per variant."""
    scale = 100 if metric == "tpr" else 1
    for panel, variant in zip(panels, ORDER, strict=True):
        of_variant = [row for row in rows if row["variant"] == variant]
        colour = COLOURS[variant.partition("-")[0]]
        ends = {row["references"]: scale * float(row[metric]) for row in of_variant}
        panel.axhline(ends["all"], color=INK, linewidth=1)
        panel.axhline(ends["fp32"], color=MUTED, linestyle=(0, (1, 1.5)), linewidth=1)
        for kind, style in STYLES.items():
            points = [row for row in of_variant if row["references"] == kind]
            counts = [int(row["quantized"]) for row in points]
            heights = [scale * float(row[metric]) for row in points]
            errors = [2 * scale * float(row[f"{metric}_error"]) for row in points]
            panel.errorbar(
                counts,
                heights,
                errors,
                color=colour,
                markersize=4.5,
                linewidth=1.3,
                elinewidth=0.8,
                **style,
            )
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_locator(FixedLocator(counts))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xticklabels([str(count) for count in counts])
        panel.set_xlim(counts[0] / 1.35, counts[-1] * 1.35)
        panel.yaxis.set_major_locator(MaxNLocator(4))
        panel.grid(visible=False, axis="x")


def legend() -> tuple[list, list[str]]:
    """Return the keys and their texts."""
    line = matplotlib.lines.Line2D
    keys = [
        line([], [], color=INK, linewidth=1),
        line([], [], color=MUTED, markersize=4.5, **STYLES["predicted"]),
        line([], [], color=MUTED, markersize=4.5, **STYLES["alone"]),
        line([], [], color=MUTED, linestyle=(0, (1, 1.5)), linewidth=1),
    ]
    return keys, ["all references quantized", "k, the others predicted", "k alone", "none (fp32)"]


if __name__ == "__main__":
    main()
