"""Run every attack on every target of one variant, with one kind of reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float64

from bitleak.attacks import (
    RECALIBRATED_SIGNALS,
    Attack,
    attack_view,
    expand,
    negative_control,
    outlying_references,
    population_view,
    positive_control,
    recalibrated,
)
from bitleak.core.params import later
from bitleak.core.seeds import seed_for
from bitleak.core.spill import stack_arrays
from bitleak.core.types import LOGIT_SCALED, AttackView, Images, Outputs, Splits
from bitleak.data.splits import even_mask, reference_models
from bitleak.engine.worker import Runtime
from bitleak.steps.answer_scale import AnswerScale, Labels, on_scale
from bitleak.steps.moved_map_attacks import MapError, TargetInfluence
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


class AttackLabel(NamedTuple):
    """An attack in the store.

    Attributes:
        name: Its name in tables.
        references: Whether it uses references.
    """

    name: str
    references: bool


@dataclass(frozen=True)
class AttackScores:
    """Scores of several attacks on several targets.

    Attributes:
        scores: Larger is more likely a member.
        population: Scores of the population records, by the attacks that use no references, in their order; None if
            they were not computed.
        attacks: The attacks, in the order of the first axis.
        targets: Rows of the targets, in the order of the second axis.
        scale: Scale of the answers, see `answer_scale.ScaledAnswers`; empty if they were taken as they came.
        prediction: `correlation` and `effective` number of references, each by side and target, if some references'
            answers were predicted; else empty.
        map_influence: By metric: influence of every population record, through the map of a recalibrated view, on the
            figure of each attack and target (`metrics.map_influence`); empty if the map's error does not count.
        outlying: Distance of references that answer far off the others (`attacks.outlying_references`), by row as text.
    """

    scores: Float64[np.ndarray, "attacks targets *records"]
    population: Float64[np.ndarray, "standalone targets *population"] | None
    attacks: tuple[AttackLabel, ...]
    targets: tuple[int, ...]
    scale: Mapping[str, Any] = field(default_factory=dict)
    prediction: Mapping[str, Any] = field(default_factory=dict)
    map_influence: Mapping[str, Float64[np.ndarray, "attacks targets population"]] = field(
        default_factory=dict
    )
    outlying: Mapping[str, float] = field(default_factory=dict)

    def artifacts(self) -> dict[str, Any]:
        """Return the stored arrays and JSON values by name."""
        population = {} if self.population is None else {"population": self.population}
        attacks = [attack._asdict() for attack in self.attacks]
        return {
            "scores": self.scores,
            **population,
            "attacks": attacks,
            "targets": list(self.targets),
            **({"scale": dict(self.scale)} if self.scale else {}),
            **({"prediction": dict(self.prediction)} if self.prediction else {}),
            **packed_influences(self.map_influence),
            **({"outlying": dict(self.outlying)} if self.outlying else {}),
        }

    @classmethod
    def read(cls, artifacts: Mapping[str, Any]) -> "AttackScores":
        """Return the scores that were stored as these artifacts."""
        attacks = tuple(AttackLabel(**label) for label in artifacts["attacks"])
        return cls(
            artifacts["scores"],
            artifacts.get("population"),
            attacks,
            tuple(artifacts["targets"]),
            artifacts.get("scale", {}),
            artifacts.get("prediction", {}),
            dict(
                zip(
                    artifacts.get("map_metrics", []),
                    artifacts.get("map_influence", []),
                    strict=True,
                )
            ),
            artifacts.get("outlying", {}),
        )

    def of(self, name: str) -> Float64[np.ndarray, "targets records"]:
        """Return the scores of one attack.

        Raises:
            ValueError: It was not run.
        """
        return self.scores[self._place(name)]

    def map_influence_of(self, name: str) -> dict[str, Float64[np.ndarray, "targets population"]]:
        """Return the influences of population records on the figures of one attack, by metric.

        Raises:
            ValueError: It was not run.
        """
        place = self._place(name)
        return {metric: influence[place] for metric, influence in self.map_influence.items()}

    def _place(self, name: str) -> int:
        return [attack.name for attack in self.attacks].index(name)


@dataclass(frozen=True)
class AttackTargets:
    """Run every attack on every target.

    Attributes:
        attacks: Names of the attacks, in full.
        recalibrated: Whether the references' answers are mapped onto the target's first.
        control: Whether the targets answer with noise, so that nothing can be found.
        targets: Rows of the targets.
        references: Rows of the models whose answers are the inputs `references`.
        seed: The audit's seed.
        answer_scale: Scale on which the answers are compared.
        memorising: Whether the targets answer as ones that memorise by a known amount (`attacks.positive_control`).
        map_error_fprs: FPRs of the figures whose intervals need the error of the map; None if it does not count
            (`attacks.map_error_counts`).
    """

    attacks: tuple[str, ...]
    recalibrated: bool
    control: bool
    targets: tuple[int, ...]
    references: tuple[int, ...]
    seed: int
    answer_scale: AnswerScale = later("raw")
    memorising: bool = later(False)
    map_error_fprs: tuple[float, ...] | None = later(None)

    STAGE: ClassVar[str] = "attack"
    VERSION: ClassVar[str] = "3"

    class Inputs(NamedTuple):
        """Answers of the targets and of the references, in the order of their rows."""

        targets: tuple[Outputs, ...]
        references: tuple[Outputs, ...]
        images: Images
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds of all attacks, and of the answers' scale."""
        scaling = scale.scaling_seconds(self.answer_scale) * len(self.references)
        # two more runs on the same sums over references, which take most of an attack's time
        runs = 1.0 if self.map_error_fprs is None else 1.5
        return runs * len(self.attacks) * scale.attack_seconds + scaling

    def bytes(self, scale: Scale) -> int:
        """Bytes of the scores, of the population's by attacks without references, and of a map's error."""
        attacks = applicable(
            self.attacks, recalibrate=self.recalibrated, population=scale.population
        )
        alone = sum(not attack.uses_references for attack in attacks)
        scores = len(attacks) * scale.pool + alone * scale.population
        if self.map_error_fprs is not None:
            scores += len(attacks) * scale.population * (2 + len(self.map_error_fprs))
        return 8 * len(self.targets) * scores

    def memory(self, scale: Scale) -> int:
        """Memory of the stacked references, of the answers on their scale and of the scores."""
        return scale.stack_bytes + scale.scaled_bytes(self.answer_scale) + self.bytes(scale)

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> AttackScores:
        """Return the scores, and those of the population records by attacks that a threshold can be set on."""
        split = inputs.splits
        scaled = on_scale(
            self.answer_scale, inputs.targets, inputs.references, Labels.of(inputs.images, split)
        )
        answers = dict(zip(self.references, scaled.references, strict=True))
        attacks = applicable(
            self.attacks, recalibrate=self.recalibrated, population=len(split.population)
        )
        alone = [attack for attack in attacks if not attack.uses_references]
        scores, population = [], []
        influences: list[list[TargetInfluence]] = []
        for place, (row, target) in enumerate(zip(self.targets, scaled.targets, strict=True)):
            view = target_view(inputs.images, split, row, target, answers, seed=self.seed)
            # The control comes first: recalibration is then fitted to answers without information, as to any others.
            if self.control:
                view = negative_control(
                    view, np.random.default_rng(seed_for(self.seed, "control", row))
                )
            if self.memorising:
                generator = np.random.default_rng(seed_for(self.seed, "positive control", row))
                view = positive_control(view, split.member[row], generator)
            of_map = None
            if self.recalibrated:
                if self.map_error_fprs is not None:
                    of_map = MapError(view, split.member[row], self.map_error_fprs)
                view = recalibrated(view)
            scores.append([attack(view) for attack in attacks])
            if of_map is not None:
                pairs = zip(attacks, scores[-1], strict=True)
                influences.append([of_map.of(attack, row_scores) for attack, row_scores in pairs])
            population.append([attack(population_view(view)) for attack in alone])
            progress((place + 1) / len(self.targets))
        outlying: dict[int, float] = {}
        if any(attack.uses_references for attack in attacks):
            outlying = outlying_references(
                [output.signals[..., LOGIT_SCALED] for output in scaled.references]
            )
        return AttackScores(
            scores=np.array(scores).swapaxes(0, 1),
            population=np.array(population).swapaxes(0, 1),
            attacks=tuple(AttackLabel(attack.name, attack.uses_references) for attack in attacks),
            targets=self.targets,
            scale=scaled.facts,
            map_influence=gathered_influences(influences),
            outlying={str(self.references[place]): times for place, times in outlying.items()},
        )


