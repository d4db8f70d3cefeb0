"""Coverage of the leakage over noise of equal accuracy, where noise and variant are alike.

    python benchmarks/match_error.py [--audits 1000]

Damage costs accuracy and leakage: a member scores N(shift (1 - damage), 1), a non-member N(0, 1),
and a record is classified correctly if N(1 + hardness, 1) exceeds the damage. The variant has a
damage of 0.5 or 0.3; the noise is damaged until it is right on as many of its targets' non-members
as the variant is. The true difference in leakage is 0. Printed are, with and without the error of
the match, the share of audits whose interval contains 0, and the interval's mean deviation (its
width / 3.92) next to that of the differences.
"""

import argparse

import numpy as np

from bitleak.metrics import (
    Estimates,
    MatchedAccuracies,
    at_equal_accuracy,
    estimate_metrics,
    estimate_proportion,
    excess_over_best,
)

TARGETS, RECORDS = 4, 800
WORLDS = ((1.0, 0.5), (1.0, 0.3), (2.0, 0.5))


def audit(
    seed: int, *, shift: float = 1.0, damage: float = 0.5
) -> tuple[Estimates, Estimates, Estimates, MatchedAccuracies]:
    """Return the AUCs of the variant, under noise and at full precision, and their accuracies."""
    rng = np.random.default_rng([1, seed])
    member = rng.random((TARGETS, RECORDS)).argsort(axis=1) < RECORDS // 2
    hardness = rng.standard_normal(RECORDS)
    full, variant, noise = rng.standard_normal((3, 2, TARGETS, RECORDS))

    def leakage(scores: np.ndarray, harm: float) -> Estimates:
        signal = shift * (1 - harm) * member
        return estimate_metrics(signal + scores, member, fprs=(), balanced=False)

    def accuracy(margins: np.ndarray, harm: float) -> tuple:
        return tuple(map(estimate_proportion, 1 + hardness + margins > harm, ~member))

    # as many right answers of the noise as of the variant, over all targets
    right = int((1 + hardness + variant[1] > damage)[~member].sum())
    matched = float(np.sort((1 + hardness + noise[1])[~member])[-right]) - 1e-9
    accuracies = MatchedAccuracies(
        accuracy(variant[1], damage), accuracy(noise[1], matched), accuracy(full[1], 0.0)
    )
    return (
        leakage(variant[0], damage),
        leakage(noise[0], matched),
        leakage(full[0], 0.0),
        accuracies,
    )


def coverage(audits: int, **world: float) -> dict[str, tuple[float, float]]:
    """Return the share of intervals that contain 0 and their mean deviation, by method.

    The entry `differences` holds the deviation of the differences themselves.
    """
    inside = {"with": 0, "without": 0}
    widths, values = dict.fromkeys(inside, 0.0), []
    for seed in range(audits):
        variant, noise, full, accuracies = audit(seed, **world)
        corrected = at_equal_accuracy(noise, full, accuracies)
        for name, rival in (("with", corrected), ("without", noise)):
            total = excess_over_best(variant, [rival], mode="population").aggregate["auc"]
            low, high = total.low or 0.0, total.high or 0.0
            inside[name] += low <= 0 <= high
            widths[name] += high - low
        values.append(total.value)
    shares = {
        name: (count / audits, widths[name] / audits / 3.92) for name, count in inside.items()
    }
    return shares | {"differences": (float("nan"), float(np.std(values)))}


def main() -> None:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--audits", type=int, default=1000)
    options = parser.parse_args()
    for shift, damage in WORLDS:
        for name, (share, deviation) in coverage(
            options.audits, shift=shift, damage=damage
        ).items():
            covers = "" if name == "differences" else f" covers {100 * share:.1f} %,"
            print(
                f"shift {shift:g}, damage {damage:g}, {name}:{covers} deviation {deviation:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
