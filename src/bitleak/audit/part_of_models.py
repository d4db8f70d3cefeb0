"""A part of an audit: the answers and sizes of some models, for machines that share no store."""

from collections.abc import Collection
from dataclasses import replace

from bitleak.audit.preparation import Prepared
from bitleak.core.errors import ConfigError
from bitleak.engine.graph import descendants

PART_STAGES = ("query", "weigh")
"""Stages of the results that an audit needs of a model; weights are not among them."""


def of_models(prepared: Prepared, rows: Collection[int]) -> Prepared:
    """Return the audit with the answers and sizes of some models as its only wanted results.

    Args:
        prepared: The audit.
        rows: Their rows of the membership matrix.

    Raises:
        ConfigError: The audit has no such model.
    """
    plan = prepared.plan
    trained = {task.params["model"]: task.key for task in plan.tasks if task.stage == "train"}
    unknown = sorted(set(rows) - set(trained))
    if unknown:
        raise ConfigError(
            f"--models: this audit's models are {min(trained)} to {max(trained)}, got {unknown[0]}"
        )
    wanted = {
        task.key: None
        for row in sorted(rows)
        for task in descendants(plan.tasks, trained[row])
        if task.stage in PART_STAGES
    }
    return replace(prepared, plan=replace(plan, part=tuple(wanted)))
