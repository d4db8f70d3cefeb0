"""Forecast of an audit: its tasks and their time, disk and memory, at the store's rates."""

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bitleak.audit.expected_tasks import INTERPRETER, expected, measured_rates
from bitleak.audit.preparation import Prepared
from bitleak.engine.graph import EmptyShelf, Graph
from bitleak.engine.simulate import Site, simulate
from bitleak.engine.store import Store


@dataclass(frozen=True)
class Forecast:
    """Tasks to do, and the time, disk and memory that they should take.

    Attributes:
        todo: Numbers of tasks by stage: (to do, in the store).
        seconds: Expected seconds of the tasks to do, on one worker.
        hours: Expected hours on the given number of workers, by a simulated schedule.
        workers: Number of workers.
        disk: Expected bytes to be written.
        free: Free bytes at the store's location; None if not known.
        memory: Expected peak memory of all workers in bytes.
        measured: Whether the seconds are corrected by times in the store's manifests.
    """

    todo: Mapping[str, tuple[int, int]]
    seconds: float
    hours: float
    workers: int
    disk: int
    free: int | None
    memory: int
    measured: bool


def forecast(prepared: Prepared, store: Store | None, *, workers: int) -> Forecast:
    """Forecast the tasks that are not done, at rates from the store if it has any.

    Args:
        prepared: The audit.
        store: The store, or None for a new one in the current folder.
        workers: Number of processes.
    """
    tasks = expected(prepared, store) if store else prepared.plan.tasks
    graph = Graph(tasks, wanted=prepared.plan.wanted)
    done = store.snapshot() if store else None
    pending = graph.pending(done or EmptyShelf())
    open_keys = {task.key for task in pending}
    todo: dict[str, tuple[int, int]] = {}
    # Of a part of an audit, the tasks of other models are not counted.
    for task in graph.pending(EmptyShelf()):
        left, cached = todo.get(task.stage, (0, 0))
        todo[task.stage] = (left + 1, cached) if task.key in open_keys else (left, cached + 1)
    peaks = [task.memory if store else INTERPRETER + task.memory for task in pending]
    return Forecast(
        todo=todo,
        seconds=math.fsum(task.cost for task in pending),
        hours=simulate(graph, Site(workers), store=done).seconds / 3600,
        workers=workers,
        disk=sum(task.bytes for task in pending),
        free=store.free() if store else shutil.disk_usage(Path()).free,
        memory=workers * max(peaks, default=0),
        measured=bool(
            store and measured_rates(prepared.plan.tasks, store, prepared.runtime.device)
        ),
    )
