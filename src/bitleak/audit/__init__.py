"""An audit from config to report: what the command line calls, and what a notebook may call.

```
prepared = prepare(config, data=None, device="cpu")       # reads no pixels, computes nothing
report = audit(prepared, out=Path("audit"), store=Store("bitleak-store"))
```
"""

from collections.abc import Callable
from pathlib import Path

from bitleak import registry
from bitleak.audit.forecast import Forecast, forecast
from bitleak.audit.prepare import Prepared, prepare
from bitleak.audit.results import write_results
from bitleak.core.errors import StoreError
from bitleak.engine.graph import Graph
from bitleak.engine.run import Event, Report, run
from bitleak.engine.store import Store
from bitleak.engine.threads import usable_cores
from bitleak.engine.worker import ignore
from bitleak.report import check_out

__all__ = [
    "Forecast",
    "Prepared",
    "audit",
    "check_out",
    "forecast",
    "prepare",
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
    on_event: Callable[[Event], None] = ignore,
) -> Report:
    """Does what is missing and, if nothing failed, writes the report.

    Args:
        prepared: What `prepare` gave.
        out: Folder for the tables, figures and page; made where it is missing.
        store: Where finished work is, and goes.
        executor: A name of the registry's `EXECUTORS`.
        workers: Number of processes; None is one per core on a CPU, one on a GPU.
        on_event: Called with the engine's events.

    Returns:
        What was done, cached, failed and not run.

    Raises:
        InputError: The disk is too small, a task found the input wrong, or `out` cannot be written.
        KeyboardInterrupt: Passed on, after the workers have gone.
    """
    check_out(out)
    count = worker_count(prepared, workers)
    expected = forecast(prepared, store, workers=count)
    if expected.free is not None and expected.disk > expected.free:
        raise StoreError(
            f"store {store.location}: the audit needs about {expected.disk / 1e9:.1f} GB, but only "
            f"{expected.free / 1e9:.1f} GB are free; free some space or give another --store"
        )
    graph = Graph(prepared.plan.tasks, wanted=prepared.plan.results)
    kind = registry.find(registry.EXECUTORS, executor, kind="executor")
    runner = kind(store.location, prepared.runtime, count)
    report = run(graph, store, runner, on_event=on_event)
    runner.close()
    if not report.failed:
        write_results(prepared, store, out)
    return report


def worker_count(prepared: Prepared, workers: int | None) -> int:
    """Processes to use: as asked, else one per core on a CPU, one on a GPU."""
    if workers is not None:
        return workers
    return usable_cores() if prepared.runtime.device == "cpu" else 1
