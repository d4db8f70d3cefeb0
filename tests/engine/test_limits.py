"""Memory and time: what is started, what waits, what is left."""

import time

import pytest

from bitleak.engine.execution import Limits, run_tasks
from bitleak.engine.graph import Batch, Graph
from bitleak.engine.keys import Task
from bitleak.engine.store import Store
from bitleak.engine.worker import Outcome

GB = 10**9


class Slots:
    """An executor whose tasks take the seconds that they say, all at once, without a process.

    Attributes:
        peaks: Memory of the tasks in flight, at each start of one.
        order: Labels in the order of starting.
    """

    def __init__(self, store: Store, workers: int, *, slowness: float = 1.0) -> None:
        self.workers = workers
        self.peaks: list[int] = []
        self.order: list[str] = []
        self.closed = False
        self._store = store
        self._slowness = slowness
        self._flying: list[tuple[float, Task]] = []

    def submit(self, batch: Batch) -> None:
        now = time.monotonic()
        for task in batch.tasks:
            now += self._slowness * task.cost
            self._flying.append((now, task))
            self.order.append(task.label)
        self.peaks.append(sum(task.memory for _, task in self._flying))

    def next_done(self, timeout=None, on_step=None):
        end, task = min(self._flying, key=lambda item: item[0])
        rest = end - time.monotonic()
        time.sleep(max(0.0, rest if timeout is None else min(rest, timeout)))
        if time.monotonic() < end:
            return None
        self._flying.remove((end, task))
        self._store.write(task, {"done": 1}, {})
        return Outcome(task.key, ok=True, seconds=self._slowness * task.cost)

    def close(self) -> None:
        self.closed = True
        self._flying.clear()


def task(
    label: str, *, memory: int = 0, cost: float = 0.01, group: str | None = None, **inputs
) -> Task:
    return Task(
        "toy", "1", {"label": label}, inputs, label=label, memory=memory, cost=cost, group=group
    )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_tasks_in_flight_fit_into_the_memory_together(store):
    tasks = [task(f"{index}", memory=size * GB) for index, size in enumerate([3, 3, 3, 1, 5, 1, 2])]
    slots = Slots(store, 4)
    report = run_tasks(Graph(tasks), store, slots, limits=Limits(memory=6 * GB))
    assert len(report.done) == len(tasks)
    assert max(slots.peaks) == 6 * GB
    assert slots.order[:2] == ["0", "1"]


def test_a_small_task_goes_before_a_large_one_that_does_not_fit(store):
    tasks = [
        task("a", memory=4 * GB, cost=0.05),
        task("large", memory=4 * GB),
        task("small", memory=GB, cost=0.001),
    ]
    slots = Slots(store, 2)
    run_tasks(Graph(tasks), store, slots, limits=Limits(memory=6 * GB))
    assert slots.order == ["a", "small", "large"]


def test_a_task_larger_than_the_memory_runs_alone(store):
    tasks = [task(label, memory=size) for label, size in (("a", GB), ("huge", 9 * GB), ("b", GB))]
    slots = Slots(store, 3)
    report = run_tasks(Graph(tasks), store, slots, limits=Limits(memory=2 * GB))
    assert len(report.done) == 3
    assert sorted(slots.peaks) == [GB, 2 * GB, 9 * GB]


def test_idle_workers_count(store):
    early = [task(f"{index}", memory=GB) for index in range(4)]
    late = [
        task(f"late {index}", memory=2 * GB, parts=tuple(each.key for each in early))
        for index in range(3)
    ]
    slots = Slots(store, 4)
    run_tasks(Graph([*early, *late]), store, slots, limits=Limits(memory=6 * GB, idle=GB))
    assert max(slots.peaks[:4]) == 4 * GB
    assert (
        max(slots.peaks[4:]) == 4 * GB
    )  # the third would fit, were there not a fourth worker, idle


def test_no_task_is_started_that_would_not_end_in_time(store):
    tasks = [task("short", cost=0.01), task("long", cost=60.0), task("other", cost=0.02)]
    slots = Slots(store, 1)
    report = run_tasks(Graph(tasks), store, slots, limits=Limits(seconds=10.0))
    assert set(slots.order) == {"short", "other"}
    assert report.left == (tasks[1].key,)
    assert report.seconds == pytest.approx(60.0)
    assert not report.failed
    assert not report.not_run


def test_the_next_run_goes_on(store):
    head, tail = task("head", cost=0.01), task("tail", cost=60.0)
    both = [head, Task("toy", "1", {}, {"head": head.key}, cost=tail.cost)]
    first = run_tasks(Graph(both), store, Slots(store, 1), limits=Limits(seconds=5.0))
    second = run_tasks(Graph(both), store, Slots(store, 1, slowness=0.001))
    assert (first.done, first.left) == ((head.key,), (both[1].key,))
    assert (second.done, second.cached, second.left) == ((both[1].key,), (head.key,), ())


def test_the_pace_so_far_says_what_there_is_time_for(store, monkeypatch):
    tasks = [task(f"{index}", cost=30.0) for index in range(3)]
    quick = run_tasks(
        Graph(tasks), store, Slots(store, 1, slowness=0.001), limits=Limits(seconds=40.0)
    )
    assert len(quick.done) == 3  # the first says that 30 are 0.03
    others = [task(f"slow {index}", cost=cost) for index, cost in enumerate([0.0, 0.1, 4.5])]
    monkeypatch.setattr("bitleak.engine.execution.ALLOWANCE", 0.0)
    slow = run_tasks(Graph(others), store, Slots(store, 1), limits=Limits(seconds=5.0))
    assert slow.left == (others[2].key,)  # it fits, but not with a margin


def test_as_much_of_a_batch_is_started_as_there_is_time_for(store):
    tasks = [
        task(f"{index}", cost=cost, group="g") for index, cost in enumerate([0.01, 0.01, 60.0])
    ]
    report = run_tasks(Graph(tasks), store, Slots(store, 1), limits=Limits(seconds=10.0))
    assert (report.done, report.left) == ((tasks[0].key, tasks[1].key), (tasks[2].key,))


def test_a_task_that_takes_far_too_long_is_stopped(store, monkeypatch):
    monkeypatch.setattr("bitleak.engine.execution.LEAST_GRACE", 0.1)
    monkeypatch.setattr("bitleak.engine.execution.ALLOWANCE", 0.0)
    slots = Slots(store, 1, slowness=1e6)
    report = run_tasks(Graph([task("stuck", cost=0.01)]), store, slots, limits=Limits(seconds=0.5))
    assert slots.closed
    assert len(report.left) == 1
    assert not report.done
