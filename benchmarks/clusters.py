"""Coverage of intervals, and bounds on epsilon, if records come in clusters.

    python benchmarks/clusters.py [--audits 1000] [--records 2000] [--world NAME ...]

A world has clusters of some sizes. The noise of a record is sqrt(alike) times its cluster's and
sqrt(1 - alike) times its own, so that 1 are copies. The records of a cluster are members together, or
(`apart`) each by a coin of its own. Members score shift + noise, others noise; the AUC is 0.7.

- Per world: the share of audits whose interval holds the population's figure, first if records are
  taken for independent, then with `clusters`: for one target and for the mean over 2 targets, whose
  noise has a common half, and for the paired change from a baseline.
- epsilon: members answer right with odds e^1, clusters alike; the share of audits whose bound is
  above the truth, which at most 5 % may be.

The seeds are fixed: 0, 1, ... by audit.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtr, ndtri

from bitleak.metrics import (
    epsilon_measures,
    estimate_metrics,
    measure_at_threshold,
    measures_from,
    threshold_for,
)

AREA = 0.7
SHIFT = float(ndtri(AREA) * np.sqrt(2))
FPRS = (0.01, 0.1)
TARGETS = 2
EPSILON = 1.0


@dataclass(frozen=True)
class World:
    """Clusters of records.

    Attributes:
        sizes: Sizes of clusters, and the share of all records that is in clusters of each.
        alike: Share of the noise's variance that a cluster has in common.
        together: Whether a cluster's records are members together.
        giant: Share of the records that is in one more cluster.
    """

    sizes: Mapping[int, float]
    alike: float = 1.0
    together: bool = True
    giant: float = 0.0

    def clusters(self, records: int) -> np.ndarray:
        """Return the number of each record's cluster."""
        sizes = [round(self.giant * records)] if self.giant else []
        for size, share in self.sizes.items():
            sizes += [size] * round(share * (records - sum(sizes[:1] if self.giant else [])) / size)
        return np.repeat(np.arange(len(sizes)), sizes)


WORLDS = {
    "single records": World({1: 1.0}),
    "pairs, a tenth": World({1: 0.9, 2: 0.1}),
    "5 copies": World({5: 1.0}),
    "5 copies, apart": World({5: 1.0}, together=False),
    "20 copies": World({20: 1.0}),
    "5, half alike": World({5: 1.0}, alike=0.5),
    "5, a fifth alike": World({5: 1.0}, alike=0.2),
    "5, half alike, apart": World({5: 1.0}, alike=0.5, together=False),
    "1 to 20 copies": World({1: 0.25, 2: 0.25, 5: 0.25, 20: 0.25}),
    "1 to 20, half alike": World({1: 0.25, 2: 0.25, 5: 0.25, 20: 0.25}, alike=0.5),
    "one of a tenth": World({1: 1.0}, alike=0.5, giant=0.1),
    "one of a tenth, copies": World({1: 1.0}, giant=0.1),
    "one of a third": World({1: 1.0}, alike=0.5, giant=1 / 3),
}


