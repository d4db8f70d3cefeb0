"""Verdicts on a variant that is full precision on another scale, before and after the scale is divided out.

    python benchmarks/answer_scales.py [--audits 1000] [--records 500] [--models 10] [--figures]

Every audit draws a population anew: complementary pairs of models, logits of 10 classes for records of different
difficulty and memory, 200 population records; seed = number of the audit. The variant's logits are those of full
precision times a factor, of targets and references alike, so that it leaks exactly as much: a verdict is false. It is
attacked by matched references with `rmia-online`, `reference` and `lira-online-shrunk`, and a paired interval over
records compares AUC and TPR at 1 % FPR with full precision. The table has the share of the audits with the verdict
`lower`, and `higher`, for answers as they came, for logits over a temperature, and for standardised confidences.

Two variants are checks of the other side. `same` and full precision are the same models with noise of the same size,
drawn anew, so that a verdict is false too; the logits of the true class in `less` are half as far from their mean over
the models, so that `lower` is true.

`--figures` prints, for one audit with 32 references, 10,000 records and 4 targets, AUC and TPR with their intervals.
"""

import argparse
import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bitleak.attacks import attack_view, expand
from bitleak.core.signals import signals
from bitleak.core.types import AttackView, Measure, Outputs
from bitleak.metrics import Estimates, estimate_metrics, measures_from
from bitleak.steps.answer_scale import AnswerScale, Labels, on_scale

ATTACKS = ("rmia-online", "reference", "lira-online-shrunk")
SCALES: tuple[AnswerScale, ...] = ("raw", "temperature", "standardised")
CLASSES, POPULATION, FPR, NOISE = 10, 200, 0.01, 0.3
FACTORS = {"times 4": 4.0, "times 0.6": 0.6}


class World(NamedTuple):
    """A population of models and a variant of them.

    Attributes:
        member: Who was trained on which record.
        labels: Classes of the records and of the population.
        base: Logits without noise.
        full: Logits at full precision.
    """

    member: np.ndarray
    labels: Labels
    base: np.ndarray
    full: np.ndarray


