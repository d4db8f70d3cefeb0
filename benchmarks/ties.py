"""Figures where scores are tied, in worlds where the truth is known.

    python benchmarks/ties.py [--audits 1000] [--world reference]

Every audit draws its records anew; seeds are fixed by the world and the number of the audit. A row
gives, per metric, how many audits have an interval, the share of these that contain the truth, and
the share of the others whose two ends of the step do. Worlds (members' scores are N(shift, 1),
those of non-members and of references N(0, 1)):

- `reference`: the score is the rank among 9 OUT references of the record, as in Attack-R without
  interpolation, so that the FPR of the top rank is exactly 10 %.
- `counts`: the score is the number of 99 population records that the record exceeds, so that the
  FPR of the top count is exactly 1 %.
- `rounded to ...`: continuous scores rounded to a part of their standard deviation.
- `float`: continuous scores rounded to 1 / 1024, where ties are small.
- `gap`: the score is whether the target is right; few errors, often none.
- `noise`: continuous scores.

The truth of a TPR is that at exactly the FPR asked for, on the population's ROC; where the rank
makes a step of it, at the end of the step that has this FPR. `bias` is the mean printed TPR over
the truth, minus 1, and `bias of centre` that of the interval's centre.
"""

import argparse
import time
import zlib
from typing import NamedTuple

import numpy as np
from scipy.integrate import quad
from scipy.special import ndtr, ndtri
from scipy.stats import binom, norm

from bitleak.metrics import estimate_metrics, measures_from

SHIFT = 1.0


class World(NamedTuple):
    """Size and truth of a world.

    Attributes:
        records: Records of a target, half of them members.
        fprs: FPRs asked for.
        ranks: References whose scores the rank is made from; 0 = none.
        step: Distance between possible scores; 0 = continuous.
        errors: Chances of a wrong answer on members and on non-members; None = no gap.
    """

    records: int
    fprs: tuple[float, ...]
    ranks: int = 0
    step: float = 0.0
    errors: tuple[float, float] | None = None


WORLDS = {
    "reference": World(2000, (0.1,), ranks=9),
    "counts": World(2000, (0.01,), ranks=99),
    "rounded to 0.1": World(2000, (0.01, 0.1), step=0.1),
    "rounded to 0.05": World(2000, (0.01, 0.1), step=0.05),
    "rounded to 0.02": World(2000, (0.01, 0.1), step=0.02),
    "float": World(2000, (0.001, 0.01, 0.1), step=1 / 1024),
    "gap 0.1 %": World(2000, (0.1,), errors=(0.0005, 0.0015)),
    "gap 0.3 %": World(2000, (0.1,), errors=(0.001, 0.005)),
    "gap 1 %": World(2000, (0.1,), errors=(0.005, 0.015)),
    "gap, equal": World(2000, (0.1,), errors=(0.001, 0.001)),
    "noise": World(2000, (0.001, 0.01, 0.02, 0.1)),
}


def drawn(world: World, targets: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and membership of every target."""
    shape = (targets, world.records)
    member = rng.random(shape).argsort(axis=1) < world.records // 2
    if world.errors is not None:
        chance = np.where(member, *world.errors)
        return (rng.random(shape) >= chance).astype(float), member
    scores = rng.standard_normal(shape) + SHIFT * member
    if world.ranks:
        references = rng.standard_normal((targets, world.records, world.ranks))
        scores = (references < scores[..., None]).sum(axis=2).astype(float)
    if world.step:
        scores = np.round(scores / world.step) * world.step
    return scores, member


def truths(world: World) -> dict[str, float]:
    """Return the population's figures."""
    if world.errors is not None:
        inside, outside = world.errors
        area = 0.5 + (outside - inside) / 2
        return {"auc": area, "balanced_accuracy": max(area, 0.5)}
    tpr = {f"tpr@{fpr:g}": float(ndtr(SHIFT + ndtri(fpr))) for fpr in world.fprs}
    if not world.ranks:
        return {"auc": float(ndtr(SHIFT / np.sqrt(2))), **tpr}
    # a member's rank is the highest if it exceeds all references
    top = quad(lambda x: norm.pdf(x - SHIFT) * ndtr(x) ** world.ranks, -9, 10)[0]
    chances = []
    for rank in range(world.ranks + 1):
        chances.append(quad(lambda x, k=rank: _rank_chance(x, k, world.ranks), -9, 10)[0])
    below = (np.arange(world.ranks + 1) + 0.5) / (world.ranks + 1)  # non-members: all ranks alike
    return {"auc": float(chances @ below), f"tpr@{world.fprs[0]:g}": float(top)}


def _rank_chance(score: float, rank: int, references: int) -> float:
    return float(norm.pdf(score - SHIFT) * binom.pmf(rank, references, ndtr(score)))


def row(name: str, targets: int, audits: int) -> dict[str, list[float]]:
    """Return, by metric: intervals, coverage, steps that hold the truth, bias, bias of the centre."""
    world, truth = WORLDS[name], truths(WORLDS[name])
    counts: dict[str, list[tuple[float, ...]]] = {metric: [] for metric in truth}
    for audit in range(audits):
        rng = np.random.default_rng([zlib.crc32(name.encode()), targets, audit])
        scores, member = drawn(world, targets, rng)
        balanced = "balanced_accuracy" in truth
        estimates = estimate_metrics(scores, member, fprs=world.fprs, balanced=balanced)
        totals = measures_from(estimates, mode="population").aggregate
        for metric, true in truth.items():
            if metric not in totals:
                continue
            total = totals[metric]
            centre = np.mean([figure.centre for figure in estimates[metric]])
            if total.low is None:
                ends = total.value, getattr(total, "step_value", total.value)
                held = (0.0, np.nan, float(min(ends) - 1e-9 <= true <= max(ends) + 1e-9))
            else:
                held = (1.0, float(total.low - 1e-12 <= true <= total.high + 1e-12), np.nan)
            counts[metric].append((*held, total.value / true - 1, centre / true - 1))
    result = {}
    for metric, values in counts.items():
        table = np.array(values)
        shares = []
        for column in table.T:
            present = column[~np.isnan(column)]
            shares.append(100 * present.mean() if len(present) else np.nan)
        result[metric] = shares
    return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--world", choices=WORLDS, action="append")
    parser.add_argument("--targets", type=int, action="append")
    options = parser.parse_args()
    print(
        "world | targets | metric | intervals % | covered % | steps that hold it % | bias % | of centre %"
    )
    start = time.perf_counter()
    for name in options.world or WORLDS:
        for targets in options.targets or (1, 8):
            for metric, shares in row(name, targets, options.audits).items():
                print(
                    " | ".join([name, str(targets), metric, *(f"{share:.1f}" for share in shares)]),
                    flush=True,
                )
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
