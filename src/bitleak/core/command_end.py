"""The end of a command: the line for a signal, and the exit of the process. Imports nothing heavy, so
that it is there before a command is loaded.
"""

import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from bitleak.core.interrupts import Ended, ignore_signals

RESUMED = (("audit",), ("demo",), ("store", "import"))
"""Commands that go on where they stopped."""


def print_error(text: str) -> None:
    """Print to the standard error, unless it is closed."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def report_signal(interrupt: KeyboardInterrupt, arguments: Sequence[str]) -> int:
    """Print a line on a signal that has ended a command, and return the exit code.

    Signals are ignored from now on: the first one counts.

    Args:
        interrupt: The signal.
        arguments: Arguments of the command line; they decide whether the same command goes on.
    """
    ignore_signals()
    ended = interrupt if isinstance(interrupt, Ended) else Ended(signal.SIGINT)
    words = [word for word in arguments if not word.startswith("-")]
    resumed = any(tuple(words[: len(names)]) == names for names in RESUMED)
    rest = "goes on" if resumed else "starts again: nothing was written"
    print_error(f"{ended}; the same command {rest}")
    return ended.code


def exit_now(code: int) -> NoReturn:
    """End this process with a code, without the exit handlers of libraries that could change it."""
    ignore_signals()
    # Temporary folders of helper processes are removed by exit functions.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
