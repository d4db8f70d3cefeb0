"""Does the float simulation leak what the file leaks? Paired, from a finished audit of files.

    bitleak audit examples/cifar10-files.yaml --data FOLDER --store STORE --out OUT
    python benchmarks/shipped_files.py --data FOLDER --store STORE --out OUT [--samples 1000]

The first command trains and quantizes the networks, answers every file in its runtime, and attacks it.
The second prints its tables: levels, activations, bytes and accuracy of each variant with AUC and TPR
by each adversary, from OUT; and for each pair of PAIRS the largest difference of a logit and the changed
predictions of all targets, from STORE, with the differences of AUC and TPR by `matched` references on
the same records. Intervals of 95 % of the differences are from bootstrap samples of the records, which
all targets share; their verdicts are corrected over all comparisons (Holm, 5 %).
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from files import FPR
from scipy.stats import norm

from bitleak import audit as library
from bitleak.config import read_config, validate
from bitleak.engine.codecs import decode
from bitleak.engine.store import Store
from bitleak.steps.attack_targets import AttackScores

ATTACKS = ("rmia-online", "lira-online-shrunk")
ADVERSARIES = ("fp32", "recalibrated", "matched")
TPR = f"tpr@{FPR:g}"
PAIRS = {
    "obc-4-file": "obc-4",
    "obc-2-file": "obc-2",
    "obc-4-act8-file": "obc-4+act8",
    "obc-4+act8": "obc-4",
    "int8": "fp32",
    "gpfq-4": "fp32",
}
"""Each variant, and the one that it is compared with."""

Rows = dict[tuple[str, str, str, str], dict[str, str]]
"""Rows of `results.csv` about all targets, by variant, attack, reference and metric."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=Path("examples/cifar10-files.yaml"))
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=1000)
    options = parser.parse_args()
    print_figures(read_results(options.out / "results.csv"))
    print_pairs(options)


