"""What every executor of the registry must do, and what only `processes` can."""

import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from bitleak.core.errors import ExecutionError, StoreError
from bitleak.engine.executors import processes
from bitleak.engine.executors.processes import Processes
from bitleak.engine.executors.serial import Serial
from bitleak.engine.graph import Batch, Graph, batches
from bitleak.engine.keys import Task
from bitleak.engine.run import run
from bitleak.engine.store import Store
from bitleak.engine.worker import Runtime
from bitleak.registry import EXECUTORS, find

TOYS = Path(__file__).parents[1] / "engine"


@pytest.fixture
def runtime(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(TOYS)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None, raising=False)  # spares each worker pytest
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    return Runtime(stages="toy_stages", data=str(tmp_path))


@pytest.fixture(params=sorted(EXECUTORS))
def make(request):
    return find(EXECUTORS, request.param, kind="executor")


def plan() -> list[Task]:
    sources = [Task("draw", "1", {"seed": seed, "size": 50_000}, label=f"draw {seed}") for seed in range(3)]
    products = [
        Task("multiply", "1", {"power": power}, {"numbers": source.key}, group="powers")
        for source in sources
        for power in (1, 2, 3)
    ]
    return [*sources, *products, Task("total", "1", {}, {"parts": tuple(task.key for task in products)})]


def contents(store: Store) -> dict[str, dict[str, bytes]]:
    """Every byte of every artifact, by task and file."""
    return {
        entry.key: {path.name: path.read_bytes() for path in entry.path.iterdir() if path.name != "manifest.json"}
        for entry in store.ls()
    }


def complete(make, tasks, store, runtime, workers=2, **options):
    with closing(make(str(store.root), runtime, workers)) as executor:
        return run(Graph(tasks), store, executor, **options)


def test_the_store_is_the_same_as_after_serial(make, tmp_path, runtime):
    store, serial = Store(tmp_path / "store"), Store(tmp_path / "serial")
    report = complete(make, plan(), store, runtime)
    complete(Serial, plan(), serial, runtime)
    assert report.done == tuple(Graph(plan()).tasks)
    assert contents(store) == contents(serial)
    assert len(contents(store)) == len(plan())


def test_a_failing_task_fails_only_its_descendants(make, tmp_path, runtime):
    bad = Task("fail", "1", {"how": "input"})
    child = Task("total", "1", {}, {"parts": (bad.key,)})
    grandchild = Task("total", "1", {"factor": 2.0}, {"parts": (child.key,)})
    good = Task("draw", "1", {"seed": 0})
    mixed = Task("total", "1", {}, {"parts": (good.key, bad.key)})
    fine = Task("total", "1", {}, {"parts": (good.key,)})
    store = Store(tmp_path / "store")
    report = complete(make, [bad, child, grandchild, good, mixed, fine], store, runtime)
    assert set(report.done) == {good.key, fine.key}
    assert [(outcome.key, outcome.kind, outcome.text) for outcome in report.failed] == [
        (bad.key, "input", "told to fail")
    ]
    assert set(report.not_run) == {child.key, grandchild.key, mixed.key}
    assert report.cached == ()


def test_every_task_has_one_outcome_and_then_there_are_none(make, tmp_path, runtime):
    store = Store(tmp_path / "store")
    tasks = [Task("draw", "1", {"seed": seed}, group="g") for seed in range(5)]
    with closing(make(str(store.root), runtime, 2)) as executor:
        assert executor.workers >= 1
        assert executor.next_done(0.0) is None
        for batch in batches(tasks):
            executor.submit(batch)
        found = [executor.next_done(30.0) for _ in tasks]
        assert {outcome.key for outcome in found} == {task.key for task in tasks}
        assert all(outcome.ok for outcome in found)
        assert executor.next_done(0.0) is None


def test_what_was_done_is_not_done_again(make, tmp_path, runtime):
    store = Store(tmp_path / "store")
    complete(make, plan(), store, runtime)
    made = (tmp_path / "notes").read_text()
    report = complete(make, plan(), store, runtime)
    assert len(report.cached) == len(plan())
    assert (tmp_path / "notes").read_text() == made


def test_stages_are_told_to_use_one_thread(make, tmp_path, runtime):
    store, task = Store(tmp_path / "store"), Task("threads", "1")
    complete(make, [task], store, runtime)
    assert store.read(task) == {"threads": "1"}


def test_close_may_be_repeated_and_stops_what_runs(make, tmp_path, runtime):
    store = Store(tmp_path / "store")
    executor = make(str(store.root), runtime, 1)
    executor.submit(Batch((Task("rest", "1", {"seconds": 60.0}),)))
    start = time.monotonic()
    executor.close()
    executor.close()
    assert time.monotonic() - start < 5
    assert executor.next_done(0.0) is None


