"""Tasks of the utility-matched reading: noise as costly as quantization, attacked alike."""

from dataclasses import replace

from bitleak.audit.graph.evaluation_tasks import (
    Models,
    attack_variant,
    compare,
    estimate,
    evaluate,
    standalone_kind,
    variant_columns,
)
from bitleak.audit.graph.planner import Planner
from bitleak.core.variants import FULL, noise_like
from bitleak.engine.keys import Task
from bitleak.steps.add_noise import AddNoise
from bitleak.steps.match_noise import MatchNoise
from bitleak.steps.measure_noise_match import MeasureNoiseMatch
from bitleak.steps.step import InputKeys

MATCH_RECORDS = 1000
"""Non-members of each target, at most, on which the accuracies are made equal."""

LOW, HIGH = 0.01, 2.0
"""Range of scales that are tried, in standard deviations of a layer's weights."""

_TOLERANCE = 0.002
"""Difference in accuracy that counts as equal."""

EVALUATIONS = 12
"""Scales that are tried, at most."""


def noise_tasks(planner: Planner, models: Models) -> tuple[list[Task], list[Task]]:
    """Plan all tasks for every variant that the config lists, and the tasks that make the rows."""
    made: list[Task] = []
    results: list[Task] = []
    for variant in planner.config.utility_matched:
        match = _match(planner, models, variant)
        noisy = _noisy_models(planner, models, variant, match)
        name = noise_like(variant)
        rows = sorted({row for label, row in noisy.weights if label == name})
        attacks, measured = evaluate(planner, noisy, name)
        made.append(match)
        made += [noisy.weights[name, row] for row in rows]
        made += [noisy.answers[name, row] for row in rows]
        made += attacks
        results += [*measured, _measured_match(planner, noisy, variant, match)]
        # The same attacks on variant and noise, so that the difference is paired record by record.
        kinds = planner.config.references
        baseline = estimate(planner, attack_variant(planner, models, FULL, FULL))
        answers: InputKeys = {
            "baseline": baseline.key,
            "outputs": models.target_keys(variant),
            "noise": noisy.target_keys(name),
            "full_precision": models.target_keys(FULL),
        }
        for kind in kinds:
            comparison = compare(
                planner,
                variant_columns(planner.config, variant),
                kind,
                scores=attack_variant(planner, noisy, variant, kind),
                others=[attack_variant(planner, noisy, name, kind)],
                over="noise",
                standalone=kind == standalone_kind(planner.config, kinds),
                matched_records=MATCH_RECORDS,
                match=answers,
            )
            results.append(comparison)
    return made, results


def _match(planner: Planner, models: Models, variant: str) -> Task:
    step = MatchNoise(
        targets=models.targets,
        records=MATCH_RECORDS,
        low=LOW,
        high=HIGH,
        tolerance=_TOLERANCE,
        evaluations=EVALUATIONS,
        batch=planner.config.query.batch,
        seed=planner.config.seed,
    )
    inputs = {
        "weights": tuple(models.weights[FULL, row].key for row in models.targets),
        "outputs": models.target_keys(variant),
        "baseline": models.target_keys(FULL),
        **planner.data(),
    }
    return planner.task(step, inputs, f"noise as costly as {variant}")


def _noisy_models(planner: Planner, models: Models, variant: str, match: Task) -> Models:
    """Return the models with the noisy ones added: all that are attacked or serve as references."""
    name = noise_like(variant)
    weights, answers = dict(models.weights), dict(models.answers)
    matched = "matched" in planner.config.references
    rows = [row for label, row in models.weights if label == variant]
    for row in rows if matched else models.targets:
        label = f"{name} of model {row}"
        step = AddNoise(model=row, seed=planner.config.seed)
        inputs = {"weights": models.weights[FULL, row].key, "match": match.key}
        weights[name, row] = planner.task(step, inputs, label)
        answers[name, row] = planner.query(weights[name, row], label, test=row in models.targets)
    sizes = {**models.sizes, **{(name, row): models.sizes[FULL, row] for row in models.targets}}
    return replace(models, weights=weights, answers=answers, sizes=sizes)


def _measured_match(planner: Planner, models: Models, variant: str, match: Task) -> Task:
    columns = variant_columns(planner.config, variant)
    step = MeasureNoiseMatch(*columns, targets=models.targets, seed=planner.config.seed)
    inputs = {
        "match": match.key,
        "outputs": models.target_keys(variant),
        "noise": models.target_keys(noise_like(variant)),
        **planner.data(),
    }
    return planner.task(step, inputs, f"accuracy of {variant} over noise")
