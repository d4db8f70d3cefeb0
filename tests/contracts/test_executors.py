"""What every executor of the registry must do, and what only `processes` and only `ray` can."""

import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bitleak.core import leftovers
from bitleak.core.errors import ConfigError, ExecutionError, StoreError
from bitleak.engine.execution import run_tasks
from bitleak.engine.executors import processes
from bitleak.engine.executors.processes import Processes
from bitleak.engine.executors.serial import Serial
from bitleak.engine.graph import Batch, Graph, batches
from bitleak.engine.keys import Task
from bitleak.engine.store import Store
from bitleak.engine.worker import Runtime
from bitleak.registry import EXECUTORS, find

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_log_monitor": False}
TOYS = Path(__file__).parents[1] / "engine"


@pytest.fixture
def runtime(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(TOYS)
    monkeypatch.setattr(
        sys.modules["__main__"], "__spec__", None, raising=False
    )  # spares each worker pytest
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    return Runtime(stages="toy_stages", data=str(tmp_path))


@pytest.fixture(scope="module")
def cluster():
    """Two Ray nodes of one core each on this machine."""
    ray = pytest.importorskip("ray", reason="the executor ray needs the package ray")
    from ray.cluster_utils import Cluster

    from bitleak.engine.executors.ray_cluster import QUIET

    with pytest.MonkeyPatch.context() as patch:
        for name in QUIET:
            patch.setenv(name, "0")
        patch.setenv(
            "PYTHONPATH", os.pathsep.join([str(TOYS), *sys.path])
        )  # where workers look for modules
        started = Cluster()
        for node in ({**NODE, "include_dashboard": False, "no_monitor": True}, NODE):
            _persevere(lambda node=node: started.add_node(**node))
        ray.init(address=started.address, log_to_driver=False, logging_level="ERROR")
        yield started
        ray.shutdown()
        started.shutdown()


def _persevere(start):
    """Starts a node; Ray gives it half a minute, which a busy machine may not."""
    for _ in range(4):
        try:
            return start()
        except Exception as error:
            failure = error
    raise failure


@pytest.fixture(params=sorted(EXECUTORS))
def make(request):
    if request.param == "ray":
        request.getfixturevalue("cluster")
    return find(EXECUTORS, request.param, kind="executor")


def plan() -> list[Task]:
    sources = [
        Task("draw", "1", {"seed": seed, "size": 50_000}, label=f"draw {seed}") for seed in range(3)
    ]
    products = [
        Task("multiply", "1", {"power": power}, {"numbers": source.key}, group="powers")
        for source in sources
        for power in (1, 2, 3)
    ]
    return [
        *sources,
        *products,
        Task("total", "1", {}, {"parts": tuple(task.key for task in products)}),
    ]


def contents(store: Store) -> dict[str, dict[str, bytes]]:
    """Every byte of every artifact, by task and file."""
    return {
        entry.key: {
            path.name: path.read_bytes()
            for path in entry.path.iterdir()
            if path.name != "manifest.json"
        }
        for entry in store.ls()
    }


def complete(make, tasks, store, runtime, workers=2, **options):
    with closing(make(str(store.root), runtime, workers)) as executor:
        return run_tasks(Graph(tasks), store, executor, **options)


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
        found = [executor.next_done(120.0) for _ in tasks]
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
        Task("die", "1", {"name": name, "times": times}, group="g")
        for name, times in (("a", 0), ("b", 1), ("c", 0))
    ]
    report = complete(Processes, tasks, store, runtime, 1)
    assert len(report.done) == 3
    assert [int(store.read(task)["alive"][0]) for task in tasks] == [0, 1, 0]
    assert not list((store.root / "logs").glob("*"))
    assert capfd.readouterr() == ("", "")


def test_a_task_that_always_kills_its_worker_fails_alone_with_its_log(tmp_path, runtime, capfd):
    store = Store(tmp_path / "store")
    tasks = [
        Task("die", "1", {"name": name, "times": times}, group="g")
        for name, times in (("a", 9), ("b", 0))
    ]
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
    tasks = [
        Task("die", "1", {"name": "a", "times": 9, "signal": "SIGSEGV"}),
        Task("draw", "1", {"seed": 0}),
    ]
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
            (store.path(tasks[0]).parent / f".tmp.{leftovers.place()}.{killed[0]}.0.x").mkdir(
                parents=True
            )
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
    with pytest.raises(
        ExecutionError, match=r"3 workers in a row ended before they began a task(?s:.*)exit code 3"
    ):
        complete(Processes, [Task("draw", "1", {"seed": 0})], store, runtime)


