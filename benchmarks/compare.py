"""Coverage of the intervals of `bitleak compare`, where the truth is known.

    python benchmarks/compare.py [--pairs 1000] [--world models records trainings apart]

Scores of non-members are normal, those of members are shifted: by 1.0 in the first run, by 0.8 in the
second. Each pair of runs has new records. Worlds:

- `models`: 8 targets on the same 2,000 records, the same models in both runs (before and after a
  defence of the answers): half of a score's variance belongs to the record, 0.4 to record and model.
- `records`: the same records, other trainings and other halves: half of the variance belongs to the
  record.
- `trainings`: 8 dedicated targets per run on the same records, whose shifts vary by a fifth; the
  interval is about models trained anew.
- `apart`: no record in common; the influences are on other records.
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr, ndtri

from bitleak import metrics
from bitleak.core.types import SplitMode
from bitleak.metrics import Estimate
from bitleak.report.influence_file import FigureKey, Influences, record_digests
from bitleak.report.run_pairing import RunPair

WORLDS = ("models", "records", "trainings", "apart")
RECORDS, TARGETS, FPR = 2000, 8, 0.01
SHIFTS = (1.0, 0.8)
EASY, OWN = 0.5, 0.4
VARIED = 0.2
CELL = ("fp32", "strongest", "")
METRICS = ("auc", f"tpr@{FPR:g}")


def truth(metric: str, shift: float, world: str) -> float:
    """Return the mean figure of a model with this shift."""
    shifts = np.array([shift])
    if world == "trainings":
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        shifts = shift * (1 + VARIED * nodes)
        weights = weights / weights.sum()
    else:
        weights = np.ones(1)
    values = ndtr(shifts / np.sqrt(2)) if metric == "auc" else ndtr(shifts + ndtri(FPR))
    return float(weights @ values)


def draw_runs(world: str, rng: np.random.Generator) -> tuple[Influences, Influences]:
    """Return two runs."""
    mode: SplitMode = "dedicated" if world == "trainings" else "population"
    easy = rng.normal(size=RECORDS)
    member = np.stack([rng.permutation(RECORDS) < RECORDS // 2 for _ in range(TARGETS)])
    own = rng.normal(size=member.shape)
    runs = []
    for place, shift in enumerate(SHIFTS):
        if place and world != "models":
            member = np.stack([rng.permutation(RECORDS) < RECORDS // 2 for _ in range(TARGETS)])
            own = rng.normal(size=member.shape)
        if place and world == "apart":
            easy = rng.normal(size=RECORDS)
        alone = rng.normal(size=member.shape)
        noise = np.sqrt(EASY) * easy + np.sqrt(OWN) * own + np.sqrt(1 - EASY - OWN) * alone
        shifts = np.full((TARGETS, 1), shift)
        if world == "trainings":
            shifts = shift * (1 + VARIED * rng.normal(size=(TARGETS, 1)))
        scores = noise + shifts * member
        estimates = metrics.estimate_metrics(scores, member, fprs=(FPR,), balanced=False)
        offset = RECORDS * place if world == "apart" else 0
        digests = record_digests([str(offset + record).encode() for record in range(RECORDS)])
        run = 0 if world == "models" else place
        runs.append(influences(estimates, mode, digests, run))
    return runs[0], runs[1]


def influences(
    estimates: metrics.Estimates, mode: SplitMode, digests: Sequence[str], run: int
) -> Influences:
    """Return a run as its file holds it."""
    about = metrics.verdict_about(mode, TARGETS)
    figures: dict[FigureKey, Estimate] = {}
    for metric, of_metric in estimates.items():
        if about == "records":
            figures[FigureKey(*CELL, metric, "all", "pool")] = metrics.mean_over_records(of_metric)
            continue
        for target, estimate in enumerate(of_metric):
            figures[FigureKey(*CELL, metric, str(target), "pool")] = estimate
    models = tuple(f"run {run}, model {target}" for target in range(TARGETS))
    return Influences(about, models, {"pool": tuple(digests)}, figures)


def independent(first: Influences, second: Influences, metric: str) -> float:
    """Return the width of the interval of independent figures."""
    squares = 0.0
    for run in (first, second):
        figure = run.of(*CELL, metric)
        assert figure is not None
        mean = metrics.mean_over_records(figure[2])
        if run.about == "trainings":
            mean = metrics.mean_over_trainings(figure[2])
        squares += (mean.high - mean.low) ** 2
    return float(np.sqrt(squares))


def main() -> None:
    """Print a line per world and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--world", nargs="+", choices=WORLDS, default=WORLDS)
    options = parser.parse_args()
    started = time.process_time()
    print("| world | figure | paired by | below % | above % | width of independent figures % |")
    print("|---|---|---|---|---|---|")
    for world in options.world:
        below = dict.fromkeys(METRICS, 0)
        above = dict.fromkeys(METRICS, 0)
        widths: dict[str, list[float]] = {metric: [] for metric in METRICS}
        basis = "independent"
        for pair in range(options.pairs):
            first, second = draw_runs(world, np.random.default_rng([pair, 3]))
            for metric in METRICS:
                true = truth(metric, SHIFTS[1], world) - truth(metric, SHIFTS[0], world)
                wide = independent(first, second, metric)
                paired = RunPair(first, second).difference(CELL, CELL, metric)
                if paired is None:
                    continue
                basis = paired.basis
                below[metric] += true < paired.difference.low
                above[metric] += true > paired.difference.high
                widths[metric].append((paired.difference.high - paired.difference.low) / wide)
        for metric in METRICS:
            if not widths[metric]:
                print(f"| {world} | {metric} | {basis} | - | - | 100 |")
                continue
            count = len(widths[metric])
            print(
                f"| {world} | {metric} | {basis} | {100 * below[metric] / count:.1f} "
                f"| {100 * above[metric] / count:.1f} | {100 * np.mean(widths[metric]):.0f} |",
                flush=True,
            )
    print(f"{time.process_time() - started:.0f} seconds of CPU time")


if __name__ == "__main__":
    main()
