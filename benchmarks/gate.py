"""Wrong passes and fails of `bitleak check`, and its power, where the truth is known.

    python benchmarks/gate.py [--audits 1000] [--world one population trainings] [--kind max margin]
                              [--figure auc tpr@0.01 test_accuracy]

Scores of non-members are standard normal, those of members are shifted so that the true figure is
the limit itself (wrong passes and wrong fails: each at most 5 %), or better than it by a margin
(power of a pass). Worlds:

- `one`: one target, 1,000 members and 1,000 non-members.
- `population`: 8 targets on the same 2,000 records, each a member of half of the targets; a third of
  a score's variance belongs to the record.
- `trainings`: 8 dedicated targets on records of their own, whose shifts vary by a tenth around the
  shift of the limit.

With `--kind margin` the limit is on the difference from full precision, which is the margin itself
(wrong passes and fails) or 0 (power): AUC, TPR, and the loss of test accuracy on 2,000 test records.
Full precision's noise and a variant's correlate by 0.9 beyond what belongs to the record.
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr, ndtri

from bitleak import metrics
from bitleak.core.release_limits import Limit
from bitleak.core.types import Measure, SplitMode
from bitleak.metrics.verdicts import LEVEL
from bitleak.report.release_gate import evaluate_limit

WORLDS = ("one", "population", "trainings")
RECORDS, TARGETS, FPR = 2000, 8, 0.01
SHARED = 1 / 3
VARIED = 0.1

LIMITS = {"auc": (0.55, 0.6, 0.8), f"tpr@{FPR:g}": (0.02, 0.05, 0.2)}
MARGINS = {"auc": 0.03, f"tpr@{FPR:g}": 0.015}

ALIKE = 0.9
COMPARED = {
    "auc": ((0.55, 0.02), (0.7, 0.02)),
    f"tpr@{FPR:g}": ((0.03, 0.02), (0.1, 0.02)),
    "test_accuracy": ((0.9, 0.01), (0.99, 0.01)),
}
"""Full precision's figure and the margin, by figure."""


def shift_of(metric: str, value: float) -> float:
    """Return the shift of members at which two normal distributions have this figure."""
    if metric == "auc":
        return float(np.sqrt(2) * ndtri(value))
    return float(ndtri(value) - ndtri(FPR))


def true_value(metric: str, shifts: np.ndarray) -> float:
    """Return the mean figure of these shifts."""
    values = ndtr(shifts / np.sqrt(2)) if metric == "auc" else ndtr(shifts + ndtri(FPR))
    return float(np.mean(values))


