"""Coverage of the intervals of `bitleak.metrics` in worlds with known truth.

    python benchmarks/coverage.py [--audits 1000] [--world population] [--shape mixture] [--at 0.6 0.95]

Each simulated audit draws a set of targets and a variant of each; the share of audits whose 95 %
interval contains the population's figure is the coverage. Worlds:

- `single`: one target, members N(shift, 1) and non-members N(0, 1) (`normal`), or a share of the
  members moved by 3 and the others not at all (`mixture`, which is closer to a memorising model).
- `population`: 8 targets, complementary halves of the same records, half of the scores' variance a
  property of the record. The variant's shift is 0.8 times as large and its noise correlates 0.9
  with the baseline's.
- `null`: as `population`, but the variant has the same shift, so that every true difference is 0.
- `dedicated`: 10 targets on fresh records, whose shifts differ by N(0, 0.1).
- `shares`: 8 targets' accuracies on 1,000 shared test records, and a variant's.
- `versions`: calibration-set inference on 2 targets: 64 candidates, 16 versions, each attacked by
  LiRA with all others but its complement as references. Confidences are N(difficulty + shift, 1) in
  the calibration set; `at` is the AUC of an adversary who knows the difficulty; the truth is chance
  at 0.5, and else the mean over the audits.
- `fixed`: one target as in `single`, its threshold set for each FPR on as many other non-members:
  the TPR and FPR of that threshold, and the precision at priors of 50, 10 and 1 %.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from scipy.special import ndtr, ndtri

from bitleak.attacks import LiRA, attack_view, two_class_signals
from bitleak.core.types import Measure
from bitleak.data.splits import balanced_pairs
from bitleak.metrics import (
    Measures,
    at_threshold,
    estimate_metrics,
    mean_over_records,
    measure,
    measures_from,
    on_separate_records,
    precision,
    threshold_for,
    widen_for_mutual_references,
)
from bitleak.metrics.accuracy_and_size import accuracy_on_test

FPRS = (0.001, 0.01, 0.1)
AUCS = (0.5, 0.6, 0.75, 0.85, 0.95)
SHARES = (0.5, 0.8, 0.95, 0.99)
PRIORS = (0.5, 0.1, 0.01)
WORLDS = ("single", "population", "null", "dedicated", "shares", "fixed", "versions")
VERSIONS_AUCS = (0.5, 0.55, 0.6, 0.65, 0.75, 0.85, 0.95)
VERSIONS_FPRS = (0.05, 0.1)
MOVED = 3.0
MOST = float(ndtr(MOVED / np.sqrt(2)))  # AUC if every member is moved


def coverage(
    world: str, at: float, *, audits: int, records: int = 2000, shape: str = "normal", seed: int = 0
) -> dict:
    """Return the share of audits whose interval contains the truth, by the name of the figure.

    Args:
        world: One of `WORLDS`.
        at: The AUC, or the accuracy in `shares`.
        audits: Number of simulated audits.
        records: Members and non-members together.
        shape: `normal` or `mixture`.
        seed: Seed for all draws.
    """
    if world == "versions":
        draws = [np.random.default_rng([seed, audit, round(1000 * at)]) for audit in range(audits)]
        return _of_versions([_versions(rng, at) for rng in draws], at)
    hits: Counter[str] = Counter()
    judged: Counter[str] = Counter()
    for result, truth in _audits(world, at, audits=audits, records=records, shape=shape, seed=seed):
        for name, (value, change) in truth.items():
            figure = result.aggregate[name]
            judged[name] += 1
            hits[name] += _within(value, figure.low, figure.high)
            if figure.difference is not None:
                judged[f"{name} change"] += 1
                hits[f"{name} change"] += _within(
                    change, figure.difference_low, figure.difference_high
                )
    return {name: count / judged[name] for name, count in hits.items()}


def _of_versions(audits: Sequence[Measures], at: float) -> dict[str, float]:
    """Return the coverage of means over targets, and of single targets; away from 0.5 only of the
    AUC, which has no bias.
    """
    shares = {}
    for name in audits[0].aggregate:
        truth = float(np.mean([audit.aggregate[name].value for audit in audits]))
        if at == 0.5:
            truth = float(name.partition("@")[2] or 0.5)
        elif name != "auc":
            continue
        means = [audit.aggregate[name] for audit in audits]
        alone = [target for audit in audits for target in audit.targets[name]]
        shares[f"{name} ({truth:.3f})"] = float(
            np.mean([_within(truth, figure.low, figure.high) for figure in means])
        )
        shares[f"{name} of one"] = float(
            np.mean([_within(truth, figure.low, figure.high) for figure in alone])
        )
    return shares


def _versions(
    rng: np.random.Generator, at: float, *, candidates: int = 64, versions: int = 16
) -> Measures:
    """Simulate one audit, as the step `calibration` measures it."""
    figures_of_targets = []
    for _ in range(2):
        member = balanced_pairs(candidates, versions, rng)
        difficulty = rng.normal(2.0, 1.0, candidates)
        answers = difficulty + _shift(at) * member + rng.standard_normal(member.shape)
        scores = np.array([_attacked(answers, member, version) for version in range(versions)])
        figures = estimate_metrics(scores, member, fprs=VERSIONS_FPRS)
        figures_of_targets.append(
            {name: mean_over_records(values) for name, values in figures.items()}
        )
    apart_each = {
        name: on_separate_records([target_figures[name] for target_figures in figures_of_targets])
        for name in figures_of_targets[0]
    }
    return widen_for_mutual_references(measures_from(apart_each, mode="population"))


def _attacked(answers: np.ndarray, member: np.ndarray, version: int) -> np.ndarray:
    others = [other for other in range(len(member)) if other // 2 != version // 2]
    target, references = (
        two_class_signals(some[..., None]) for some in (answers[version], answers[others])
    )
    nobody = two_class_signals(np.empty((len(others), 0, 1)))
    view = attack_view(
        target=target,
        references=references,
        member=member[others],
        use=np.ones_like(member[others]),
        population_target=two_class_signals(np.empty((0, 1))),
        population_references=nobody,
        labels=np.zeros(len(target), np.int64),
    )
    return LiRA()(view)


def _within(value: float, low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and low <= value <= high


def truth_at(at: float, shape: str = "normal") -> dict[str, float]:
    """Return the population's figures for the AUC `at`."""
    grid = np.linspace(-6, 9, 30001)
    tail = _tail(grid, at, shape)
    rates = {f"tpr@{fpr:g}": float(_tail(-ndtri(fpr), at, shape)) for fpr in FPRS}
    return {"auc": at, **rates, "balanced_accuracy": max(0.5, float((tail + ndtr(grid)).max() / 2))}


