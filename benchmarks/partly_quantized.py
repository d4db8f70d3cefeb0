"""Leakage that is found with references of which only some are quantized, from a finished audit.

    python benchmarks/partly_quantized.py CONFIG --store STORE [--data PATH] [--counts 4 8 16 32]
        [--attacks lira-online-shrunk rmia-online] [--csv FILE]

The config has `matched` among its references, and its audit is in the store. For every variant and
number k of quantized references, three adversaries are compared with the one who quantizes all
references (`all`) and the one who quantizes none (`fp32`): `k predicted` predicts the others'
answers (`attacks.predicted_references`), `k alone` has the k quantized references only. Means of AUC and
of the TPR over the targets; r and the effective number of references are those of the confidence,
means over targets. `--models` takes the first models of the audit alone, `--targets` attacks the first
models of that many pairs instead of the audit's targets; with `--cautious`, predicted variances have the
degrees of freedom of the k alone, k / 2 - 1 per side, as a check of those that are claimed.
`benchmarks/partly_quantized_figure.py` draws the CSV files.

The last lines have, for each attack and kind of references, the mean and the largest distance of the AUC
from that of `all` over the variants, and the number of rows within 0.010.
"""

import argparse
import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bitleak import audit as library
from bitleak.attacks import (
    SIDES,
    Attack,
    PredictedView,
    attack_entries,
    predicted_view,
    signals_of_references,
)
from bitleak.audit.graph import Plan
from bitleak.audit.graph.partly_quantized_tasks import quantized_order, quantized_rows
from bitleak.config import read_config, validate
from bitleak.core.spill import stack_arrays
from bitleak.core.types import AttackView, Outputs
from bitleak.core.variants import FULL
from bitleak.data.splits import references
from bitleak.engine.codecs import decoded
from bitleak.engine.store import Store
from bitleak.metrics import estimate_metrics
from bitleak.steps.answer_scale import AnswerScale, Labels, on_scale
from bitleak.steps.attack_partly_quantized import attacks_with_references, chosen_rows
from bitleak.steps.attack_targets import target_view

ATTACKS = ("lira-online-shrunk", "lira-offline-one_sided-shrunk", "rmia-online")
NEAR = 0.010
"""Distance from the AUC of all references that counts as near."""
Answers = dict[int, Outputs]


