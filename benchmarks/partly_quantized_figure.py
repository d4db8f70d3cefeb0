"""Leakage against the number of quantized references, drawn and as a table.

    python benchmarks/partly_quantized_figure.py "NAME=FILE" ... --out docs/figures/quantized-references.png
        [--attack lira-online-shrunk]

FILE is a CSV file of `benchmarks/partly_quantized.py`, NAME what its networks are called in the figure.
Each gets two rows of panels, AUC and TPR, with a panel per variant: k quantized references with the
others predicted, the k alone, and all references quantized as a line. Bars are two standard errors, over the
targets, of the difference from that line. The same figures are printed for every attack of the files, with those of k
alone in brackets, and r and the effective number of references per side.
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
ASIDE = {"predicted": 0.96, "alone": 1.04}
"""Factors of k, so that bars do not hide each other."""
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
    for name, _, file in tables:
        print_table(name, rows_of(Path(file)))
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
            values = rows_of(Path(file), options.attack)
            for metric, panels in zip(METRICS, axes[2 * place : 2 * place + 2], strict=True):
                draw_row(panels, values, metric)
                panels[0].set_ylabel(f"{name}\n{METRICS[metric]}")
            for panel, variant in zip(axes[2 * place], ORDER, strict=True):
                panel.set_title(variant)
        for panel in axes[-1]:
            panel.set_xlabel("quantized references")
        figure.legend(*legend(), loc="outside upper center", ncols=4)
        figure.savefig(options.out, dpi=140)


def rows_of(file: Path, attack: str | None = None) -> list[dict[str, str]]:
    """Return the rows of an attack, or of all."""
    with file.open(newline="") as opened:
        rows = [row for row in csv.DictReader(opened) if attack in (None, row["attack"])]
    if not rows:
        raise SystemExit(f"{file} has no rows of {attack}")
    return rows


def print_table(name: str, rows: list[dict[str, str]]) -> None:
    """Print AUC and TPR by attack and variant, then r and the effective number by variant."""
    counts = sorted({int(row["quantized"]) for row in rows if row["references"] == "predicted"})
    cells = {
        (row["attack"], row["variant"], row["references"], int(row["quantized"])): row
        for row in rows
    }
    full = next(int(row["quantized"]) for row in rows if row["references"] == "all")
    heads = " | ".join(f"{count} predicted (alone)" for count in counts)
    print(f"\n{name}\n\n| attack, metric | variant | fp32 | {heads} | all {full} |")
    print("|---|---|---|" + "---|" * (len(counts) + 1))
    for attack in dict.fromkeys(row["attack"] for row in rows):
        for metric, title in (("auc", "AUC"), ("tpr", "TPR")):
            for variant in ORDER:
                texts = [f"{float(cells[attack, variant, 'fp32', 0][metric]):.3f}"]
                for count in counts:
                    pair = [
                        float(cells[attack, variant, kind, count][metric])
                        for kind in ("predicted", "alone")
                    ]
                    texts.append(f"{pair[0]:.3f} ({pair[1]:.3f})")
                texts.append(f"{float(cells[attack, variant, 'all', full][metric]):.3f}")
                print(f"| `{attack}`, {title} | {variant} | {' | '.join(texts)} |")

    # r and n are those of the confidence, whatever the attack
    attack = rows[0]["attack"]
    print(f"\n| variant | {' | '.join(f'{count}: r IN, OUT; n IN, OUT' for count in counts)} |")
    print("|---|" + "---|" * len(counts))
    for variant in ORDER:
        texts = []
        for count in counts:
            row = cells[attack, variant, "predicted", count]
            r_in, r_out, n_in, n_out = (
                float(row[key]) for key in ("r_in", "r_out", "n_in", "n_out")
            )
            texts.append(f"{r_in:.2f}, {r_out:.2f}; {n_in:.1f}, {n_out:.1f}")
        print(f"| {variant} | {' | '.join(texts)} |")


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
                [ASIDE[kind] * count for count in counts],
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
