"""The learned joint attack beside the Gaussian one, where that is right and where it is not.

    python benchmarks/joint_learned.py [--records 6000] [--worlds 8]

`copies`: two releases of one target, each with a share of the original's score and noise of its
own; records differ in difficulty, spread, and memory of their members. `correlation`: each release
alone is distributed alike for members and others; the correlation of the two is 0.8 for members,
-0.8 for others, so that the product of both scores is the best attack.
"""

import argparse
import time

import numpy as np

from bitleak.attacks import Joint, LearnedJoint, attack_view, two_class_signals
from bitleak.core.types import AttackView
from bitleak.metrics import auc, roc, tpr_at

COPIES = {
    "noisy copies of equal value": ((1.0, 1.0), (1.0, 1.0)),
    "original, copy with noise": ((1.0, 0.6), (0.0, 1.0)),
}
CORRELATION = 0.8


def design(rng: np.random.Generator, references: int, records: int) -> np.ndarray:
    """Draw complementary pairs: the target and its complement in the first two rows."""
    first = rng.random((references + 1, records)).argsort(axis=1).argsort(axis=1) < records // 2
    return np.stack([first, ~first], axis=1).reshape(-1, records)


def view_of(confidence: np.ndarray, member: np.ndarray) -> AttackView:
    """Return the view of one release."""
    signals = two_class_signals(confidence[..., None])
    outside = two_class_signals(np.zeros((len(member), 2, 1)))
    return attack_view(
        target=signals[0],
        references=signals[2:],
        member=member[2:],
        use=np.ones_like(member[2:]),
        population_target=outside[0],
        population_references=outside[2:],
        labels=np.zeros(member.shape[1], np.int64),
    )


def copies(
    name: str, seed: int, references: int, records: int
) -> tuple[list[AttackView], np.ndarray]:
    """Return two copies of one target, and its members."""
    rng = np.random.default_rng(seed)
    member = design(rng, references, records)
    spread = np.exp(0.5 * rng.standard_normal(records))
    memory, difficulty = rng.exponential(1.2, records), rng.normal(3.0, 2.0, records)
    score = difficulty + memory * member + spread * rng.standard_normal(member.shape)
    views = []
    for share, noise in zip(*COPIES[name], strict=True):
        views.append(view_of(share * score + noise * rng.standard_normal(score.shape), member))
    return views, member[0]


def correlated(
    seed: int, references: int, records: int
) -> tuple[list[AttackView], np.ndarray, np.ndarray]:
    """Return two releases that differ by the sign of their correlation, members, and the best scores."""
    rng = np.random.default_rng(seed)
    member = design(rng, references, records)
    first, noise = rng.standard_normal((2, *member.shape))
    second = np.where(member, CORRELATION, -CORRELATION) * first
    second = second + np.sqrt(1 - CORRELATION**2) * noise
    difficulty = rng.normal(3.0, 2.0, records)
    views = [view_of(difficulty + score, member) for score in (first, second)]
    return views, member[0], first[0] * second[0]


def figures(scores: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Return the AUC, and the TPR at an FPR of 1 %."""
    curve = roc(scores, member)
    return np.array([auc(curve), tpr_at(curve, 0.01)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=6000)
    parser.add_argument("--worlds", type=int, default=8)
    options = parser.parse_args()
    start, seconds = time.process_time(), {"joint": 0.0, "joint-learned": 0.0}

    def timed(attack: Joint | LearnedJoint, views: list[AttackView]) -> np.ndarray:
        before = time.process_time()
        scores = attack(views)
        seconds[attack.name] += time.process_time() - before
        return scores

    print(
        "| world | references per side | `joint`: AUC, TPR at 1 % | learned minus joint | (standard error) |"
    )
    print("|---|---|---|---|---|")
    for name in COPIES:
        for references in (3, 8, 32):
            plain, differences = [], []
            for seed in range(options.worlds):
                views, member = copies(name, seed, references, options.records)
                plain.append(figures(timed(Joint(), views), member))
                learned = figures(timed(LearnedJoint(), views), member)
                differences.append(learned - plain[-1])
            error = np.std(differences, axis=0, ddof=1) / np.sqrt(options.worlds)
            cells = [np.mean(plain, axis=0), np.mean(differences, axis=0), error]
            texts = [f"{area:.3f}, {rate:.3f}" for area, rate in cells]
            print(f"| {name} | {references} | {' | '.join(texts)} |")
    print(
        "\n| correlation 0.8 and -0.8, references per side | `joint` | `joint-learned` | the product |"
    )
    print("|---|---|---|---|")
    for references in (6, 16, 32):
        views, member, best = correlated(0, references, options.records)
        scores = (timed(Joint(), views), timed(LearnedJoint(), views), best)
        texts = [f"{area:.3f}, {rate:.3f}" for area, rate in (figures(of, member) for of in scores)]
        print(f"| {references} | {' | '.join(texts)} |")
    calls = 6 * options.worlds + 3
    print(f"\n{time.process_time() - start:.0f} CPU seconds; per target", end=" ")
    print(", ".join(f"{name} {total / calls:.2f}" for name, total in seconds.items()))


if __name__ == "__main__":
    main()
