"""Execution of a graph by an executor: keeps its workers busy, reports events and the end.

A task that fails takes its descendants with it and nothing else. Running again computes the missing
results only. Several runs on one store share the work: a run waits for tasks that another run has
claimed, and takes their results from the store. An input that differs from its manifest is removed
and made again. A store that takes nothing more ends the run.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bitleak.core.errors import StoreError
from bitleak.engine.claims import Claims
from bitleak.engine.executors import Executor
from bitleak.engine.graph import Batch, Graph
from bitleak.engine.keys import Task
from bitleak.engine.schedule import Schedule
from bitleak.engine.store import Store
from bitleak.engine.time_left import TimeLeft
from bitleak.engine.worker import Outcome, Progress, ignore

POLL = 0.5
"""Seconds between two looks at a task that another run has claimed."""

MARGIN = 1.2
"""Factor on a task's expected seconds under a time limit."""

ALLOWANCE = 2.0
"""Seconds added for the start of a worker."""

GRACE = 0.1
"""Share of the time limit by which a started task may be late before it is stopped."""

LEAST_GRACE = 10.0
"""Least such delay, in seconds."""

REPAIRS = 3
"""How often a task may find an input damaged."""

_PATIENCE = 1.0

EventKind = Literal["started", "progress", "finished", "waiting", "repair"]


@dataclass(frozen=True)
class Limits:
    """Limits of a run; None means no limit.

    Attributes:
        memory: Limit for the tasks in flight together, in bytes, by their expected peaks. One
            always runs.
        idle: Memory of an idle worker, in bytes.
        seconds: Time from the start of the run. A task starts only if it is expected to end in
            time.
    """

    memory: int | None = None
    idle: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Event:
    """A change in the state of a run, for a display.

    Attributes:
        kind: `started`, `progress`, `finished` (well or not), `waiting` (a second has passed), or
            `repair` (a damaged result was removed, and is made again).
        task: Its task; None for `waiting`.
        fraction: Share of the task that is done, 0 to 1.
        done: Number of tasks of this run that have ended or cannot run.
        total: Number of tasks of this run.
        remaining: Expected seconds to the end of the run; None if nothing is known.
        outcome: End of the task, for `finished`; of the task that met the damage, for `repair`.
    """

    kind: EventKind
    task: Task | None
    fraction: float
    done: int
    total: int
    remaining: float | None
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Report:
    """The end of a run; all but `failed` are keys, in the order of the graph.

    Attributes:
        done: Results of this run.
        cached: Results not made by this run: in the store, or not needed by an unfinished task.
        failed: Failures, in the order in which they happened.
        not_run: Tasks that need a failed one, or had not begun when the store took nothing more.
        left: Tasks for which no time was left.
        seconds: Expected seconds of `left` on all workers; None if nothing is known.
    """

    done: tuple[str, ...]
    cached: tuple[str, ...]
    failed: tuple[Outcome, ...]
    not_run: tuple[str, ...]
    left: tuple[str, ...] = ()
    seconds: float | None = None


def run_tasks(
    graph: Graph,
    store: Store,
    executor: Executor,
    *,
    on_event: Callable[[Event], None] = ignore,
    limits: Limits | None = None,
    claims: Claims | None = None,
) -> Report:
    """Do all unfinished tasks of a graph.

    Args:
        graph: The tasks.
        store: The store from which the executor's workers read and to which they write.
        executor: Runs the tasks; it is closed if this ends with an exception or out of time, and
            left open otherwise.
        on_event: Called with every event, in this thread.
        limits: Limits of memory and time.
        claims: Claims of this run; None for new ones on the store, if it is a folder. Closed at the
            end.

    Raises:
        KeyboardInterrupt: Ctrl-C; workers have been ended and their temporary files removed.
        ExecutionError: Workers cannot be started.
        StoreError: A damaged result cannot be removed.
    """
    if claims is None and isinstance(store.root, Path):
        claims = Claims(store.root)
    drive = _Drive(graph, store, executor, on_event, limits or Limits(), claims)
    try:
        while drive.advance():
            pass
    except BaseException:
        executor.close()
        store.drop_temporaries([os.getpid()])
        raise
    finally:
        if claims:
            claims.close()
    return drive.report()


