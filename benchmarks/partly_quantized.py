"""Leakage that is found with references of which only some are quantized, from a finished audit.

    python benchmarks/partly_quantized.py CONFIG --store STORE [--data PATH] [--counts 4 8 16]

The config has `matched` among its references, and its audit is in the store. For every variant and
number k of quantized references, three adversaries are compared with the one who quantizes all
references (`all`) and the one who quantizes none (`fp32`): `k predicted` predicts the others'
answers (`attacks.predicted_references`), `k alone` has the k quantized references only. Means of AUC and
of the TPR over the targets; r and the effective number of references are those of the confidence,
means over targets.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from bitleak import audit as library
from bitleak.attacks import RMIA, Attack, LiRA, predicted_view
from bitleak.audit.graph import Plan
from bitleak.audit.graph.partly_quantized_tasks import quantized_order
from bitleak.config import read_config, validate
from bitleak.core.spill import stack_arrays
from bitleak.core.types import AttackView, Outputs
from bitleak.core.variants import FULL
from bitleak.data.splits import references
from bitleak.engine.codecs import decode, kind_of
from bitleak.engine.store import Store
from bitleak.metrics import measure
from bitleak.steps.answer_scale import AnswerScale, Labels, on_scale
from bitleak.steps.attack_partly_quantized import chosen_rows
from bitleak.steps.attack_targets import target_view

ATTACKS: tuple[Attack, ...] = (LiRA(), LiRA(mode="offline"), RMIA())
Answers = dict[int, Outputs]


class Population:
    """The answers of an audit, on the scale of each variant.

    Args:
        plan: Plan of the audit.
        store: Store with its results.
        scale: Scale of the answers.
        seed: Root seed of the audit.
    """

    def __init__(self, plan: Plan, store: Store, scale: AnswerScale, seed: int) -> None:
        self.plan, self.store, self.scale, self.seed = plan, store, scale, seed
        self.images, self.splits = self.read(plan.images), self.read(plan.splits)
        self.order = quantized_order(plan.targets, plan.references)
        self.keys = {task.label: task.key for task in plan.tasks if task.stage == "query"}
        self.rows = sorted({*plan.targets, *plan.references})
        self.full = self.scaled(FULL)[1]

    def read(self, key: str) -> Any:
        """Return a result of the store."""
        artifacts = self.store.read_key(key)
        return decode(kind_of(artifacts), artifacts)

    def scaled(self, variant: str) -> tuple[Answers, Answers]:
        """Return the answers of a variant: the targets' own on the scale of full-precision references, then all on
        the scale of their variant.
        """
        outputs = [self.read(self.keys[f"query {variant} of model {row}"]) for row in self.rows]
        labels = Labels.of(self.images, self.splits)
        own = on_scale(self.scale, (), outputs, labels).references
        if variant == FULL:
            return {}, dict(zip(self.rows, own, strict=True))
        full = [self.read(self.keys[f"query {FULL} of model {row}"]) for row in self.rows]
        targets = [outputs[self.rows.index(row)] for row in self.plan.targets]
        naive = on_scale(self.scale, targets, full, labels).targets
        return dict(zip(self.plan.targets, naive, strict=True)), dict(
            zip(self.rows, own, strict=True)
        )

    def view(
        self, row: int, target: Outputs, answers: Answers, only: list[int] | None = None
    ) -> AttackView:
        """Return the view of one target."""
        return target_view(
            self.images, self.splits, row, target, answers, seed=self.seed, only=only
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--variants", nargs="+")
    parser.add_argument("--fpr", type=float, default=0.01)
    options = parser.parse_args()
    config = validate(read_config(options.config))
    prepared = library.prepare(config, data=options.data)
    scale: AnswerScale = "temperature" if config.query.keep == "logits" else "standardised"
    population = Population(prepared.plan, Store(options.store), scale, config.seed)
    heads = [f"`{attack.name}`: AUC, TPR" for attack in ATTACKS]
    print(f"| variant | references | r (IN, OUT) | n per side | {' | '.join(heads)} |")
    print(f"|---|---|---|---|{'---|' * len(ATTACKS)}")
    for variant in options.variants or [entry.variant for entry in config.quantize]:
        for name, views, facts in adversaries(population, variant, options.counts):
            cells = [figures(population, attack, views, options.fpr) for attack in ATTACKS]
            print(f"| {variant} | {name} | {facts} | {' | '.join(cells)} |", flush=True)


def adversaries(
    population: Population, variant: str, counts: list[int]
) -> list[tuple[str, list[AttackView], str]]:
    """Return name, views of the targets, and r and n as text, of every adversary on a variant."""
    naive, quantized = population.scaled(variant)
    targets = population.plan.targets
    listed = [
        ("all", [population.view(row, quantized[row], quantized) for row in targets], " | "),
        ("fp32", [population.view(row, naive[row], population.full) for row in targets], " | "),
    ]
    for count in counts:
        predicted, alone, facts = [], [], []
        for row in targets:
            rows = references(population.splits, row, seed=population.seed)[0].tolist()
            chosen = chosen_rows(population.order, rows, count)
            part = predicted_view(
                population.view(row, quantized[row], population.full),
                [rows.index(place) for place in chosen],
                stack_arrays([quantized[place].signals for place in chosen]),
                np.stack([quantized[place].population_signals for place in chosen]),
            )
            predicted.append(part.view)
            alone.append(population.view(row, quantized[row], quantized, chosen))
            facts.append([*part.correlation.values(), *part.effective.values()])
        means = np.mean(facts, axis=0)
        text = f"{means[0]:.3f}, {means[1]:.3f} | {means[2]:.1f}, {means[3]:.1f}"
        listed += [(f"{count} predicted", predicted, text), (f"{count} alone", alone, " | ")]
    return listed


def figures(population: Population, attack: Attack, views: list[AttackView], fpr: float) -> str:
    """Return the mean AUC and TPR of an attack over the targets."""
    member = population.splits.member[list(population.plan.targets)]
    scores = np.stack([attack(view) for view in views])
    aggregate = measure(scores, member, fprs=(fpr,)).aggregate
    return f"{aggregate['auc'].value:.4f}, {aggregate[f'tpr@{fpr}'].value:.4f}"


if __name__ == "__main__":
    main()
