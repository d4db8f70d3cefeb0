"""The tasks that turn answers into rows: attack, estimate, thresholds, measure, utility."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitleak.attacks import attack_entries
from bitleak.config import Config
from bitleak.engine.keys import Task
from bitleak.metrics import metric_entries
from bitleak.plan.tasks import Tasks

CONTROL = "control"
"""The variant whose targets answer with noise."""


@dataclass(frozen=True)
class Models:
    """The models of an audit, in every variant.

    Attributes:
        targets: Rows of the attacked models.
        references: Rows of the models that serve as references.
        weights: The task that makes the weights, by variant and row.
        answers: The task that asks them, by variant and row.
        sizes: The task that says what the weights take, by variant and target.
    """

    targets: tuple[int, ...]
    references: tuple[int, ...]
    weights: Mapping[tuple[str, int], Task]
    answers: Mapping[tuple[str, int], Task]
    sizes: Mapping[tuple[str, int], Task]


def evaluate(tasks: Tasks, models: Models, variant: str) -> tuple[list[Task], list[Task]]:
    """The attack tasks of a variant, and the tasks that make its rows."""
    config = tasks.config
    if variant == "fp32":
        kinds = ["fp32", *(kind for kind in config.references if kind == "recalibrated")]
    else:
        kinds = ["fp32"] if variant == CONTROL else list(config.references)
    about = {"variant": variant, **named(config, variant)}
    attacks, measured = [], []
    compared = estimate(tasks, models, attack(tasks, models, "fp32", "fp32"))
    for kind in kinds:
        scores = attack(tasks, models, variant, kind)
        chosen = None if variant == CONTROL else choose(tasks, models, variant, kind)
        attacks += [scores, compared, *([chosen] if chosen else [])]
        measured.append(
            measure(
                tasks,
                models,
                about,
                kind,
                scores=scores,
                baseline=compared,
                thresholds=chosen,
                comparisons=len(kinds) * len(scores.params["attacks"]),
                standalone=kind == kinds[0],
            )
        )
    if variant != CONTROL:
        measured.append(utility(tasks, models, about))
    return attacks, measured


def measure(
    tasks: Tasks,
    models: Models,
    about: Mapping[str, Any],
    reference: str,
    *,
    scores: Task,
    baseline: Task,
    standalone: bool,
    thresholds: Task | None = None,
    comparisons: int = 1,
) -> Task:
    """The rows and curves of one variant by one kind of reference.

    Args:
        tasks: Makes the task.
        models: Whose targets are attacked.
        about: Variant, quantizer and levels, as the rows tell them.
        reference: As the rows tell it.
        scores: The attack's task.
        baseline: The figures of the same attacks at full precision, from `estimate`.
        standalone: Whether attacks without references have their rows here.
        thresholds: Chosen without the targets; None leaves such rows out.
        comparisons: How many attacks' bounds on epsilon hold together.

    Raises:
        ValueError: The baseline is no task of the stage `estimate`.
    """
    config = tasks.config
    if baseline.stage != "estimate":
        raise ValueError(f"baseline must be a task of stage 'estimate', got {baseline.stage!r}")
    params = {
        **about,
        "reference": reference,
        "fpr": list(config.fpr),
        "priors": list(config.priors),
        "delta": config.delta,
        "comparisons": comparisons,
        "seed": config.seed,
        "standalone": standalone,
        **({"metrics": metric_entries(config.metrics)} if config.metrics else {}),  # keys of before stay
    }
    inputs = {"scores": scores.key, "baseline": baseline.key, "splits": tasks.splits().key}
    if thresholds is not None:
        inputs["thresholds"] = thresholds.key
    cost = 2e-5 * len(models.targets) * tasks.sizes.pool
    return tasks.task("measure", params, inputs, f"measure {about['variant']} by {reference}", cost)


def compare(
    tasks: Tasks,
    models: Models,
    about: Mapping[str, Any],
    reference: str,
    *,
    scores: Task,
    others: Sequence[Task],
    over: str,
    standalone: bool = False,
) -> Task:
    """The rows that say how far one variant's figures lie over the best of other variants'.

    Args:
        tasks: Makes the task.
        models: Whose targets are attacked.
        about: Variant, quantizer and levels, as the rows tell them.
        reference: As the rows tell it.
        scores: The attack's task.
        others: The same attacks on the others.
        over: What the metrics' names end with, after `_over_`.
        standalone: Whether attacks without references have their rows here.
    """
    config = tasks.config
    params = {
        **about,
        "reference": reference,
        "over": over,
        "fpr": list(config.fpr),
        "seed": config.seed,
        "standalone": standalone,
    }
    inputs = {"scores": scores.key, "others": tuple(other.key for other in others), "splits": tasks.splits().key}
    cost = 4e-5 * len(models.targets) * tasks.sizes.pool * len(others)
    return tasks.task("compare", params, inputs, f"compare {about['variant']} by {reference} over {over}", cost)


def attack(tasks: Tasks, models: Models, variant: str, kind: str) -> Task:
    """The scores of one variant by one kind of reference."""
    config = tasks.config
    attacked = "fp32" if variant == CONTROL else variant
    by = attacked if kind == "matched" else "fp32"
    params = {
        "attacks": attack_names(config),
        "recalibrated": kind == "recalibrated",
        "control": variant == CONTROL,
        "targets": list(models.targets),
        "references": list(models.references),
        "seed": config.seed,
    }
    inputs = {
        "targets": tuple(models.answers[attacked, row].key for row in models.targets),
        "references": tuple(models.answers[by, row].key for row in models.references),
        **tasks.data(),
    }
    return tasks.task("attack", params, inputs, f"attack {variant} by {kind}", _attack_cost(tasks, models))


def estimate(tasks: Tasks, models: Models, scores: Task) -> Task:
    """The figures at full precision that variants are compared with, made once for all of them."""
    params = {"fpr": list(tasks.config.fpr), "seed": tasks.config.seed}
    inputs = {"scores": scores.key, "splits": tasks.splits().key}
    cost = 2e-5 * len(models.targets) * tasks.sizes.pool
    return tasks.task("estimate", params, inputs, f"figures of {scores.label.removeprefix('attack ')}", cost)


def choose(tasks: Tasks, models: Models, variant: str, kind: str) -> Task:
    """The thresholds that references in the targets' place give; those at full precision serve all variants."""
    config = tasks.config
    by = variant if kind == "matched" else "fp32"
    params = {
        "attacks": attack_names(config),
        "recalibrated": kind == "recalibrated",
        "targets": list(models.targets),
        "references": list(models.references),
        "fpr": list(config.fpr),
        "seed": config.seed,
    }
    inputs = {"references": tuple(models.answers[by, row].key for row in models.references), **tasks.data()}
    mapped = ", recalibrated" if kind == "recalibrated" else ""
    return tasks.task("thresholds", params, inputs, f"thresholds on {by}{mapped}", _attack_cost(tasks, models))


