"""What the tasks of an audit should take, in seconds and in memory: measured where the store has it, planned elsewhere.

Of the same kind (stage and quantizer) and the same planned seconds, a task of the same sizes has been done:
its seconds and its peak are taken as they were measured, the mean of the seconds and the largest of the
peaks. Of a kind of other sizes, the planned seconds are scaled by measured over planned; of a kind never
measured, by that of all kinds together. Only what the same type of device has made counts.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from bitleak.audit.preparation import Prepared
from bitleak.core.spill import LARGE
from bitleak.core.types import SIGNALS
from bitleak.engine.keys import Task
from bitleak.engine.store import Store

INTERPRETER = 400 << 20
"""Bytes that a worker takes before it has read anything: the interpreter and PyTorch, mapped libraries included."""


@dataclass(frozen=True)
class Measured:
    """What tasks of the same kind and planned seconds have taken.

    Attributes:
        seconds: Of each.
        memory: The largest peak, in bytes; 0 where none was recorded.
    """

    seconds: tuple[float, ...]
    memory: int


def expected(prepared: Prepared, store: Store) -> list[Task]:
    """The tasks of a plan, with the seconds and the memory that they should take."""
    tasks = prepared.plan.tasks
    measured = _measured(tasks, store, prepared.runtime.device)
    rates = measured_rates(tasks, store, prepared.runtime.device)
    everything = _ratio(each for kind in measured.values() for each in kind.items())
    found = []
    for task in tasks:
        same = measured[kind_of(task)].get(task.cost)
        cost = math.fsum(same.seconds) / len(same.seconds) if same else task.cost * rates.get(kind_of(task), everything)
        memory = (same.memory if same else 0) or INTERPRETER + planned_memory(prepared, task.stage)
        found.append(replace(task, cost=cost, memory=memory))
    return found


def measured_rates(tasks: Iterable[Task], store: Store, device: str) -> dict[str, float]:
    """Measured over planned seconds of the finished tasks, by kind of task."""
    return {kind: _ratio(sizes.items()) for kind, sizes in _measured(tasks, store, device).items()}


def planned_memory(prepared: Prepared, stage: str) -> int:
    """Expected peak of a task of a stage in bytes, on top of the interpreter."""
    sizes, config = prepared.plan.sizes, prepared.config
    pixels = prepared.description.channels * prepared.description.size**2
    images = pixels * (sizes.pool + sizes.calibration + sizes.population + sizes.test)
    weights = 4 * prepared.network.parameters
    answers = 8 * len(SIGNALS) * len(config.query.augment) * (sizes.pool + sizes.population)
    shown = max((entry.calibration.records * entry.calibration.rounds for entry in config.quantize), default=0)
    references = len(prepared.plan.references)
    stack = 2 * min(references * answers, LARGE)  # beyond that it is in a file
    masks_and_sums = sizes.pool * (6 * references + 16 * len(prepared.plan.targets) + 400)
    of = {
        "images": 2 * images,
        "splits": (references + 8) * sizes.pool,
        "copies": images + 4 * 1024 * 4 * pixels + 5200 * 4 * pixels + 400 * sizes.pool,
        "train": images + 6 * weights + 4 * 64 * pixels * config.train.batch,
        "quantize": images + 4 * weights + 4 * 64 * pixels * shown,
        "query": images + 2 * weights + 2 * answers + 4 * 64 * pixels * config.query.batch,
        "weigh": weights,
        "utility": 2 * len(prepared.plan.targets) * answers,
        "thresholds": stack + masks_and_sums + references * answers,  # a copy without the player
        "power": stack + masks_and_sums + references * answers // 2,
        "memorise": 4 * references * sizes.pool * 8,
    }
    return of.get(stage, stack + masks_and_sums)


def kind_of(task: Task) -> str:
    """What tasks must share for one to say something about the other's seconds."""
    return f"{task.stage}:{task.params.get('quantizer', '')}" if task.stage == "quantize" else task.stage


def _measured(tasks: Iterable[Task], store: Store, device: str) -> defaultdict[str, dict[float, Measured]]:
    """By kind and planned seconds."""
    known = {task.key: task for task in tasks if task.cost > 0}
    found: defaultdict[str, dict[float, Measured]] = defaultdict(dict)
    for key, manifest in store.manifests(known.values()).items():
        runtime, task = manifest["runtime"], known[key]
        seconds = _number(runtime, "seconds")
        if seconds > 0 and str(runtime.get("device", "")).split(" ")[0].split(":")[0] == device.split(":")[0]:
            before = found[kind_of(task)].get(task.cost, Measured((), 0))
            memory = max(before.memory, int(_number(runtime, "peak_memory")))
            found[kind_of(task)][task.cost] = Measured((*before.seconds, seconds), memory)
    return found


def _number(runtime: Any, name: str) -> float:
    value = runtime.get(name, 0.0)
    return float(value) if isinstance(value, int | float) else 0.0


def _ratio(sizes: Iterable[tuple[float, Measured]]) -> float:
    """Measured over planned seconds; 1 where nothing was measured."""
    listed = list(sizes)
    planned = math.fsum(cost * len(measured.seconds) for cost, measured in listed)
    return math.fsum(second for _, measured in listed for second in measured.seconds) / planned if planned else 1.0
