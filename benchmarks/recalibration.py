"""The error of the map of `recalibrated` rows, and intervals that include it.

    python benchmarks/recalibration.py [--audits 1000] [--population 30 100 300] [--attack NAME] [--records 800]

An audit has 16 models in complementary pairs, 4 of them targets, and 800 records. Confidences are a
record's difficulty (Student's t with 4 degrees of freedom, times 2), 1 more on members, and noise N(0, 1);
a target's are mapped to 0.6 f - 1 by its quantization. The adversary has full-precision references and
fits the map back on the population records, as `attacks.recalibrate` does. The truth is the mean over all
audits of the AUC and of the TPR at 5 % with the map of 20,000 population records. Printed are, per number
of population records: the bias of the mean over targets, its deviation through the map alone, what
`metrics.map_error` has for that (root of the mean square), the deviation through the audited records, and
the share of audits whose interval holds the truth: that of one target and of the mean over 4, with the map
of 20,000 records (`exact`), with the fitted map and no regard to its error (`before`), and with its error.
Seeds 0, 1, ... by audit.
"""

import argparse
import time
from typing import NamedTuple

import numpy as np

from bitleak.attacks import attack_view, expand, recalibrated, two_class_signals
from bitleak.core.types import AttackView
from bitleak.metrics import Estimates, estimate_metrics, mean_over_records, with_map_error
from bitleak.steps.moved_map_attacks import MapError

MODELS, TARGETS, MANY, FPR = 16, (0, 4, 8, 12), 20_000, 0.05
METRICS = "auc", f"tpr@{FPR:g}"


class Ends(NamedTuple):
    """An interval, its centre, and the figure's error through the map."""

    centre: float
    low: float
    high: float
    map_error: float


def views(
    rng: np.random.Generator, records: int, many: int = MANY
) -> tuple[list[AttackView], np.ndarray]:
    """Return a view per target with `many` population records, and the targets' membership."""
    halves = rng.random((MODELS // 2, records)).argsort(axis=1) < records // 2
    member = np.stack([halves, ~halves], axis=1).reshape(MODELS, records)
    audited = 2 * rng.standard_t(4, records) + member + rng.standard_normal(member.shape)
    population = 2 * rng.standard_t(4, many) + rng.standard_normal((MODELS, many))
    made = []
    for target in TARGETS:
        others = [model for model in range(MODELS) if model // 2 != target // 2]
        view = attack_view(
            target=two_class_signals(0.6 * audited[target, :, None] - 1, 2),
            references=two_class_signals(audited[others][..., None], 2),
            member=member[others],
            use=np.ones((len(others), records), bool),
            population_target=two_class_signals(0.6 * population[target, :, None] - 1, 2),
            population_references=two_class_signals(population[others][..., None], 2),
            labels=np.zeros(records, np.int64),
        )
        made.append(view)
    return made, member[list(TARGETS)]


def figures(
    view: AttackView, member: np.ndarray, attack, population: int
) -> tuple[Estimates, Estimates]:
    """Return the figures of one target with the map of so many population records, and with its error."""
    few = attack_view(
        target=view.target,
        references=view.references,
        member=view.member,
        use=view.use,
        population_target=view.population_target[:population],
        population_references=view.population_references[:, :population],
        labels=view.labels,
    )
    scores = attack(recalibrated(few))
    estimates = estimate_metrics(scores[None], member[None], fprs=(FPR,), balanced=False)
    if population == len(view.population_target):
        return estimates, estimates
    influence = MapError(few, member, (FPR,)).of(attack, scores)
    by_target = {metric: [of_metric] for metric, of_metric in influence.items()}
    return estimates, with_map_error(estimates, by_target)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--population", type=int, nargs="*", default=[30, 100, 300])
    parser.add_argument("--attack", default="lira-online-fixed")
    parser.add_argument("--records", type=int, default=800)
    options = parser.parse_args()
    start = time.process_time()
    (attack,) = expand(options.attack)
    drawn: dict[int, list] = {population: [] for population in (*options.population, MANY)}
    for audit in range(options.audits):
        made, member = views(np.random.default_rng([4, audit]), options.records)
        for population, audits in drawn.items():
            pairs = zip(made, member, strict=True)
            targets = [figures(view, truth, attack, population) for view, truth in pairs]
            audits.append(_summary(targets))
    for metric in METRICS:
        exact = [audit[metric, "before"] for audit in drawn[MANY]]
        truth = float(np.mean([audit["mean"].centre for audit in exact]))
        for population in options.population:
            print(line(metric, population, drawn[population], exact, truth), flush=True)
    print(f"({time.process_time() - start:.0f} CPU seconds)")


def _summary(targets: list[tuple[Estimates, Estimates]]) -> dict:
    """Return ends, centre and error through the map of the first target's figure and of the mean, by metric."""
    summary = {}
    for metric in METRICS:
        for place, name in enumerate(("before", "now")):
            alone = [target[place][metric][0] for target in targets]
            both = {"one": alone[0], "mean": mean_over_records(alone)}
            audited = len(targets[0][0][metric][0].influence)
            summary[metric, name] = {
                key: Ends(
                    figure.centre,
                    figure.low,
                    figure.high,
                    float(np.linalg.norm(figure.influence[audited:])),
                )
                for key, figure in both.items()
            }
    return summary


def line(metric: str, population: int, audits: list, exact: list, truth: float) -> str:
    """Return the printed line of one metric and number of population records."""
    means = np.array([audit[metric, "before"]["mean"].centre for audit in audits])
    at_exact = np.array([audit["mean"].centre for audit in exact])
    moved = means - at_exact
    errors = np.array([audit[metric, "now"]["mean"].map_error for audit in audits])
    shares = {}
    for key in ("one", "mean"):
        shares[f"{key} exact"] = _covered([audit[key] for audit in exact], truth)
        for name in ("before", "now"):
            ends = [audit[metric, name][key] for audit in audits]
            shares[f"{key} {name}"] = _covered(ends, truth)
    head = f"{metric} {truth:.3f}, {population} population records: bias {moved.mean():+.4f}, "
    head += (
        f"deviation of the map {moved.std():.4f} (estimated {np.sqrt(np.mean(errors**2)):.4f}), "
    )
    head += f"of the records {at_exact.std():.4f}; covered: "
    return head + ", ".join(f"{name} {100 * share:.1f}" for name, share in shares.items())


def _covered(ends: list[Ends], truth: float) -> float:
    return float(np.mean([figure.low <= truth <= figure.high for figure in ends]))


if __name__ == "__main__":
    main()
