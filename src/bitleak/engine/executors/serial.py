"""Tasks one after the other, in the calling thread: the executor that all others must agree
with.
"""

from collections import deque
from collections.abc import Callable, Iterator

from bitleak.engine.graph import Batch
from bitleak.engine.worker import Outcome, Progress, Runtime, ignore, outcomes


class Serial:
    """Does submitted tasks while the caller waits for them.

    Args:
        root: Root of the store.
        runtime: Where this is.
        workers: Ignored: there is one.
    """

    def __init__(self, root: str, runtime: Runtime, workers: int | None = None) -> None:
        self.workers = 1
        self._root = root
        self._runtime = runtime
        self._queue: deque[Batch] = deque()
        self._current: Iterator[Outcome] = iter(())
        self._on_step: Callable[[Progress], None] = ignore

    def submit(self, batch: Batch) -> None:
        """Take a batch."""
        self._queue.append(batch)

    def next_done(
        self, timeout: float | None = None, on_step: Callable[[Progress], None] = ignore
    ) -> Outcome | None:
        """Work until a task has ended, without a time limit; return None if no task is left."""
        self._on_step = on_step
        while (outcome := next(self._current, None)) is None and self._queue:
            batch = self._queue.popleft()
            self._current = outcomes(
                self._root, batch.tasks, self._runtime, lambda step: self._on_step(step)
            )
        return outcome

    def close(self) -> None:
        """Forget the submitted tasks."""
        self._queue.clear()
        self._current = iter(())