def packed_influences(
    influences: Mapping[str, Float64[np.ndarray, "attacks targets population"]],
) -> dict[str, Any]:
    """Return the influences as one array, and the names on its first axis; nothing if there are none."""
    if not influences:
        return {}
    return {"map_influence": np.stack(list(influences.values())), "map_metrics": list(influences)}


def gathered_influences(
    influences: Sequence[Sequence[TargetInfluence]],
) -> dict[str, Float64[np.ndarray, "attacks targets population"]]:
    """Return the influences of population records by metric, from those of every target and attack."""
    if not influences or not influences[0]:
        return {}
    gathered: dict[str, np.ndarray] = {}
    for metric in influences[0][0]:
        rows = [[of_attack[metric] for of_attack in of_target] for of_target in influences]
        gathered[metric] = np.array(rows).swapaxes(0, 1)
    return gathered


def applicable(names: Sequence[str], *, recalibrate: bool, population: int) -> list[Attack]:
    """Return the attacks that config entries stand for, each once.

    Left out are attacks that need more population records than there are and, on a recalibrated view, attacks that
    read a signal which recalibration does not keep.
    """
    attacks: list[Attack] = []
    for name in names:
        attacks += [attack for attack in expand(name) if attack not in attacks]
    attacks = [attack for attack in attacks if attack.fewest_population <= population]
    if not recalibrate:
        return attacks
    return [
        attack
        for attack in attacks
        if attack.uses_references and attack.signal in RECALIBRATED_SIGNALS
    ]


def target_view(
    data: Images,
    split: Splits,
    row: int,
    target: Outputs,
    answers: Mapping[int, Outputs],
    *,
    seed: int,
    only: Sequence[int] | None = None,
) -> AttackView:
    """Return the view of an attack on one target: its answers and its references', but not its own membership.

    Args:
        data: Images and their labels.
        split: Records of the audit, and the membership of every model.
        row: Row of the target.
        target: Answers of the target.
        answers: Answers of the references by row.
        seed: Root seed of the audit.
        only: Rows of the references that are used, in pairs of complements; None uses all.
    """
    rows = reference_models(split, row)
    if only is not None:
        rows = rows[np.isin(rows, only)]
    use = even_mask(split.member[rows], seed_for(seed, "references", int(row)))
    outputs = [answers[reference] for reference in rows.tolist()]
    return attack_view(
        target=target.signals,
        references=stack_arrays([output.signals for output in outputs]),
        member=split.member[rows],
        use=use,
        population_target=target.population_signals,
        population_references=stack_arrays([output.population_signals for output in outputs]),
        labels=data.labels[split.pool],
    )
