"""Leakage that a change of the target's calibration hides from an adversary who does not expect it.

    python benchmarks/calibration_shift.py [--out docs/figures/calibration-shift.png] [--targets 4]

64 reference models in complementary pairs, 50,000 records of different difficulty, memory and
spread; the target's logit-scaled confidence f becomes 0.6 f, or f - 2, on every record, trained on
or not. Online LiRA then attacks it with the references as they are (`fp32`), with the target's
confidence brought back to the references' moments on 4,000 population records (`recalibrated`), and
with references that are changed in the same way (`matched`). The TPR at an FPR of 0.1 % with the
interval of an audit, mean over targets of one population, is printed and drawn.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from bitleak.attacks import LiRA, attack_view, recalibrated, two_class_signals
from bitleak.core.types import SIGNALS, AttackView
from bitleak.metrics import measure
from bitleak.report.figures.style import MUTED, settings

REFERENCES, RECORDS, POPULATION, FPR = 64, 50_000, 4000, 0.001
CONFIDENCE = SIGNALS.index("logit_scaled")
CHANGES = {
    "left as it is": (1.0, 0.0),
    "confidence times 0.6": (0.6, 0.0),
    "confidence shifted by -2": (1.0, -2.0),
}
ADVERSARIES = {
    "fp32": ("#d55e00", "o"),
    "recalibrated": ("#0072b2", "s"),
    "matched": ("#009e73", "D"),
}
"""Colours of Okabe and Ito (2008), and markers."""


def views(targets: int, seed: int = 0) -> tuple[list[AttackView], np.ndarray]:
    """Return targets of one population, each with the 64 rows that are not its pair, and their
    membership.
    """
    rng = np.random.default_rng(seed)
    models = REFERENCES + 2
    first = rng.random((models // 2, RECORDS)).argsort(axis=1).argsort(axis=1) < RECORDS // 2
    member = np.stack([first, ~first], axis=1).reshape(models, RECORDS)
    spread, memory = np.exp(0.5 * rng.standard_normal(RECORDS)), rng.exponential(3.0, RECORDS)
    pool = rng.normal(4.0, 2.0, RECORDS) + spread * (
        memory * member + rng.standard_normal(member.shape)
    )
    steady = np.exp(0.5 * rng.standard_normal(POPULATION))
    outside = rng.normal(4.0, 2.0, POPULATION) + steady * rng.standard_normal((models, POPULATION))
    targets_seen = []
    for row in range(0, 2 * targets, 2):
        reference_rows = np.setdiff1d(np.arange(models), [row, row + 1])
        targets_seen.append(
            attack_view(
                target=two_class_signals(pool[row][:, None]),
                references=two_class_signals(pool[reference_rows][:, :, None]),
                member=member[reference_rows],
                use=np.ones((len(reference_rows), RECORDS), bool),
                population_target=two_class_signals(outside[row][:, None]),
                population_references=two_class_signals(outside[reference_rows][:, :, None]),
                labels=np.zeros(RECORDS, np.int64),
            )
        )
    return targets_seen, member[: 2 * targets : 2]


def seen_by(adversary: str, view: AttackView, change: tuple[float, float]) -> AttackView:
    """Return the view of an adversary after the target's confidence has changed."""
    changed = replace(
        view,
        target=_changed(view.target, change),
        population_target=_changed(view.population_target, change),
    )
    if adversary == "matched":
        return replace(changed, references=_changed(view.references, change))
    return recalibrated(changed) if adversary == "recalibrated" else changed


def _changed(signals: np.ndarray, change: tuple[float, float]) -> np.ndarray:
    scale, shift = change
    return two_class_signals(scale * signals[..., CONFIDENCE] + shift)


def figures(targets: int) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Return the TPR and both ends of its interval, by change and adversary."""
    rates, (attacked, member) = {}, views(targets)
    for change, of in CHANGES.items():
        for adversary in ADVERSARIES:
            scores = np.stack([LiRA()(seen_by(adversary, view, of)) for view in attacked])
            rate = measure(scores, member, fprs=(FPR,)).aggregate[f"tpr@{FPR:g}"]
            rates[change, adversary] = rate.value, rate.low, rate.high
    return rates


def draw(rates: dict[tuple[str, str], tuple[float, float, float]], out: Path) -> None:
    """Draw a group of three points per change, each with its interval."""
    with plt.rc_context(settings()):
        figure, axes = plt.subplots(figsize=(6.4, 3.4), constrained_layout=True)
        for place, change in enumerate(CHANGES):
            for side, (adversary, (colour, marker)) in zip(
                (-0.2, 0.0, 0.2), ADVERSARIES.items(), strict=True
            ):
                value, low, high = (100 * number for number in rates[change, adversary])
                axes.errorbar(
                    place + side,
                    value,
                    yerr=[[value - low], [high - value]],
                    color=colour,
                    marker=marker,
                    linestyle="none",
                    capsize=4,
                    markersize=6,
                    label=f"{adversary} references" if place == 0 else None,
                )
                axes.annotate(f"{value:.0f}", (place + side, value), xytext=(7, 0), textcoords="offset points",
                              va="center", fontsize=9, color=MUTED)  # fmt: skip
        axes.set_xticks(range(len(CHANGES)), list(CHANGES))
        axes.set_xlabel("the target")
        axes.set_xlim(-0.5, len(CHANGES) - 0.5)
        axes.set_ylim(0, 1.15 * max(100 * high for _, _, high in rates.values()))
        axes.set_ylabel(f"TPR at {100 * FPR:g} % FPR, %")
        axes.grid(visible=False, axis="x")
        axes.legend(
            loc="upper center",
            ncols=3,
            bbox_to_anchor=(0.5, 1.14),
            columnspacing=1.2,
            handletextpad=0.4,
        )
        figure.savefig(out, dpi=160)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/figures/calibration-shift.png"))
    parser.add_argument("--targets", type=int, default=4)
    options = parser.parse_args()
    rates = figures(options.targets)
    print("| target | `fp32` | `recalibrated` | `matched` |\n|---|---|---|---|")
    for change in CHANGES:
        cells = (
            f"{value:.3f} ({low:.3f} to {high:.3f})"
            for value, low, high in (rates[change, a] for a in ADVERSARIES)
        )
        print(f"| {change} | {' | '.join(cells)} |")
    draw(rates, options.out)


if __name__ == "__main__":
    main()
