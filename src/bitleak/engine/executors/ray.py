"""Tasks on the machines of a Ray cluster, or of one that is started here for the time being.

Everything that concerns Ray happens in a process of its own (`ray_driver`), with which this one
exchanges small messages. Ray ends the process that uses it, by `_exit` and without a word, when a
cluster cannot be reached any more, and takes SIGTERM for itself while a cluster starts; neither may
happen to a process that holds claims and has to report its end. The other process has a session of
its own, so that a terminal's Ctrl-C reaches neither it nor the cluster. It never outlives this one:
when an executor is closed, all processes of its session are ended.

Messages are requests and replies, one after the other; only steps come in between.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing import util
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from bitleak.core import leftovers
from bitleak.core.errors import ConfigError, ExecutionError
from bitleak.core.interrupts import uninterrupted
from bitleak.engine.backends.folder import WORKER_LOG
from bitleak.engine.executors.fork_server import interrupts_wait, unimported_main
from bitleak.engine.executors.process_ends import end_session, ending
from bitleak.engine.executors.ray_demands import demands, requested_address
from bitleak.engine.executors.ray_driver import RayStart, RayState, again, serve_ray
from bitleak.engine.graph import Batch
from bitleak.engine.store import is_url, make_folder, shared
from bitleak.engine.threads import usable_cores
from bitleak.engine.worker import Outcome, Progress, Runtime, ignore, log_path

WAIT = 1.0
"""Seconds that a request for an outcome may take; the executor can be closed in between."""

SILENCE = 180.0
"""Seconds without a message after which a cluster counts as gone. Ray waits for ever for its raylet if
a worker is killed at the wrong moment of a start; replies take about a second, starts up to a minute.
"""

LEAVE = 3.0
"""Seconds to cancel tasks and to leave a cluster that was joined."""

_SIGNAL_DELAY = 0.5
"""Seconds by which a signal to all processes of a job may come later here than to the cluster."""


class Ray:
    """Does batches as Ray tasks.

    Args:
        root: Root of the store, the same on every machine.
        runtime: Settings of the workers; `address` is the cluster's, None starts one here; each
            task reserves `num_cpus` and `num_gpus`. A cluster that the caller has joined by
            `ray.init` comes first.
        workers: Number of batches at a time; None = as many as the cluster has room for.

    Attributes:
        workers: Number of batches at a time, as given or as the cluster has room for now.
        address: Address of the cluster.

    Raises:
        ConfigError: Ray is not installed, a share is out of range, no cluster answers, or no
            machine of it is large enough for a task.
        ExecutionError: No cluster can be started here.
    """

    def __init__(self, root: str, runtime: Runtime, workers: int | None = None) -> None:
        if not find_spec("ray"):
            raise ConfigError("the executor ray needs the package ray: pip install 'bitleak[ray]'")
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be an integer of at least 1, got {workers}")
        demands(runtime)

        self._store = shared(root)
        self._log = log_path(self._store, runtime, leftovers.new_name(WORKER_LOG))
        make_folder(self._log.parent)
        runtime, environment = _with_callers_cluster(runtime)
        start = RayStart(
            root=root if is_url(root) else str(Path(self._store.location).absolute()),
            runtime=runtime,
            workers=workers,
            cores=workers * runtime.num_cpus if workers else float(usable_cores()),
            environment=environment,
            script=getattr(sys.modules["__main__"], "__file__", None),
            log=str(self._log),
        )

        # the other process; it is ended also if a program forgets to close this
        self._pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=serve_ray, args=(theirs, start), daemon=True)
        self._end = util.Finalize(self, _end, args=(self._process, self._log), exitpriority=20)

        # a signal that comes while the cluster starts ends the start
        self._state = RayState(workers or 1, own=requested_address(runtime) is None)
        try:
            with interrupts_wait(), unimported_main():
                self._process.start()
            theirs.close()
            self._state = self._reply(ignore)
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """Number of batches that are done at the same time."""
        return self._state.workers

    @property
    def address(self) -> str:
        """Address of the cluster, HOST:PORT."""
        return self._state.address

    def submit(self, batch: Batch) -> None:
        """Take a batch."""
        self._ask(batch)

    def next_done(
        self, timeout: float | None = None, on_step: Callable[[Progress], None] = ignore
    ) -> Outcome | None:
        """Return the outcome of the next task to end; None if the time is up or nothing was
        submitted.

        Raises:
            ExecutionError: The cluster has gone, workers end before they begin a task, or no
                machine is left that is large enough.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._end.still_active():
            rest = WAIT if deadline is None else max(0.0, deadline - time.monotonic())
            state = self._ask(min(WAIT, rest), on_step)
            late = deadline is not None and time.monotonic() >= deadline
            if state.outcome or state.idle or late:
                return state.outcome
        return None

    def close(self) -> None:
        """End all workers at once; uncommitted results are lost. May be repeated."""
        if not self._end.still_active():
            return
        if self._state.address and not self._state.own:
            self._leave()
        with uninterrupted():
            self._pipe.close()
            self._end()
            self._store.drop_temporaries(self._state.processes)

    def _ask(
        self, request: Batch | float, on_step: Callable[[Progress], None] = ignore
    ) -> RayState:
        with suppress(OSError):  # its end is noticed below
            self._pipe.send(request)
        self._state = self._reply(on_step)
        return self._state

    def _reply(self, on_step: Callable[[Progress], None]) -> RayState:
        """Wait for the reply to a request, or to the start.

        Raises:
            ExecutionError: The cluster has gone, or says nothing for too long.
        """
        while True:
            try:
                if not self._pipe.poll(SILENCE):
                    raise self._silent()
                message: Any = self._pipe.recv()
            except (EOFError, OSError):
                raise self._lost() from None
            if isinstance(message, RayState):
                return message
            if isinstance(message, Exception):
                raise self._told(message)
            on_step(message)

    def _told(self, error: Exception) -> Exception:
        """Return an error of the other process, unless a signal to all processes was its reason."""
        if isinstance(error, ExecutionError):
            time.sleep(_SIGNAL_DELAY)
        return error

    def _lost(self) -> ExecutionError:
        """Return the error for a process that has ended without a message, as Ray does it."""
        self._process.join(LEAVE)
        time.sleep(_SIGNAL_DELAY)
        cluster = f"the Ray cluster at {self.address}" if self.address else "the Ray cluster"
        words = _last_line(self._log)
        return ExecutionError(
            f"{cluster} has gone: the process that talks to it {ending(self._process.exitcode)}"
            f"{words and f', after {words!r}'}; {again(self._state.own)}"
        )

    def _silent(self) -> ExecutionError:
        cluster = f"the Ray cluster at {self.address}" if self.address else "the Ray cluster"
        return ExecutionError(
            f"{cluster} has not answered for {SILENCE:g} seconds; {again(self._state.own)}"
        )

    def _leave(self) -> None:
        """Have the other process cancel its tasks and leave a cluster that goes on."""
        deadline = time.monotonic() + LEAVE
        with suppress(EOFError, OSError):
            self._pipe.send(None)
            while self._pipe.poll(max(0.0, deadline - time.monotonic())):
                self._pipe.recv()


def _end(process: SpawnProcess, log: Path) -> None:
    """End a process that talks to Ray, with all of its session."""
    if process.pid is not None:
        process.kill()
        # not yet waited for, so that its number is still the session's
        end_session(process.pid)
        process.join()
    log.unlink(missing_ok=True)


def _with_callers_cluster(runtime: Runtime) -> tuple[Runtime, dict[str, Any]]:
    """Return the runtime with the address of the cluster that this program has joined, if any, and
    the environment of its workers.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return runtime, {}
    context = ray.get_runtime_context()
    return replace(runtime, address=context.gcs_address), dict(context.runtime_env)


def _last_line(log: Path) -> str:
    """Return the last line of a log, without the time and place that Ray begins it with."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].rpartition("] ")[2][:200] if lines else ""
