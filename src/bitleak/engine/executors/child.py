"""The process at the other end of `processes`: it does batches until it is told, or left, to stop.

Messages to it are batches, as tuples of tasks; None = stop. Messages from it are `Progress` and
`Outcome`, and one None when it is ready.
"""

import contextlib
import faulthandler
import importlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

from bitleak.core.interrupts import END_SIGNALS
from bitleak.engine.keys import Task
from bitleak.engine.malloc import keep_freed_memory
from bitleak.engine.worker import Progress, Runtime, outcomes

STEP_SECONDS = 0.1
"""Least time between two reports of progress."""


def serve(connection: Connection, root: str, runtime: Runtime, log: str) -> None:
    """Run until `None` or the end of the connection, or until the parent is gone.

    Args:
        connection: Connection to the parent.
        root: Root of the store.
        runtime: Settings of this worker.
        log: File, in an existing folder, for all output of this process and the trace of a crash.
    """
    leave_signals_to_parent()
    path = Path(log)
    threading.Thread(target=_watch, args=(path,), daemon=True).start()
    redirect_output(path)
    keep_freed_memory()
    try:
        connection.send(None)
        with contextlib.suppress(Exception):  # the first task reports an error of the stages
            importlib.import_module(runtime.stages)
        while tasks := connection.recv():
            _serve_batch(connection, tasks, root, runtime, path)
    except (EOFError, OSError):
        _leave(path)


def leave_signals_to_parent() -> None:
    """Ignore the signals that end a command: the parent decides. SIGTERM is for this process."""
    for number in END_SIGNALS:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, END_SIGNALS)


def redirect_output(log: Path) -> None:
    """Write all output of this process, and the trace of a crash, to a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    faulthandler.enable(2)


def _serve_batch(
    connection: Connection, tasks: Sequence[Task], root: str, runtime: Runtime, log: Path
) -> None:
    reported = 0.0

    def report(step: Progress) -> None:
        nonlocal reported
        if step.fraction == 0 or time.monotonic() - reported > STEP_SECONDS:
            reported = time.monotonic()
            try:
                connection.send(step)
            except OSError:  # not an error of the task, inside which this is called
                _leave(log)

    for outcome in outcomes(root, tasks, runtime, report):
        connection.send(outcome)


def _watch(log: Path) -> None:
    """End this process when the one that asked for it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    _leave(log)


def _leave(log: Path) -> NoReturn:
    """End at once and silently: the parent is gone. Uncommitted results are lost."""
    with contextlib.suppress(OSError):
        log.unlink(missing_ok=True)
    os._exit(1)
