"""What is left to do and what it should take, with the rates that the store has measured."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bitleak.audit.prepare import Prepared
from bitleak.core.types import SIGNALS
from bitleak.engine.graph import Graph
from bitleak.engine.keys import Task
from bitleak.engine.store import Store

EXECUTOR_MEMORY = 700 << 20
"""Bytes that a worker takes before it has read anything: the interpreter and PyTorch."""


@dataclass(frozen=True)
class Forecast:
    """What is left to do, and what it should take.

    Attributes:
        todo: Tasks to do by stage, and how many are in the store already: (to do, cached).
        seconds: Expected seconds of the tasks to do, on one worker.
        hours: Expected hours with the given number of workers.
        disk: Expected bytes to be written.
        free: Bytes free where the store is; None where there is no telling.
        memory: Expected peak memory of all workers in bytes.
        measured: Whether the seconds were corrected by what the store's manifests say.
    """

    todo: Mapping[str, tuple[int, int]]
    seconds: float
    hours: float
    disk: int
    free: int | None
    memory: int
    measured: bool


def forecast(prepared: Prepared, store: Store | None, *, workers: int) -> Forecast:
    """What is left to do, and what it should take, with rates from the store where it has any.

    Args:
        prepared: What `prepare` gave.
        store: The store; None is one that does not exist yet, in the current folder.
        workers: Number of processes.
    """
    graph = Graph(prepared.plan.tasks, wanted=prepared.plan.results)
    pending = graph.pending(store.snapshot()) if store else list(graph.tasks.values())
    open_keys = {task.key for task in pending}
    todo: dict[str, tuple[int, int]] = {}
    for task in graph.tasks.values():
        left, cached = todo.get(task.stage, (0, 0))
        todo[task.stage] = (left + 1, cached) if task.key in open_keys else (left, cached + 1)
    ratios = measured_rates(graph, store) if store else {}
    costs = [task.cost * ratios.get(_kind(task), 1.0) for task in pending]
    seconds = float(sum(costs))
    return Forecast(
        todo=todo,
        seconds=seconds,
        hours=max(seconds / workers, max(costs, default=0.0)) / 3600,
        disk=sum(prepared.plan.bytes[task.key] for task in pending),
        free=store.free() if store else shutil.disk_usage(Path()).free,
        memory=workers * (EXECUTOR_MEMORY + peak_memory(prepared)),
        measured=bool(ratios),
    )


def measured_rates(graph: Graph, store: Store) -> dict[str, float]:
    """Measured over expected seconds of the finished tasks, by kind of task."""
    sums: dict[str, tuple[float, float]] = {}
    for key, manifest in store.manifests(task for task in graph.tasks.values() if task.cost > 0).items():
        task, seconds = graph.tasks[key], manifest["runtime"].get("seconds", 0.0)
        measured, expected = sums.get(_kind(task), (0.0, 0.0))
        sums[_kind(task)] = (measured + seconds, expected + task.cost)
    return {kind: measured / expected for kind, (measured, expected) in sums.items()}


def peak_memory(prepared: Prepared) -> int:
    """Expected bytes that the largest task of a worker takes, on top of the interpreter."""
    sizes, config = prepared.plan.sizes, prepared.config
    pixels = prepared.description.channels * prepared.description.size**2
    answers = 8 * len(SIGNALS) * len(config.query.augment) * (sizes.pool + sizes.population)
    attack = answers * (len(prepared.plan.references) + 2) * 2
    shown = max((entry.calibration.records for entry in config.quantize), default=0)
    quantize = shown * pixels * 4 * 64
    return max(attack, quantize, 4 * prepared.network.parameters * 6) + pixels * (sizes.pool + sizes.test)


def _kind(task: Task) -> str:
    return f"{task.stage}:{task.params.get('quantizer', '')}" if task.stage == "quantize" else task.stage