def test_logs_that_cannot_be_written_are_a_store_error(tmp_path, runtime):
    store = Store(tmp_path / "store")
    (store.root / "logs").write_text("in the way")
    with pytest.raises(StoreError, match="logs cannot be written to: File exists"):
        complete(Processes, [Task("draw", "1", {"seed": 0})], store, runtime)


def test_no_workers_are_refused(tmp_path, runtime):
    with pytest.raises(ValueError, match="workers must be an integer of at least 1, got 0"):
        Processes(str(tmp_path), runtime, 0)


def test_a_store_that_no_other_process_sees_is_refused(tmp_path, runtime):
    with pytest.raises(StoreError, match="no other process sees it; use the executor serial"):
        Processes("memory://bucket/prefix", runtime)


def rests(count: int, seconds: float, gate: bool = False) -> list[Task]:
    return [
        Task("rest", "1", {"seconds": seconds, "name": str(index), "gate": gate})
        for index in range(count)
    ]


def test_a_lost_machine_of_a_cluster_costs_no_result(cluster, tmp_path, runtime):
    from bitleak.engine.executors.ray import Ray

    tasks = [
        *rests(3, 0.1, gate=True),
        *plan(),
    ]  # the first three cannot end before the gate is open
    store, serial = Store(tmp_path / "store"), Store(tmp_path / "serial")
    third = _persevere(lambda: cluster.add_node(**NODE))
    killed = []

    def rested():
        path = tmp_path / "notes"
        return (
            [line for line in path.read_text().splitlines() if "rest" in line]
            if path.exists()
            else []
        )

    def kill_once(event):
        if not killed and len(set(rested())) == 3:  # one worker on each machine
            killed.append(third)
            cluster.remove_node(third, allow_graceful=False)
        if killed and any(not Path("/proc", line.split()[1]).exists() for line in rested()):
            (tmp_path / "open").touch()

    report = complete(Ray, tasks, store, runtime, 3, on_event=kill_once)
    complete(Serial, tasks, serial, Runtime(stages=runtime.stages))
    assert len(killed) == 1
    assert report.done == tuple(Graph(tasks).tasks)
    assert contents(store) == contents(serial)
    assert len(rested()) == 4  # the one that was lost was begun again, and no other


def test_a_killed_ray_worker_costs_one_attempt_and_two_fail_the_task_alone(
    cluster, tmp_path, runtime
):
    from bitleak.engine.executors.ray import Ray

    store = Store(tmp_path / "store")
    times = {"a": 0, "b": 1, "c": 9, "d": 0}
    tasks = [
        Task("die", "1", {"name": name, "times": count}, group="g") for name, count in times.items()
    ]
    child = Task("total", "1", {}, {"parts": (tasks[2].key,)})
    report = complete(Ray, [*tasks, child], store, runtime, 1)
    (failed,) = report.failed
    assert (failed.key, failed.kind, failed.text) == (
        tasks[2].key,
        "error",
        "the worker was ended while doing it, 2 times",
    )
    assert "Error" in Path(failed.log).read_text()
    assert len(report.done) == 3
    assert report.not_run == (child.key,)
    assert [(tmp_path / f"deaths-{name}").read_text() for name in "bc"] == ["x", "xx"]


def test_ray_has_as_many_batches_out_as_the_cluster_has_room_for(cluster, tmp_path, runtime):
    import ray

    from bitleak.engine.executors.ray import Ray

    store = Store(tmp_path / "store")
    deadline = time.monotonic() + 60
    while sum(node["Alive"] for node in ray.nodes()) > 2 and time.monotonic() < deadline:
        time.sleep(0.5)  # a node that another test has killed is taken for alive for some seconds
    rooms = {1.0: 2, 0.5: 4, 0.25: 8}
    for cpus, room in rooms.items():
        with closing(Ray(str(store.root), replace(runtime, num_cpus=cpus))) as executor:
            assert executor.workers == room


