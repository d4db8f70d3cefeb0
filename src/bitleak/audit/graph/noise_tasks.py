"""The tasks of the utility-matched reading: noise as costly as quantization, attacked in the same way."""

from dataclasses import replace

from bitleak.core.variants import noise_like
from bitleak.engine.keys import Task
from bitleak.plan.evaluation import Models, attack, compare, evaluate, named
from bitleak.plan.tasks import Tasks

RECORDS = 1000
"""Non-members of each target, at most, on which the accuracies are made equal."""

LOW, HIGH = 0.01, 2.0
"""Scales between which the noise is looked for, in standard deviations of a layer's weights."""

TOLERANCE = 0.002
"""Of the accuracy."""

EVALUATIONS = 12
"""Scales that are tried at most."""


def noise_tasks(tasks: Tasks, models: Models) -> tuple[list[Task], list[Task]]:
    """Tasks of all that is needed, and the tasks that make the rows, for every variant asked for."""
    made: list[Task] = []
    results: list[Task] = []
    for variant in tasks.config.utility_matched:
        found = _match(tasks, models, variant)
        noisy = _models(tasks, models, variant, found)
        name = noise_like(variant)
        rows = sorted({row for of, row in noisy.weights if of == name})
        attacks, measured = evaluate(tasks, noisy, name)
        made += [
            found,
            *[noisy.weights[name, row] for row in rows],
            *[noisy.answers[name, row] for row in rows],
            *attacks,
        ]
        results += [*measured, _matched(tasks, noisy, variant, found)]
        about = {"variant": variant, **named(tasks.config, variant)}
        kinds = tasks.config.references
        results += [
            compare(
                tasks,
                noisy,
                about,
                kind,
                scores=attack(tasks, noisy, variant, kind),
                others=[attack(tasks, noisy, name, kind)],
                over="noise",
                standalone=kind == kinds[0],
            )
            for kind in kinds
        ]
    return made, results


def _match(tasks: Tasks, models: Models, variant: str) -> Task:
    params = {
        "targets": list(models.targets),
        "records": RECORDS,
        "low": LOW,
        "high": HIGH,
        "tolerance": TOLERANCE,
        "evaluations": EVALUATIONS,
        "batch": tasks.config.query.batch,
        "seed": tasks.config.seed,
    }
    inputs: dict[str, str | tuple[str, ...]] = {
        "weights": tuple(models.weights["fp32", row].key for row in models.targets),
        "outputs": tuple(models.answers[variant, row].key for row in models.targets),
        "baseline": tuple(models.answers["fp32", row].key for row in models.targets),
        **tasks.data(),
    }
    asked = len(models.targets) * min(RECORDS, tasks.sizes.pool - tasks.sizes.members) * EVALUATIONS
    cost = tasks.network.multiply_adds * asked / tasks.rate
    return tasks.task("match", params, inputs, f"noise as costly as {variant}", cost)


def _models(tasks: Tasks, models: Models, variant: str, found: Task) -> Models:
    """The models with noise beside the others; as many as are quantized."""
    name = noise_like(variant)
    weights, answers = dict(models.weights), dict(models.answers)
    for row in [row for of, row in models.weights if of == variant]:
        params = {"model": row, "seed": tasks.config.seed}
        inputs = {"weights": models.weights["fp32", row].key, "match": found.key}
        weights[name, row] = tasks.task("noise", params, inputs, f"{name} of model {row}", 0.1)
        answers[name, row] = tasks.query(weights[name, row], f"{name} of model {row}", test=row in models.targets)
    sizes = {**models.sizes, **{(name, row): models.sizes["fp32", row] for row in models.targets}}
    return replace(models, weights=weights, answers=answers, sizes=sizes)


def _matched(tasks: Tasks, models: Models, variant: str, found: Task) -> Task:
    params = {
        "variant": variant,
        **named(tasks.config, variant),
        "targets": list(models.targets),
        "seed": tasks.config.seed,
    }
    inputs: dict[str, str | tuple[str, ...]] = {
        "match": found.key,
        "outputs": tuple(models.answers[variant, row].key for row in models.targets),
        "noise": tuple(models.answers[noise_like(variant), row].key for row in models.targets),
        **tasks.data(),
    }
    return tasks.task("matched", params, inputs, f"accuracy of {variant} over noise", 0.2)
