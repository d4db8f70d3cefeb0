"""Pooled forms of LiRA with outlying confidences: a model, or single answers, with margins of 300.

    python benchmarks/margins.py [--audits 200]

An audit has a target, 16 references, 8 per side of every record, and 1,000 records. Confidences are a
record's difficulty N(0, 2^2), 1 more on members, and noise N(0, 1). Worlds:

- `none`: nothing more.
- `answers`: one answer of a reference in a hundred is 300 or -300 (saturated).
- `records`: on one record in a hundred every model's noise is a hundred times as large.
- `model`: one reference has a hundred times the confidence of the others.

Printed is the mean AUC and TPR at 5 % of each form: with pooled deviations (`fixed`), shrunk towards pooled
ones (`shrunk`), with each record's own (`per_record`), and of the public code, with medians for means
(`paper`). `trimmed` is `fixed` with every reference answer kept within 10 robust deviations (1.4826 times
the median distance from the median) of its record's median.
"""

import argparse
import time
from dataclasses import replace

import numpy as np

from bitleak.attacks import attack_view, expand, two_class_signals
from bitleak.core.types import SIGNALS, AttackView
from bitleak.metrics import estimate_auc, roc, tpr_at

REFERENCES, RECORDS, FPR = 16, 1000, 0.05
LOGIT_SCALED = SIGNALS.index("logit_scaled")
WORLDS = ("none", "answers", "records", "model")
FORMS = tuple(
    f"lira-{mode}-{variance}"
    for mode in ("online", "offline-one_sided")
    for variance in ("fixed", "shrunk", "per_record", "paper")
)


def audit(world: str, rng: np.random.Generator) -> tuple[AttackView, np.ndarray]:
    """Return a view and the target's membership."""
    halves = rng.random((REFERENCES // 2, RECORDS)).argsort(axis=1) < RECORDS // 2
    inside = np.stack([halves, ~halves], axis=1).reshape(REFERENCES, RECORDS)
    member = rng.permutation(RECORDS) < RECORDS // 2
    noise = rng.standard_normal((REFERENCES + 1, RECORDS))
    if world == "records":
        noise[:, rng.random(RECORDS) < 0.01] *= 100
    answers = 2 * rng.standard_normal(RECORDS) + np.vstack([member, inside]) + noise
    if world == "answers":
        saturated = rng.random((REFERENCES, RECORDS)) < 0.01
        answers[1:][saturated] = 300 * np.sign(answers[1:][saturated])
    if world == "model":
        answers[1] *= 100
    view = attack_view(
        target=two_class_signals(answers[0, :, None], 2),
        references=two_class_signals(answers[1:][..., None], 2),
        member=inside,
        use=np.ones_like(inside),
        population_target=two_class_signals(np.empty((0, 1)), 2),
        population_references=two_class_signals(np.empty((REFERENCES, 0, 1)), 2),
        labels=np.zeros(RECORDS, np.int64),
    )
    return view, member


def trimmed(view: AttackView) -> AttackView:
    """Return the view with reference answers kept within 10 robust deviations of their record's median."""
    answers = view.references[..., LOGIT_SCALED]
    median = np.median(answers, axis=0)
    deviation = 1.4826 * np.median(np.abs(answers - median), axis=0)
    kept = np.clip(answers, median - 10 * deviation, median + 10 * deviation)
    return replace(view, references=two_class_signals(kept, 2))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--audits", type=int, default=200)
    options = parser.parse_args()
    start = time.process_time()
    attacks = {attack.name: attack for name in FORMS for attack in expand(name)}
    names = [*attacks, "lira-online-fixed trimmed"]
    print("| form | " + " | ".join(WORLDS) + " |\n" + "|---" * (1 + len(WORLDS)) + "|")
    cells: dict[str, list[str]] = {name: [] for name in names}
    for world in WORLDS:
        figures: dict[str, list] = {name: [] for name in names}
        for number in range(options.audits):
            view, member = audit(world, np.random.default_rng([number, WORLDS.index(world)]))
            curves = {name: roc(attack(view), member) for name, attack in attacks.items()}
            scores = attacks["lira-online-fixed"](trimmed(view))
            curves["lira-online-fixed trimmed"] = roc(scores, member)
            for name, curve in curves.items():
                figures[name].append((estimate_auc(curve).value, tpr_at(curve, FPR)))
        for name, values in figures.items():
            auc, tpr = np.mean(values, axis=0)
            cells[name].append(f"{auc:.3f}, {tpr:.3f}")
    for name, values in cells.items():
        print(f"| `{name}` | " + " | ".join(values) + " |")
    print(f"({time.process_time() - start:.0f} CPU seconds)")


if __name__ == "__main__":
    main()
