"""Time saved by many machines: Ray against `processes`, and predicted schedules against runs.

    python benchmarks/scaling.py compare [--repeats 3]      # two Ray nodes of one core each, two processes
    python benchmarks/scaling.py requests                   # requests of a task to a store, by stage
    python benchmarks/scaling.py driver                     # seconds of the driver per task
    python benchmarks/scaling.py predict [CONFIG]           # 1 to 1,000 GPUs, and their limits

`compare` runs the same audit of digits with each executor, from an empty store, in turns, with Ray
on two fresh nodes each time, so that no worker exists beforehand; their start is timed separately.
The prediction for both is the time of a run of the first task alone, plus the simulated schedule of
the rest with the seconds that the workers of `processes` took. Ray's own runs of the audit do not
enter it. `predict` uses the plan's costs (assumed rates, see `bitleak.steps.quantizing_work.RATES`)
and the figures given on the command line for store and driver.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from bitleak.audit import Prepared, prepare
from bitleak.config import read_config, validate
from bitleak.core.types import Description
from bitleak.engine.execution import Event, run_tasks
from bitleak.engine.executors.processes import Processes
from bitleak.engine.graph import Batch, Graph
from bitleak.engine.keys import Task
from bitleak.engine.simulate import Site, Timeline, simulate
from bitleak.engine.store import Store
from bitleak.engine.worker import Outcome, Runtime

DIGITS: dict[str, Any] = {
    "title": "scaling",
    "data": {"name": "digits"},
    "split": {"mode": "population", "models": 8, "targets": 4, "population": 100},
    "model": {"name": "cnn", "width": 8},
    "train": {"epochs": 12, "batch": 64, "augment": [], "autocast": "none"},
    "calibration": {"records": 64},
    "quantize": [
        {"name": "rtn", "levels": [16, 4]},
        {"name": "obc", "levels": [4], "preset": "quick"},
    ],
    "attacks": ["lira", "threshold"],
    "fpr": [0.01],
}
EXECUTORS = ("processes", "ray")
WORKERS = 2
NOOP = "def noop(params, *_):\n    for _ in params:\n        yield {'x': 1}\n"
GPUS = (1, 10, 100, 1000)
CIFAR100 = Description(60_000, 10_000, 100, 3, 32, "planned")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("compare")
    verb.add_argument("--repeats", type=int, default=3)
    verbs.add_parser("requests")
    verb = verbs.add_parser("driver")
    verb.add_argument("--tasks", type=int, default=1000)
    verb = verbs.add_parser("predict")
    verb.add_argument("config", nargs="?", type=Path, default=Path("examples/paper-cifar100.yaml"))
    verb.add_argument("--dispatch", type=float, default=0.01, help="seconds of the driver per task")
    verb.add_argument(
        "--latency", type=float, default=0.05, help="seconds per request to the store"
    )
    verb.add_argument("--bandwidth", type=float, default=1e8, help="bytes per second of one worker")
    verb.add_argument("--total", type=float, default=1e9, help="bytes per second of the store")
    arguments = parser.parse_args()
    {"compare": compare, "requests": requests, "driver": driver, "predict": predict}[
        arguments.verb
    ](arguments)


def compare(arguments: argparse.Namespace) -> None:
    """Print wall times in turns, and the prediction for both from the seconds that `processes`
    measured.
    """
    prepared = prepare(validate(DIGITS), device="cpu")
    graph = Graph(prepared.plan.tasks, wanted=prepared.plan.wanted)
    first = Graph([graph.tasks[prepared.plan.images]])
    walls: defaultdict[str, list[float]] = defaultdict(list)
    starts: defaultdict[str, list[float]] = defaultdict(list)
    costs: defaultdict[str, list[float]] = defaultdict(list)
    print(f"{len(graph.tasks)} tasks")
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(arguments.repeats):
            for name in EXECUTORS if repeat % 2 == 0 else EXECUTORS[::-1]:
                store = Store(Path(folder, f"{name}-{repeat}"))
                alone = Store(Path(folder, f"{name}-{repeat}-first"))
                starts[name].append(_wall(name, first, alone, prepared.runtime)[0])
                wall, seconds = _wall(name, graph, store, prepared.runtime)
                walls[name].append(wall)
                print(
                    f"{name}: {walls[name][-1]:.1f} s, the first task alone {starts[name][-1]:.1f} s",
                    flush=True,
                )
                if name == "processes":
                    for key, taken in seconds.items():
                        costs[key].append(taken)
    tasks = [replace(task, cost=median(costs[task.key])) for task in graph.tasks.values()]
    rest = simulate(Graph(tasks, wanted=graph.wanted), Site(WORKERS)).seconds - tasks[0].cost
    total, _sizes = sum(task.cost for task in tasks), {task.key: task.bytes for task in tasks}
    print(f"seconds of all tasks: {total:.1f}; behind the first, on {WORKERS} workers: {rest:.1f}")
    for name in EXECUTORS:
        predicted, wall = median(starts[name]) + rest, median(walls[name])
        error = 100 * (predicted / wall - 1)
        print(f"{name}: {wall:.1f} s; predicted {predicted:.1f} s, which is {error:+.1f} % off")
    base, ray = (median(walls[name]) for name in EXECUTORS)
    print(f"ray against processes: {ray - base:+.1f} s, {100 * (ray / base - 1):+.1f} %")


def _wall(
    name: str, graph: Graph, store: Store, runtime: Runtime
) -> tuple[float, dict[str, float]]:
    """Return the seconds of a run, and of the worker for each task, with reading and writing."""
    from bitleak.engine.executors.ray import Ray

    if name == "ray" and not _joined():
        with two_nodes() as started:
            print(f"two Ray nodes were started in {started:.1f} s")
            return _wall(name, graph, store, runtime)
    seconds = {}

    def note(event: Event) -> None:
        if event.kind == "finished" and event.task is not None and event.outcome is not None:
            seconds[event.task.key] = event.outcome.seconds

    begin = time.perf_counter()
    executor = {"processes": Processes, "ray": Ray}[name](store.location, runtime, WORKERS)
    report = run_tasks(graph, store, executor, on_event=note)
    executor.close()
    if report.failed:
        sys.exit(f"{name}: {report.failed[0].text}")
    return time.perf_counter() - begin, seconds


def _joined() -> bool:
    import ray

    return bool(ray.is_initialized())


@contextlib.contextmanager
def two_nodes() -> Iterator[float]:
    """Start and join a Ray cluster of two nodes with a core each; yield the seconds of the start."""
    import ray
    from ray.cluster_utils import Cluster

    from bitleak.engine.executors.ray import QUIET

    os.environ.update(dict.fromkeys(QUIET, "0"))
    begin = time.perf_counter()
    node: dict[str, Any] = {
        "num_cpus": 1,
        "object_store_memory": 80 << 20,
        "include_log_monitor": False,
    }
    cluster = Cluster(
        initialize_head=True,
        head_node_args={**node, "include_dashboard": False, "no_monitor": True},
    )
    cluster.add_node(**node)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield time.perf_counter() - begin
    finally:
        ray.shutdown()
        cluster.shutdown()


def requests(arguments: argparse.Namespace) -> None:
    """Print the requests to a store under a URL: median per task of each stage, on a machine that
    has copies of the inputs.
    """
    import fsspec

    from bitleak.engine.executors.serial import Serial

    small = {"data": {"name": "digits", "limit": 600}, "train": {**DIGITS["train"], "epochs": 1}}
    prepared = prepare(validate({**DIGITS, **small}), device="cpu")
    store = Store(f"memory://{uuid.uuid4().hex}/store")
    fs = type(fsspec.filesystem("memory"))
    counted: Counter[str] = Counter()
    names = {
        "exists": "HEAD",
        "cat_file": "GET",
        "get_file": "GET",
        "put_file": "PUT",
        "pipe_file": "PUT",
        "ls": "LIST",
    }
    for name, kind in names.items():
        setattr(fs, name, _counting(getattr(fs, name), kind, counted))
    found: defaultdict[str, list[Counter[str]]] = defaultdict(list)

    def note(event: Any) -> None:
        if event.kind == "finished":
            found[event.task.stage].append(Counter(counted))
            counted.clear()

    run_tasks(
        Graph(prepared.plan.tasks, wanted=prepared.plan.wanted),
        store,
        Serial(store.location, prepared.runtime),
        on_event=note,
    )
    print("| stage | tasks | inputs | HEAD | GET | PUT | LIST |\n|---|---|---|---|---|---|---|")
    for stage, counts in found.items():
        inputs = median(len(task.input_keys) for task in prepared.plan.tasks if task.stage == stage)
        cells = " | ".join(
            f"{median(count[kind] for count in counts):g}"
            for kind in ("HEAD", "GET", "PUT", "LIST")
        )
        print(f"| {stage} | {len(counts)} | {inputs:g} | {cells} |")


def _counting(method: Any, kind: str, counted: Counter[str]) -> Any:
    def counting(*args: Any, **kwargs: Any) -> Any:
        counted[kind] += 1
        return method(*args, **kwargs)

    return counting


class _Instant:
    """An executor whose workers need no time, so that the driver's time remains."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._queue: list[Task] = []

    def submit(self, batch: Batch) -> None:
        self._queue += batch.tasks

    def next_done(self, timeout: float | None = None, on_step: Any = None) -> Outcome | None:
        return Outcome(self._queue.pop(0).key, ok=True) if self._queue else None

    def close(self) -> None:
        self._queue.clear()