def _tail(threshold: np.ndarray | float, at: float, shape: str) -> np.ndarray:
    """Return the chance that a member scores above the threshold."""
    if shape == "normal":
        return np.asarray(ndtr(_shift(at) - threshold))
    moved = _moved(at)
    return moved * ndtr(MOVED - threshold) + (1 - moved) * ndtr(-np.asarray(threshold))


def _shift(at: float) -> float:
    return float(ndtri(at) * np.sqrt(2))


def _moved(at: float) -> float:
    return (at - 0.5) / (MOST - 0.5)


def _signal(rng: np.random.Generator, member: np.ndarray, at: float, shape: str) -> np.ndarray:
    if shape == "normal":
        return _shift(at) * member
    return MOVED * (member & (rng.random(member.shape[1]) < _moved(at)))


def _halves(rng: np.random.Generator, targets: int, records: int) -> np.ndarray:
    ranks = rng.random(((targets + 1) // 2, records)).argsort(axis=1)
    member = np.zeros((len(ranks), records), bool)
    np.put_along_axis(member, ranks[:, : records // 2], True, axis=1)
    return np.stack([member, ~member], axis=1).reshape(-1, records)[:targets]


def _noise(rng: np.random.Generator, shape: tuple[int, int], shared: float) -> np.ndarray:
    drawn = rng.standard_normal(shape)
    return np.sqrt(shared) * rng.standard_normal(shape[1]) + np.sqrt(1 - shared) * drawn


def _audits(
    world: str, at: float, *, audits: int, records: int, shape: str, seed: int
) -> Iterator[tuple[Measures, Mapping[str, tuple[float, float]]]]:
    for audit in range(audits):
        rng = np.random.default_rng([seed, audit, round(1000 * at)])
        if world == "single":
            member = _halves(rng, 1, records)
            scores = _signal(rng, member, at, shape) + _noise(rng, member.shape, 0.0)
            yield measure(scores, member, fprs=FPRS, seed=audit), _pair(truth_at(at, shape), None)
        elif world in ("population", "null"):
            yield _population(rng, at, records, shape, audit, equal=world == "null")
        elif world == "dedicated":
            yield _dedicated(rng, at, records, audit)
        elif world == "fixed":
            yield _fixed(rng, at, records, shape)
        else:
            yield _shares(rng, at)


def _population(
    rng: np.random.Generator, at: float, records: int, shape: str, seed: int, *, equal: bool
) -> tuple[Measures, Mapping[str, tuple[float, float]]]:
    member = _halves(rng, 8, records)
    signal = _signal(rng, member, at, shape)
    weaker = 1.0 if equal else 0.8
    noise = _noise(rng, member.shape, 0.5)
    variant_noise = 0.9 * noise + np.sqrt(1 - 0.9**2) * _noise(rng, member.shape, 0.5)
    less = at if equal else (float(ndtr(0.8 * _shift(at) / np.sqrt(2))))
    if shape == "mixture" and not equal:  # a fifth of the moved members is not moved
        less, weaker = 0.5 + 0.8 * (at - 0.5), 1.0
        signal_less = signal * (rng.random(member.shape) < 0.8)
    else:
        signal_less = weaker * signal
    result = measure(
        signal_less + variant_noise, member, fprs=FPRS, seed=seed, baseline=signal + noise
    )
    return result, _pair(truth_at(less, shape), truth_at(at, shape))


def _dedicated(
    rng: np.random.Generator, at: float, records: int, seed: int
) -> tuple[Measures, Mapping[str, tuple[float, float]]]:
    """Simulate targets whose shifts vary by 0.1: a figure's truth is its mean over N(shift, 0.1)."""
    member = np.concatenate([_halves(rng, 1, records) for _ in range(10)])
    shifts = _shift(at) + 0.1 * rng.standard_normal((10, 1))
    scores = shifts * member + rng.standard_normal(member.shape)
    nodes, weights = np.polynomial.hermite_e.hermegauss(21)
    over = [truth_at(float(ndtr((_shift(at) + 0.1 * node) / np.sqrt(2)))) for node in nodes]
    mean = {
        name: float(np.average([truth[name] for truth in over], weights=weights))
        for name in over[0]
    }
    return measure(scores, member, fprs=FPRS, mode="dedicated", seed=seed), _pair(mean, None)


def _shares(
    rng: np.random.Generator, at: float
) -> tuple[Measures, Mapping[str, tuple[float, float]]]:
    difficulty = _noise(rng, (8, 1000), 0.5)
    variant_difficulty = 0.9 * difficulty + np.sqrt(1 - 0.9**2) * _noise(rng, (8, 1000), 0.5)
    less = at - 0.02 * (1 - at)
    labels = np.ones(1000, np.int64)
    predictions = (variant_difficulty < ndtri(less)).astype(np.int64)
    result = accuracy_on_test(
        predictions, labels, baseline=(difficulty < ndtri(at)).astype(np.int64)
    )
    return result, {"test_accuracy": (less, less - at)}


def _fixed(
    rng: np.random.Generator, at: float, records: int, shape: str
) -> tuple[Measures, Mapping[str, tuple[float, float]]]:
    """Simulate a chosen threshold: the truth is that of this threshold, not that of the FPR it was
    chosen for.
    """
    member = _halves(rng, 1, records)
    scores = (_signal(rng, member, at, shape) + rng.standard_normal(member.shape))[0]
    known = rng.standard_normal(records // 2)
    figures, truth = {}, {}
    for fpr in FPRS:
        threshold = threshold_for(known, fpr)
        found = at_threshold(scores, member[0], threshold)
        rates = float(_tail(threshold, at, shape)), float(ndtr(-threshold))
        for name, rate, value in zip(("tpr", "fpr"), (found.tpr, found.fpr), rates, strict=True):
            figures[f"{name}@{fpr:g}"], truth[f"{name}@{fpr:g}"] = (
                Measure(rate.value, rate.low, rate.high),
                value,
            )
        for prior in PRIORS:
            if interval := precision(found.tpr, found.fpr, prior):
                name = f"precision@{fpr:g},{prior:g}"
                figures[name] = Measure(interval.value, interval.low, interval.high)
                truth[name] = prior * rates[0] / (prior * rates[0] + (1 - prior) * rates[1])
    return Measures({}, figures), _pair(truth, None)


def _pair(truth: dict[str, float], base: dict[str, float] | None) -> dict[str, tuple[float, float]]:
    return {
        name: (value, 0.0 if base is None else value - base[name]) for name, value in truth.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--world", choices=WORLDS, nargs="*", default=WORLDS)
    parser.add_argument("--shape", choices=("normal", "mixture"), help="only this one")
    parser.add_argument("--at", type=float, nargs="*", help="only these AUCs or accuracies")
    options = parser.parse_args()
    for world, shape, at in _grid(options.world):
        if (options.shape and shape != options.shape) or (options.at and at not in options.at):
            continue
        start = time.process_time()
        covered = coverage(world, at, audits=options.audits, records=options.records, shape=shape)
        cells = " ".join(f"{name} {100 * share:.1f}" for name, share in covered.items())
        print(f"{world} {shape} {at:g}: {cells} ({time.process_time() - start:.0f} s)", flush=True)


def _grid(worlds: Iterable[str]) -> Iterator[tuple[str, str, float]]:
    for world in worlds:
        for shape in (
            ("normal",) if world in ("dedicated", "shares", "versions") else ("normal", "mixture")
        ):
            for at in {"shares": SHARES, "versions": VERSIONS_AUCS}.get(world, AUCS):
                yield world, shape, at


if __name__ == "__main__":
    main()