def drawn_member(rng: np.random.Generator, world: World, clusters: np.ndarray) -> np.ndarray:
    """Return the membership of one target: about half of the clusters, or of the records."""
    units = int(clusters.max()) + 1 if world.together else len(clusters)
    coins = np.zeros(units, bool)
    coins[rng.permutation(units)[: units // 2]] = True
    return coins[clusters] if world.together else coins


def noise(rng: np.random.Generator, world: World, clusters: np.ndarray) -> np.ndarray:
    """Return normal noise with the world's common part."""
    common = rng.standard_normal(int(clusters.max()) + 1)[clusters]
    alone = rng.standard_normal(len(clusters))
    return np.sqrt(world.alike) * common + np.sqrt(1 - world.alike) * alone


def truth(shift: float) -> dict[str, float]:
    """Return the population's figures."""
    figures = {"auc": float(ndtr(shift / np.sqrt(2)))}
    for fpr in FPRS:
        figures[f"tpr@{fpr:g}"] = float(ndtr(shift + ndtri(fpr)))
    return figures


def judged(world: World, seed: int, records: int, *, balanced: bool) -> dict[str, dict[str, float]]:
    """Return whether each interval of one audit holds the truth, without and with clusters."""
    rng = np.random.default_rng([seed, 18])
    clusters = world.clusters(records)
    member = np.array([drawn_member(rng, world, clusters) for _ in range(TARGETS)])
    shared = noise(rng, world, clusters)
    scores, changed = np.empty(member.shape), np.empty(member.shape)
    for row in range(TARGETS):
        first = np.sqrt(0.5) * shared + np.sqrt(0.5) * noise(rng, world, clusters)
        second = 0.9 * first + np.sqrt(1 - 0.81) * noise(rng, world, clusters)
        scores[row] = SHIFT * member[row] + first
        changed[row] = 0.8 * SHIFT * member[row] + second
    figures, weaker = truth(SHIFT), truth(0.8 * SHIFT)
    outcome = {}
    for name, given in (("before", None), ("after", clusters)):
        held = {}
        options = {"fprs": FPRS, "balanced": balanced, "clusters": given}
        at_fp32 = estimate_metrics(scores, member, **options)
        variant = estimate_metrics(changed, member, **options)
        base = measures_from(at_fp32, mode="population")
        change = measures_from(variant, mode="population", baseline=at_fp32)
        for metric, value in figures.items():
            held[metric] = _holds(base.targets[metric][0], value)
            held[f"{metric} mean"] = _holds(base.aggregate[metric], value)
            difference = change.aggregate[metric]
            held[f"{metric} change"] = np.nan
            if difference.difference_low is not None and difference.difference_high is not None:
                ends = difference.difference_low, difference.difference_high
                held[f"{metric} change"] = float(ends[0] <= weaker[metric] - value <= ends[1])
        held |= _fixed(scores[:1], member[:1], given, rng)
        outcome[name] = held
    outcome["epsilon"] = _epsilon(rng, world, clusters, member[:2])
    return outcome


def _fixed(
    scores: np.ndarray, member: np.ndarray, given: np.ndarray | None, rng: np.random.Generator
) -> dict[str, float]:
    """Return whether the rate at a threshold that was chosen elsewhere is covered."""
    threshold = threshold_for(np.random.default_rng(0).standard_normal(1000), 0.1)
    measures = measure_at_threshold(
        scores, member, np.array([threshold]), fpr=0.1, priors=(), clusters=given
    )
    rate = float(ndtr(SHIFT - threshold))
    return {"tpr chosen": _holds(measures["tpr_chosen@0.1"][0], rate)}


def _epsilon(
    rng: np.random.Generator, world: World, clusters: np.ndarray, member: np.ndarray
) -> dict[str, float]:
    """Return whether the bound is above the truth, without and with clusters."""
    latent = np.array([ndtr(noise(rng, world, clusters)) for _ in member])
    answers = member ^ (latent < expit(-EPSILON))
    above = {}
    for name, given in (("before", None), ("after", clusters)):
        bound = epsilon_measures(
            answers.astype(float), member, seed=0, delta=0.0, comparisons=1, clusters=given
        )
        above[name] = float(bound["epsilon"][0].value > EPSILON)
    return above


def _holds(measure, value: float) -> float:
    if measure.low is None or measure.high is None:
        return float("nan")
    return float(measure.low <= value <= measure.high)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--world", choices=tuple(WORLDS), nargs="*", default=tuple(WORLDS))
    options = parser.parse_args()
    for name in options.world:
        start = time.process_time()
        audits = [
            judged(WORLDS[name], seed, options.records, balanced=False)
            for seed in range(options.audits)
        ]
        cells = []
        for figure in audits[0]["before"]:
            pair = []
            for build in ("before", "after"):
                values = np.array([audit[build][figure] for audit in audits])
                share = 100 * np.nanmean(values) if not np.isnan(values).all() else np.nan
                steps = int(np.isnan(values).sum())
                pair.append(f"{share:.1f}" + (f" [{steps} steps]" if steps else ""))
            cells.append(f"{figure} {pair[0]} -> {pair[1]}")
        for build in ("before", "after"):
            above = 100 * np.mean([audit["epsilon"][build] for audit in audits])
            cells.append(f"epsilon {build} {above:.1f}")
        print(f"{name}: {'; '.join(cells)} ({time.process_time() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
