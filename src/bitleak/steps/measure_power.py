"""Measure how well the attacks do with fewer references."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from bitleak import metrics
from bitleak.attacks import Attack, exchangeable
from bitleak.attacks.reference_subsets import Subsets
from bitleak.core.errors import TooFewForAttack
from bitleak.core.params import later
from bitleak.core.seeds import seed_for
from bitleak.core.spill import new_array, release
from bitleak.core.types import AttackView, Images, Measure, Outputs, SplitMode, Splits
from bitleak.engine.worker import Runtime
from bitleak.steps.answer_scale import AnswerScale, Labels, on_scale
from bitleak.steps.attack_targets import AttackScores, applicable, target_view
from bitleak.steps.find_copies import Groups, groups_of
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress

POWER_TARGETS = 8
"""Targets that are attacked with fewer references, at most: an interval over records hardly gains by more."""


class PowerFigure(NamedTuple):
    """One figure with fewer references.

    Attributes:
        attack: Name of the attack.
        references: References per side of every record.
        metric: `auc` or `tpr@FPR`.
        target: Row number of the target as text, or `all`.
        measure: The figure.
    """

    attack: str
    references: int
    metric: str
    target: str
    measure: Measure


@dataclass(frozen=True)
class PowerFigures:
    """Figures by number of references.

    Attributes:
        rows: The figures.
        refused: Reasons of the attacks that cannot be run with that few references, by attack and number.
    """

    rows: Sequence[PowerFigure]
    refused: Mapping[tuple[str, int], str]

    def artifacts(self) -> dict[str, Any]:
        """Return the stored arrays and JSON values by name."""
        rows = [{**row._asdict(), "measure": asdict(row.measure)} for row in self.rows]
        return {"rows": rows, "refused": [[*key, reason] for key, reason in self.refused.items()]}

    @classmethod
    def read(cls, artifacts: Mapping[str, Any]) -> "PowerFigures":
        """Return the figures that were stored as these artifacts."""
        rows = [
            PowerFigure(**{**row, "measure": Measure(**row["measure"])})
            for row in artifacts["rows"]
        ]
        return cls(rows, {(name, count): reason for name, count, reason in artifacts["refused"]})


@dataclass(frozen=True)
class MeasurePower:
    """Measure AUC and TPR of the attacks with references, by the number of references per side.

    Attributes:
        attacks: Names of the attacks, in full.
        targets: Rows of the targets.
        references: Rows of the references.
        counts: References per side, ascending; the last is all of them.
        fpr: False positive rate.
        seed: The audit's seed.
        answer_scale: Scale on which the answers are compared.
    """

    attacks: tuple[str, ...]
    targets: tuple[int, ...]
    references: tuple[int, ...]
    counts: tuple[int, ...]
    fpr: float
    seed: int
    answer_scale: AnswerScale = later("raw")

    STAGE: ClassVar[str] = "power"
    VERSION: ClassVar[str] = "4"

    class Inputs(NamedTuple):
        """Scores with all references, the answers at full precision, and clusters of records."""

        scores: AttackScores
        targets: tuple[Outputs, ...]
        references: tuple[Outputs, ...]
        images: Images
        splits: Splits
        clusters: Mapping[str, Any] | None = None

    def cost(self, scale: Scale) -> float:
        """Seconds: an attack with fewer references takes its share of the seconds with all."""
        share = sum(self.counts[:-1]) / self.counts[-1]
        measuring = 4e-5 * len(self.targets) * scale.pool * len(self.counts)
        scaling = scale.scaling_seconds(self.answer_scale) * len(self.references)
        return share * len(self.attacks) * scale.attack_seconds + measuring + scaling

    def bytes(self, scale: Scale) -> int:
        """Bytes of the figures, about 330 each: AUC and TPR of every attack, number and target."""
        return 330 * 2 * len(self.attacks) * len(self.counts) * (len(self.targets) + 1)

    def memory(self, scale: Scale) -> int:
        """Memory of the stacked references, of half of them, of answers on their scale, and of all scores."""
        scores = 8 * len(self.attacks) * len(self.counts) * len(self.targets) * scale.pool
        copies = scale.stack_bytes + scale.references * scale.answer_bytes // 2
        return copies + scale.scaled_bytes(self.answer_scale) + scores

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> PowerFigures:
        """Return the figures."""
        split = inputs.splits
        scaled = on_scale(
            self.answer_scale, inputs.targets, inputs.references, Labels.of(inputs.images, split)
        )
        answers = dict(zip(self.references, scaled.references, strict=True))
        attacks = applicable(self.attacks, recalibrate=False, population=len(split.population))

        def views() -> Iterator[AttackView]:
            for place, (row, target) in enumerate(zip(self.targets, scaled.targets, strict=True)):
                yield target_view(inputs.images, split, row, target, answers, seed=self.seed)
                progress((place + 1) / (len(self.targets) + 1))

        return power_figures(
            views(),
            [attack for attack in attacks if attack.uses_references],
            self.counts,
            {label.name: inputs.scores.of(label.name) for label in inputs.scores.attacks},
            split.member[list(self.targets)],
            targets=self.targets,
            fpr=self.fpr,
            mode=split.mode,
            seed=self.seed,
            clusters=groups_of(inputs.clusters),
        )


def power_figures(
    views: Iterator[AttackView],
    attacks: Sequence[Attack],
    counts: Sequence[int],
    whole: Mapping[str, Float64[np.ndarray, "all records"]],
    member: Bool[np.ndarray, "targets records"],
    *,
    targets: Sequence[int],
    fpr: float,
    mode: SplitMode,
    seed: int,
    clusters: Groups | None = None,
) -> PowerFigures:
    """Return AUC and TPR by number of references.

    Args:
        views: One view per target, made when the one before is done with.
        attacks: Attacks with references.
        counts: References per side, ascending; the last is all of them.
        whole: Scores with all references, by attack; their first rows are those of the targets.
        member: Membership of the targets.
        targets: Rows of the targets.
        fpr: False positive rate.
        mode: Whether the targets share their records.
        seed: The root seed.
        clusters: Number of each record's cluster; None if all are independent.
    """
    # One array for the scores of all attacks with all numbers below the last, in a file if it is large.
    places: dict[tuple[str, int], int] = {}
    for attack in attacks:
        for count in counts[:-1]:
            places[attack.name, count] = len(places)
    scores = new_array((max(1, len(places)), *member.shape), np.dtype(np.float64))
    refused: dict[tuple[str, int], str] = {}
    for index, (target, view) in enumerate(zip(targets, views, strict=True)):
        subsets = Subsets(view, np.random.default_rng(seed_for(seed, "power", target)))
        # One draw serves all numbers: smaller subsets are parts of larger ones.
        for count in counts[:-1]:
            for attack, answer in _with_fewer(subsets, attacks, count):
                if isinstance(answer, str):
                    refused[attack.name, count] = answer
                else:
                    scores[places[attack.name, count], index] = answer
        release(scores)
    # Figures of an attack exist for a number only if it could be run on every target.
    rows: list[PowerFigure] = []
    for attack in attacks:
        for count in counts:
            if (attack.name, count) not in refused:
                place = places.get((attack.name, count))
                of_attack = whole[attack.name][: len(targets)] if place is None else scores[place]
                measures = metrics.measure(
                    of_attack, member, fprs=[fpr], mode=mode, balanced=False, clusters=clusters
                )
                rows += _figures(attack.name, count, targets, measures)
                release(scores)
    return PowerFigures(rows, refused)


def _with_fewer(
    subsets: Subsets, attacks: Sequence[Attack], count: int
) -> Iterator[tuple[Attack, Float64[np.ndarray, "records"] | str]]:
    """Yield the scores of each attack with `count` references per side, or the reason why there are none."""
    by_side = [attack for attack in attacks if exchangeable(attack)]
    others = [attack for attack in attacks if attack not in by_side]
    for group, make_view in ((by_side, subsets.compact_view), (others, subsets.view)):
        if group:
            view = make_view(count)
            for attack in group:
                try:
                    yield attack, attack(view)
                except TooFewForAttack as error:
                    yield attack, str(error)


def _figures(
    attack: str, count: int, targets: Sequence[int], measures: metrics.Measures
) -> list[PowerFigure]:
    """Return the aggregate and every target, metric by metric."""
    rows = []
    for metric, aggregate in measures.aggregate.items():
        rows.append(PowerFigure(attack, count, metric, "all", aggregate))
        for target, measure in zip(targets, measures.targets[metric], strict=True):
            rows.append(PowerFigure(attack, count, metric, str(target), measure))
    return rows