class _Drive:
    """The state of a run: tasks in flight, tasks of other runs, and outcomes."""

    def __init__(
        self,
        graph: Graph,
        store: Store,
        executor: Executor,
        on_event: Callable[[Event], None],
        limits: Limits,
        claims: Claims | None,
    ) -> None:
        self._graph = graph
        self._store = store
        self._executor = executor
        self._on_event = on_event
        self._limits = limits
        self._claims = claims
        self._schedule = Schedule(graph, store.snapshot())
        self._estimate = TimeLeft(self._schedule.todo.values(), executor.workers)
        self._in_flight: dict[int, dict[str, Task]] = {}
        self._busiest = 0
        self._numbers = 0
        self._elsewhere: dict[str, float] = {}
        self._repairs: Counter[str] = Counter()
        self._ended: dict[str, Outcome | None] = {}
        self._full = False
        self._deadline = None if limits.seconds is None else time.monotonic() + limits.seconds

    def advance(self) -> bool:
        """Submit the tasks that may start, then wait for one to end; return False if none is
        left.
        """
        before = len(self._ended)
        self._hand_out()
        if not self._in_flight and len(self._ended) > before:
            return True  # results of other runs have arrived, on which more tasks may follow

        # only tasks of other runs are left: wait for them, unless time or store forbid
        if not self._in_flight:
            if self._full or not self._elsewhere or self._late(0.0):
                return False
            time.sleep(POLL)
            self._tell("waiting", None, 0.0)
            return True

        outcome = self._executor.next_done(_PATIENCE, self._step)
        if outcome is not None:
            self._end(outcome)
        elif self._late(max(LEAST_GRACE, GRACE * (self._limits.seconds or 0.0))):
            self._executor.close()
            return False
        else:
            self._tell("waiting", None, 0.0)
        return True

    def report(self) -> Report:
        """Return the state of every task of the graph."""
        ended = self._ended
        done = {
            key for key, outcome in ended.items() if outcome and outcome.ok and not outcome.cached
        }
        failed = [outcome for outcome in ended.values() if outcome and not outcome.ok]
        not_run = {key for key, outcome in ended.items() if outcome is None}
        left = set(self._schedule.open)
        if self._full:
            not_run, left = not_run | left, set()
        handled = done.union(not_run, left, (outcome.key for outcome in failed))
        keys = list(self._graph.tasks)
        return Report(
            done=tuple(key for key in keys if key in done),
            cached=tuple(key for key in keys if key not in handled),
            failed=tuple(failed),
            not_run=tuple(key for key in keys if key in not_run),
            left=tuple(key for key in keys if key in left),
            seconds=self._estimate.remaining() if left else None,
        )

    def _hand_out(self) -> None:
        """Submit batches to free workers: ready ones that fit and that no other run has claimed."""
        for number in self._schedule.ready:
            if self._full or len(self._in_flight) >= self._executor.workers:
                return
            tasks = self._schedule.tasks(number)
            done = [task for task in tasks if task.key in self._elsewhere and self._store.has(task)]
            open_tasks = [task for task in tasks if task not in done]
            mine = (
                self._claimed(self._affordable(open_tasks))
                if open_tasks and self._room(open_tasks)
                else []
            )
            if done or mine:
                self._schedule.hand_out(number, {task.key for task in (*done, *mine)})
            for task in done:
                self._end(Outcome(task.key, ok=True, cached=True))
            if mine:
                self._submit(mine)

    def _submit(self, tasks: list[Task]) -> None:
        self._in_flight[self._numbers] = {task.key: task for task in tasks}
        self._numbers += 1
        self._busiest = max(self._busiest, len(self._in_flight))
        self._executor.submit(Batch(tuple(tasks)))

    def _room(self, tasks: Sequence[Task]) -> bool:
        """Return whether the tasks fit into the remaining memory; the first always does."""
        if self._limits.memory is None or not self._in_flight:
            return True
        # a worker that has once had a task stays, and keeps its interpreter and libraries
        idle = max(0, self._busiest - len(self._in_flight) - 1) * self._limits.idle
        used = sum(_memory(flying.values()) for flying in self._in_flight.values())
        return used + idle + _memory(tasks) <= self._limits.memory

    def _affordable(self, tasks: Sequence[Task]) -> list[Task]:
        """Return the first tasks, as many as are expected to end in time."""
        if self._deadline is None:
            return list(tasks)
        end = time.monotonic() + ALLOWANCE
        affordable = []
        for task in tasks:
            end += MARGIN * self._estimate.expected(task)
            if end > self._deadline:
                break
            affordable.append(task)
        return affordable

    def _claimed(self, tasks: Sequence[Task]) -> list[Task]:
        """Return the tasks that this run has claimed now."""
        now = time.monotonic()
        mine = []
        for task in tasks:
            if now < self._elsewhere.get(task.key, 0.0):
                continue
            if self._take(task):
                self._elsewhere.pop(task.key, None)
                mine.append(task)
            elif not self._full:
                self._elsewhere[task.key] = now + POLL
        return mine

    def _take(self, task: Task) -> bool:
        try:
            return not self._full and (self._claims is None or self._claims.take(task.key))
        except StoreError as error:
            self._end(Outcome(task.key, ok=False, text=str(error), kind="input", fatal=True))
            return False

    def _late(self, grace: float) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline + grace

    def _step(self, step: Progress) -> None:
        self._estimate.proceed(step.key, step.fraction)
        self._tell(
            "progress" if step.fraction > 0 else "started",
            self._schedule.todo[step.key],
            step.fraction,
        )

    def _end(self, outcome: Outcome) -> None:
        task = self._schedule.todo[outcome.key]
        self._leave_flight(task.key)
        self._elsewhere.pop(task.key, None)
        if self._claims:
            self._claims.release(task.key)
        if outcome.broken and self._repair(outcome):
            return
        self._ended[task.key] = outcome
        self._full = self._full or outcome.fatal
        self._estimate.finish(
            task.key, outcome.seconds if outcome.ok and not outcome.cached else None
        )
        if outcome.ok:
            self._schedule.finish(task.key)
        else:
            for lost in self._schedule.abandon(task.key):
                self._ended[lost.key] = None
                self._estimate.finish(lost.key)
        self._tell("finished", task, 1.0, outcome)

    def _repair(self, outcome: Outcome) -> bool:
        """Remove a damaged input, and make it again before the task is tried again."""
        self._repairs[outcome.key] += 1
        if self._repairs[outcome.key] > REPAIRS or outcome.broken not in self._graph.tasks:
            return False
        damaged = self._graph.tasks[outcome.broken]
        self._store.discard(damaged)
        for task in self._schedule.reopen(outcome.key, damaged.key, self._store):
            self._ended.pop(task.key, None)
            self._estimate.add(task)
        self._tell("repair", damaged, 0.0, outcome)
        return True

    def _leave_flight(self, key: str) -> None:
        for number, tasks in list(self._in_flight.items()):
            tasks.pop(key, None)
            if not tasks:
                del self._in_flight[number]

    def _tell(
        self, kind: EventKind, task: Task | None, fraction: float, outcome: Outcome | None = None
    ) -> None:
        done, total = len(self._ended), len(self._schedule.todo)
        self._on_event(
            Event(kind, task, fraction, done, total, self._estimate.remaining(), outcome)
        )


def _memory(tasks: Iterable[Task]) -> int:
    """Return the expected peak of a worker that does these tasks one after the other, in bytes."""
    return max((task.memory for task in tasks), default=0)