def read_results(path: Path) -> Rows:
    """Return the rows about all targets."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["target"] == "all"]
    return {(row["variant"], row["attack"], row["reference"], row["metric"]): row for row in rows}


def print_figures(rows: Rows) -> None:
    """Print a table of the variants, and one of the adversaries."""
    variants = list(dict.fromkeys(variant for variant, *_ in rows))
    variants = [name for name in variants if (name, "", "", "bytes") in rows]
    facts = ("levels_counted", "quantized_activations", "float_layers", "bytes", "test_accuracy")
    print("| variant |", " | ".join(facts), "| against fp32, by", ", ".join(ATTACKS), "|")
    for variant in variants:
        values = [rows.get((variant, "", "", fact), {}).get("value", "") for fact in facts]
        verdicts = []
        for attack in ATTACKS:
            row = rows.get((variant, attack, "matched", TPR), {})
            verdicts.append(row.get("verdict", ""))
        print(f"| {variant} | {' | '.join(values)} | {', '.join(verdicts)} |")
    for attack in ATTACKS:
        print(f"\n| {attack} | AUC: {', '.join(ADVERSARIES)} | {TPR}: likewise |")
        for variant in variants:
            cells = []
            for metric in ("auc", TPR):
                values = [figure(rows, variant, attack, kind, metric) for kind in ADVERSARIES]
                cells.append("; ".join(values))
            print(f"| {variant} | {' | '.join(cells)} |")


def figure(rows: Rows, variant: str, attack: str, reference: str, metric: str) -> str:
    """Return a value with its interval, empty if there is none."""
    row = rows.get((variant, attack, reference, metric))
    if row is None:
        return ""
    value, low, high = (float(row[key]) for key in ("value", "low", "high"))
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"


def print_pairs(options: argparse.Namespace) -> None:
    """Print the paired differences, with verdicts."""
    prepared = library.prepare(validate(read_config(options.config)), data=options.data)
    store = Store(options.store)
    splits = decode("splits", store.read_key(prepared.plan.splits))
    inside = splits.member[list(prepared.plan.targets)]

    # How often each record is drawn: once, and then as often as in each bootstrap sample.
    count = inside.shape[1]
    chance = np.random.default_rng(0)
    counts = chance.multinomial(count, np.full(count, 1 / count), options.samples)
    counts = np.concatenate([np.ones((1, count), int), counts])
    figures: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for variant in dict.fromkeys([*PAIRS, *PAIRS.values()]):
        for attack in ATTACKS:
            scores = target_scores(prepared, store, variant, attack)
            figures[variant, attack] = mean_figures(scores, inside, counts)

    lines, tests = [], []
    for variant, other in PAIRS.items():
        line = {
            "variant": variant,
            "minus": other,
            **logit_changes(prepared, store, variant, other),
        }
        for attack in ATTACKS:
            for metric, values in figures[variant, attack].items():
                change = values - figures[other, attack][metric]
                line[f"{attack}, {metric}"] = interval_text(change, sign="+")
                tests.append((line, f"{attack}, {metric}, verdict", change))
        lines.append(line)
    judge(tests)
    for line in lines:
        print("\n" + "; ".join(f"{key} {value}" for key, value in line.items()))


def target_scores(prepared: Any, store: Store, variant: str, attack: str) -> np.ndarray:
    """Return scores by matched references, targets x records; of fp32, by its references."""
    scores = prepared.plan.scores
    key = scores.get((variant, "matched"), scores.get((variant, "fp32")))
    return AttackScores.read(store.read_key(key)).of(attack)


def logit_changes(prepared: Any, store: Store, variant: str, other: str) -> dict[str, str]:
    """Return the largest difference of a logit and the changed predictions over all targets."""
    tasks = {task.label: task for task in prepared.plan.tasks}
    largest, changed, count = 0.0, 0, 0
    for row in prepared.plan.targets:
        first, second = (
            decode("outputs", store.read(tasks[f"query {name} of model {row}"]))
            for name in (variant, other)
        )
        for part in ("logits", "population_logits"):
            pair = getattr(first, part), getattr(second, part)
            largest = max(largest, float(np.abs(pair[0] - pair[1]).max()))
            changed += int((pair[0].argmax(-1) != pair[1].argmax(-1)).sum())
            count += pair[0][..., 0].size
    return {
        "largest difference of a logit": f"{largest:.2g}",
        "changed predictions": f"{changed:,} of {count:,}",
    }


def mean_figures(
    scores: np.ndarray, member: np.ndarray, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Return AUC and TPR, means over the targets, for every way of counting the records.

    Args:
        scores: Targets x records.
        member: Likewise.
        counts: How often each record counts, samples x records.
    """
    areas, rates = [], []
    for row, inside in zip(scores, member, strict=True):
        values, group = np.unique(-row, return_inverse=True)  # descending
        sums = []
        for side in (inside, ~inside):
            part = np.zeros((len(values), len(counts)))
            np.add.at(part, group[side], counts[:, side].T)
            sums.append(part)
        true, false = (part.cumsum(axis=0) for part in sums)
        # A member before a non-member counts 1, in one group with it 1/2.
        pairs = (sums[1] * (true - sums[0] / 2)).sum(axis=0)
        areas.append(pairs / (true[-1] * false[-1]))
        # Members strictly above the score of the non-member after the allowed ones.
        last = (false > np.floor(FPR * false[-1])).argmax(axis=0)
        rates.append((true - sums[0])[last, np.arange(len(counts))] / true[-1])
    return {"AUC": np.mean(areas, axis=0), f"TPR at {FPR:g}": np.mean(rates, axis=0)}


def interval_text(values: np.ndarray, sign: str = "") -> str:
    """Return a figure with its interval."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return f"{values[0]:{sign}.4f} [{low:{sign}.4f}, {high:{sign}.4f}]"


def judge(tests: list[tuple[dict[str, Any], str, np.ndarray]]) -> None:
    """Write a verdict into each line: Holm's correction over all comparisons, at 5 %."""
    sizes = []
    for _, _, values in tests:
        spread = values[1:].std()
        sizes.append(2 * norm.sf(abs(values[0]) / spread) if spread else 1.0)
    rejected = True
    for rank, index in enumerate(np.argsort(sizes)):
        line, column, values = tests[index]
        rejected = rejected and sizes[index] <= 0.05 / (len(tests) - rank)
        line[column] = (
            ("lower" if values[0] < 0 else "higher") if rejected else "not distinguishable"
        )


if __name__ == "__main__":
    main()
