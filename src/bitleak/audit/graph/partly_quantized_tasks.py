"""The tasks of adversaries who quantize only some of their references."""

from itertools import chain

from bitleak.attacks import attack_entries
from bitleak.audit.graph.evaluation_tasks import (
    Models,
    answer_scale,
    estimate,
    measure_attacks,
    variant_columns,
)
from bitleak.audit.graph.planner import Planner
from bitleak.core.variants import FULL
from bitleak.engine.keys import Task
from bitleak.steps.attack_full_alike import AttackFullAlike
from bitleak.steps.attack_partly_quantized import AttackPartlyQuantized, attacks_with_references
from bitleak.steps.step import InputKeys


def partly_quantized_tasks(planner: Planner, models: Models) -> tuple[list[Task], list[Task]]:
    """Plan the attacks with partly quantized references, and the tasks that make their rows."""
    made: list[Task] = []
    results: list[Task] = []
    names = tuple(attack_entries(planner.config.attacks))
    population = planner.config.split.population
    attacks = tuple(attack.name for attack in attacks_with_references(names, population=population))
    for entry in planner.config.quantize:
        for count in planner.config.partly_quantized:
            tasks = _attack(planner, models, attacks, entry.variant, count)
            made += tasks
            predicted, _, baseline = tasks
            results.append(
                measure_attacks(
                    planner,
                    variant_columns(planner.config, entry.variant),
                    partly_kind(count),
                    scores=predicted,
                    baseline=baseline,
                    standalone=False,
                    comparisons=len(attacks),
                )
            )
    return made, results


def partly_kind(count: int) -> str:
    """Return the kind of references in tables."""
    return f"matched-{count}"


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
    return quantized_order(targets, references)[: count + 2 if count else 0]


def _attack(
    planner: Planner, models: Models, attacks: tuple[str, ...], variant: str, count: int
) -> tuple[Task, Task, Task]:
    """Plan the attack, the one on full precision under its handicap, and the latter's figures."""
    config, seed = planner.config, planner.config.seed
    scale = answer_scale(config)
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
    return predicted, handicapped, estimate(planner, handicapped)
