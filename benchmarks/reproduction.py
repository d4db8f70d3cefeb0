"""The tables of docs/reproduction.md: an audit by the paper's protocol against the paper's figures
(CIFAR-100).

    python benchmarks/reproduction.py AUDIT [--attack lira-online-shrunk] [--fpr 0.01]

AUDIT is a folder that `bitleak audit` wrote. The paper's figures are those of arXiv 2512.15335 for
online LiRA at 0.1 % FPR, means of 10 targets; its adversary has references at full precision.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from findings import REFERENCES, Rows, cell, means

PAPER = {
    "fp32": (70.05, 0.3683),
    "adaround-4": (70.05, 0.3712),
    "adaround-2": (68.10, 0.2009),
    "adaround-1.58": (62.35, 0.0028),
    "brecq-4": (70.04, 0.3650),
    "brecq-2": (69.64, 0.2934),
    "brecq-1.58": (68.10, 0.0011),
    "obc-4": (70.05, 0.3647),
    "obc-2": (68.07, 0.2288),
    "obc-1.58": (65.47, 0.0189),
}
"""Test accuracy in percent and TPR at 0.1 % FPR, by variant; at 1.58 bits with a last layer at 8."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("audit", type=Path)
    parser.add_argument("--attack", default="lira-online-shrunk")
    parser.add_argument("--fpr", default="0.01")
    options = parser.parse_args()
    rows = means(options.audit)
    print("\n".join(beside(rows, options.attack, f"tpr@{options.fpr}")))
    for metric in ("auc", f"tpr@{options.fpr}"):
        print(f"\n### {metric}\n")
        print("\n".join(by_adversary(rows, options.attack, metric)))
    print("\n### All attacks, full precision\n")
    print("\n".join(attacks(rows, ("auc", "balanced_accuracy", "tpr@0.001", "tpr@0.01"))))


def beside(rows: Rows, attack: str, metric: str) -> Iterator[str]:
    """Yield the changes by each variant, in the paper and here: accuracy in points, TPR as a share
    of full precision's.
    """
    names = " | ".join(f"`{name}`" for name in REFERENCES)
    yield f"| variant | accuracy, paper | accuracy, here | share of the TPR, paper | share, here: {names} |"
    yield "|---|---|---|---|---|---|---|"
    full = rows["fp32", attack, "fp32", metric]["value"]
    for variant in variants(rows):
        accuracy = rows[variant, "", "", "test_accuracy"]
        base = rows["fp32", "", "", "test_accuracy"]["value"]
        shares = [
            rows[variant, attack, reference, metric]["value"] / full
            for reference in _known(rows, variant, attack)
        ]
        theirs, leak = PAPER.get(variant.removesuffix("+last8"), (None, None))
        cells = [
            "" if theirs is None else f"{theirs - PAPER['fp32'][0]:+.2f}",
            f"{100 * (accuracy['value'] - base):+.2f}",
            "" if leak is None else f"{leak / PAPER['fp32'][1]:.3f}",
            *[f"{share:.2f}" for share in shares],
        ]
        yield f"| {variant} | {' | '.join(cells)} |"


def by_adversary(rows: Rows, attack: str, metric: str) -> Iterator[str]:
    """Yield every variant's figure by the three adversaries, with the paired comparison with full
    precision.
    """
    names = " | ".join(f"`{name}`" for name in REFERENCES)
    yield f"| variant | test accuracy % | {names} | difference, `matched` | verdict |"
    yield "|---|---|---|---|---|---|---|"
    for variant in [*variants(rows), "control"]:
        accuracy = rows.get((variant, "", "", "test_accuracy"))
        entries = [rows.get((variant, attack, reference, metric)) for reference in REFERENCES]
        figures = [cell(row) for row in entries]
        last = entries[-1]
        compared = last is not None and last["difference"] is not None
        change = (
            f"{last['difference']:+.3f} [{last['difference_low']:+.3f}, {last['difference_high']:+.3f}]"
            if compared
            else ""
        )
        shown = "" if accuracy is None else f"{100 * accuracy['value']:.1f}"
        yield f"| {variant} | {shown} | {' | '.join(figures)} | {change} | {last['verdict'] if compared else ''} |"


def attacks(rows: Rows, metrics: tuple[str, ...]) -> Iterator[str]:
    """Yield all attacks on full precision."""
    yield f"| attack | {' | '.join(metrics)} |"
    yield f"|---|{'---|' * len(metrics)}"
    for attack in dict.fromkeys(key[1] for key in rows if key[0] == "fp32" and key[1]):
        entries = [
            rows.get(("fp32", attack, "fp32", name)) or rows.get(("fp32", attack, "", name))
            for name in metrics
        ]
        cells = ["" if row is None else f"{row['value']:.4f}" for row in entries]
        yield f"| `{attack}` | {' | '.join(cells)} |"


def variants(rows: Rows) -> list[str]:
    """Return the precisions in the order of the table, without the control."""
    return [
        name
        for name in dict.fromkeys(key[0] for key in rows if key[3] == "test_accuracy")
        if name != "control"
    ]


def _known(rows: Rows, variant: str, attack: str) -> list[str]:
    """Return the adversaries; at full precision `fp32` stands for all of them."""
    names = [name for name in REFERENCES if any(key[:3] == (variant, attack, name) for key in rows)]
    return names if len(names) == len(REFERENCES) else ["fp32"] * len(REFERENCES)


if __name__ == "__main__":
    main()
