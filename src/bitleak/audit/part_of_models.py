"""A part of an audit: the answers and sizes of some models, for machines that share no store."""

import re
from collections.abc import Collection
from dataclasses import replace

from bitleak.audit.preparation import Prepared
from bitleak.core.errors import ConfigError
from bitleak.engine.graph import descendants

PART_STAGES = ("query", "weigh")
"""Stages of the results that an audit needs of a model; weights are not among them."""


def rows_of(text: str) -> tuple[int, ...]:
    """Return the models that `0-3,7` stands for, in ascending order.

    Raises:
        ConfigError: It is no such list, or a range ends before it starts.

    Example:
        >>> rows_of("0-3,7")
        (0, 1, 2, 3, 7)
    """
    rows: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:\s*-\s*(\d{1,6}))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ConfigError(f"--models must be numbers and ranges such as 0-3,7, got {text!r}")
        rows.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(rows))


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
