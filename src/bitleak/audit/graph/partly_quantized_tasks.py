"""The tasks of adversaries who quantize only some of their references."""

from itertools import chain
from typing import NamedTuple

from bitleak.attacks import attack_entries
from bitleak.audit.graph.evaluation_tasks import (
    Models,
    answer_scale,
    estimate,
    measure_attacks,
    variant_columns,
)
from bitleak.audit.graph.planner import Planner
from bitleak.core.variants import FULL, partly_kind
from bitleak.engine.keys import Task
from bitleak.steps.attack_full_alike import AttackFullAlike
from bitleak.steps.attack_partly_quantized import AttackPartlyQuantized, attacks_with_references
from bitleak.steps.choose_partly_thresholds import ChoosePartlyThresholds
from bitleak.steps.step import InputKeys


class PartlyAttacks(NamedTuple):
    """Attacks on one variant by references of which some are quantized.

    Attributes:
        predicted: Attack on the variant.
        alike: Attack on full precision by as many references as the predicted ones are worth.
        baseline: Figures of `alike`.
    """

    predicted: Task
    alike: Task
    baseline: Task


def partly_quantized_tasks(planner: Planner, models: Models) -> tuple[list[Task], list[Task]]:
    """Plan the attacks with partly quantized references, and the tasks that make their rows."""
    made: list[Task] = []
    results: list[Task] = []
    for entry in planner.config.quantize:
        for count in planner.config.partly_quantized:
            attacks = partly_attacks(planner, models, entry.variant, count)
            thresholds = _thresholds(planner, models, entry.variant, count)
            made += [*attacks, thresholds]
            results.append(
                measure_attacks(
                    planner,
                    variant_columns(planner.config, entry.variant),
                    partly_kind(count),
                    scores=attacks.predicted,
                    baseline=attacks.baseline,
                    thresholds=thresholds,
                    standalone=False,
                    comparisons=len(_attack_names(planner)),
                )
            )
    return made, results


def quantized_order(targets: tuple[int, ...], references: tuple[int, ...]) -> tuple[int, ...]:
    """Return the references in the order in which they are quantized: pairs with a target first.

    A pair is two complementary models, so that every record is in one of them. The targets are
    quantized anyway.
    """
    pairs = [references[place : place + 2] for place in range(0, len(references), 2)]
    pairs.sort(key=lambda pair: not set(pair) & set(targets))
    return tuple(chain.from_iterable(pairs))


def quantized_rows(
    targets: tuple[int, ...], references: tuple[int, ...], count: int
) -> tuple[int, ...]:
    """Return the rows of all references that some target needs for `count` quantized ones."""
    # a target's own pair is not among its references: the next pair stands in for it
    own = 2 if set(targets) & set(references) else 0
    return quantized_order(targets, references)[: count + own if count else 0]


def partly_attacks(planner: Planner, models: Models, variant: str, count: int) -> PartlyAttacks:
    """Plan the attack, the one on full precision under its handicap, and the latter's figures."""
    config, seed = planner.config, planner.config.seed
    scale, attacks = answer_scale(config), _attack_names(planner)
    rows = quantized_rows(models.targets, models.references, count)
    step = AttackPartlyQuantized(
        attacks=attacks,
        targets=models.targets,
        references=models.references,
        quantized=rows,
        count=count,
        seed=seed,
        answer_scale=scale,
    )
    inputs: InputKeys = {
        "targets": models.target_keys(variant),
        "references": models.reference_keys(FULL),
        "quantized": tuple(models.answers[variant, row].key for row in rows),
        **planner.data(),
    }
    kind = partly_kind(count)
    predicted = planner.task(step, inputs, f"attack {variant} by {kind}")
    # Full precision gets as many references as the predicted ones are worth: fewer would read as
    # protection.
    alike = AttackFullAlike(
        attacks=attacks,
        targets=models.targets,
        references=models.references,
        order=quantized_order(models.targets, models.references),
        seed=seed,
        answer_scale=scale,
    )
    inputs = {
        "targets": models.target_keys(FULL),
        "references": models.reference_keys(FULL),
        "predicted": predicted.key,
        **planner.data(),
    }
    handicapped = planner.task(alike, inputs, f"attack {FULL} as {variant} by {kind}")
    return PartlyAttacks(predicted, handicapped, estimate(planner, handicapped))


def _thresholds(planner: Planner, models: Models, variant: str, count: int) -> Task:
    """Plan the thresholds that the adversary can choose."""
    config = planner.config
    rows = quantized_rows(models.targets, models.references, count)
    step = ChoosePartlyThresholds(
        attacks=_attack_names(planner),
        targets=models.targets,
        references=models.references,
        quantized=rows,
        count=count,
        fpr=config.fpr,
        seed=config.seed,
        answer_scale=answer_scale(config),
    )
    inputs: InputKeys = {
        "references": models.reference_keys(FULL),
        "quantized": tuple(models.answers[variant, row].key for row in rows),
        **planner.data(),
    }
    return planner.task(step, inputs, f"thresholds on {variant} by {partly_kind(count)}")


def _attack_names(planner: Planner) -> tuple[str, ...]:
    """Return the full names of the attacks that use references."""
    names = attack_entries(planner.config.attacks)
    population = planner.config.split.population
    return tuple(attack.name for attack in attacks_with_references(names, population=population))
