"""The tasks of calibration-set inference: quantizing the same targets on random halves of their candidates.

Quantizing, asking and attacking are the stages of any audit, with the candidates of one target in the place of the pool
and its quantized models in the place of the population.
"""

from dataclasses import asdict, replace

from bitleak.attacks import Attack, attack_entries, expand
from bitleak.config import CalibrationInferenceConfig, QuantizeConfig
from bitleak.core.errors import ConfigError
from bitleak.core.seeds import seed_for
from bitleak.engine.keys import Task
from bitleak.plan.costs import quantizer_work
from bitleak.plan.evaluation import Models, named
from bitleak.plan.tasks import Tasks


def calibration_tasks(tasks: Tasks, models: Models) -> tuple[list[Task], list[Task]]:
    """Tasks of all that is needed, and the tasks that make the rows, one per variant.

    Raises:
        ConfigError: A target has too few members, or no attack uses references.
    """
    asked = tasks.config.calibration_inference
    if asked is None:
        return [], []
    _check(tasks, asked)
    rows = models.targets[: asked.targets]
    halves = {row: _candidates(tasks, asked, row) for row in rows}
    made: list[Task] = list(halves.values())
    results = []
    for entry in (one for one in tasks.config.quantize if one.variant in asked.variants):
        attacks = []
        for row in rows:
            weights = models.weights["fp32", row]
            quantized = [
                _quantize(tasks, asked, entry, row, half, weights, halves[row]) for half in range(asked.models)
            ]
            answers = [_query(tasks, asked, entry, row, each, halves[row]) for each in quantized]
            attacks.append(_attack(tasks, asked, entry, row, answers, halves[row]))
            made += [*quantized, *answers]
        made += attacks
        results.append(_measure(tasks, asked, entry, rows, attacks, list(halves.values())))
    return made, results


def _check(tasks: Tasks, asked: CalibrationInferenceConfig) -> None:
    members = tasks.sizes.members
    if asked.candidates > members:
        raise ConfigError(
            f"calibration_inference.candidates: expected at most the {members} members of a target, "
            f"got {asked.candidates}"
        )
    if not _attacks(tasks, asked):
        raise ConfigError("attacks: calibration_inference needs an attack with references; add one, such as lira")


def _seed(tasks: Tasks, row: int) -> int:
    return seed_for(tasks.config.seed, "calibration_inference", row)


def _population(tasks: Tasks, asked: CalibrationInferenceConfig) -> int:
    return min(tasks.sizes.population, tasks.sizes.members - asked.candidates)


def _attacks(tasks: Tasks, asked: CalibrationInferenceConfig) -> list[str]:
    """Those that use references, and population records no more than there are."""
    known = _population(tasks, asked)
    entries = attack_entries(tasks.config.attacks)
    return [name for name in entries if any(_fits(form, known) for form in expand(name))]


def _fits(attack: Attack, population: int) -> bool:
    return attack.uses_references and attack.fewest_population <= population


def _candidates(tasks: Tasks, asked: CalibrationInferenceConfig, row: int) -> Task:
    params = {
        "target": row,
        "candidates": asked.candidates,
        "models": asked.models,
        "population": _population(tasks, asked),
        "seed": _seed(tasks, row),
    }
    return tasks.task("candidates", params, {"splits": tasks.splits().key}, f"candidates of target {row}", 0.1)


def _quantize(
    tasks: Tasks,
    asked: CalibrationInferenceConfig,
    entry: QuantizeConfig,
    row: int,
    half: int,
    weights: Task,
    candidates: Task,
) -> Task:
    calibration = replace(entry.calibration, source="members", records=asked.candidates // 2)
    params = {
        "model": half,
        "quantizer": entry.name,
        "options": dict(entry.options),
        "levels": entry.levels,
        "calibration": asdict(calibration),
        "seed": _seed(tasks, row),
    }
    inputs = {"weights": weights.key, "images": tasks.images().key, "splits": candidates.key}
    cost = quantizer_work(replace(entry, calibration=calibration), tasks.network) / tasks.rate
    label = f"{entry.variant} of target {row}, calibration set {half}"
    return replace(tasks.task("quantize", params, inputs, label, cost), group=f"{entry.label}:{row}:{half}")


def _query(
    tasks: Tasks, asked: CalibrationInferenceConfig, entry: QuantizeConfig, row: int, quantized: Task, candidates: Task
) -> Task:
    query = tasks.config.query
    params = {"queries": list(query.augment), "batch": query.batch, "test": False}
    inputs = {"weights": quantized.key, "images": tasks.images().key, "splits": candidates.key}
    records = asked.candidates + _population(tasks, asked)
    cost = tasks.network.multiply_adds * records * len(query.augment) / tasks.rate
    return tasks.task("query", params, inputs, f"query {quantized.label}", cost)


def _attack(
    tasks: Tasks,
    asked: CalibrationInferenceConfig,
    entry: QuantizeConfig,
    row: int,
    answers: list[Task],
    candidates: Task,
) -> Task:
    models = list(range(asked.models))
    params = {
        "attacks": _attacks(tasks, asked),
        "recalibrated": False,
        "control": False,
        "targets": models,
        "references": models,
        "seed": _seed(tasks, row),
    }
    keys = tuple(each.key for each in answers)
    inputs = {"targets": keys, "references": keys, "images": tasks.images().key, "splits": candidates.key}
    cost = (
        4e-8 * len(_attacks(tasks, asked)) * asked.models**2 * asked.candidates * len(tasks.config.query.augment) + 0.5
    )
    return tasks.task("attack", params, inputs, f"attack the calibration set of {entry.variant} of target {row}", cost)


def _measure(
    tasks: Tasks,
    asked: CalibrationInferenceConfig,
    entry: QuantizeConfig,
    rows: tuple[int, ...],
    attacks: list[Task],
    candidates: list[Task],
) -> Task:
    params = {
        "variant": entry.variant,
        **named(tasks.config, entry.variant),
        "targets": list(rows),
        "fpr": list(asked.fpr),
        "seed": tasks.config.seed,
    }
    inputs = {"scores": tuple(each.key for each in attacks), "splits": tuple(each.key for each in candidates)}
    return tasks.task("calibration", params, inputs, f"measure the calibration set of {entry.variant}", 1.0)
