"""Batches as tasks of a Ray cluster, in the process that talks to Ray (`ray_driver`).

Each batch is a Ray task that asks for `num_cpus` and `num_gpus` (a fraction shares a GPU) and for
the memory it should take. It is sent the root of the store and the tasks, and sends back steps and
outcomes, one by one as they come; artifacts go through the store, which all machines must reach: a
shared folder or a URL. Ray retries nothing by itself. A worker that dies costs the task in flight
one attempt, as with `processes`; a machine that is lost costs none, and its tasks go to another.

As many batches are out as the cluster can run at a time, so that Ray's queue stays short and the
order is the driver's. When machines come or go, that number follows. Before the first batch, each
place for one (up to `LOADED`) loads the stages, so that a second worker need not begin with that
when its first batch comes.
"""

import importlib
import inspect
import os
import platform
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from bitleak.core.errors import ConfigError, ExecutionError
from bitleak.engine.executors.ray_cluster import join_cluster
from bitleak.engine.executors.ray_demands import demands, room_text, times_held
from bitleak.engine.graph import Batch
from bitleak.engine.keys import Task
from bitleak.engine.store import shared
from bitleak.engine.worker import Outcome, Progress, Runtime, ignore, outcomes, write_log

if find_spec("ray"):
    import ray
    from ray import exceptions

RAY_ATTEMPTS = 2
"""How many workers a task may take with it before it has failed."""

_LOSSES = 10
"""How many machines that are lost a task may be on before it has failed."""

REFRESH = 5.0
"""Seconds between two looks at which machines there are."""

LOADED = 64
"""Workers that load the stages beforehand, at most: on a cluster of more, an audit takes hours, and
they seconds.
"""

PATIENCE = 120.0
"""Seconds without a machine that a task fits on, after which the run ends."""

RAY_STEP_SECONDS = 0.5
"""Least time between two reports of a task's progress; longer where there are hundreds of
workers.
"""

_STARTS = 3
"""How many Ray tasks in a row may end before they have begun one of ours."""


@dataclass(frozen=True)
class _Place:
    """Where a batch is being done."""

    machine: str
    process: int


@dataclass(eq=False)
class _Flight:
    """A batch that is out: its messages, the tasks without an outcome by key, where it is, and
    whether it has begun.
    """

    stream: Any
    tasks: dict[str, Task]
    place: _Place | None = None
    begun: bool = False


@dataclass
class _Losses:
    """How often each task has lost its worker or its machine, and the tasks that were there."""

    workers: Counter[str] = field(default_factory=Counter)
    machines: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    starts: int = 0