def attack_names(config: Config) -> list[str]:
    """Every attack once, by its full name."""
    return attack_entries(config.attacks)


def _attack_cost(tasks: Tasks, models: Models) -> float:
    config = tasks.config
    answers_read = len(models.targets) * len(models.references) * tasks.sizes.pool * len(config.query.augment)
    return 4e-8 * len(attack_names(config)) * answers_read


def utility(tasks: Tasks, models: Models, about: Mapping[str, Any]) -> Task:
    """The accuracy and size of one variant."""
    variant = about["variant"]
    params = {**about, "targets": list(models.targets), "seed": tasks.config.seed}
    inputs: dict[str, str | tuple[str, ...]] = {
        "outputs": tuple(models.answers[variant, row].key for row in models.targets),
        "baseline": tuple(models.answers["fp32", row].key for row in models.targets),
        "sizes": tuple(models.sizes[variant, row].key for row in models.targets),
        **tasks.data(),
    }
    return tasks.task("utility", params, inputs, f"accuracy of {variant}", 0.2)


def named(config: Config, variant: str) -> dict[str, Any]:
    """Quantizer and levels of a variant, as its rows tell them."""
    for entry in config.quantize:
        if entry.variant == variant:
            return {"quantizer": entry.label, "levels": entry.levels}
    return {"quantizer": "", "levels": None}
