"""Attack every target with references of which only some are quantized as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Int64

from bitleak.attacks import (
    FEWEST_QUANTIZED,
    SIDES,
    Attack,
    PredictedView,
    predicted_view,
    signals_of_references,
    split_numbers,
)
from bitleak.core.errors import TooFewForAttack
from bitleak.core.params import later
from bitleak.core.spill import stack_arrays
from bitleak.core.types import SIGNALS, Images, Outputs, Scores, Splits
from bitleak.data.splits import reference_models
from bitleak.engine.worker import Runtime
from bitleak.steps.answer_scale import AnswerScale, Labels, on_scale
from bitleak.steps.attack_targets import AttackLabel, AttackScores, applicable, target_view
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class AttackPartlyQuantized:
    """Attack a variant with full-precision references, some of them quantized as the variant is.

    The quantized answers of the other references are predicted (`attacks.predicted_references`).

    Attributes:
        attacks: Full names of the attacks.
        targets: Rows of the targets.
        references: Rows of the models whose answers are the inputs `references`.
        quantized: Rows of the models whose answers are the inputs `quantized`, in pairs of
            complements.
        count: Number of quantized references per target; even, at least 4.
        seed: Root seed of the audit.
        answer_scale: Scale on which the answers are compared.
    """

    attacks: tuple[str, ...]
    targets: tuple[int, ...]
    references: tuple[int, ...]
    quantized: tuple[int, ...]
    count: int
    seed: int
    answer_scale: AnswerScale = later("raw")

    STAGE: ClassVar[str] = "attack_partly"
    VERSION: ClassVar[str] = "2"

    class Inputs(NamedTuple):
        """Answers of the targets, of the full-precision and of the quantized references."""

        targets: tuple[Outputs, ...]
        references: tuple[Outputs, ...]
        quantized: tuple[Outputs, ...]
        images: Images
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds of all attacks and of the predictions for each target."""
        scaling = scale.scaling_seconds(self.answer_scale)
        answers = len(self.references) + len(self.quantized)
        return 2 * len(self.attacks) * scale.attack_seconds + scaling * answers

    def bytes(self, scale: Scale) -> int:
        """Bytes of the scores."""
        attacks = attacks_with_references(self.attacks, population=scale.population)
        return 8 * len(self.targets) * len(attacks) * scale.pool

    def memory(self, scale: Scale) -> int:
        """Memory of the stacked references, of their copy with predictions, and of the scores."""
        return 2 * scale.stack_bytes + 2 * scale.scaled_bytes(self.answer_scale) + self.bytes(scale)

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> AttackScores:
        """Return the scores, with correlation and effective number of the references."""
        split, labels = inputs.splits, Labels.of(inputs.images, inputs.splits)
        quantized = on_scale(self.answer_scale, inputs.targets, inputs.quantized, labels)
        full = on_scale(self.answer_scale, (), inputs.references, labels)
        attacks = attacks_with_references(self.attacks, population=len(split.population))
        known = PartlyQuantizedReferences(
            inputs.images,
            split,
            dict(zip(self.references, full.references, strict=True)),
            dict(zip(self.quantized, quantized.references, strict=True)),
            self.seed,
            signals_of_references(attacks),
        )
        scores, parts = [], []
        for place, (row, target) in enumerate(zip(self.targets, quantized.targets, strict=True)):
            rows = reference_models(split, row).tolist()
            part = known.view(row, target, rows, chosen_rows(self.quantized, rows, self.count))
            scores.append([attack(part.view) for attack in attacks])
            parts.append(part)
            progress((place + 1) / len(self.targets))
        table = scores_by_references(attacks, self.targets, scores, quantized.facts)
        return replace(table, prediction=_facts(parts))


