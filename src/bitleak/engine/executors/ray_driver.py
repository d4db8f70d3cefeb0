"""The process that talks to Ray for the executor `ray`, and stops when its parent says so or ends.

Messages to it are batches to submit, numbers of seconds to wait for an outcome, and None = stop.
It sends one `RayState` when it is ready and after each of these, `Progress` in between, and an
error instead where there is one.
"""

import importlib
import multiprocessing
import os
import sys
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from bitleak.core.errors import BitleakError, ExecutionError
from bitleak.engine.executors.child import leave_signals_to_parent, redirect_output
from bitleak.engine.executors.process_ends import end_session, ending
from bitleak.engine.graph import Batch
from bitleak.engine.worker import Outcome, Runtime

_SERVERS = {"raylet": "its raylet", "gcs_server": "its GCS server"}
"""Processes without which a cluster ends, as Ray and as people call them."""


@dataclass(frozen=True)
class RayStart:
    """Settings of the process and of its cluster.

    Attributes:
        root: Root of the store.
        runtime: Settings of the workers.
        workers: Number of batches at a time, or None.
        cores: CPUs of a cluster that is started here.
        environment: Ray's environment of the workers, empty for the default.
        script: Script of the parent, whose folder Ray's workers search for modules; None in a
            notebook.
        log: File, in an existing folder, for all output of this process and the trace of a crash.
    """

    root: str
    runtime: Runtime
    workers: int | None
    cores: float
    environment: dict[str, Any]
    script: str | None
    log: str


@dataclass(frozen=True)
class RayState:
    """A reply: the state of the executor.

    Attributes:
        workers: Number of batches at a time.
        outcome: The next outcome if it was asked for and came in time.
        idle: Whether no outcome is to come.
        processes: Processes of this machine that have worked.
        own: Whether the cluster was started here.
        address: Address of the cluster.
    """

    workers: int
    outcome: Outcome | None = None
    idle: bool = True
    processes: frozenset[int] = frozenset()
    own: bool = False
    address: str = ""


def serve_ray(connection: Connection, start: RayStart) -> None:
    """Run until `None` or the end of the connection, or until the parent is gone.

    Args:
        connection: Connection to the parent.
        start: Settings of the process.
    """
    # alone with the cluster: only the parent decides on an end
    os.setsid()
    leave_signals_to_parent()
    path = Path(start.log)
    threading.Thread(target=_watch_parent, args=(path,), daemon=True).start()
    redirect_output(path)
    if start.script is not None:
        sys.modules["__main__"].__file__ = start.script
    line = _Line(connection, path)
    try:
        # only now, and only here: Ray must not be loaded where a run is driven
        module = importlib.import_module("bitleak.engine.executors.ray_tasks")
        tasks = module.RayTasks(
            start.root,
            start.runtime,
            start.workers,
            cores=start.cores,
            environment=start.environment,
        )
        _watch_cluster(line, tasks.cluster)
        line.send(_state(tasks))
        while (request := line.next_request()) is not None:
            line.send(_answer(tasks, request, line))
        tasks.close()
    except BaseException as error:
        traceback.print_exc()
        line.send(error if isinstance(error, BitleakError) else _unexpected(error))


def again(own: bool) -> str:
    """Return the end of a message on a cluster that has gone: what to do."""
    first = "" if own else "as soon as the cluster can be reached, "
    return f"{first}the same command goes on from the results in the store"


class _Line:
    """The connection to the parent. Messages of several threads are sent one at a time.

    If the parent is gone, so is this process at once.
    """

    def __init__(self, connection: Connection, log: Path) -> None:
        self._connection = connection
        self._log = log
        self._lock = threading.Lock()

    def next_request(self) -> Batch | float | None:
        """Wait for a request."""
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            _end(self._log)

    def send(self, message: Any, *, last: bool = False) -> None:
        """Send a message; after the last one, end this process, before Ray can do it."""
        with self._lock:
            try:
                self._connection.send(message)
            except OSError:
                _end(self._log)
            if last:
                os._exit(1)


def _answer(tasks: Any, request: Batch | float, line: _Line) -> RayState:
    if isinstance(request, Batch):
        tasks.submit(request)
        return _state(tasks)
    return _state(tasks, tasks.next_done(request, line.send))


def _state(tasks: Any, outcome: Outcome | None = None) -> RayState:
    return RayState(
        workers=tasks.workers,
        outcome=outcome,
        idle=tasks.idle,
        processes=frozenset(tasks.processes),
        own=tasks.cluster.own,
        address=tasks.cluster.address,
    )


def _watch_cluster(line: _Line, cluster: Any) -> None:
    """Watch the servers of a cluster that was started here: Ray notices their end after up to a
    minute, and may then end this process by itself.
    """
    for kind, process in cluster.servers.items():
        threading.Thread(
            target=_watch_server, args=(line, _SERVERS.get(kind, kind), process), daemon=True
        ).start()


def _watch_server(line: _Line, name: str, process: Any) -> None:
    code = process.wait()
    end = ending(code)
    if name == _SERVERS["raylet"] and code >= 0:
        end += ", as it does when one of its agents is killed"
    error = ExecutionError(f"the Ray cluster of this run has gone: {name} {end}; {again(own=True)}")
    line.send(error, last=True)


def _unexpected(error: BaseException) -> ExecutionError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ExecutionError(f"Ray has failed ({type(error).__name__}: {reason}); {again(own=False)}")


def _watch_parent(log: Path) -> None:
    """End this process, and the cluster that it has started, when its parent is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    _end(log)


def _end(log: Path) -> NoReturn:
    end_session(os.getpid(), spare=os.getpid())
    log.unlink(missing_ok=True)
    os._exit(1)