def world(seed: int, *, models: int, records: int) -> World:
    """Draw models that remember their members, some records more than others."""
    rng = np.random.default_rng(seed)
    total = records + POPULATION
    first = rng.random((models // 2, records)).argsort(axis=1) < records // 2
    member = np.stack([first, ~first], axis=1).reshape(models, records)
    labels = rng.integers(0, CLASSES, total)

    # The true class leads by an ease that differs between records, and by a memory of members.
    z = rng.normal(0.0, 1.2, (models, total, CLASSES)) + rng.normal(0.0, 1.0, (total, CLASSES))
    z[:, np.arange(total), labels] += rng.normal(4.0, 2.5, total)
    memory = rng.exponential(1.5, records)
    z[:, np.arange(records), labels[:records]] += memory * member
    base = 1.5 * z
    return World(
        member,
        Labels(labels[:records], labels[records:]),
        base,
        base + rng.normal(0.0, NOISE, base.shape),
    )


def variants(seed: int, drawn: World) -> dict[str, np.ndarray]:
    """Return the logits of every variant."""
    rng = np.random.default_rng([seed, 1])
    made = {name: factor * drawn.full for name, factor in FACTORS.items()}
    made["same"] = drawn.base + rng.normal(0.0, NOISE, drawn.base.shape)
    less = drawn.full.copy()
    records = np.arange(drawn.member.shape[1])
    mean = less[:, records, drawn.labels.pool].mean(axis=0)
    less[:, records, drawn.labels.pool] += 0.5 * (mean - less[:, records, drawn.labels.pool])
    made["less"] = less
    return made


def outputs_of(logits: np.ndarray, labels: Labels) -> list[Outputs]:
    """Return the answers of all models, with one query."""
    outputs = []
    count = len(labels.pool)
    for z in logits.astype(np.float32):
        pool, outside = z[:count], z[count:]
        outputs.append(
            Outputs(
                signals(pool, labels.pool)[:, None],
                signals(outside, labels.population)[:, None],
                np.zeros(0, np.int64),
                pool[:, None],
                outside[:, None],
            )
        )
    return outputs


def scores_of(
    logits: np.ndarray, drawn: World, targets: int, scale: AnswerScale
) -> dict[str, np.ndarray]:
    """Return the scores of every attack on the first models of the first pairs, by matched references."""
    outputs = outputs_of(logits, drawn.labels)
    scaled = on_scale(scale, (), outputs, drawn.labels).references
    scores: dict[str, list[np.ndarray]] = {name: [] for name in ATTACKS}
    for target in range(0, 2 * targets, 2):
        view = view_of(scaled, drawn, target)
        for name in ATTACKS:
            (attack,) = expand(name)
            scores[name].append(attack(view))
    return {name: np.stack(rows) for name, rows in scores.items()}


def view_of(outputs: tuple[Outputs, ...], drawn: World, target: int) -> AttackView:
    """Return the view of a target by all models but its pair."""
    rows = [row for row in range(len(outputs)) if row // 2 != target // 2]
    member = drawn.member[rows]
    return attack_view(
        target=outputs[target].signals,
        references=np.stack([outputs[row].signals for row in rows]),
        member=member,
        use=np.ones_like(member),
        population_target=outputs[target].population_signals,
        population_references=np.stack([outputs[row].population_signals for row in rows]),
        labels=drawn.labels.pool,
    )


def estimated(scores: Mapping[str, np.ndarray], member: np.ndarray) -> dict[str, Estimates]:
    """Return the figures of every attack."""
    estimates = {}
    for name, rows in scores.items():
        estimates[name] = estimate_metrics(rows, member, fprs=(FPR,), seed=0)
    return estimates


def compared(
    full: Mapping[str, Estimates], other: Mapping[str, Estimates]
) -> dict[tuple[str, str], Measure]:
    """Return the figures of a variant compared with full precision, by attack and metric."""
    figures = {}
    for name, estimates in other.items():
        measures = measures_from(estimates, mode="population", baseline=full[name])
        for metric in ("auc", f"tpr@{FPR:g}"):
            figures[name, metric] = measures.aggregate[metric]
    return figures


def audit(seed: int, *, models: int, records: int, targets: int) -> dict[tuple, Measure]:
    """Return the figures of one audit by variant, scale, attack and metric."""
    drawn = world(seed, models=models, records=records)
    member = drawn.member[: 2 * targets : 2]
    figures: dict[tuple, Measure] = {}
    made = variants(seed, drawn)
    for scale in SCALES:
        full = estimated(scores_of(drawn.full, drawn, targets, scale), member)
        for variant, logits in made.items():
            estimates = estimated(scores_of(logits, drawn, targets, scale), member)
            for key, measure in compared(full, estimates).items():
                figures[variant, scale, *key] = measure
    return figures


def print_rates(seeds: range, models: int, records: int, targets: int) -> None:
    """Print the share of audits with each verdict."""
    lower: dict[tuple, int] = {}
    higher: dict[tuple, int] = {}
    for seed in seeds:
        for key, measure in audit(seed, models=models, records=records, targets=targets).items():
            lower[key] = lower.get(key, 0) + (measure.verdict == "lower")
            higher[key] = higher.get(key, 0) + (measure.verdict == "higher")
    audits = len(seeds)
    print("| variant | attack | metric | " + " | ".join(SCALES) + " |")
    print("|---|---|---|" + "---|" * len(SCALES))
    for variant, scale, attack, metric in lower:
        if scale != SCALES[0]:
            continue
        cells = []
        for other in SCALES:
            key = variant, other, attack, metric
            cells.append(f"{lower[key] / audits:.3f}, {higher[key] / audits:.3f}")
        print(f"| {variant} | `{attack}` | `{metric}` | {' | '.join(cells)} |")


def print_figures() -> None:
    """Print the figures of one large audit."""
    drawn = world(0, models=34, records=10_000)
    member = drawn.member[:8:2]
    full = {}
    for scale in SCALES:
        full[scale] = estimated(scores_of(drawn.full, drawn, 4, scale), member)
    print("| variant | scale | attack | metric | figure | full precision | verdict |")
    print("|---|---|---|---|---|---|---|")
    for variant, factor in FACTORS.items():
        for scale in SCALES:
            estimates = estimated(scores_of(factor * drawn.full, drawn, 4, scale), member)
            for (attack, metric), measure in compared(full[scale], estimates).items():
                before = measure.value - (measure.difference or 0.0)
                print(
                    f"| {variant} | {scale} | `{attack}` | `{metric}` | {measure.value:.4f} | {before:.4f} | "
                    f"{measure.verdict} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first audit")
    parser.add_argument("--records", type=int, default=500)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--targets", type=int, default=1)
    parser.add_argument("--figures", action="store_true")
    options = parser.parse_args()
    start = time.process_time()
    if options.figures:
        print_figures()
    else:
        print_rates(
            range(options.first, options.first + options.audits),
            options.models,
            options.records,
            options.targets,
        )
    print(f"\n{time.process_time() - start:.0f} CPU seconds")


if __name__ == "__main__":
    main()