@dataclass(frozen=True)
class PartlyQuantizedReferences:
    """Models of a population that all answered at full precision, some of them quantized too.

    Attributes:
        images: Images and their labels.
        split: Records, and the membership of every model.
        full: Answers at full precision, by row.
        quantized: Answers as the target is quantized, by row, in pairs of complements and in the
            order in which they are used.
        seed: Root seed of the audit.
        signals: Number of leading `SIGNALS` that the attacks read of references; only these are predicted.
    """

    images: Images
    split: Splits
    full: Mapping[int, Outputs]
    quantized: Mapping[int, Outputs]
    seed: int
    signals: int = len(SIGNALS)

    def view(
        self, row: int, target: Outputs, rows: Sequence[int], chosen: Sequence[int]
    ) -> PredictedView:
        """Return the view of one model that is attacked.

        Args:
            row: Its row.
            target: Its answers, quantized.
            rows: Rows of its references, in pairs of complements; neither its own nor that of its
                complement.
            chosen: Rows among them whose quantized answers are used.
        """
        view = target_view(
            self.images, self.split, row, target, self.full, seed=self.seed, only=rows
        )
        # a view with all signals would cost three times as much for attacks that read the first two
        view = replace(
            view,
            references=view.references[..., : self.signals],
            population_references=view.population_references[..., : self.signals],
        )
        answers = [self.quantized[chosen_row] for chosen_row in chosen]
        return predicted_view(
            view,
            [rows.index(chosen_row) for chosen_row in chosen],
            stack_arrays([answer.signals[..., : self.signals] for answer in answers]),
            np.stack([answer.population_signals[..., : self.signals] for answer in answers]),
        )

    def played(self, row: int, without: Sequence[int], count: int) -> PredictedView:
        """Return the view of one of the quantized models that plays a target.

        Its own training set, those of the rows `without`, and their complements have no references.

        Args:
            row: Row of the player, one of the quantized models.
            without: Rows of the targets that it plays.
            count: Most quantized references.

        Raises:
            TooFewForAttack: Fewer than `FEWEST_QUANTIZED` quantized references are left.
        """
        pair = pair_numbers(self.split)
        left_out = pair[[row, *without]].tolist()
        rows = sorted(place for place in self.full if pair[place] not in left_out)
        chosen = [place for place in self.quantized if place in rows][:count]
        if len(chosen) < FEWEST_QUANTIZED:
            raise TooFewForAttack(
                f"a model that plays the target needs {FEWEST_QUANTIZED} quantized references, and "
                f"{len(chosen)} are left; raise `quantized` of the references"
            )
        return self.view(row, self.quantized[row], rows, chosen)


def pair_numbers(split: Splits) -> Int64[np.ndarray, "models"]:
    """Return a number per model, equal for equal training sets and for complements."""
    return np.abs(split_numbers(split.member))


def attacks_with_references(names: Sequence[str], *, population: int) -> list[Attack]:
    """Return the attacks that use references, each once."""
    attacks = applicable(names, recalibrate=False, population=population)
    return [attack for attack in attacks if attack.uses_references]


def scores_by_references(
    attacks: Sequence[Attack],
    targets: tuple[int, ...],
    scores: Sequence[Sequence[Scores]],
    scale: Mapping[str, Any],
) -> AttackScores:
    """Return scores, by target and attack, of attacks that all use references."""
    return AttackScores(
        scores=np.array(scores).swapaxes(0, 1),
        population=None,
        attacks=tuple(AttackLabel(attack.name, True) for attack in attacks),
        targets=targets,
        scale=scale,
    )


def chosen_rows(order: Sequence[int], rows: Sequence[int], count: int) -> list[int]:
    """Return the first `count` rows of an order that are references of a target.

    Raises:
        ValueError: There are fewer.
    """
    chosen = [row for row in order if row in rows][:count]
    if len(chosen) < count:
        raise ValueError(f"expected {count} quantized references of a target, got {len(chosen)}")
    return chosen


def _facts(parts: Sequence[PredictedView]) -> dict[str, Any]:
    """Return r and n of every target by side, as plain values."""
    correlation, effective = {}, {}
    for side in SIDES:
        correlation[side] = [part.correlation[side] for part in parts]
        effective[side] = [part.effective[side] for part in parts]
    return {"correlation": correlation, "effective": effective}
