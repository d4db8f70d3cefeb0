"""An audit from config to report, for the command line and for notebooks.

```
prepared = prepare(config, data=None, device="cpu")       # reads no pixels, computes nothing
report = audit(prepared, out=Path("audit"), store=Store("bitleak-store"))
```
"""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bitleak import registry
from bitleak.audit.audit_results import write_results
from bitleak.audit.expected_tasks import INTERPRETER, expected
from bitleak.audit.forecast import Forecast, forecast
from bitleak.audit.preparation import Prepared, check_model, prepare
from bitleak.core.errors import BrokenResult, StoreError
from bitleak.core.output_folder import check_out
from bitleak.engine.execution import REPAIRS, Event, Limits, Report, run_tasks
from bitleak.engine.graph import Graph
from bitleak.engine.store import Store
from bitleak.engine.threads import usable_cores
from bitleak.engine.worker import ignore

__all__ = [
    "Forecast",
    "Prepared",
    "audit",
    "check_out",
    "forecast",
    "open_store",
    "prepare",
    "run_prepared",
    "worker_count",
    "write_results",
]


def audit(
    prepared: Prepared,
    *,
    out: Path,
    store: Store,
    executor: str = "processes",
    workers: int | None = None,
    memory: int | None = None,
    budget: float | None = None,
    on_event: Callable[[Event], None] = ignore,
) -> Report:
    """Run the tasks that are not done and, if none fails, write the report.

    Args:
        prepared: The audit.
        out: Folder for the tables, figures and page; it is made if it does not exist.
        store: Store of finished tasks.
        executor: A name of the registry's `EXECUTORS`, or `package.module:Name`.
        workers: Number of processes; None for one per core on a CPU, one on a GPU, and with `ray`
            as many as the cluster has room for.
        memory: Bytes that they may use together, or None for no limit.
        budget: Seconds after which no task should still run, or None for no limit; a task that is
            not expected to end in time is not started.
        on_event: Called with the engine's events.

    Returns:
        Tasks that were done, cached, failed, not run, and left for want of time.

    Raises:
        InputError: The disk is too small, workers would make another network than this process, a
            task found the input wrong, or `out` cannot be written.
        KeyboardInterrupt: Passed on, after the workers have gone.
    """
    check_out(out)
    return run_prepared(
        prepared,
        store,
        lambda: write_results(prepared, store, out),
        executor=executor,
        workers=workers,
        memory=memory,
        budget=budget,
        on_event=on_event,
    )


def run_prepared(
    prepared: Prepared,
    store: Store,
    finish: Callable[[], None],
    *,
    executor: str = "processes",
    workers: int | None = None,
    memory: int | None = None,
    budget: float | None = None,
    on_event: Callable[[Event], None] = ignore,
) -> Report:
    """Run the tasks that are not done; arguments as for `audit`.

    Args:
        prepared: The audit.
        store: Store of finished tasks.
        finish: Called once all tasks are done; a damaged result that it meets is made again.
        executor: Name of an executor.
        workers: Number of processes.
        memory: Bytes that they may use together.
        budget: Seconds.
        on_event: Called with the engine's events.

    Raises:
        InputError: The disk is too small, or workers would make another network than this process.
    """
    store.sweep()
    count = worker_count(prepared, workers)
    ahead = forecast(prepared, store, workers=count)
    if ahead.free is not None and ahead.disk > ahead.free:
        raise StoreError(
            f"store {store.location}: the audit needs about {ahead.disk / 1e9:.1f} GB, but only "
            f"{ahead.free / 1e9:.1f} GB are free; free some space or give another --store"
        )
    if any(left for left, _ in ahead.todo.values()):
        check_model(prepared)
    graph = Graph(expected(prepared, store), wanted=prepared.plan.wanted)
    deadline = None if budget is None else time.monotonic() + budget
    count = min(count, max(1, sum(left for left, _ in ahead.todo.values())))
    # A result that turns out to be broken when the report is written is made again, a few times.
    repaired: Counter[str] = Counter()
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        kind = registry.resolve(registry.EXECUTORS, executor, kind="executor")
        runner = kind(store.location, prepared.runtime, workers if executor == "ray" else count)
        report = run_tasks(
            graph, store, runner, on_event=on_event, limits=Limits(memory, INTERPRETER, left)
        )
        runner.close()
        if report.failed or report.left:
            break
        try:
            finish()
            break
        except BrokenResult as error:
            if repaired[error.key] == REPAIRS or error.key not in graph.tasks:
                raise
            repaired[error.key] += 1
            store.discard(graph.tasks[error.key])
            count = 1
    return report


def open_store(location: str | Path) -> Store:
    """Open a store for writing or, if that is not possible, for reading, which is enough for a
    finished audit.

    Raises:
        StoreError: It cannot be used, or is of a newer format.
    """
    try:
        return Store(location)
    except StoreError:
        return Store(location, create=False)


def worker_count(prepared: Prepared, workers: int | None) -> int:
    """Return the number of processes: the given one, one per core, or one on a GPU."""
    if workers is not None:
        return workers
    return usable_cores() if prepared.runtime.device == "cpu" else 1
