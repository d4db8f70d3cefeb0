"""Duration of a graph on a number of workers: the real schedule, played through without any work.

Workers take batches in the order in which a run hands them out (`bitleak.engine.schedule`). Each
batch waits for the driver, then for its inputs; each of its tasks takes its expected seconds and
then writes its result. The driver, and the store's total bandwidth, are queues that all workers
share:

    batch:  driver (dispatch)  ->  read (latency, bandwidth)  ->  per task [overhead + cost  ->  write]

A worker reads results of the stages in `reused` once and keeps them.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bitleak.engine.graph import EmptyShelf, Graph, Shelf
from bitleak.engine.keys import Task
from bitleak.engine.schedule import Schedule


@dataclass(frozen=True)
class Site:
    """A number of workers and the resources that they share.

    Attributes:
        workers: Number of batches at a time.
        start: Seconds until the workers have started.
        dispatch: Seconds of the driver per batch; it handles one at a time.
        overhead: Seconds of the worker per task, in addition to its cost.
        latency: Seconds per request to the store.
        reads: Requests per input that is read.
        writes: Requests per result.
        bandwidth: Bytes per second between the store and one worker.
        total: Bytes per second of the store, all workers together.
        reused: Stages whose results a worker reads once and keeps.
    """

    workers: int
    start: float = 0.0
    dispatch: float = 0.0
    overhead: float = 0.0
    latency: float = 0.0
    reads: float = 2.0
    writes: float = 4.0
    bandwidth: float = math.inf
    total: float = math.inf
    reused: Collection[str] = ("images", "splits")


@dataclass(frozen=True)
class Timeline:
    """The result of a simulation.

    Attributes:
        seconds: Time from the start to the end of the last task.
        busy: Share of the workers' time that was spent on the costs of tasks; 0 to 1.
        driver: Seconds that the driver spent on handing out.
        moved: Bytes read from and written to the store.
        longest: Seconds of the longest chain of tasks, a lower bound for any number of workers.
    """

    seconds: float
    busy: float
    driver: float
    moved: float
    longest: float


def simulate(
    graph: Graph, site: Site, *, sizes: Mapping[str, int] | None = None, store: Shelf | None = None
) -> Timeline:
    """Play the schedule of a graph through.

    Args:
        graph: Tasks with their expected seconds.
        site: Workers and shared resources.
        sizes: Bytes of each result by key; None = nothing is moved.
        store: Store of finished tasks; None = there are none.

    Raises:
        ValueError: There are no workers.

    Example:
        >>> first = Task("draw", "1", cost=1.0)
        >>> rest = [Task("multiply", "1", {"power": power}, {"x": first.key}, cost=2.0) for power in range(3)]
        >>> [simulate(Graph([first, *rest]), Site(workers=workers)).seconds for workers in (1, 2, 3, 9)]
        [7.0, 5.0, 3.0, 3.0]
    """
    if site.workers < 1:
        raise ValueError(f"workers must be an integer of at least 1, got {site.workers}")
    return _Play(graph, site, sizes or {}, store or EmptyShelf()).timeline()


class _Play:
    """The state of a simulation: the clock, the idle workers, and when the driver and the store are
    free.
    """

    def __init__(self, graph: Graph, site: Site, sizes: Mapping[str, int], store: Shelf) -> None:
        self._graph = graph
        self._site = site
        self._sizes = sizes
        self._schedule = Schedule(graph, store)
        self._now = site.start
        self._idle = list(range(site.workers))
        self._driver_free = self._store_free = site.start
        self._driver = self._moved = self._cost = 0.0
        self._read: defaultdict[int, set[str]] = defaultdict(set)
        self._events: list[tuple[float, int, Iterator[float]]] = []
        self._count = 0

    def timeline(self) -> Timeline:
        """Play to the end."""
        todo = list(self._schedule.todo.values())
        self._hand_out()
        while self._events:
            self._now, _, course = heapq.heappop(self._events)
            self._proceed(course)
            self._hand_out()
        end = self._now if todo else 0.0
        busy = self._cost / (end * self._site.workers) if end else 0.0
        return Timeline(end, busy, self._driver, self._moved, _longest(todo))

    def _hand_out(self) -> None:
        for number in self._schedule.ready[: len(self._idle)]:
            tasks = self._schedule.tasks(number)
            self._schedule.hand_out(number, {task.key for task in tasks})
            self._proceed(self._course(self._idle.pop(), tasks))

    def _proceed(self, course: Iterator[float]) -> None:
        after = next(course, None)
        if after is not None:
            self._count += 1
            heapq.heappush(self._events, (after, self._count, course))

    def _course(self, worker: int, tasks: Sequence[Task]) -> Iterator[float]:
        """Yield the times at which a worker that does a batch has to be looked at."""
        site = self._site
        self._driver += site.dispatch
        self._driver_free = max(self._driver_free, self._now) + site.dispatch
        yield self._driver_free
        missing = [key for key in tasks[0].input_keys if key not in self._read[worker]]
        self._read[worker].update(
            key for key in missing if self._graph.tasks[key].stage in site.reused
        )
        yield self._moving(
            sum(self._sizes.get(key, 0) for key in missing), site.reads * len(missing)
        )
        for task in tasks:
            self._cost += task.cost
            yield self._now + site.overhead + task.cost
            yield self._moving(self._sizes.get(task.key, 0), site.writes)
            self._schedule.finish(task.key)
        self._idle.append(worker)

    def _moving(self, size: int, requests: float) -> float:
        """Return the time at which a request of this size, made now, has been served."""
        self._moved += size
        self._store_free = max(self._store_free, self._now) + size / self._site.total
        alone = self._now + requests * self._site.latency + size / self._site.bandwidth
        return max(alone, self._store_free)


def _longest(tasks: Sequence[Task]) -> float:
    """Return seconds of the longest chain; the tasks come in order."""
    ends: dict[str, float] = {}
    for task in tasks:
        ends[task.key] = task.cost + max(
            (ends.get(key, 0.0) for key in task.input_keys), default=0.0
        )
    return max(ends.values(), default=0.0)
