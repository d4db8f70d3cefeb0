"""Verdicts by partly quantized references, on variants that leak as much as full precision does.

    python benchmarks/partly_verdicts.py [--audits 1000] [--quantized 8] [--records 800] [--world NAME ...]

An audit has 18 models in complementary pairs, 2 of them targets, and 800 records. At full precision the
confidence of a record is its difficulty N(0, 2^2), 1.5 more on members, and noise N(0, 1). Quantized, it has
an effect of the record on top, N(0, effect^2), which all models share, and noise that correlates by r with
that of the same model at full precision; its deviation is 1, so that an adversary who quantizes all
references finds as much as at full precision. In `spreads` the noise of a record has the deviation
exp(N(0, 0.5^2)), before and after. `bent` halves confidences above 0 besides, with their noise and their
shift, `less` lets members have only half of the shift, and `nothing` lets them have none.

By `matched-8` references, per world and attack: the mean AUC of the variant by all references quantized (`all`), by
8 with the others predicted, and by the 8 alone; the mean AUC of full precision under the handicap of the 8; the
means of predicted less `all` and less `alone` with their standard errors; the share of audits in which the
variant's AUC is called above 0.5; and the share in which its AUC, or its TPR at 5 %, is called lower or higher
than full precision's (the mean over the targets, at 95 %; by all references in brackets). Nothing differs in the
worlds without `bent`, `less` and `nothing`: 2.5 % in either direction. Seeds 0, 1, ... by audit.
"""

import argparse
import time
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from bitleak.attacks import Attack, LiRA, attack_view, fractional_scores, predicted_view
from bitleak.core.types import AttackView
from bitleak.metrics import Estimates, estimate_metrics, measures_from

MODELS, TARGETS, SHIFT, FPR, DIFFICULTY = 18, (0, 2), 1.5, 0.05, 2.0
VIEWS = ("all", "predicted", "alone", "fp32", "handicapped")
EVENTS = ("found", "auc lower", "auc higher", f"tpr@{FPR:g} lower", f"tpr@{FPR:g} higher")
ATTACKS: tuple[Attack, ...] = (LiRA(), LiRA(mode="offline"))


class World(NamedTuple):
    """What quantization does.

    Attributes:
        r: Correlation of a model's noise before and after.
        effect: Deviation of the effect of the record.
        shift: Shift of members after quantization.
        spread: Deviation of the logarithm of the records' noise.
        bent: Whether confidences above 0 are halved.
    """

    r: float
    effect: float
    shift: float = SHIFT
    spread: float = 0.0
    bent: bool = False


WORLDS = {
    "r 0": World(0.0, 1.0),
    "r 0.6": World(0.6, 1.0),
    "r 0.6, large effects": World(0.6, 4.0),
    "r 0.9": World(0.9, 1.0),
    "r 0.6, spreads": World(0.6, 1.0, spread=0.5),
    "r -0.6": World(-0.6, 1.0),
    "r 0.9, bent": World(0.9, 1.0, bent=True),
    "r 0.6, less": World(0.6, 1.0, shift=SHIFT / 2),
    "r 0.6, nothing": World(0.6, 1.0, shift=0.0),
}


def view_of(target: np.ndarray, references: np.ndarray, member: np.ndarray) -> AttackView:
    """Return the view of one target by confidences of it and its references."""

    def signals(confidence: np.ndarray) -> np.ndarray:
        values = np.zeros((*confidence.shape, 1, 2))  # the signals that follow from a confidence
        values[..., 0, 0], values[..., 0, 1] = -np.logaddexp(0, -confidence), confidence
        return values

    none = np.zeros((1 + len(references), 0))
    return attack_view(
        target=signals(target),
        references=signals(references),
        member=member,
        use=np.ones_like(member),
        population_target=signals(none)[0],
        population_references=signals(none)[1:],
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
    if world.spread:
        deviation = np.exp(world.spread * rng.normal(size=records))
        noise, other = deviation * noise, deviation * other
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
        views = {
            "all": view_of(quantized[target], quantized[rows], member[rows]),
            "predicted": part.view,
            "alone": view,
            "fp32": view_of(full[target], full[rows], member[rows]),
        }
        for attack in ATTACKS:
            for name, seen in views.items():
                scores[attack.name][name].append(attack(seen))

        def handicapped(per_side: int, target: int = target, rows: list[int] = rows) -> AttackView:
            few_rows = rows[: 2 * per_side]
            return view_of(full[target], full[few_rows], member[few_rows])

        of_full = fractional_scores(ATTACKS, handicapped, part.effective)
        for attack, of_attack in zip(ATTACKS, of_full, strict=True):
            scores[attack.name]["handicapped"].append(of_attack)
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
    area = measures_from(figures[variant], mode="population").aggregate["auc"]
    called["found"] = float(area.low is not None and area.low > 0.5)
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
        of_world: dict[str, list[dict[str, float]]] = defaultdict(list)
        for seed in range(options.audits):
            figures = audit(WORLDS[name], options.quantized, options.records, seed)
            for attack, of_attack in figures.items():
                of_world[attack].append(facts(of_attack))
        for attack, of_audits in of_world.items():
            print(f"{name}, {attack}: {line(of_audits)}", flush=True)
        print(f"({time.process_time() - start:.0f} s)", flush=True)


def facts(figures: dict[str, Estimates]) -> dict[str, float]:
    """Return the AUCs of one audit by view, and 1 or 0 for every verdict; by all references in brackets."""
    values = {}
    for view, estimates in figures.items():
        values[view] = float(np.mean([figure.value for figure in estimates["auc"]]))
    values |= verdicts(figures, "predicted", "handicapped")
    for event, value in verdicts(figures, "all", "fp32").items():
        values[f"({event})"] = value
    return values


def line(audits: list[dict[str, float]]) -> str:
    """Return means over the audits as text."""
    mean = {name: float(np.mean([values[name] for values in audits])) for name in audits[0]}
    parts = [", ".join(f"{view} {mean[view]:.4f}" for view in VIEWS)]
    for other in ("all", "alone"):
        excess = np.array([values["predicted"] - values[other] for values in audits])
        error = excess.std(ddof=1) / np.sqrt(len(excess))
        parts.append(f"predicted less {other} {excess.mean():.5f} +- {error:.5f}")
    shares = []
    for event in EVENTS:
        shares.append(f"{event} {100 * mean[event]:.1f} ({100 * mean[f'({event})']:.1f}) %")
    return "; ".join([*parts, ", ".join(shares)])


if __name__ == "__main__":
    main()