def driver(arguments: argparse.Namespace) -> None:
    """Print the seconds of the driver's own work per task, and with Ray's work added."""
    from bitleak.engine.executors.ray import Ray

    count = arguments.tasks
    with tempfile.TemporaryDirectory() as folder:
        tasks = [Task("noop", "1", {"index": index}, cost=1.0) for index in range(count)]
        for workers in (10, 1000):
            begin = time.process_time()
            run_tasks(Graph(tasks), Store(Path(folder, str(workers))), _Instant(workers))
            print(
                f"driver, {workers} workers: {1e3 * (time.process_time() - begin) / count:.2f} ms per task"
            )
        Path(folder, "noop_stages.py").write_text(
            "def noop(params, *_):\n    for _ in params:\n        yield {'x': 1}\n"
        )
        sys.path.insert(0, folder)
        with two_nodes():
            store = Store(Path(folder, "ray"))
            executor = Ray(store.location, Runtime(stages="noop_stages"), WORKERS)
            run_tasks(Graph(tasks[:4]), store, executor)  # starts the workers
            begin, used = time.perf_counter(), time.process_time()
            run_tasks(Graph(tasks[4 : 4 + count // 10]), store, executor)
            wall, used = time.perf_counter() - begin, time.process_time() - used
            print(
                f"ray, {WORKERS} workers: {1e3 * used / (count // 10):.1f} ms of the driver's processor per task,"
            )
            print(
                f"{1e3 * WORKERS * wall / (count // 10):.1f} ms from one task of a worker to its next"
            )


def predict(arguments: argparse.Namespace) -> None:
    """Print hours and their limits, by number of GPUs, at the plan's rates."""
    prepared = planned(arguments.config)
    graph = Graph(prepared.plan.tasks, wanted=prepared.plan.wanted)
    tasks = list(graph.tasks.values())
    total, sizes = sum(task.cost for task in tasks), {task.key: task.bytes for task in tasks}
    print(
        f"{len(tasks)} tasks, {total / 3600:.1f} GPU hours, {sum(task.bytes for task in tasks) / 1e9:.1f} GB"
    )
    for stage, stage_tasks in _by_stage(tasks).items():
        costs = [task.cost for task in stage_tasks]
        size = median(task.bytes for task in stage_tasks)
        print(
            f"  {stage}: {len(stage_tasks)} x {median(costs):.1f} s (longest {max(costs):.1f}), "
            f"{size / 1e6:.1f} MB each"
        )
    print("| GPUs | hours | busy | longest chain | driver | moved |\n|---|---|---|---|---|---|")
    for workers in GPUS:
        site = Site(
            workers,
            dispatch=arguments.dispatch,
            latency=arguments.latency,
            bandwidth=arguments.bandwidth,
            total=arguments.total,
        )
        print(_line(workers, simulate(graph, site, sizes=sizes)))
    for name, change in (
        ("no driver", {"dispatch": 0.0}),
        ("no latency", {"latency": 0.0}),
        ("endless bandwidth", {"bandwidth": float("inf"), "total": float("inf")}),
    ):
        timeline = simulate(graph, replace(site, **change), sizes=sizes)
        print(f"{workers} GPUs with {name}: {timeline.seconds / 3600:.3f} hours")


def planned(path: Path) -> Prepared:
    """Return a plan for GPUs; CIFAR-100 is described by its known size if it is not available."""
    from bitleak import registry
    from bitleak.data.hub import Hub

    config = validate(read_config(path))
    if registry.find(registry.DATASETS, config.data.name, kind="data set") is Hub:
        Hub.describe = lambda self, data: CIFAR100  # type: ignore[method-assign]
    return prepare(config, device="cuda", on_this_machine=False)


def _line(workers: int, timeline: Timeline) -> str:
    cells = (
        f"{timeline.seconds / 3600:.3f}",
        f"{100 * timeline.busy:.0f} %",
        f"{timeline.longest / 3600:.3f} h",
        f"{timeline.driver:.0f} s",
        f"{timeline.moved / 1e9:.0f} GB",
    )
    return f"| {workers} | {' | '.join(cells)} |"


def _by_stage(tasks: Iterable[Task]) -> dict[str, list[Task]]:
    by_stage: defaultdict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        by_stage[task.stage].append(task)
    return by_stage


if __name__ == "__main__":
    main()
