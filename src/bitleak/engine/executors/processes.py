"""One process per core, each with one thread: the default on a CPU.

Workers are started together with the first batch, so that all are there when there is work for them
(see `fork_server`); later ones take the place of those that are lost. Each has one batch at a time.
A worker that dies (killed, out of memory, a segmentation fault) costs the task in flight one
attempt; the rest of its batch goes to a fresh worker, and so does the task, once more. Workers
ignore Ctrl-C, and end by themselves when this process is gone.
"""

import itertools
import multiprocessing
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess, SpawnProcess
from pathlib import Path

from bitleak.core import leftovers
from bitleak.core.errors import ExecutionError
from bitleak.engine.backends.folder import WORKER_LOG
from bitleak.engine.executors.child import serve
from bitleak.engine.executors.fork_server import interrupts_wait, open_fork_server, unimported_main
from bitleak.engine.executors.process_ends import ending
from bitleak.engine.graph import Batch
from bitleak.engine.keys import Task
from bitleak.engine.store import make_folder, shared
from bitleak.engine.threads import thread_variables, usable_cores
from bitleak.engine.worker import Outcome, Progress, Runtime, ignore, log_path, write_log

ATTEMPTS = 2
"""How many workers a task may take with it before it has failed."""

_STARTS = 3
"""How many workers in a row may end before they have begun a task."""

_REPLACED = 0.2
"""Seconds until the process that workers come from is looked at again after it was killed."""


@dataclass(eq=False)
class _Worker:
    """A process, its permanent name, its tasks without an outcome, and the task begun last."""

    process: ForkServerProcess | SpawnProcess
    owner: str
    pipe: connection.Connection
    log: Path
    ready: bool
    tasks: dict[str, Task]
    current: str


