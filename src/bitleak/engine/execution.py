"""Drives a graph through an executor: keeps its workers busy, tells what happens, reports the end.

A task that fails takes its descendants with it and nothing else. Running again does only what is
missing. Several runs on one store share the work: what another run has claimed is waited for, and
taken from the store when it is there. An input that is not as it was written is thrown away and
made again. A store that takes nothing more ends the run.
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
"""Seconds between two looks at a task that another run is doing."""

MARGIN = 1.2
"""What a task may take beyond the expected seconds, where there is a limit."""

ALLOWANCE = 2.0
"""Seconds on top, for a worker that has yet to start."""

GRACE = 0.1
"""Share of the limit by which a task that was expected to end in time may be late before it is stopped."""

LEAST_GRACE = 10.0
"""Seconds of it at least."""

REPAIRS = 3
"""How often a task may find an input damaged."""

_PATIENCE = 1.0

EventKind = Literal["started", "progress", "finished", "waiting", "repair"]


@dataclass(frozen=True)
class Limits:
    """Limits of a run; None means no limit.

    Attributes:
        memory: Bytes that the tasks in flight may take together, by their expected peaks. One always runs.
        idle: Bytes that a worker takes which has done a task and has none now.
        seconds: From the start of the run. No task is started that is not expected to end in time.
    """

    memory: int | None = None
    idle: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Event:
    """Something to tell people about.

    Attributes:
        kind: `started`, `progress`, `finished` (well or not), `waiting` (a second has passed), or
            `repair` (a damaged result was removed, and is made again).
        task: Which task; None for `waiting`.
        fraction: How much of it is done, 0 to 1.
        done: Tasks of this run that have ended, those that cannot run included.
        total: Tasks of this run.
        remaining: Expected seconds to the end of the run; None where nothing is known.
        outcome: How the task ended, for `finished`; what found the damage, for `repair`.
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
    """How a run ended; all but `failed` are keys, in the order of the graph.

    Attributes:
        done: Made by this run.
        cached: Not made by this run: in the store, or needed by nothing that was to do.
        failed: In the order in which they failed.
        not_run: Tasks that need a failed one, or had not begun when the store took nothing more.
        left: Tasks that there was no time for.
        seconds: Expected seconds of those on all workers; None where nothing is known.
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
    """Do all tasks of the graph that are to do.

    Args:
        graph: The tasks.
        store: Where the executor's workers read and write.
        executor: Who does them; it is closed if this ends with an exception or out of time, and left open otherwise.
        on_event: Called with everything that happens, in this thread.
        limits: Memory and time that it may use.
        claims: What this run has claimed; its own claims on the store unless given, and none where the store is not
            a folder. Closed at the end.

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
    """The state of a run: what is in flight, what others do, what has ended how."""

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
        self._most = 0
        self._numbers = 0
        self._elsewhere: dict[str, float] = {}
        self._repairs: Counter[str] = Counter()
        self._ended: dict[str, Outcome | None] = {}
        self._full = False
        self._deadline = None if limits.seconds is None else time.monotonic() + limits.seconds

    def advance(self) -> bool:
        """Submits what may be, then waits for one task to end; False where there is nothing left."""
        before = len(self._ended)
        self._hand_out()
        if not self._in_flight and len(self._ended) > before:
            return True  # others have done something, on which more may follow
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
        done = {key for key, outcome in ended.items() if outcome and outcome.ok and not outcome.cached}
        failed = [outcome for outcome in ended.values() if outcome and not outcome.ok]
        not_run = {key for key, outcome in ended.items() if outcome is None}
        left = set(self._schedule.open)
        if self._full:
            not_run, left = not_run | left, set()
        others = done.union(not_run, left, (outcome.key for outcome in failed))
        keys = list(self._graph.tasks)
        return Report(
            done=tuple(key for key in keys if key in done),
            cached=tuple(key for key in keys if key not in others),
            failed=tuple(failed),
            not_run=tuple(key for key in keys if key in not_run),
            left=tuple(key for key in keys if key in left),
            seconds=self._estimate.remaining() if left else None,
        )

    def _hand_out(self) -> None:
        """Submits the batches that are ready, fit, and are nobody else's, to workers that are free."""
        for number in self._schedule.ready:
            if self._full or len(self._in_flight) >= self._executor.workers:
                return
            tasks = self._schedule.tasks(number)
            done = [task for task in tasks if task.key in self._elsewhere and self._store.has(task)]
            open_tasks = [task for task in tasks if task not in done]
            mine = self._claimed(self._affordable(open_tasks)) if open_tasks and self._room(open_tasks) else []
            if done or mine:
                self._schedule.hand_out(number, {task.key for task in (*done, *mine)})
            for task in done:
                self._end(Outcome(task.key, ok=True, cached=True))
            if mine:
                self._submit(mine)

    def _submit(self, tasks: list[Task]) -> None:
        self._in_flight[self._numbers] = {task.key: task for task in tasks}
        self._numbers += 1
        self._most = max(self._most, len(self._in_flight))
        self._executor.submit(Batch(tuple(tasks)))

    def _room(self, tasks: Sequence[Task]) -> bool:
        """Return whether the tasks fit into the memory that is left; the first always does."""
        if self._limits.memory is None or not self._in_flight:
            return True
        idle = max(0, self._most - len(self._in_flight) - 1) * self._limits.idle
        used = sum(_memory(flying.values()) for flying in self._in_flight.values())
        return used + idle + _memory(tasks) <= self._limits.memory

    def _affordable(self, tasks: Sequence[Task]) -> list[Task]:
        """Return the first tasks, as many as are expected to end in time."""
        if self._deadline is None:
            return list(tasks)
        end = time.monotonic() + ALLOWANCE
        found = []
        for task in tasks:
            end += MARGIN * self._estimate.expected(task)
            if end > self._deadline:
                break
            found.append(task)
        return found

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
        self._tell("progress" if step.fraction > 0 else "started", self._schedule.todo[step.key], step.fraction)

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
        self._estimate.finish(task.key, outcome.seconds if outcome.ok and not outcome.cached else None)
        if outcome.ok:
            self._schedule.finish(task.key)
        else:
            for lost in self._schedule.abandon(task.key):
                self._ended[lost.key] = None
                self._estimate.finish(lost.key)
        self._tell("finished", task, 1.0, outcome)

    def _repair(self, outcome: Outcome) -> bool:
        """Throws a damaged input away, and has it made again before the task is tried again."""
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

    def _tell(self, kind: EventKind, task: Task | None, fraction: float, outcome: Outcome | None = None) -> None:
        done, total = len(self._ended), len(self._schedule.todo)
        self._on_event(Event(kind, task, fraction, done, total, self._estimate.remaining(), outcome))


def _memory(tasks: Iterable[Task]) -> int:
    """Expected peak of a worker that does these tasks one after the other."""
    return max((task.memory for task in tasks), default=0)
