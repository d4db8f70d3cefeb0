"""The tables of docs/findings.md, from the results of audits.

    python benchmarks/findings.py AUDIT [--dedicated OTHER] [--csv FILE]

AUDIT and OTHER are folders that `bitleak audit` wrote: of a population, and of dedicated targets of
the same size. For every attack and adversary that both have, the two are compared. `--csv` keeps
the mean AUC and TPR of every variant, attack and adversary.
"""

import argparse
import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow.parquet as pq

REFERENCES = ("fp32", "recalibrated", "matched")
KEPT = ("variant", "attack", "reference", "metric", "value", "low", "high", "difference", "verdict")
KEY = ("variant", "attack", "reference", "metric")
SHOWN = ("lira-online-shrunk", "rmia-online", "lira-offline-one_sided-shrunk")
NAMED = "lira-online-shrunk"
RATE = re.compile(r"tpr@[0-9.]+")
Z = 1.959964

Rows = dict[tuple[str, str, str, str], dict]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("audit", type=Path)
    parser.add_argument("--dedicated", type=Path)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    rows = means(options.audit)
    metrics = (
        "auc",
        *sorted({key[3] for key in rows if key[0] == "fp32" and RATE.fullmatch(key[3])}),
    )
    print("\n### The strongest pair of attack and adversary\n")
    print("\n".join(strongest(rows, metrics[-1])))
    for metric in metrics:
        print(f"\n### {metric}\n")
        print("\n".join(table(rows, metric)))
    print(f"\n### By attack, matched references: {metrics[-1]}\n")
    print("\n".join(by_attack(rows, ["fp32", "obc-4", "obc-2", "obc-1.58"], metrics[-1])))
    if options.dedicated:
        print("\n### Population and dedicated targets\n")
        print("\n".join(agreement(rows, means(options.dedicated))))
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(KEPT)
            for key, row in rows.items():
                if key[3] in metrics:
                    writer.writerow(
                        [
                            f"{row[name]:.4f}" if isinstance(row[name], float) else row[name]
                            for name in KEPT
                        ]
                    )


def means(folder: Path) -> Rows:
    """Return the rows over all targets."""
    listed = pq.read_table(folder / "results.parquet").to_pylist()
    return {tuple(row[name] or "" for name in KEY): row for row in listed if row["target"] == "all"}  # type: ignore[misc]


def strongest(rows: Rows, rate: str) -> Iterable[str]:
    """Yield the table of the strongest pair on every variant, beside the pair named beforehand."""
    kinds = [f"`{kind}`" for kind in reversed(REFERENCES)]
    heads = [
        "variant",
        "test accuracy %",
        "AUC, strongest",
        "TPR, strongest",
        *kinds,
        "against fp32",
    ]
    yield f"| {' | '.join(heads)} |"
    yield "|---|---|---|---|---|---|---|---|"
    for variant in dict.fromkeys(key[0] for key in rows):
        row = rows.get((variant, "strongest", "", rate))
        if row is None:
            continue
        named = [rows.get((variant, NAMED, kind, rate)) for kind in reversed(REFERENCES)]
        values = [f"{entry['value']:.3f}" if entry else "" for entry in named]
        area = cell(rows.get((variant, "strongest", "", "auc")))
        cells = [variant, accuracy(rows, variant), area, cell(row), *values, row["verdict"] or ""]
        yield f"| {' | '.join(cells)} |"


def table(rows: Rows, metric: str) -> Iterable[str]:
    """Yield the table of variants: every attack by the three adversaries, the last's interval."""
    heads = [f"`{attack}`: {', '.join(f'`{kind}`' for kind in REFERENCES)}" for attack in SHOWN]
    yield f"| variant | test accuracy % | {' | '.join(heads)} |"
    yield f"|---|---|{'---|' * len(SHOWN)}"
    for variant in dict.fromkeys(key[0] for key in rows):
        cells = []
        for attack in SHOWN:
            kinds = [rows.get((variant, attack, kind, metric)) for kind in ("", *REFERENCES)]
            present = [row for row in kinds if row is not None]
            values = [f"{row['value']:.3f}" for row in present[:-1]]
            cells.append(", ".join([*values, cell(present[-1])]) if present else "")
        if any(cells):
            yield f"| {variant} | {accuracy(rows, variant)} | {' | '.join(cells)} |"


def accuracy(rows: Rows, variant: str) -> str:
    """Return the test accuracy in percent; empty for controls."""
    row = rows.get((variant, "", "", "test_accuracy"))
    return f"{100 * row['value']:.1f}" if row else ""


def by_attack(rows: Rows, variants: Sequence[str], metric: str) -> Iterable[str]:
    """Yield the table of all attacks, on some variants; full precision has its own references."""
    yield f"| attack | {' | '.join(variants)} |"
    yield f"|---|{'---|' * len(variants)}"
    for attack in dict.fromkeys(
        key[1] for key in rows if key[0] == "fp32" and key[3] == metric and key[1] != "joint"
    ):
        entries = [
            next(
                filter(
                    None,
                    (
                        rows.get((variant, attack, reference, metric))
                        for reference in ("matched", "fp32", "")
                    ),
                )
            )
            for variant in variants
        ]
        yield f"| `{attack}` | {' | '.join(cell(row) for row in entries)} |"


def agreement(rows: Rows, other_rows: Rows) -> Iterable[str]:
    """Return, per metric, the number of pairs and of overlapping intervals, and the largest
    difference in standard errors.
    """
    yield "| metric | pairs | intervals that overlap | differences beyond 1.96 standard errors | largest |"
    yield "|---|---|---|---|---|"
    shared = [key for key in rows if key in other_rows and key[0] != "control" and key[1]]
    for metric in dict.fromkeys(key[3] for key in shared):
        pairs = [(rows[key], other_rows[key]) for key in shared if key[3] == metric]
        pairs = [
            pair
            for pair in pairs
            if all(row["high"] is not None and row["high"] > row["low"] for row in pair)
        ]
        if (
            (metric not in ("auc", "balanced_accuracy") and not metric.startswith("tpr@"))
            or not pairs
            or "over" in metric
        ):
            continue
        meet = sum(a["low"] <= b["high"] and b["low"] <= a["high"] for a, b in pairs)
        apart = [
            abs(a["value"] - b["value"])
            / (sum(((x["high"] - x["low"]) / 2) ** 2 for x in (a, b)) ** 0.5 / Z)
            for a, b in pairs
        ]
        yield f"| {metric} | {len(pairs)} | {meet} | {sum(distance > Z for distance in apart)} | {max(apart):.2f} |"


def cell(row: dict | None) -> str:
    """Return value and interval as text; where scores tie at the rate, the two ends of the step."""
    if row is None:
        return ""
    if row["low"] is None:
        step = row["step_value"]
        return f"{row['value']:.3f}" + (f" or {step:.3f} (tied)" if step is not None else "")
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


if __name__ == "__main__":
    main()
