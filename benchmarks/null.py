"""Both null tests: the AUC of every attack if nothing is leaked.

    python benchmarks/null.py [--records 20000] [--models 6 8 16 64] [--only joint] [--quantized K]

The target's answers are noise. In the world `noise` the references' answers are noise too; in
`informative` they remember their members and differ between records, so that a leak of membership
through the counts or the means of a record's references is visible. Membership is that of an audit:
`population` is complementary pairs, the target being a row and its complement left out; `dedicated`
is a target on a random half and shadows that hold every record exactly half of the times. For every
attack the smallest and the largest AUC of all 16 designs are printed, and the design furthest from
1/2.

With `--quantized K` the references of a population, at full precision, answer as above; the target is
quantized as K of them are, whose answers are half of those at full precision and noise, and the answers
of the others are predicted (`attacks.predicted_references`). Designs with fewer than K + 2 references
are left out, and so is the joint attack, which has no such references.
"""

import argparse
import time
from collections.abc import Iterator, Sequence

import numpy as np

from bitleak.attacks import (
    Joint,
    LearnedJoint,
    attack_view,
    expand,
    forms_by_word,
    predicted_view,
    two_class_signals,
)
from bitleak.attacks.joint_learned import FEWEST_OF_TARGET
from bitleak.core.types import LOGIT_SCALED, AttackView
from bitleak.metrics import auc, roc

RECORDS, POPULATION = 20_000, 100
MODELS, MODES, WORLDS = (6, 8, 16, 64), ("population", "dedicated"), ("noise", "informative")
ATTACKS = tuple(attack for word in forms_by_word() for attack in expand(word))


def design(
    rng: np.random.Generator, mode: str, models: int, records: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the membership of the target and of its references."""
    if mode == "dedicated":
        target = rng.random(records).argsort() < records // 2
        return target, rng.random((models, records)).argsort(axis=0) < models // 2
    first = rng.random((models // 2, records)).argsort(axis=1).argsort(axis=1) < records // 2
    member = np.stack([first, ~first], axis=1).reshape(models, records)
    return member[0], member[2:]


def world(
    name: str, mode: str, models: int, records: int = RECORDS
) -> tuple[list[AttackView], np.ndarray]:
    """Return two releases of a target that has learnt nothing, and its nominal members."""
    rng = np.random.default_rng([MODELS.index(models), MODES.index(mode), WORLDS.index(name)])
    target, member = design(rng, mode, models, records)
    hard, steady = name == "informative", (len(member), records)
    difficulty, outside = (hard * rng.normal(3.0, 2.0, count) for count in (records, POPULATION))
    views = []
    for _ in range(2):
        references = difficulty + hard * 2.0 * member + rng.standard_normal(steady)
        population_scores = outside + rng.standard_normal((len(member) + 1, POPULATION))
        target_scores = rng.normal(4.0, 2.5, records) if hard else rng.standard_normal(records)
        signals = [
            two_class_signals(of[..., None])
            for of in (target_scores, references, population_scores)
        ]
        views.append(
            attack_view(
                target=signals[0],
                references=signals[1],
                member=member,
                use=np.ones_like(member),
                population_target=signals[2][0],
                population_references=signals[2][1:],
                labels=np.zeros(records, np.int64),
            )
        )
    return views, target


def partly(view: AttackView, count: int) -> AttackView:
    """Return the view in which `count` of the references are quantized and the others' answers are predicted."""
    rng = np.random.default_rng([count, len(view.side)])

    def quantized(signals: np.ndarray) -> np.ndarray:
        confidence = signals[:count, ..., LOGIT_SCALED]
        return two_class_signals(confidence / 2 + rng.normal(size=confidence.shape))

    answers = quantized(view.references), quantized(view.population_references)
    return predicted_view(view, range(count), *answers).view


def areas(
    views: Sequence[AttackView], target: np.ndarray, only: str = ""
) -> Iterator[tuple[str, float]]:
    """Yield name and AUC of every attack, the joint ones on both releases.

    The learned one needs 3 references per side, which 6 models do not leave.
    """
    for attack in ATTACKS:
        if only in attack.name:
            yield attack.name, auc(roc(attack(views[0]), target))
    if len(views) < 2:
        return
    for attack in (Joint(), LearnedJoint()):
        per_side = int(views[0].member[:, 0].sum())
        if only in attack.name and (attack == Joint() or per_side >= FEWEST_OF_TARGET):
            yield attack.name, auc(roc(attack(views), target))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--models", type=int, nargs="*", default=MODELS, choices=MODELS)
    parser.add_argument("--only", default="", help="only attacks with this in their name")
    parser.add_argument("--quantized", type=int, metavar="K", help="predict all but K references")
    options = parser.parse_args()
    start, results = time.process_time(), {}
    for models in options.models:
        if options.quantized and models < options.quantized + 4:
            continue
        for mode in MODES[:1] if options.quantized else MODES:
            for name in WORLDS:
                views, target = world(name, mode, models, options.records)
                if options.quantized:
                    views = [partly(views[0], options.quantized)]
                for attack, area in areas(views, target, options.only):
                    results.setdefault(attack, {})[f"{name}, {mode}, {models} models"] = area
    print("| attack | least | most | furthest from 1/2 in |\n|---|---|---|---|")
    for attack, by_design in results.items():
        worst = max(by_design, key=lambda one: abs(by_design[one] - 0.5))
        print(
            f"| `{attack}` | {min(by_design.values()):.4f} | {max(by_design.values()):.4f} | {worst} |"
        )
    print(f"\n{options.records:,} records, {time.process_time() - start:.0f} CPU seconds")


if __name__ == "__main__":
    main()
