"""The source of workers: forks of one process that has loaded the stages.

To load them (PyTorch above all) takes seconds of a core and a hundred megabytes; so a server
process does it once, while the caller still reads its config, and a worker is there at once with
most of its memory shared. The server is `multiprocessing`'s fork server: it runs nothing but
imports, has one thread, and touches no GPU, so a fork of it is as good as a new process. It ends
with the process that started it. Without a server (on macOS, whose libraries do not all bear a
fork; with a temporary folder whose path of more than about 80 characters cannot hold its socket),
and for workers of several threads, each worker is started afresh: the same, only later.
"""

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, process, resource_tracker, util
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from types import ModuleType

from bitleak.core import leftovers
from bitleak.core.interrupts import END_SIGNALS, uninterrupted
from bitleak.engine.threads import environment, thread_variables

SOCKET_FOLDER = "bitleak-"
"""How the name of the folder of a server's socket begins; the owner follows."""

STAGES_VARIABLE = "BITLEAK_STAGES"
"""The environment variable that tells the server which module to load."""


def open_fork_server(stages: str, threads: int = 1) -> ForkServerContext | SpawnContext:
    """Return a context that starts workers; start its server, if none runs, without waiting.

    Args:
        stages: The module that is loaded beforehand; a server that runs already keeps to its own.
        threads: Number of threads of a worker.
    """
    if sys.platform != "linux" or threads != 1:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bitleak.engine.executors.preload"])
    try:
        with (
            environment({STAGES_VARIABLE: stages}),
            thread_variables(threads),
            interrupts_wait(),
            unimported_main(),
        ):
            _name_folder()
            forkserver.ensure_running()
    except OSError:
        return multiprocessing.get_context("spawn")
    return context


@contextmanager
def unimported_main() -> Iterator[None]:
    """Processes that are started meanwhile do not run the script that this one was started with.

    `multiprocessing` has its children import it, in case the function that they call is defined
    there. Workers call a function of this package; a script that starts an audit without `if
    __name__ == "__main__":` would be run by each of them, and each would start an audit.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Ctrl-C and its like wait, in this process and the one that is started: they must not meet a
    worker half awake.
    """
    resource_tracker.ensure_running()  # by itself it would lift the block
    with uninterrupted():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, END_SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _name_folder() -> None:
    """Name the folder of the server's socket after this process; remove folders of dead ones.

    `multiprocessing` keeps to a folder that it has, and removes its own as it ends, but a killed
    process cannot.
    """
    config = getattr(process.current_process(), "_config", {})
    if config.get("tempdir") is not None:
        return
    parent = Path(tempfile.gettempdir())
    leftovers.sweep(parent, SOCKET_FOLDER)
    folder = parent / leftovers.new_name(SOCKET_FOLDER)
    folder.mkdir(mode=0o700)
    config["tempdir"] = str(folder)
    util.Finalize(None, _end_server, exitpriority=-50)
    util.Finalize(None, shutil.rmtree, args=(str(folder), True), exitpriority=-100)


def _end_server() -> None:
    """End the server with this process: it might still be loading the stages."""
    number = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None)
    if number is not None:
        with suppress(OSError):
            os.kill(number, signal.SIGKILL)
            os.waitpid(number, 0)
