"""Verdicts by partly quantized references, on variants that leak as much as full precision does.

    python benchmarks/partly_verdicts.py [--audits 1000] [--quantized 8] [--records 800] [--world NAME ...]

An audit has 18 models in complementary pairs, 2 of them targets, and 800 records. At full precision the
confidence of a record is its difficulty N(0, 2^2), 1.5 more on members, and noise N(0, 1). Quantized, it has
an effect of the record on top, N(0, effect^2), which all models share, and noise that correlates by r with
that of the same model at full precision; its deviation is 1, so that an adversary who quantizes all
references finds as much as at full precision. `bent` halves confidences above 0 besides, with their noise and their
shift, and `less` lets members have only half of the shift.

By `matched-8` references, per world and attack: the mean AUC of the variant by all references quantized (`all`), by
8 with the others predicted, and by the 8 alone; the mean AUC of full precision under the handicap of the 8; and
the share of audits in which the variant's AUC, or its TPR at 5 %, is called lower or higher than full precision's
(the mean over the targets, at 95 %; by all references in brackets). Nothing differs in the worlds without
`bent` and `less`: at most 2.5 % in either direction. Seeds 0, 1, ... by audit.
"""

import argparse
import time
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from bitleak.attacks import RMIA, Attack, LiRA, attack_view, predicted_view
from bitleak.core.types import SIGNALS, AttackView
from bitleak.metrics import Estimates, estimate_metrics, measures_from

MODELS, TARGETS, SHIFT, FPR, DIFFICULTY = 18, (0, 2), 1.5, 0.05, 2.0
VIEWS = ("all", "predicted", "alone", "fp32", "handicapped")
ATTACKS: tuple[Attack, ...] = (LiRA(), LiRA(mode="offline"), RMIA())


class World(NamedTuple):
    """What quantization does.

    Attributes:
        r: Correlation of a model's noise before and after.
        effect: Deviation of the effect of the record.
        shift: Shift of members after quantization.
        bent: Whether confidences above 0 are halved.
    """

    r: float
    effect: float
    shift: float = SHIFT
    bent: bool = False


WORLDS = {
    "r 0": World(0.0, 1.0),
    "r 0.6": World(0.6, 1.0),
    "r 0.6, large effects": World(0.6, 4.0),
    "r 0.9": World(0.9, 1.0),
    "r 0.9, bent": World(0.9, 1.0, bent=True),
    "r 0.6, less": World(0.6, 1.0, shift=SHIFT / 2),
}


def view_of(target: np.ndarray, references: np.ndarray, member: np.ndarray) -> AttackView:
    """Return the view of one target by confidences of it and its references."""

    def signals(confidence: np.ndarray) -> np.ndarray:
        values = np.zeros((*confidence.shape, 1, len(SIGNALS)))
        values[..., 0, 0], values[..., 0, 1] = -np.logaddexp(0, -confidence), confidence
        return values

    outside = np.random.default_rng(0).normal(size=(1 + len(references), 200))
    return attack_view(
        target=signals(target),
        references=signals(references),
        member=member,
        use=np.ones_like(member),
        population_target=signals(outside)[0],
        population_references=signals(outside)[1:],
        labels=np.zeros(len(target), np.int64),
    )


def drawn(world: World, records: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return membership and confidences at full precision and quantized, of all models."""
    rng = np.random.default_rng([24, seed])
    halves = rng.random((MODELS // 2, records)).argsort(axis=1) < records // 2
    member = np.stack([halves, ~halves], axis=1).reshape(MODELS, records)
    difficulty, effect = (
        DIFFICULTY * rng.normal(size=records),
        world.effect * rng.normal(size=records),
    )
    noise, other = rng.normal(size=(2, MODELS, records))
    full = difficulty + SHIFT * member + noise
    after = world.r * noise + np.sqrt(1 - world.r**2) * other
    quantized = difficulty + effect + world.shift * member + after
    return (
        member,
        full,
        np.where(quantized > 0, quantized / 2, quantized) if world.bent else quantized,
    )


def audit(
    world: World, quantized_count: int, records: int, seed: int
) -> dict[str, dict[str, Estimates]]:
    """Return figures by attack and by what is attacked with which references."""
    member, full, quantized = drawn(world, records, seed)
    scores: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for target in TARGETS:
        rows = [row for row in range(MODELS) if row // 2 != target // 2]
        chosen = list(range(quantized_count))
        places = [rows[place] for place in chosen]
        few = view_of(quantized[target], full[rows], member[rows])
        view = view_of(quantized[target], quantized[places], member[places])
        part = predicted_view(few, chosen, view.references, view.population_references)
        alike = 2 * max(2, int(min(part.effective.values()) + 1e-9))
        views = {
            "all": view_of(quantized[target], quantized[rows], member[rows]),
            "predicted": part.view,
            "alone": view,
            "fp32": view_of(full[target], full[rows], member[rows]),
            "handicapped": view_of(full[target], full[rows[:alike]], member[rows[:alike]]),
        }
        for attack in ATTACKS:
            for name, seen in views.items():
                scores[attack.name][name].append(attack(seen))
    figures: dict[str, dict[str, Estimates]] = {}
    for attack_name, by_view in scores.items():
        of_attack = {}
        for name, of_targets in by_view.items():
            of_attack[name] = estimate_metrics(
                np.stack(of_targets), member[list(TARGETS)], fprs=(FPR,), balanced=False
            )
        figures[attack_name] = of_attack
    return figures


def verdicts(figures: dict[str, Estimates], variant: str, baseline: str) -> dict[str, float]:
    """Return 1 for each metric and direction in which the variant differs from the baseline."""
    compared = measures_from(figures[variant], mode="population", baseline=figures[baseline])
    called = {}
    for metric in ("auc", f"tpr@{FPR:g}"):
        measure = compared.aggregate.get(metric)
        low = None if measure is None else measure.difference_low
        high = None if measure is None else measure.difference_high
        called[f"{metric} lower"] = float(high is not None and high < 0)
        called[f"{metric} higher"] = float(low is not None and low > 0)
    return called


def main() -> None:
    """Print a line per world and attack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--quantized", type=int, default=8)
    parser.add_argument("--records", type=int, default=800)
    parser.add_argument("--world", choices=tuple(WORLDS), nargs="*", default=tuple(WORLDS))
    options = parser.parse_args()
    for name in options.world:
        start = time.process_time()
        sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for seed in range(options.audits):
            for attack, figures in audit(
                WORLDS[name], options.quantized, options.records, seed
            ).items():
                total = sums[attack]
                for view, estimates in figures.items():
                    areas = [figure.value for figure in estimates["auc"]]
                    total[view] += float(np.mean(areas)) / options.audits
                for event, count in verdicts(figures, "predicted", "handicapped").items():
                    total[event] += count / options.audits
                for event, count in verdicts(figures, "all", "fp32").items():
                    total[f"({event})"] += count / options.audits
        for attack, total in sums.items():
            areas = ", ".join(
                f"{view} {total[view]:.4f}"
                for view in ("all", "predicted", "alone", "fp32", "handicapped")
            )
            shares = []
            for event in ("auc lower", "auc higher", f"tpr@{FPR:g} lower", f"tpr@{FPR:g} higher"):
                shares.append(
                    f"{event} {100 * total[event]:.1f} ({100 * total[f'({event})']:.1f}) %"
                )
            print(f"{name}, {attack}: {areas}; {', '.join(shares)}", flush=True)
        print(f"({time.process_time() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
