"""Intervals and verdicts over dedicated targets, in worlds where the truth is known.

    python benchmarks/dedicated.py [--audits 1000] [--world tables] [--rule trainings]

Every audit draws one pool of records; each of its targets is trained on a random half of it. A
member scores N(shift + training + vulnerability, 1), a non-member N(0, 1): `training` is one number
per target, `vulnerability` one per record that all targets share. Two rules are compared:
`student`, Student's t over the targets' figures alone, and `trainings`, that of
`bitleak.metrics.trainings`. Worlds:

- `tables`: 12 variants that leak exactly as much as the baseline (noise that correlates 0.9 with
  the baseline's), 500 records; the share of audits with any verdict among the 12 after Holm's
  correction, which should be at most 5 %.
- `counts`: 12 variants whose accuracy on 1,000 test records is that of the baseline, 0.9, and few of whose
  predictions differ: the same share. Counts of a few targets are often equal.
- `near one`: AUCs of 0.99 and 0.999, 300 records: the share of audits whose intervals contain the
  truth.
- `shared`: vulnerabilities N(0, 1), and trainings N(0, `trainings`^2), 1,000 records: the same
  share for three truths: these models on other records, models trained anew on these records, and
  models trained anew on other records.
- `power`: the share of audits that notice the AUC that `detectable_auc` names for 80 %.
"""

import argparse
import time
from collections.abc import Iterator, Mapping

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import t as student_t

from bitleak.core.types import Measure
from bitleak.metrics import (
    Estimate,
    Estimates,
    detectable_auc,
    estimate_metrics,
    estimate_proportion,
    holm,
    measures_from,
    verdict_about,
)

WORLDS = ("tables", "counts", "near one", "shared", "power")
RULES = ("student", "trainings")
TARGETS = (2, 3, 5, 10)
FPRS = (0.01, 0.1)
VARIANTS = 12
POWER_RECORDS = 1000
TEST_RECORDS = 1000
ALIKE = 0.999


def measured(
    rule: str,
    estimates: Estimates,
    baseline: Estimates | None = None,
) -> Mapping[str, Measure]:
    """Return the totals of dedicated targets by one of the two rules."""
    if rule == "trainings":
        return measures_from(estimates, mode="dedicated", baseline=baseline).aggregate
    totals = {}
    for metric, figures in estimates.items():
        low, high, _ = student(centres(figures))
        value = float(np.mean([figure.value for figure in figures]))
        p_value = None
        if baseline is not None:
            _, _, p_value = student(centres(figures) - centres(baseline[metric]))
        totals[metric] = Measure(value, max(low, 0.0), min(high, 1.0), p_value=p_value)
    return totals


def centres(figures: tuple[Estimate, ...]) -> np.ndarray:
    """Return the centres of the targets' figures."""
    return np.array([figure.centre for figure in figures])


def student(values: np.ndarray) -> tuple[float, float, float]:
    """Return Student's 95 % interval of the mean of targets, and the p-value of a mean of 0."""
    freedom, mean = len(values) - 1, float(values.mean())
    error = float(values.std(ddof=1)) / np.sqrt(len(values))
    reach = float(student_t.ppf(0.975, freedom)) * error
    if error == 0:
        return mean, mean, 1.0 if mean == 0 else 0.0
    return mean - reach, mean + reach, 2 * float(student_t.sf(abs(mean) / error, freedom))


def halves(rng: np.random.Generator, targets: int, records: int) -> np.ndarray:
    """Return independent random halves of the same records."""
    return rng.random((targets, records)).argsort(axis=1) < records // 2


def estimated(scores: np.ndarray, member: np.ndarray) -> Estimates:
    """Return AUC and TPRs of every target."""
    return estimate_metrics(scores, member, fprs=FPRS, balanced=False)


def shift_of(area: float, spread: float = 0.0) -> float:
    """Return the members' mean that gives an AUC if their deviations from it have this variance."""
    return float(ndtri(area) * np.sqrt(2 + spread))


def false_verdicts(
    rule: str,
    targets: int,
    *,
    audits: int,
    area: float = 0.6,
    records: int = 500,
) -> dict[str, float]:
    """Return the share of audits with any verdict among variants that do not differ, by metric.

    Args:
        rule: One of `RULES`.
        targets: Dedicated targets.
        audits: Number of audits.
        area: AUC of baseline and variants.
        records: Size of the pool.
    """
    counts: dict[str, int] = {}
    for audit in range(audits):
        rng = np.random.default_rng([1, targets, audit])
        member = halves(rng, targets, records)
        noise = rng.standard_normal(member.shape)
        signal = shift_of(area) * member
        baseline = estimated(signal + noise, member)
        p_values: dict[str, list[float]] = {}
        for _ in range(VARIANTS):
            moved = 0.9 * noise + np.sqrt(1 - 0.9**2) * rng.standard_normal(member.shape)
            totals = measured(rule, estimated(signal + moved, member), baseline)
            for name, total in totals.items():
                p_value = 1.0 if total.p_value is None else total.p_value
                p_values.setdefault(name, []).append(p_value)
        wrong = {name: bool((holm(values) < 0.05).any()) for name, values in p_values.items()}
        for name, value in (wrong | {"any": any(wrong.values())}).items():
            counts[name] = counts.get(name, 0) + value
    return {name: count / audits for name, count in counts.items()}


