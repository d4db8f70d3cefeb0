import itertools
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from bitleak.engine.execution import run_tasks
from bitleak.engine.executors.processes import Processes
from bitleak.engine.executors.serial import Serial
from bitleak.engine.graph import Graph
from bitleak.engine.keys import Task
from bitleak.engine.store import Store
from bitleak.engine.time_left import TimeLeft
from bitleak.engine.worker import Runtime

HERE = Path(__file__).parent


@pytest.fixture
def runtime(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setattr(
        sys.modules["__main__"], "__spec__", None, raising=False
    )  # spares each worker pytest
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    return Runtime(stages="toy_stages", data=str(tmp_path))


def resting(seconds: float, count: int, gated: int = 0) -> list[Task]:
    names = [{"name": str(index), "gate": index >= count - gated} for index in range(count)]
    tasks = [Task("rest", "1", {"seconds": seconds, **name}) for name in names]
    return [*tasks, Task("total", "1", {}, {"parts": tuple(task.key for task in tasks)})]


def digests(store: Store) -> dict[str, dict]:
    return {entry.key: entry.manifest["files"] for entry in store.ls()}


def test_events_tell_what_happens_and_what_is_left(tmp_path, runtime):
    tasks = [
        Task("rest", "1", {"seconds": 0.05, "name": str(index)}, cost=10.0) for index in range(3)
    ]
    store, events = Store(tmp_path / "store"), []
    run_tasks(Graph(tasks), store, Serial(str(store.root), runtime), on_event=events.append)
    finished = [event for event in events if event.kind == "finished"]
    assert [event.kind for event in events[:2]] == ["started", "progress"]
    assert [(event.done, event.total) for event in finished] == [(1, 3), (2, 3), (3, 3)]
    assert events[0].remaining == 30.0
    assert 0.05 < finished[1].remaining < 1.0  # by then the pace is known: 0.05 s and not 10 s
    assert finished[2].remaining == 0.0


def test_the_longest_chain_goes_first(tmp_path, runtime):
    short = Task("draw", "1", {"seed": 0}, label="short", cost=5.0)
    head = Task("draw", "1", {"seed": 1}, label="head", cost=1.0)
    tail = Task("total", "1", {}, {"parts": (head.key,)}, label="tail", cost=9.0)
    store, events = Store(tmp_path / "store"), []
    run_tasks(
        Graph([short, head, tail]), store, Serial(str(store.root), runtime), on_event=events.append
    )
    assert next(event.task.label for event in events if event.kind == "started") == "head"


def test_a_second_run_does_only_what_is_missing(tmp_path, runtime):
    tasks = resting(0.0, 3)
    store = Store(tmp_path / "store")
    first = run_tasks(Graph(tasks), store, Serial(str(store.root), runtime))
    store.remove(store.path(tasks[-1]))
    store.remove(store.path(tasks[0]))
    second = run_tasks(Graph(tasks), store, Serial(str(store.root), runtime))
    third = run_tasks(Graph(tasks), store, Serial(str(store.root), runtime))
    keys = [task.key for task in tasks]
    assert (first.done, first.cached) == (tuple(keys), ())
    assert (second.done, second.cached) == ((keys[0], keys[3]), (keys[1], keys[2]))
    assert (third.done, third.cached) == ((), tuple(keys))


@pytest.mark.parametrize("executor", [Serial, Processes])
def test_ctrl_c_ends_at_once_and_leaves_only_finished_results(tmp_path, runtime, executor):
    tasks = [*resting(0.0, 1)[:1], *resting(6.0, 3)]
    store = Store(tmp_path / "store")

    def interrupt(event):
        if event.kind == "progress" and event.task.params["seconds"] > 0:
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_tasks(Graph(tasks), store, executor(str(store.root), runtime, 2), on_event=interrupt)
    assert time.monotonic() - start < 5
    assert store.has(tasks[0])
    assert not list(store.root.rglob(".tmp*"))
    assert not list((store.root / "logs").glob("*"))


DRIVER = """
import sys, threading
sys.path.insert(0, {here!r})

def main():
    from test_execution import resting
    from bitleak.engine.executors.processes import Processes
    from bitleak.engine.graph import Graph
    from bitleak.engine.execution import run_tasks
    from bitleak.engine.store import Store
    from bitleak.engine.worker import Runtime
    store = Store({root!r})
    executor = Processes({root!r}, Runtime(stages="toy_stages", data={data!r}), 2)
    report = run_tasks(Graph(resting(0.05, 8, 4)), store, executor)
    executor.close()
    print(len(report.done) + len(report.cached), len(report.failed))

if __name__ == "__main__":
    main()
"""


def driver(tmp_path, root) -> subprocess.Popen:
    path = tmp_path / "driver.py"
    path.write_text(
        textwrap.dedent(DRIVER.format(here=str(HERE), root=str(root), data=str(tmp_path)))
    )
    return subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, text=True)


