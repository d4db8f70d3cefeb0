"""Expected seconds and memory of an audit's tasks: measured in the store, or planned.

Tasks of the same kind (stage and quantizer) with the same planned seconds have the same sizes: they
are expected to take the mean of the measured seconds and the largest of the measured peaks. For
other sizes of a kind, the planned seconds are scaled by the kind's measured over planned seconds;
for a kind that was never measured, by the ratio of all kinds together. Only results of the same
type of device count.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from bitleak.audit.preparation import Prepared
from bitleak.engine.keys import Task
from bitleak.engine.store import Store

INTERPRETER = 400 << 20
"""Memory of an idle worker, in bytes: the interpreter and PyTorch, mapped libraries included."""


@dataclass(frozen=True)
class Measured:
    """Measurements of tasks of the same kind and planned seconds.

    Attributes:
        seconds: Seconds of each task.
        memory: The largest peak, in bytes; 0 if none was recorded.
    """

    seconds: tuple[float, ...]
    memory: int


def expected(prepared: Prepared, store: Store) -> list[Task]:
    """Return a plan's tasks with expected seconds and peak memory, the worker's included."""
    planned = prepared.plan.tasks
    measured = _measured(planned, store, prepared.runtime.device)
    rates = measured_rates(planned, store, prepared.runtime.device)
    sizes: list[tuple[float, Measured]] = []
    for of_kind in measured.values():
        sizes += of_kind.items()
    overall = _ratio(sizes)
    tasks = []
    for task in planned:
        # measurements of equal tasks are better than a rate, and the rate of a kind better than the
        # overall one
        equal = measured[task_kind(task)].get(task.cost)
        if equal:
            cost = math.fsum(equal.seconds) / len(equal.seconds)
        else:
            cost = task.cost * rates.get(task_kind(task), overall)
        memory = (equal.memory if equal else 0) or INTERPRETER + task.memory
        tasks.append(replace(task, cost=cost, memory=memory))
    return tasks


def measured_rates(tasks: Iterable[Task], store: Store, device: str) -> dict[str, float]:
    """Return measured over planned seconds of the finished tasks, by kind of task."""
    return {kind: _ratio(sizes.items()) for kind, sizes in _measured(tasks, store, device).items()}


def task_kind(task: Task) -> str:
    """Return the kind of a task: within a kind, measured seconds scale with planned seconds."""
    return (
        f"{task.stage}:{task.params.get('quantizer', '')}"
        if task.stage == "quantize"
        else task.stage
    )


def _measured(
    tasks: Iterable[Task], store: Store, device: str
) -> defaultdict[str, dict[float, Measured]]:
    """Return the measurements by kind and planned seconds."""
    known = {task.key: task for task in tasks if task.cost > 0}
    measured: defaultdict[str, dict[float, Measured]] = defaultdict(dict)
    for key, manifest in store.manifests(known.values()).items():
        runtime, task = manifest["runtime"], known[key]
        seconds = _number(runtime, "seconds")
        if (
            seconds > 0
            and str(runtime.get("device", "")).split(" ")[0].split(":")[0] == device.split(":")[0]
        ):
            before = measured[task_kind(task)].get(task.cost, Measured((), 0))
            memory = max(before.memory, int(_number(runtime, "peak_memory")))
            measured[task_kind(task)][task.cost] = Measured((*before.seconds, seconds), memory)
    return measured


def _number(runtime: Any, name: str) -> float:
    value = runtime.get(name, 0.0)
    return float(value) if isinstance(value, int | float) else 0.0


def _ratio(sizes: Iterable[tuple[float, Measured]]) -> float:
    """Return measured over planned seconds; 1 if nothing was measured."""
    planned: list[float] = []
    measured: list[float] = []
    for cost, measurements in sizes:
        planned.append(cost * len(measurements.seconds))
        measured += measurements.seconds
    return math.fsum(measured) / math.fsum(planned) if planned else 1.0