class Population:
    """The answers of an audit, on the scale of each variant.

    Args:
        plan: Plan of the audit.
        store: Store with its results.
        scale: Scale of the answers.
        seed: Root seed of the audit.
        signals: Number of leading signals that the attacks read.
        cautious: Whether predicted variances get the degrees of freedom of the k quantized references alone.
        models: Number of models; None = those of the audit.
        targets: Number of targets, one per pair; None = those of the audit.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        scale: AnswerScale,
        seed: int,
        *,
        signals: int,
        cautious: bool = False,
        models: int | None = None,
        targets: int | None = None,
    ) -> None:
        self.store, self.scale, self.seed = store, scale, seed
        self.signals, self.cautious = signals, cautious
        self.images, self.splits = self.read(plan.images), self.read(plan.splits)
        self.targets = plan.targets if targets is None else tuple(range(0, 2 * targets, 2))
        rows = [row for row in plan.references if models is None or row < models]
        self.models = tuple(rows)
        self.order = quantized_order(self.targets, self.models)
        self.keys = {task.label: task.key for task in plan.tasks if task.stage == "query"}
        self.rows = sorted({*self.targets, *rows})
        self.raw = self.outputs(FULL)
        self.full = self.scaled(self.raw, self.rows)

    def read(self, key: str) -> Any:
        """Return a result of the store."""
        return decoded(self.store.read_key(key))

    def outputs(self, variant: str) -> Answers:
        """Return the answers of a variant as they are stored."""
        return {row: self.read(self.keys[f"query {variant} of model {row}"]) for row in self.rows}

    def scaled(
        self, outputs: Answers, rows: Sequence[int], references: Answers | None = None
    ) -> Answers:
        """Return the answers of the targets, and of the rows, on the scale of these rows.

        Args:
            outputs: Answers of the targets, and of the rows unless `references` has them.
            rows: Rows of the references by which the scale is fitted.
            references: Their answers, of another variant.
        """
        answers = outputs if references is None else references
        scaled = on_scale(
            self.scale,
            [outputs[row] for row in self.targets],
            [answers[row] for row in rows],
            Labels.of(self.images, self.splits),
        )
        of_rows = {} if references else dict(zip(rows, scaled.references, strict=True))
        return of_rows | dict(zip(self.targets, scaled.targets, strict=True))

    def references(self, target: int) -> list[int]:
        """Return the rows of a target's references."""
        rows = references(self.splits, target, seed=self.seed)[0].tolist()
        return [row for row in rows if row in self.rows]

    def view(
        self, row: int, target: Outputs, answers: Answers, only: list[int] | None = None
    ) -> AttackView:
        """Return the view of one target, by all of its references or by those given."""
        only = self.references(row) if only is None else only
        view = target_view(
            self.images, self.splits, row, target, answers, seed=self.seed, only=only
        )
        return replace(
            view,
            references=view.references[..., : self.signals],
            population_references=view.population_references[..., : self.signals],
        )

    def predicted(self, row: int, quantized: Answers, count: int) -> PredictedView:
        """Return the view of one target by `count` quantized references, the others predicted."""
        rows = self.references(row)
        chosen = chosen_rows(self.order, rows, count)
        part = predicted_view(
            self.view(row, quantized[row], self.full),
            [rows.index(place) for place in chosen],
            stack_arrays([quantized[place].signals[..., : self.signals] for place in chosen]),
            np.stack(
                [quantized[place].population_signals[..., : self.signals] for place in chosen]
            ),
        )
        if not self.cautious:
            return part
        moments = {}
        for key, sums in part.view.moments.items():
            freedom = np.full(len(sums.counts), count / 2 - 1)
            squares = sums.squares / sums.degrees[:, None] * freedom[:, None]
            moments[key] = sums._replace(squares=squares, freedom=freedom)
        return part._replace(view=replace(part.view, moments=moments))


class Adversary(NamedTuple):
    """What an adversary sees of the targets.

    Attributes:
        kind: `all`, `fp32`, `predicted` or `alone`.
        count: Number of quantized references.
        views: View of every target.
        facts: r of IN and OUT, then n of both, if answers were predicted; else empty.
    """

    kind: str
    count: int
    views: list[AttackView]
    facts: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """Name in the table, such as `8 predicted`."""
        return f"{self.count} {self.kind}" if self.kind in ("predicted", "alone") else self.kind


class Figures(NamedTuple):
    """AUC and TPR of one attack, of every target."""

    auc: np.ndarray
    tpr: np.ndarray


def adversaries(population: Population, variant: str, counts: Iterable[int]) -> Iterator[Adversary]:
    """Yield every adversary on a variant, `all` first."""
    outputs, targets = population.outputs(variant), population.targets
    quantized = population.scaled(outputs, population.rows)
    views = [population.view(row, quantized[row], quantized) for row in targets]
    yield Adversary("all", len(population.references(targets[0])), views)
    naive = population.scaled(outputs, population.rows, population.raw)
    views = [population.view(row, naive[row], population.full) for row in targets]
    yield Adversary("fp32", 0, views)
    for count in counts:
        # the scale, too, is known from the models alone that this adversary quantizes
        rows = quantized_rows(targets, population.models, count)
        quantized = population.scaled(outputs, rows)
        parts = [population.predicted(row, quantized, count) for row in targets]
        facts = []
        for part in parts:
            facts.append([*map(part.correlation.get, SIDES), *map(part.effective.get, SIDES)])
        means = tuple(np.mean(facts, axis=0).tolist())
        yield Adversary("predicted", count, [part.view for part in parts], means)
        views = []
        for row in targets:
            chosen = chosen_rows(population.order, population.references(row), count)
            views.append(population.view(row, quantized[row], quantized, chosen))
        yield Adversary("alone", count, views)