class RayTasks:
    """Does batches as Ray tasks, in a process that Ray may end (`ray_driver`).

    Args:
        root: Root of the store, the same on every machine.
        runtime: Settings of the workers; `address` is the cluster's, None starts one here; each
            task reserves `num_cpus` and `num_gpus`.
        workers: Number of batches at a time; None = as many as the cluster has room for.
        cores: CPUs of a cluster that is started here.
        environment: Ray's environment of the workers, empty for the default.

    Attributes:
        cluster: The cluster.
        processes: Processes of this machine that have worked.

    Raises:
        ConfigError: No cluster answers, or no machine of it is large enough for a task.
        ExecutionError: No cluster can be started here.
    """

    def __init__(
        self,
        root: str,
        runtime: Runtime,
        workers: int | None = None,
        *,
        cores: float = 1.0,
        environment: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._store = shared(root)
        self._root = root
        self._runtime = runtime
        self._requested = workers
        self._cpus, self._gpus = demands(runtime)
        self._flights: list[_Flight] = []
        self._done: deque[Outcome] = deque()
        self._lost = _Losses()
        self.processes: set[int] = set()
        self._loading = False
        self.cluster = join_cluster(runtime, cores, environment)
        self._room, self._memory = self._look()
        self._looked = self._fitted = time.monotonic()
        if not self._room:
            self.close()
            raise ConfigError(f"no machine of the Ray cluster {room_text(self._cpus, self._gpus)}")

    @property
    def workers(self) -> int:
        """How many batches are done at the same time: as asked for, or as the cluster has room for
        now.
        """
        if self._requested is None and time.monotonic() - self._looked > REFRESH:
            self._refresh()
        return self._requested or max(1, self._room)

    @property
    def idle(self) -> bool:
        """Whether no outcome is to come."""
        return not self._flights and not self._done

    def submit(self, batch: Batch) -> None:
        """Take a batch."""
        if not self._loading:
            self._loading = True
            load = ray.remote(_load).options(
                num_cpus=self._cpus, num_gpus=self._gpus, max_retries=0
            )
            for _ in range(min(self.workers, LOADED)):
                load.remote(self._runtime.stages)
        self._send({task.key: task for task in batch.tasks})

    def next_done(
        self, timeout: float | None = None, on_step: Callable[[Progress], None] = ignore
    ) -> Outcome | None:
        """Return the outcome of the next task to end; None if the time is up or nothing was
        submitted.

        Raises:
            ExecutionError: Workers end before they begin a task, or no machine is left that is
                large enough.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._done:
            if not self._flights:
                return None
            rest = REFRESH if deadline is None else max(0.0, deadline - time.monotonic())
            heard, _ = ray.wait(
                [flight.stream for flight in self._flights], timeout=rest, fetch_local=False
            )
            for flight in [flight for flight in self._flights if flight.stream in heard]:
                self._listen(flight, on_step)
            if not heard:
                self._check_room()
                if deadline is not None:
                    return None
        return self._done.popleft()

    def close(self) -> None:
        """End all workers at once; uncommitted results are lost. May be repeated."""
        for flight in self._flights:
            if not flight.tasks:  # it is ending by itself; Ray 2.60 can bring this process down if it is cancelled then
                continue
            with suppress(exceptions.RayError, ValueError):
                ray.cancel(flight.stream, force=True)
        self._flights.clear()
        if self.cluster.joined:
            ray.shutdown()

    def _send(self, tasks: dict[str, Task]) -> None:
        expected = max((task.memory for task in tasks.values()), default=0)
        remote = ray.remote(
            inspect.unwrap(_serve)
        ).options(  # Ray must see the generator, not its type check
            num_cpus=self._cpus,
            num_gpus=self._gpus,
            memory=min(expected, self._memory) or None,
            num_returns="streaming",
            max_retries=0,
            name=next(iter(tasks.values())).name,
        )
        interval = max(RAY_STEP_SECONDS, self.workers / 100)
        stream = remote.remote(self._root, tuple(tasks.values()), self._runtime, interval)
        self._flights.append(_Flight(stream, tasks))

    def _listen(self, flight: _Flight, on_step: Callable[[Progress], None]) -> None:
        """Take one message, or notice that there will be no more."""
        try:
            message = ray.get(next(flight.stream))
        except StopIteration:
            self._flights.remove(flight)
        except exceptions.RayError as error:
            self._flights.remove(flight)
            self._mourn(flight, error)
        else:
            self._take(flight, message, on_step)

    def _take(self, flight: _Flight, message: object, on_step: Callable[[Progress], None]) -> None:
        if isinstance(message, Progress):
            flight.begun = True
            self._lost.starts = 0
            on_step(message)
        elif isinstance(message, Outcome):
            flight.tasks.pop(message.key)
            ours = (
                message.cached and message.key in self._lost.keys
            )  # done by a worker that died before it said so
            self._done.append(replace(message, cached=False) if ours else message)
        elif isinstance(message, _Place):
            flight.place = message
            if message.machine == platform.node():
                self.processes.add(message.process)

    def _mourn(self, flight: _Flight, error: Exception) -> None:
        """Submit the tasks of a dead worker again, or give them up."""
        if isinstance(error, exceptions.LocalRayletDiedError):
            # nothing can be submitted any more
            raise ExecutionError(
                "the Ray cluster has gone: the raylet of this machine, or one of its agents, was killed; "
                "the same command goes on from the results in the store"
            )
        machine_lost = isinstance(error, exceptions.NodeDiedError)
        if flight.place and flight.place.machine == platform.node():
            self._store.drop_temporaries([flight.place.process])
        crashed = isinstance(error, exceptions.WorkerCrashedError | exceptions.OutOfMemoryError)
        if flight.begun or crashed or machine_lost:
            self._count(flight, error, machine_lost)
        else:
            self._lost.starts += 1
            if self._lost.starts == _STARTS:
                raise ExecutionError(_no_start(error))
        if flight.tasks:
            self._lost.keys.update(flight.tasks)
            self._send(flight.tasks)

    def _count(self, flight: _Flight, error: Exception, machine_lost: bool) -> None:
        """Charge the first task that is not done: a dead worker's last messages are lost."""
        culprit = next((task for task in flight.tasks.values() if not self._store.has(task)), None)
        if culprit:
            losses = self._lost.machines if machine_lost else self._lost.workers
            losses[culprit.key] += 1
            if losses[culprit.key] == (_LOSSES if machine_lost else RAY_ATTEMPTS):
                self._done.append(
                    self._give_up(flight.tasks.pop(culprit.key), error, losses[culprit.key])
                )

    def _give_up(self, task: Task, error: Exception, times: int) -> Outcome:
        text = f"{_ending(error)} while doing it, {times} times"
        log = write_log(self._store, self._runtime, task, f"{type(error).__name__}: {error}\n")
        return Outcome(task.key, ok=False, text=text, kind="error", log=log)

    def _check_room(self) -> None:
        self._refresh()
        if self._room:
            self._fitted = time.monotonic()
        elif time.monotonic() - self._fitted > PATIENCE:
            raise ExecutionError(
                f"for {PATIENCE:.0f} s no machine of the Ray cluster {room_text(self._cpus, self._gpus)}"
            )

    def _refresh(self) -> None:
        self._room, self._memory = self._look()
        self._looked = time.monotonic()

    def _look(self) -> tuple[int, int]:
        """Return how many tasks fit on all machines, and the memory of the largest machine."""
        room = memory = 0
        for node in ray.nodes():
            has = node.get("Resources", {}) if node.get("Alive") else {}
            fits = int(
                min(
                    times_held(has.get("CPU", 0.0), self._cpus),
                    times_held(has.get("GPU", 0.0), self._gpus),
                )
            )
            room += fits
            memory = max(memory, int(has.get("memory", 0)) if fits else 0)
        return room, memory


class _Relay:
    """A batch in a thread, which passes its messages on: outcomes, some steps, None at the end."""

    def __init__(self, interval: float) -> None:
        self.messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._interval = interval
        self._reported = 0.0

    def work(self, root: str, tasks: tuple[Task, ...], runtime: Runtime) -> None:
        """Do the batch."""
        try:
            for outcome in outcomes(root, tasks, runtime, self._report):
                self.messages.put(outcome)
        except BaseException as error:  # told in the thread that Ray looks at
            self.messages.put(error)
        self.messages.put(None)

    def _report(self, step: Progress) -> None:
        if step.fraction == 0 or time.monotonic() - self._reported > self._interval:
            self._reported = time.monotonic()
            self.messages.put(step)


def _load(stages: str) -> None:
    """Load the stages on a worker; errors are reported by its first batch."""
    with suppress(Exception):
        importlib.import_module(stages)


def _serve(root: str, tasks: tuple[Task, ...], runtime: Runtime, interval: float) -> Iterator[Any]:
    """Do a batch on a worker: yield its place, then all steps and outcomes."""
    relay = _Relay(interval)
    yield _Place(platform.node(), os.getpid())
    threading.Thread(target=relay.work, args=(root, tasks, runtime), daemon=True).start()
    while (message := relay.messages.get()) is not None:
        if isinstance(message, BaseException):
            raise message
        yield message


def _ending(error: Exception) -> str:
    if isinstance(error, exceptions.NodeDiedError):
        return "the machine was lost"
    if isinstance(error, exceptions.OutOfMemoryError):
        return "the worker was ended by Ray: its machine was out of memory"
    if isinstance(error, exceptions.WorkerCrashedError):
        return "the worker was ended"
    return f"the worker failed ({type(error).__name__})"


def _no_start(error: Exception) -> str:
    return (
        f"{_STARTS} Ray tasks in a row ended before they began; of the last one: {error}\n"
        "the same versions of Python, Ray and bitleak must be installed on every machine of the cluster"
    )