def test_steps_of_ray_tasks_reach_the_driver(cluster, tmp_path, runtime):
    from bitleak.engine.executors.ray import Ray

    store, events = Store(tmp_path / "store"), []
    complete(Ray, rests(1, 1.6), store, runtime, 1, on_event=events.append)
    told = [(event.kind, event.fraction) for event in events if event.kind != "waiting"]
    fractions = [fraction for kind, fraction in told if kind == "progress"]
    assert (told[0], told[-1]) == (("started", 0.0), ("finished", 1.0))
    assert fractions == sorted(fractions)
    assert 1 <= len(fractions) <= 4  # of 19 that the task made


def test_tasks_that_fit_on_no_machine_are_refused_at_once(cluster, tmp_path, runtime):
    from bitleak.engine.executors.ray import Ray

    store = Store(tmp_path / "store")
    for fields in ({"num_cpus": 2.0}, {"device": "cuda"}, {"num_gpus": 0.25}):
        with pytest.raises(
            ConfigError, match=r"no machine of the Ray cluster has room .* lower --num-cpus"
        ):
            Ray(str(store.root), replace(runtime, **fields))


@pytest.mark.parametrize(
    "fields", [{"num_cpus": 1.5}, {"num_gpus": -1.0}, {"num_cpus": 0.0}, {"num_gpus": math.nan}]
)
def test_demands_that_make_no_sense_are_refused(cluster, tmp_path, runtime, fields):
    from bitleak.engine.executors.ray import Ray

    with pytest.raises(ConfigError, match=r"num_[cg]pus must be"):
        Ray(str(Store(tmp_path / "store").root), replace(runtime, **fields))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "127.0.0.1:1",
            r"--address 127\.0\.0\.1:1: no Ray cluster can be joined there .* leave --address out",
        ),
        (
            "ray://127.0.0.1",
            r"--address must be auto or HOST:PORT, such as 10\.0\.0\.1:6379, got 'ray://127\.0\.0\.1'",
        ),
    ],
)
def test_an_address_without_a_cluster_is_told_at_once(tmp_path, monkeypatch, address, message):
    ray = pytest.importorskip("ray", reason="the executor ray needs the package ray")
    from bitleak.engine.executors.ray import Ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # another test's cluster may be there
    with pytest.raises(ConfigError, match=message):
        Ray(str(Store(tmp_path / "store").root), Runtime(address=address))


@pytest.mark.slow
def test_a_cluster_of_its_own_is_started_and_stopped(tmp_path):
    pytest.importorskip("ray", reason="the executor ray needs the package ray")
    script = """
        import sys
        from bitleak.engine.executors.ray import Ray
        from bitleak.engine.graph import Graph
        from bitleak.engine.keys import Task
        from bitleak.engine.execution import run_tasks
        from bitleak.engine.store import Store
        from bitleak.engine.worker import Runtime
        store = Store(sys.argv[1])
        executor = Ray(store.location, Runtime(stages="toy_stages"), 2)
        report = run_tasks(Graph([Task("draw", "1", {"seed": seed}) for seed in range(4)]), store, executor)
        executor.close()
        executor.close()
        print(len(report.done), executor.next_done(0.0))
    """
    # workers find modules next to the script
    program = tmp_path / "program" / "program.py"
    program.parent.mkdir()
    program.write_text(textwrap.dedent(script))
    shutil.copy(TOYS / "toy_stages.py", program.parent)
    command = [sys.executable, str(program), str(tmp_path / "store")]
    places = [place for place in sys.path if Path(place) != TOYS]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "4 None\n", "")


def test_a_batch_whose_outcomes_are_all_in_is_not_cancelled(
    cluster, tmp_path, runtime, monkeypatch
):
    import ray

    from bitleak.engine.executors.ray_tasks import RayTasks

    cancelled = []
    monkeypatch.setattr(ray, "cancel", lambda stream, **options: cancelled.append(stream))
    executor = RayTasks(str(Store(tmp_path / "store").root), runtime, 2)
    executor.submit(Batch((Task("draw", "1", {"seed": 0}),)))
    assert executor.next_done().ok
    assert executor._flights  # the end of its stream has not been heard
    executor.close()
    assert not cancelled


def test_without_the_package_ray_it_says_what_to_install(tmp_path, monkeypatch):
    from bitleak.engine.executors import ray

    monkeypatch.setattr(ray, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'bitleak\[ray\]'"):
        ray.Ray(str(tmp_path), Runtime())