def figures(population: Population, attack: Attack, views: list[AttackView], fpr: float) -> Figures:
    """Return AUC and TPR of an attack on every target."""
    member = population.splits.member[list(population.targets)]
    scores = np.stack([attack(view) for view in views])
    found = estimate_metrics(scores, member, fprs=(fpr,), balanced=False)
    auc, tpr = found["auc"], found[f"tpr@{fpr:g}"]
    return Figures(np.array([one.value for one in auc]), np.array([one.value for one in tpr]))


def csv_row(variant: str, adversary: Adversary, attack: str, own: Figures, full: Figures) -> dict:
    """Return a row of the CSV file; `_error` is the standard error, over the targets, of the difference
    from all references quantized.
    """
    row: dict[str, Any] = {
        "variant": variant,
        "references": adversary.kind,
        "quantized": adversary.count,
        "attack": attack,
    }
    for metric, values, others in zip(("auc", "tpr"), own, full, strict=True):
        difference = values - others
        row[metric] = values.mean()
        row[f"{metric}_difference"] = difference.mean()
        row[f"{metric}_error"] = difference.std(ddof=1) / np.sqrt(len(difference))
    names = ("r_in", "r_out", "n_in", "n_out")
    return row | dict(zip(names, adversary.facts or ("",) * len(names), strict=True))


def print_differences(rows: list[dict]) -> None:
    """Print, by attack and kind of references, distances of the AUC from that of `all` over the variants."""
    print("\n| attack | references | mean of all - AUC | mean distance | largest | within 0.010 |")
    print("|---|---|---|---|---|---|")
    for attack in dict.fromkeys(row["attack"] for row in rows):
        of_attack = [row for row in rows if row["attack"] == attack]
        kinds = dict.fromkeys((row["quantized"], row["references"]) for row in of_attack)
        for count, kind in kinds:
            if kind == "all":
                continue
            lost = np.array(
                [
                    -row["auc_difference"]
                    for row in of_attack
                    if (row["quantized"], row["references"]) == (count, kind)
                ]
            )
            far = np.abs(lost)
            print(
                f"| {attack} | {count} {kind} | {lost.mean():+.4f} | {far.mean():.4f} | "
                f"{far.max():.4f} | {(far <= NEAR).sum()} of {len(far)} |"
            )


def main() -> None:
    """Print a line per variant and kind of references as it is known, then the differences."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--variants", nargs="+")
    parser.add_argument("--attacks", nargs="+", default=ATTACKS)
    parser.add_argument("--models", type=int)
    parser.add_argument("--targets", type=int)
    parser.add_argument("--fpr", type=float, default=0.01)
    parser.add_argument("--cautious", action="store_true")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    config = validate(read_config(options.config))
    prepared = library.prepare(config, data=options.data)
    scale: AnswerScale = "temperature" if config.query.keep == "logits" else "standardised"
    attacks = attacks_with_references(
        attack_entries(options.attacks), population=config.split.population
    )
    population = Population(
        prepared.plan,
        Store(options.store),
        scale,
        config.seed,
        signals=signals_of_references(attacks),
        cautious=options.cautious,
        models=options.models,
        targets=options.targets,
    )

    # a line per adversary, as soon as its figures are there
    heads = [f"`{attack.name}`: AUC, TPR" for attack in attacks]
    print(f"| variant | references | r (IN, OUT) | n per side | {' | '.join(heads)} |")
    print(f"|---|---|---|---|{'---|' * len(attacks)}")
    rows: list[dict] = []
    for variant in options.variants or [entry.variant for entry in config.quantize]:
        full: dict[str, Figures] = {}
        for adversary in adversaries(population, variant, options.counts):
            cells = []
            for attack in attacks:
                own = figures(population, attack, adversary.views, options.fpr)
                full.setdefault(attack.name, own)
                rows.append(csv_row(variant, adversary, attack.name, own, full[attack.name]))
                cells.append(f"{own.auc.mean():.4f}, {own.tpr.mean():.4f}")
            facts = adversary.facts
            text = (
                f"{facts[0]:.3f}, {facts[1]:.3f} | {facts[2]:.1f}, {facts[3]:.1f}"
                if facts
                else " | "
            )
            print(f"| {variant} | {adversary.name} | {text} | {' | '.join(cells)} |", flush=True)
    print_differences(rows)
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