def draw(
    world: str, shift: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, SplitMode]:
    """Return scores, membership and mode of one audit."""
    targets = 1 if world == "one" else TARGETS
    member = np.stack([rng.permutation(RECORDS) < RECORDS // 2 for _ in range(targets)])
    noise = rng.normal(size=member.shape)
    shifts = np.full((targets, 1), shift)
    if world == "population":
        noise = np.sqrt(SHARED) * rng.normal(size=RECORDS) + np.sqrt(1 - SHARED) * noise
    if world == "trainings":
        shifts = shift * (1 + VARIED * rng.normal(size=(targets, 1)))
    return noise + shifts * member, member, "dedicated" if world == "trainings" else "population"


def rates(world: str, metric: str, value: float, limit: float, audits: int) -> tuple[float, float]:
    """Return the shares of audits that pass and that fail, if the true figure is `value`."""
    passed = failed = 0
    shift = shift_of(metric, value)
    if world == "trainings":
        # the mean over trainings is the truth of their intervals, so it is put at the value
        spread = VARIED * np.random.default_rng(9).normal(size=100_000)
        low, high = 0.0, 2 * max(shift, 0.1)
        for _ in range(40):
            shift = (low + high) / 2
            below = true_value(metric, shift * (1 + spread)) < value
            low, high = (shift, high) if below else (low, shift)
    for audit in range(audits):
        scores, member, mode = draw(world, shift, np.random.default_rng([audit, 7]))
        measures = metrics.measure(scores, member, fprs=(FPR,), mode=mode, balanced=False)
        check = evaluate_limit(
            Limit(metric, limit), measures.aggregate[metric], targets=len(scores)
        )
        passed += check.p_pass < LEVEL
        failed += check.p_fail < LEVEL
    return passed / audits, failed / audits


def compared_measure(
    world: str, metric: str, full: float, change: float, rng: np.random.Generator
) -> Measure:
    """Return the measure of a variant whose true figure is full precision's plus the change."""
    targets = 1 if world == "one" else TARGETS
    mode: SplitMode = "dedicated" if world == "trainings" else "population"
    both = rng.normal(size=(targets, RECORDS))
    noises = []
    for _ in range(2):
        alone = rng.normal(size=(targets, RECORDS))
        noises.append(np.sqrt(ALIKE) * both + np.sqrt(1 - ALIKE) * alone)
    if world == "population":
        easy = rng.normal(size=RECORDS)
        noises = [np.sqrt(SHARED) * easy + np.sqrt(1 - SHARED) * noise for noise in noises]
    if metric == "test_accuracy":
        answers = [
            noise > ndtri(share) for noise, share in zip(noises, (full, full + change), strict=True)
        ]
        measures = metrics.accuracy_on_test(
            answers[1].astype(int),
            np.zeros(RECORDS, int),
            mode=mode,
            baseline=answers[0].astype(int),
        )
        return measures.aggregate[metric]
    member = np.stack([rng.permutation(RECORDS) < RECORDS // 2 for _ in range(targets)])
    scores = [
        noise + shift_of(metric, value) * member
        for noise, value in zip(noises, (full, full + change), strict=True)
    ]
    measures = metrics.measure(
        scores[1], member, fprs=(FPR,), mode=mode, balanced=False, baseline=scores[0]
    )
    return measures.aggregate[metric]


def compared_rates(
    world: str, metric: str, full: float, change: float, margin: float, audits: int
) -> tuple[float, float]:
    """Return the shares of audits that pass and that fail a margin, if the true change is this."""
    limit = Limit(metric, margin, change=metric != "test_accuracy")
    signed = -change if metric == "test_accuracy" else change
    passed = failed = 0
    for audit in range(audits):
        rng = np.random.default_rng([audit, 8])
        measure = compared_measure(world, metric, full, signed, rng)
        check = evaluate_limit(limit, measure, targets=1 if world == "one" else TARGETS)
        passed += check.p_pass < LEVEL
        failed += check.p_fail < LEVEL
    return passed / audits, failed / audits


def print_margins(world: str, metrics_shown: Sequence[str], audits: int) -> None:
    """Print a line per figure and margin."""
    for metric, cases in COMPARED.items():
        for full, margin in cases if metric in metrics_shown else ():
            passes, fails = compared_rates(world, metric, full, margin, margin, audits)
            power, _ = compared_rates(world, metric, full, 0.0, margin, audits)
            limit = Limit(metric, margin, change=metric != "test_accuracy")
            print(
                f"| {world} | {limit}, fp32 at {full:g} | {100 * passes:.1f} | {100 * fails:.1f} "
                f"| {100 * power:.0f} (0) |",
                flush=True,
            )


def main() -> None:
    """Print a line per world, figure and limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--world", nargs="+", choices=WORLDS, default=WORLDS)
    parser.add_argument("--kind", nargs="+", choices=("max", "margin"), default=("max", "margin"))
    parser.add_argument("--figure", nargs="+", choices=tuple(COMPARED), default=tuple(COMPARED))
    options = parser.parse_args()
    started = time.process_time()
    print(
        "| world | limit | wrong passes % | wrong fails % | passes % at the limit less the margin |"
    )
    print("|---|---|---|---|---|")
    for world in options.world:
        if "margin" in options.kind:
            print_margins(world, options.figure, options.audits)
        for metric, limits in LIMITS.items():
            shown = "max" in options.kind and metric in options.figure
            for limit in limits if shown else ():
                passes, fails = rates(world, metric, limit, limit, options.audits)
                margin = MARGINS[metric]
                lower = max(limit - margin, 0.5 if metric == "auc" else FPR)
                power, _ = rates(world, metric, lower, limit, options.audits)
                print(
                    f"| {world} | {metric} <= {limit:g} | {100 * passes:.1f} | {100 * fails:.1f} "
                    f"| {100 * power:.0f} ({lower:g}) |",
                    flush=True,
                )
    print(f"{time.process_time() - started:.0f} seconds of CPU time")


if __name__ == "__main__":
    main()