def undisturbed(tmp_path, runtime) -> dict[str, dict]:
    store = Store(tmp_path / "undisturbed")
    run_tasks(
        Graph(resting(0.05, 8, 4)), store, Serial(str(store.root), Runtime(stages="toy_stages"))
    )
    return digests(store)


def wait_until(condition, seconds=30.0):
    for _ in itertools.takewhile(lambda _: not condition(), range(int(seconds / 0.02))):
        time.sleep(0.02)
    assert condition()


def test_a_killed_driver_leaves_no_workers_and_the_next_run_completes_it(tmp_path, runtime):
    store = Store(tmp_path / "store")
    process = driver(tmp_path, store.root)
    wait_until(lambda: len(store.ls()) == 4)
    process.kill()
    process.wait()
    workers = {int(line.split()[1]) for line in (tmp_path / "notes").read_text().splitlines()}
    wait_until(lambda: not any(Path(f"/proc/{worker}/cmdline").exists() for worker in workers), 5.0)
    again = run_tasks(
        Graph(resting(0.05, 8, 4)), store, Serial(str(store.root), Runtime(stages="toy_stages"))
    )
    assert len(workers) == 2
    assert (len(again.cached), len(again.done)) == (4, 5)
    assert digests(store) == undisturbed(tmp_path, runtime)


def test_two_runs_at_once_on_one_store_share_the_work(tmp_path, runtime):
    store = Store(tmp_path / "store")
    processes = [driver(tmp_path, store.root) for _ in range(2)]
    notes = tmp_path / "notes"
    wait_until(lambda: notes.exists() and len(notes.read_text().splitlines()) == 8, 60.0)
    time.sleep(1.0)  # time for a ninth start, were there one
    (tmp_path / "open").touch()  # until now four tasks were in flight, two with each run
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == ["9 0"] * 2
    assert len(notes.read_text().splitlines()) == 8  # each by one of the runs
    assert digests(store) == undisturbed(tmp_path, runtime)
    assert store.verify() == []
    assert not list(store.root.rglob(".tmp*"))


def test_the_estimate_uses_the_pace_of_the_stage():
    tasks = [
        Task(stage, "1", {"n": n}, cost=cost)
        for stage, cost in (("a", 1.0), ("b", 10.0))
        for n in range(3)
    ]
    estimate = TimeLeft(tasks, workers=2)
    assert estimate.remaining() == 33.0 / 2
    estimate.finish(
        tasks[0].key, 2.0
    )  # stage a takes twice what was expected; nothing else is known of b
    assert estimate.remaining() == (2 * 2.0 + 3 * 20.0) / 2
    estimate.finish(tasks[3].key, 5.0)  # stage b takes half
    assert estimate.remaining() == (2 * 2.0 + 2 * 5.0) / 2
    estimate.proceed(tasks[4].key, 0.5)
    assert estimate.remaining() == (2 * 2.0 + 1.5 * 5.0) / 2
    for task in tasks[:5]:
        estimate.finish(task.key)
    assert estimate.remaining() == 5.0  # one task keeps one worker busy
    assert TimeLeft([Task("a", "1")], workers=1).remaining() is None
