"""The seam between the driving loop and the places where tasks are done."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from bitleak.engine.graph import Batch
from bitleak.engine.worker import Outcome, Progress, ignore


@runtime_checkable
class Executor(Protocol):
    """Does batches of tasks, somewhere, through `bitleak.engine.worker.outcomes`.

    Every executor is constructed as `Name(root, runtime, workers)`: the root of the store, a
    `bitleak.engine.worker.Runtime`, and the number of workers (None = as many as make sense).
    Messages to and from a worker are small: tasks one way, progress and outcomes the other.
    Artifacts go through the store.

    Attributes:
        workers: Number of batches done at the same time, at least 1.
    """

    workers: int

    def submit(self, batch: Batch) -> None:
        """Take a batch whose inputs are in the store; return at once."""

    def next_done(
        self, timeout: float | None = None, on_step: Callable[[Progress], None] = ignore
    ) -> Outcome | None:
        """Return the outcome of the next task to end; every task of every batch has exactly one.

        Args:
            timeout: Seconds to wait; None = until there is one. An executor that works in the
                calling thread may take longer.
            on_step: Called, while waiting, with each task that starts or gets further.

        Returns:
            None if the time is up or if nothing was submitted.
        """

    def close(self) -> None:
        """End all workers, busy or not; uncommitted results are lost. May be repeated."""