class Processes:
    """Does batches in processes of this machine.

    Args:
        root: Root of the store.
        runtime: Where this is.
        workers: Number of processes; None = the cores that this process may use.
    """

    def __init__(self, root: str, runtime: Runtime, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be an integer of at least 1, got {workers}")
        self.workers = workers or usable_cores()
        self._runtime = runtime
        self._store = shared(root)
        self._queue: deque[tuple[Task, ...]] = deque()
        self._done: deque[Outcome] = deque()
        self._pool: list[_Worker] = []
        self._deaths: Counter[str] = Counter()
        self._failed_starts = 0
        self._numbers = itertools.count()

    def submit(self, batch: Batch) -> None:
        """Take a batch; start all workers if there are none, and one if one is missing."""
        self._queue.append(batch.tasks)
        if not self._pool:
            self._pool += [self._start() for _ in range(self.workers)]
        self._feed()

    def next_done(
        self, timeout: float | None = None, on_step: Callable[[Progress], None] = ignore
    ) -> Outcome | None:
        """Return the outcome of the next task to end; None if the time is up or nothing was
        submitted.

        Raises:
            ExecutionError: Workers end before they begin a task.
            StoreError: The folder of the logs cannot be made.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._done:
            self._feed()
            busy = [worker for worker in self._pool if worker.tasks or not worker.ready]
            rest = None if deadline is None else max(0.0, deadline - time.monotonic())
            heard = connection.wait([worker.pipe for worker in busy], rest) if busy else []
            if not heard:
                return None
            for worker in [worker for worker in busy if worker.pipe in heard]:
                self._listen(worker, on_step)
        return self._done.popleft()

    def close(self) -> None:
        """End idle workers, kill busy ones and remove their temporary files."""
        self._queue.clear()
        for worker in self._pool:
            if worker.tasks or not worker.ready:
                worker.process.kill()
            else:
                with suppress(OSError):
                    worker.pipe.send(None)
        while self._pool:
            self._bury(self._pool[-1])

    def _feed(self) -> None:
        """Give waiting batches to idle workers, and start workers for the rest up to the limit."""
        for worker in [worker for worker in self._pool if worker.ready and not worker.tasks]:
            if not worker.process.is_alive():
                self._bury(worker)
            elif self._queue:
                self._give(worker, self._queue.popleft())
        starting = sum(not worker.ready for worker in self._pool)
        for _ in range(min(len(self._queue) - starting, self.workers - len(self._pool))):
            self._pool.append(self._start())

    def _give(self, worker: _Worker, tasks: tuple[Task, ...]) -> None:
        worker.tasks = {task.key: task for task in tasks}
        worker.current = ""
        with suppress(OSError):  # it has just died: the next wait hears of it
            worker.pipe.send(tasks)

    def _start(self) -> _Worker:
        for attempt in range(_STARTS - 1):
            with suppress(
                EOFError, ConnectionError
            ):  # the server has been killed: there is a new one next time
                return self._started()
            time.sleep(_REPLACED * (attempt + 1))  # until the system says that it is dead
        try:
            return self._started()
        except (EOFError, OSError) as error:
            raise ExecutionError(_no_process(error)) from error

    def _started(self) -> _Worker:
        log = log_path(
            self._store, self._runtime, f"{WORKER_LOG}{leftovers.owner()}.{next(self._numbers)}"
        )
        make_folder(log.parent)
        ours, theirs = multiprocessing.Pipe()
        arguments = (theirs, self._store.location, self._runtime, str(log))
        fork_server = open_fork_server(self._runtime.stages, self._runtime.threads)
        process = fork_server.Process(target=serve, args=arguments, daemon=True)
        try:
            with thread_variables(self._runtime.threads), interrupts_wait(), unimported_main():
                process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return _Worker(
            process, leftovers.owner(process.pid), ours, log, ready=False, tasks={}, current=""
        )

    def _listen(self, worker: _Worker, on_step: Callable[[Progress], None]) -> None:
        """Take one message, or notice that there will be no more."""
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            self._mourn(worker)
            return
        if isinstance(message, Progress):
            worker.current = message.key
            self._failed_starts = 0
            on_step(message)
        elif isinstance(message, Outcome):
            worker.tasks.pop(message.key)
            self._done.append(message)
        else:
            worker.ready = True

    def _mourn(self, worker: _Worker) -> None:
        """Submit the tasks of a dead worker again, or give them up."""
        report = self._bury(worker)
        if not worker.current:
            self._failed_starts += 1
            if self._failed_starts == _STARTS:
                raise ExecutionError(_no_start(report))
        culprit = worker.tasks.get(worker.current)
        if culprit:
            self._deaths[culprit.key] += 1
            if self._deaths[culprit.key] == ATTEMPTS:
                self._done.append(self._give_up(worker.tasks.pop(culprit.key), report))
        if worker.tasks:
            self._queue.appendleft(tuple(worker.tasks.values()))

    def _bury(self, worker: _Worker) -> str:
        """Remove the files of a worker; return how it ended and its last words."""
        self._pool.remove(worker)
        worker.pipe.close()
        worker.process.join(1.0)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        _end_orphan(worker)
        self._store.drop_temporaries([worker.process.pid or 0])
        text = (
            worker.log.read_text(encoding="utf-8", errors="replace") if worker.log.exists() else ""
        )
        worker.log.unlink(missing_ok=True)
        return f"the worker {ending(worker.process.exitcode)}\n\n{text}"

    def _give_up(self, task: Task, report: str) -> Outcome:
        text = f"{report.splitlines()[0]} while doing it, {ATTEMPTS} times"
        log = write_log(self._store, self._runtime, task, report)
        return Outcome(task.key, ok=False, text=text, kind="error", log=log)


def _end_orphan(worker: _Worker) -> None:
    """End a worker whose server was killed: its state is then unknown."""
    deadline = time.monotonic() + 1.0
    while not leftovers.is_dead(worker.owner) and time.monotonic() < deadline:
        with suppress(OSError):
            os.kill(int(worker.owner.split(".")[1]), signal.SIGKILL)
        time.sleep(0.01)


def _no_process(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or "no answer"
    return (
        f"a worker cannot be started ({type(error).__name__}: {text}): the process that workers come from was killed "
        "again and again, or this user may have no more processes; fewer --workers, or --executor serial, need less"
    )


def _no_start(report: str) -> str:
    return (
        f"{_STARTS} workers in a row ended before they began a task; of the last one: {report.strip()}\n"
        "the executor 'serial' needs no workers"
    )
