"""The error of the map of `recalibrated` rows: how much of it the intervals over records miss.

    python benchmarks/recalibration.py [--audits 1000] [--population 30 100 300] [--attack NAME]

An audit has 16 models in complementary pairs, 4 of them targets, and 800 records. Confidences are a
record's difficulty (Student's t with 4 degrees of freedom, times 2), 1 more on members, and noise N(0, 1);
a target's are mapped to 0.6 f - 1 by its quantization. The adversary has full-precision references and
fits the map back on the population records, as `attacks.recalibrate` does. The truth is the mean over all
audits of the AUC and of the TPR at 5 % with the map of 20,000 population records. Printed are, per number
of population records: the bias of the mean over targets and its deviation through the map alone, the
deviation through the audited records, and the share of audits whose interval holds the truth: that of one
target, that of the mean over 4, both also with the map of 20,000 (`exact`), and that of the mean with the
map's true deviation added to the interval's (`added`). Seeds 0, 1, ... by audit.
"""

import argparse
import time

import numpy as np

from bitleak.attacks import attack_view, expand, recalibrated, two_class_signals
from bitleak.core.types import AttackView
from bitleak.metrics import Estimate, estimate_auc, estimate_tpr, mean_over_records, roc

MODELS, TARGETS, RECORDS, MANY, FPR = 16, (0, 4, 8, 12), 800, 20_000, 0.05
Z = 1.96


def views(rng: np.random.Generator) -> tuple[list[AttackView], np.ndarray]:
    """Return a view per target with `MANY` population records, and the targets' membership."""
    halves = rng.random((MODELS // 2, RECORDS)).argsort(axis=1) < RECORDS // 2
    member = np.stack([halves, ~halves], axis=1).reshape(MODELS, RECORDS)
    audited = 2 * rng.standard_t(4, RECORDS) + member + rng.standard_normal(member.shape)
    population = 2 * rng.standard_t(4, MANY) + rng.standard_normal((MODELS, MANY))
    made = []
    for target in TARGETS:
        others = [model for model in range(MODELS) if model // 2 != target // 2]
        view = attack_view(
            target=two_class_signals(0.6 * audited[target, :, None] - 1, 2),
            references=two_class_signals(audited[others][..., None], 2),
            member=member[others],
            use=np.ones((len(others), RECORDS), bool),
            population_target=two_class_signals(0.6 * population[target, :, None] - 1, 2),
            population_references=two_class_signals(population[others][..., None], 2),
            labels=np.zeros(RECORDS, np.int64),
        )
        made.append(view)
    return made, member[list(TARGETS)]


def figures(view: AttackView, member: np.ndarray, attack, records: int) -> list[Estimate]:
    """Return AUC and TPR of one target with the map of so many population records."""
    few = attack_view(
        target=view.target,
        references=view.references,
        member=view.member,
        use=view.use,
        population_target=view.population_target[:records],
        population_references=view.population_references[:, :records],
        labels=view.labels,
    )
    curve = roc(attack(recalibrated(few)), member)
    return [estimate_auc(curve), estimate_tpr(curve, FPR)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--population", type=int, nargs="*", default=[30, 100, 300])
    parser.add_argument("--attack", default="lira-online-fixed")
    options = parser.parse_args()
    start = time.process_time()
    (attack,) = expand(options.attack)
    drawn: dict[int, list] = {records: [] for records in (*options.population, MANY)}
    for audit in range(options.audits):
        made, member = views(np.random.default_rng([4, audit]))
        for records, rows in drawn.items():
            rows.append(
                [
                    figures(view, truth, attack, records)
                    for view, truth in zip(made, member, strict=True)
                ]
            )
    for place, metric in enumerate(("auc", f"tpr@{FPR:g}")):
        exact = [[target[place] for target in audit] for audit in drawn[MANY]]
        truth = float(np.mean([[figure.centre for figure in audit] for audit in exact]))
        for records in options.population:
            mapped = [[target[place] for target in audit] for audit in drawn[records]]
            print(line(metric, records, mapped, exact, truth), flush=True)
    print(f"({time.process_time() - start:.0f} CPU seconds)")


def line(metric: str, records: int, mapped: list, exact: list, truth: float) -> str:
    """Return the printed line of one metric and number of population records."""
    means = [mean_over_records(audit) for audit in mapped]
    at_exact = [mean_over_records(audit) for audit in exact]
    moved = np.array([a.centre - b.centre for a, b in zip(means, at_exact, strict=True)])
    widened = []
    for figure in means:
        reach = np.hypot(np.array(figure.reach), Z * moved.std())
        widened.append(figure.centre - reach[0] <= truth <= figure.centre + reach[1])
    shares = {
        "one": _covered([figure for audit in mapped for figure in audit], truth),
        "one exact": _covered([figure for audit in exact for figure in audit], truth),
        "mean": _covered(means, truth),
        "mean exact": _covered(at_exact, truth),
        "mean added": float(np.mean(widened)),
    }
    deviation = float(np.std([figure.centre for figure in at_exact]))
    head = f"{metric} {truth:.3f}, {records} population records: bias {moved.mean():+.4f}, "
    head += f"deviation of the map {moved.std():.4f}, of the records {deviation:.4f}; covered: "
    return head + ", ".join(f"{name} {100 * share:.1f}" for name, share in shares.items())


def _covered(estimates: list[Estimate], truth: float) -> float:
    return float(np.mean([figure.low <= truth <= figure.high for figure in estimates]))


if __name__ == "__main__":
    main()