def test_a_killed_worker_costs_one_attempt(tmp_path, runtime, capfd):
    store = Store(tmp_path / "store")
    tasks = [
        Task("die", "1", {"name": name, "times": times}, group="g") for name, times in (("a", 0), ("b", 1), ("c", 0))
    ]
    report = complete(Processes, tasks, store, runtime, 1)
    assert len(report.done) == 3
    assert [int(store.read(task)["alive"][0]) for task in tasks] == [0, 1, 0]
    assert not list((store.root / "logs").glob("*"))
    assert capfd.readouterr() == ("", "")


def test_a_task_that_always_kills_its_worker_fails_alone_with_its_log(tmp_path, runtime, capfd):
    store = Store(tmp_path / "store")
    tasks = [Task("die", "1", {"name": name, "times": times}, group="g") for name, times in (("a", 9), ("b", 0))]
    child = Task("total", "1", {}, {"parts": (tasks[0].key,)})
    report = complete(Processes, [*tasks, child], store, runtime, 1)
    (failed,) = report.failed
    assert (failed.key, failed.kind) == (tasks[0].key, "error")
    assert failed.text == "the worker was ended by SIGKILL (out of memory?) while doing it, 2 times"
    assert "about to die" in Path(failed.log).read_text()
    assert report.done == (tasks[1].key,)
    assert report.not_run == (child.key,)
    assert (tmp_path / "deaths-a").read_text() == "xx"
    assert capfd.readouterr() == ("", "")


def test_a_segmentation_fault_is_told_with_its_trace(tmp_path, runtime, capfd):
    store = Store(tmp_path / "store")
    tasks = [Task("die", "1", {"name": "a", "times": 9, "signal": "SIGSEGV"}), Task("draw", "1", {"seed": 0})]
    report = complete(Processes, tasks, store, runtime, 1)
    (failed,) = report.failed
    assert failed.text == "the worker was ended by SIGSEGV while doing it, 2 times"
    assert "Segmentation fault" in Path(failed.log).read_text()
    assert "in die" in Path(failed.log).read_text()
    assert report.done == (tasks[1].key,)
    assert capfd.readouterr() == ("", "")


def test_a_worker_killed_from_outside_leaves_no_trace(tmp_path, runtime):
    store = Store(tmp_path / "store")
    tasks = [Task("rest", "1", {"seconds": 0.3, "name": str(index)}) for index in range(4)]
    killed = []

    def kill_once(event):
        if event.kind == "progress" and not killed:
            killed.append(int((tmp_path / "notes").read_text().split()[1]))
            (store.path(tasks[0]).parent / f".tmp.{os.uname().nodename}.{killed[0]}.x").mkdir(parents=True)
            os.kill(killed[0], signal.SIGKILL)

    report = complete(Processes, tasks, store, runtime, on_event=kill_once)
    assert len(killed) == 1
    assert len(report.done) == 4
    assert not list(store.root.rglob(".tmp*"))


def test_workers_are_started_when_needed_and_not_before(tmp_path, runtime):
    store = Store(tmp_path / "store")
    tasks = [Task("rest", "1", {"seconds": 0.01, "name": str(index)}) for index in range(6)]
    complete(Processes, tasks[:1], store, runtime, 4)
    assert len(set((tmp_path / "notes").read_text().splitlines())) == 1
    complete(Processes, tasks, store, runtime, 2)
    assert len(set((tmp_path / "notes").read_text().splitlines())) <= 3


def test_workers_that_cannot_start_are_an_error_and_not_a_loop(tmp_path, runtime, monkeypatch):
    import toy_stages

    store = Store(tmp_path / "store")
    monkeypatch.setattr(processes, "serve", toy_stages.leave)
    with pytest.raises(ExecutionError, match=r"3 workers in a row ended before they began a task(?s:.*)exit code 3"):
        complete(Processes, [Task("draw", "1", {"seed": 0})], store, runtime)


def test_logs_that_cannot_be_written_are_a_store_error(tmp_path, runtime):
    store = Store(tmp_path / "store")
    (store.root / "logs").write_text("in the way")
    with pytest.raises(StoreError, match="logs cannot be written to: File exists"):
        complete(Processes, [Task("draw", "1", {"seed": 0})], store, runtime)


def test_no_workers_are_refused(tmp_path, runtime):
    with pytest.raises(ValueError, match="workers must be an integer of at least 1, got 0"):
        Processes(str(tmp_path), runtime, 0)
