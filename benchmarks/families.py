"""False verdicts of a table of results whose headline is corrected apart, where the truth is known.

    python benchmarks/families.py [--tables 1000] [--world comparisons audits]

Two corrections are compared: `one`, Holm's over all comparisons of a metric, and `headline`, that
of `bitleak.metrics.holm_with_headline`. Worlds:

- `comparisons`: 9 planned and 460 other comparisons, normal with a common part; those that differ
  do so by 6 standard errors. The share of tables with any false verdict (at most 5 %), and the share
  whose headline shows a variant with p = .0013 (3.2 standard errors) of which alone is known that it
  differs.
- `audits`: populations of 2 targets and 500 records, 4 variants and 6 attacks whose scores correlate
  0.8 with one another and 0.9 with those at full precision; nothing differs. The headline attack is
  the first (`planned`), or the one with the largest AUC at full precision (`chosen`), as in a report.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
from scipy.special import ndtr, ndtri

from bitleak.metrics import estimate_metrics, holm, holm_with_headline, measures_from

WORLDS = ("comparisons", "audits")
PLANNED, OTHERS = 9, 460
PLAIN = 3.217
VARIANTS, ATTACKS, TARGETS, RECORDS = 4, 6, 2, 500
FPR = 0.1
DIFFER = {
    "nothing differs": (0, 0),
    "half of the headline differs": (4, 0),
    "the headline differs": (9, 0),
    "the others differ": (0, 460),
}


def comparisons(tables: int) -> Iterator[str]:
    """Yield the shares of tables with a false verdict, by what differs and the common part."""
    for name, (planned, others) in DIFFER.items():
        for shared in (0.0, 0.5, 0.9):
            effects = np.zeros(PLANNED + OTHERS)
            effects[:planned], effects[PLANNED : PLANNED + others] = 6.0, 6.0
            shares = _false_verdicts(effects, shared, tables)
            yield f"{name}, common part {shared:g}: {_percent(shares)}"
    rng, noticed = np.random.default_rng(0), {"one": 0, "headline": 0}
    for _ in range(tables):
        z = rng.standard_normal(PLANNED + OTHERS)
        z[0] += PLAIN
        for rule, adjusted in _adjusted(2 * ndtr(-np.abs(z))).items():
            noticed[rule] += adjusted[0] < 0.05
    shares = {rule: count / tables for rule, count in noticed.items()}
    yield f"a variant of the headline that differs by {PLAIN:g} errors is noticed: {_percent(shares)}"


def _false_verdicts(effects: np.ndarray, shared: float, tables: int) -> dict[str, float]:
    rng, wrong = np.random.default_rng(1), {"one": 0, "headline": 0}
    for _ in range(tables):
        noise = np.sqrt(1 - shared) * rng.standard_normal(len(effects))
        z = effects + np.sqrt(shared) * rng.standard_normal() + noise
        for rule, adjusted in _adjusted(2 * ndtr(-np.abs(z))).items():
            wrong[rule] += bool((adjusted[effects == 0] < 0.05).any())
    return {rule: count / tables for rule, count in wrong.items()}


def _adjusted(p_values: np.ndarray, planned: int = PLANNED) -> dict[str, np.ndarray]:
    apart = np.concatenate(holm_with_headline(p_values[:planned], p_values[planned:]))
    return {"one": holm(p_values), "headline": apart}


def audits(tables: int) -> Iterator[str]:
    """Yield the shares of audits with a false verdict, by metric and choice of the headline attack."""
    rate = f"tpr@{FPR:g}"
    wrong: dict[str, int] = {}
    for table in range(tables):
        rng = np.random.default_rng([2, table])
        p_values, areas = _audit(rng, rate)
        best = int(np.argmax(areas))
        for choice, attack in (("planned", 0), ("chosen", best)):
            first = p_values[attack]
            rest = np.delete(p_values, attack, axis=0).ravel()
            both = _adjusted(np.concatenate([first, rest]), len(first))
            both["headline alone"] = both["headline"][: len(first)]
            for rule, adjusted in both.items():
                name = f"{rule}, {choice}"
                wrong[name] = wrong.get(name, 0) + bool((adjusted < 0.05).any())
    yield _percent({name: count / tables for name, count in wrong.items()})


def _audit(rng: np.random.Generator, rate: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the p-values [attacks variants] and the attacks' AUCs at full precision."""
    member = rng.random((TARGETS, RECORDS)).argsort(axis=1) < RECORDS // 2
    signal = ndtri(0.65) * np.sqrt(2) * member
    common = rng.standard_normal(member.shape)
    at_variant = [_near(rng, common, 0.9) for _ in range(VARIANTS)]
    p_values, areas = np.empty((ATTACKS, VARIANTS)), np.empty(ATTACKS)
    for attack in range(ATTACKS):
        own = rng.standard_normal(member.shape)
        scores = signal + np.sqrt(0.8) * common + np.sqrt(0.2) * own
        baseline = estimate_metrics(scores, member, fprs=(FPR,), balanced=False)
        areas[attack] = np.mean([figure.value for figure in baseline["auc"]])
        for place, noise in enumerate(at_variant):
            moved = np.sqrt(0.8) * noise + np.sqrt(0.2) * _near(rng, own, 0.9)
            figures = estimate_metrics(signal + moved, member, fprs=(FPR,), balanced=False)
            rates = {rate: figures[rate]}
            total = measures_from(rates, mode="population", baseline=baseline).aggregate[rate]
            p_values[attack, place] = 1.0 if total.p_value is None else total.p_value
    return p_values, areas


def _near(rng: np.random.Generator, noise: np.ndarray, correlation: float) -> np.ndarray:
    return correlation * noise + np.sqrt(1 - correlation**2) * rng.standard_normal(noise.shape)


def _percent(shares: dict[str, float]) -> str:
    return "; ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items())


def main() -> None:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--world", choices=WORLDS, nargs="*", default=WORLDS)
    options = parser.parse_args()
    for world in options.world:
        start = time.process_time()
        for line in (comparisons if world == "comparisons" else audits)(options.tables):
            print(f"{world}, {line}", flush=True)
        print(f"({time.process_time() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
