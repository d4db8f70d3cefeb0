"""Drives a graph through an executor: keeps its workers busy, tells what happens, reports the end.

Among the batches that could start, the one with the longest chain of expected seconds behind it
goes first; where no costs are known, the order of the graph decides. A task that fails takes its
descendants with it and nothing else. Running again does only what is missing.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bitleak.engine.executors import Executor
from bitleak.engine.graph import Batch, Graph, Shelf, batches, descendants
from bitleak.engine.keys import Task
from bitleak.engine.progress import Estimate
from bitleak.engine.worker import Outcome, Step, ignore

_PATIENCE = 1.0


@dataclass(frozen=True)
class Event:
    """Something to tell people about.

    Attributes:
        kind: `started`, `progress`, `finished` (well or not), or `waiting` (a second has passed).
        task: Which task; None for `waiting`.
        fraction: How much of it is done, 0 to 1.
        done: Tasks of this run that have ended, those that cannot run included.
        total: Tasks of this run.
        remaining: Expected seconds to the end of the run; None where nothing is known.
        outcome: How the task ended, for `finished`.
    """

    kind: Literal["started", "progress", "finished", "waiting"]
    task: Task | None
    fraction: float
    done: int
    total: int
    remaining: float | None
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Report:
    """How a run ended; all but `failed` are keys, in the order of the graph.

    Attributes:
        done: Made by this run.
        cached: Not made by this run: in the store, or needed by nothing that was to do.
        failed: In the order in which they failed.
        not_run: Tasks that need a failed one.
    """

    done: tuple[str, ...]
    cached: tuple[str, ...]
    failed: tuple[Outcome, ...]
    not_run: tuple[str, ...]


def run(graph: Graph, store: Shelf, executor: Executor, *, on_event: Callable[[Event], None] = ignore) -> Report:
    """Does all tasks of the graph that are to do.

    Args:
        graph: The tasks.
        store: Where the executor's workers read and write.
        executor: Who does them; it is closed if this ends with an exception, and left open otherwise.
        on_event: Called with everything that happens, in this thread.

    Raises:
        KeyboardInterrupt: Ctrl-C; workers have been ended and their temporary files removed.
        ExecutionError: Workers cannot be started.
    """
    drive = _Drive(graph, store, executor, on_event)
    try:
        while drive.advance():
            pass
    except BaseException:
        executor.close()
        raise
    return drive.report()


class _Drive:
    """The state of a run: what is ready, what waits for how many inputs, what has ended how."""

    def __init__(self, graph: Graph, store: Shelf, executor: Executor, on_event: Callable[[Event], None]) -> None:
        self._graph = graph
        self._executor = executor
        self._on_event = on_event
        self._todo = {task.key: task for task in graph.pending(store)}
        self._estimate = Estimate(self._todo.values(), executor.workers)
        self._batches = batches(self._todo.values())
        self._priority = _priorities(list(self._todo.values()))
        self._missing = {index: self._open_inputs(batch) for index, batch in enumerate(self._batches)}
        self._ready: list[tuple[float, int]] = []
        self._in_flight: dict[int, set[str]] = {}
        self._ended: dict[str, Outcome | None] = {}
        for index, keys in self._missing.items():
            if not keys:
                self._make_ready(index)

    def advance(self) -> bool:
        """Submits what may be, then waits for one task to end; False where there is nothing left."""
        while self._ready and len(self._in_flight) <= self._executor.workers:
            _, index = heapq.heappop(self._ready)
            self._in_flight[index] = {task.key for task in self._batches[index].tasks}
            self._executor.submit(self._batches[index])
        if not self._in_flight:
            return False
        outcome = self._executor.next_done(_PATIENCE, self._step)
        if outcome is None:
            self._tell("waiting", None, 0.0)
        else:
            self._end(outcome)
        return True

    def report(self) -> Report:
        """What became of every task of the graph."""
        ended = self._ended
        done = [key for key, outcome in ended.items() if outcome and outcome.ok and not outcome.cached]
        failed = [outcome for outcome in ended.values() if outcome and not outcome.ok]
        not_run = [key for key, outcome in ended.items() if outcome is None]
        others = set(done).union(not_run, (outcome.key for outcome in failed))
        keys = list(self._graph.tasks)
        return Report(
            done=tuple(key for key in keys if key in set(done)),
            cached=tuple(key for key in keys if key not in others),
            failed=tuple(failed),
            not_run=tuple(key for key in keys if key in set(not_run)),
        )

    def _open_inputs(self, batch: Batch) -> set[str]:
        return {key for key in batch.tasks[0].input_keys if key in self._todo}

    def _make_ready(self, index: int) -> None:
        first = max(self._priority[task.key] for task in self._batches[index].tasks)
        heapq.heappush(self._ready, (-first, index))

    def _step(self, step: Step) -> None:
        self._estimate.proceed(step.key, step.fraction)
        self._tell("progress" if step.fraction > 0 else "started", self._todo[step.key], step.fraction)

    def _end(self, outcome: Outcome) -> None:
        task = self._todo[outcome.key]
        self._ended[task.key] = outcome
        self._estimate.finish(task.key, outcome.seconds if outcome.ok and not outcome.cached else None)
        self._leave_flight(task.key)
        if outcome.ok:
            self._release(task.key)
        else:
            self._abandon(task.key)
        self._tell("finished", task, 1.0, outcome)

    def _leave_flight(self, key: str) -> None:
        for index, keys in list(self._in_flight.items()):
            keys.discard(key)
            if not keys:
                del self._in_flight[index]

    def _release(self, key: str) -> None:
        for index, keys in self._missing.items():
            if key in keys:
                keys.remove(key)
                if not keys:
                    self._make_ready(index)

    def _abandon(self, key: str) -> None:
        for task in descendants(self._todo.values(), key):
            self._ended[task.key] = None
            self._estimate.finish(task.key)

    def _tell(
        self,
        kind: Literal["started", "progress", "finished", "waiting"],
        task: Task | None,
        fraction: float,
        outcome: Outcome | None = None,
    ) -> None:
        done, total = len(self._ended), len(self._todo)
        self._on_event(Event(kind, task, fraction, done, total, self._estimate.remaining(), outcome))


def _priorities(tasks: list[Task]) -> dict[str, float]:
    """Expected seconds from the start of each task to the end of the longest chain behind it."""
    longest = dict.fromkeys((task.key for task in tasks), 0.0)
    for task in reversed(tasks):
        longest[task.key] += task.cost
        for key in task.input_keys:
            if key in longest:
                longest[key] = max(longest[key], longest[task.key])
    return longest