def false_verdicts_of_counts(rule: str, targets: int, *, audits: int) -> dict[str, float]:
    """Return the share of audits with any verdict among variants of equal accuracy."""
    wrong = 0
    for audit in range(audits):
        rng = np.random.default_rng([4, targets, audit])
        difficulty = rng.standard_normal((targets, TEST_RECORDS))
        baseline = {"test_accuracy": tuple(map(estimate_proportion, difficulty < ndtri(0.9)))}
        p_values = []
        for _ in range(VARIANTS):
            noise = rng.standard_normal(difficulty.shape)
            moved = ALIKE * difficulty + np.sqrt(1 - ALIKE**2) * noise
            estimates = {"test_accuracy": tuple(map(estimate_proportion, moved < ndtri(0.9)))}
            p_value = measured(rule, estimates, baseline)["test_accuracy"].p_value
            p_values.append(1.0 if p_value is None else p_value)
        wrong += bool((holm(p_values) < 0.05).any())
    return {"test_accuracy": wrong / audits}


def covered(
    rule: str,
    targets: int,
    *,
    audits: int,
    area: float,
    records: int,
    vulnerability: float = 0.0,
    training: float = 0.0,
) -> dict[str, float]:
    """Return the share of audits whose interval contains the truth, by metric and truth.

    Args:
        rule: One of `RULES`.
        targets: Dedicated targets.
        audits: Number of audits.
        area: AUC over new trainings on other records.
        records: Size of the pool.
        vulnerability: Deviation of the records' vulnerabilities.
        training: Deviation of the targets' shifts.
    """
    spread = vulnerability**2 + training**2
    shift = shift_of(area, spread)
    anywhere = {"auc": area}
    for fpr in FPRS:
        anywhere[f"tpr@{fpr:g}"] = float(ndtr((shift + ndtri(fpr)) / np.sqrt(1 + spread)))
    hits: dict[str, int] = {}
    truths = ("models", "trainings here", "trainings") if vulnerability else ("trainings",)
    for audit in range(audits):
        rng = np.random.default_rng([2, targets, audit, round(1000 * area)])
        member = halves(rng, targets, records)
        vulnerabilities = vulnerability * rng.standard_normal(records)
        trainings = training * rng.standard_normal((targets, 1))
        signal = (shift + trainings + vulnerabilities) * member
        totals = measured(rule, estimated(signal + rng.standard_normal(member.shape), member))
        here = {"auc": float(ndtr((shift + vulnerabilities) / np.sqrt(2 + training**2)).mean())}
        models = {"auc": float(ndtr((shift + trainings) / np.sqrt(2 + vulnerability**2)).mean())}
        for fpr in FPRS:
            rates = ndtr((shift + vulnerabilities + ndtri(fpr)) / np.sqrt(1 + training**2))
            here[f"tpr@{fpr:g}"] = float(rates.mean())
            rates = ndtr((shift + trainings + ndtri(fpr)) / np.sqrt(1 + vulnerability**2))
            models[f"tpr@{fpr:g}"] = float(rates.mean())
        values = {"models": models, "trainings here": here, "trainings": anywhere}
        for name, total in totals.items():
            for truth in truths:
                low, high = total.low, total.high
                inside = low is not None and high is not None and low <= values[truth][name] <= high
                hits[f"{name} of {truth}"] = hits.get(f"{name} of {truth}", 0) + inside
    return {name: count / audits for name, count in hits.items()}


def noticed(rule: str, targets: int, *, audits: int) -> tuple[float, float]:
    """Return the AUC that should be noticed in 80 % of audits, and the share that notices it."""
    about = verdict_about("dedicated", targets) if rule == "trainings" else "records"
    area = detectable_auc(POWER_RECORDS // 2, POWER_RECORDS // 2, targets=targets, about=about)
    count = 0
    for audit in range(audits):
        rng = np.random.default_rng([3, targets, audit])
        member = halves(rng, targets, POWER_RECORDS)
        scores = shift_of(area) * member + rng.standard_normal(member.shape)
        low = measured(rule, estimate_metrics(scores, member, fprs=(), balanced=False))["auc"].low
        count += low is not None and low > 0.5
    return area, count / audits


def lines(world: str, rule: str, audits: int) -> Iterator[str]:
    """Yield the results of a world, a line for each number of targets."""
    for targets in TARGETS:
        if world == "tables":
            yield f"{targets} targets: {_percent(false_verdicts(rule, targets, audits=audits))}"
        elif world == "counts":
            shares = false_verdicts_of_counts(rule, targets, audits=audits)
            yield f"{targets} targets: {_percent(shares)}"
        elif world == "near one":
            for area in (0.99, 0.999):
                shares = covered(rule, targets, audits=audits, area=area, records=300)
                yield f"{targets} targets, AUC {area:g}: {_percent(shares)}"
        elif world == "power":
            area, share = noticed(rule, targets, audits=audits)
            yield f"{targets} targets: AUC {area:.4f} noticed in {100 * share:.1f} %"
        else:
            for training in (0.0, 0.1, 0.3):
                options = {"area": 0.7, "records": 1000, "vulnerability": 1.0, "training": training}
                shares = covered(rule, targets, audits=audits, **options)
                yield f"{targets} targets, trainings {training:g}: {_percent(shares)}"


def _percent(shares: Mapping[str, float]) -> str:
    return "; ".join(f"{name} {100 * share:.1f}" for name, share in shares.items())


def main() -> None:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--world", choices=WORLDS, nargs="*", default=WORLDS)
    parser.add_argument("--rule", choices=RULES, nargs="*", default=RULES)
    options = parser.parse_args()
    for world in options.world:
        for rule in options.rule:
            start = time.process_time()
            for line in lines(world, rule, options.audits):
                print(f"{world}, {rule}, {line}", flush=True)
            print(f"({time.process_time() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
