"""How a command ends that did not end by itself: one line that says why, and an exit code.

| code | what |
|---|---|
| 2 | the disk is full or read-only, or there is no permission: more room, or another folder, and it goes on |
| 4 | something outside broke: no more processes or memory, a lost helper process, a reader that has gone |
| 128 + signal | Ctrl-C (130), SIGTERM (143), SIGHUP (129) |

`python -X dev -m bitleak ...` prints the traceback too.
"""

import atexit
import contextlib
import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from typer.core import TyperGroup

from bitleak.core.ends import SIGNALS, Ended, end_of

OUTSIDE = 4
"""Exit code where something outside broke."""

SIGNALLED = 128
"""Exit codes from here on are signals."""

RESUMED = (("audit",), ("demo",), ("store", "import"))
"""Commands that keep what they have done."""

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


class Stopped(Exception):
    """A command was stopped by something that is not a mistake in its input.

    Args:
        error: What stopped it.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class CommandGroup(TyperGroup):
    """Commands whose ends are told apart: by itself, Typer takes any `EOFError` for Ctrl-C, and is silent."""

    def invoke(self, ctx: Any) -> Any:
        """Does what was asked for.

        Raises:
            Stopped: An interrupt, the end of something that was read from, or another error of the system.
        """
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, EOFError, OSError, MemoryError) as error:
            raise Stopped(error) from error
        except Exception as error:
            if end_of(error) is None:
                raise
            raise Stopped(error) from error  # the cleaning up after an interrupt has failed


def report_stop(stopped: Stopped, arguments: Sequence[str]) -> int:
    """Says in one line why the command has ended, and returns its exit code.

    Args:
        stopped: What stopped it.
        arguments: Of the command line: whether the same command would go on.
    """
    error = stopped.error
    if sys.flags.dev_mode:
        traceback.print_exception(error)
    end = end_of(error)
    if end is not None:
        ended = end if isinstance(end, Ended) else Ended(signal.SIGINT)
        print_error(f"{ended}; the same command {_next(arguments)}")
        return ended.code
    if isinstance(error, OSError) and error.errno in _DISK:
        print_error(f"error: {_place(error)}{error.strerror}; free some space or give another folder, and run it again")
        return 2
    print_error(f"error: {_reason(error)}")
    return OUTSIDE


def print_error(text: str) -> None:
    """Prints to the standard error, if it is still there."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def exit_now(code: int) -> NoReturn:
    """Ends this process with a code, whatever the system or a library would have it end with."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    atexit._run_exitfuncs()  # temporary folders of helper processes
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _next(arguments: Sequence[str]) -> str:
    words = [word for word in arguments if not word.startswith("-")]
    resumed = any(tuple(words[: len(names)]) == names for names in RESUMED)
    return "goes on" if resumed else "starts again: nothing was written"


def _reason(error: BaseException) -> str:
    if isinstance(error, BrokenPipeError):
        return "whoever read the output, or a helper process, has gone (broken pipe)"
    if isinstance(error, MemoryError):
        return f"out of memory ({str(error) or 'an array is too large'}); fewer --workers, or --memory, need less"
    if isinstance(error, EOFError):
        return f"something that was read from ended too early (EOFError: {str(error) or 'no more data'})"
    if isinstance(error, OSError):
        return f"{_place(error)}{error.strerror or error} ({type(error).__name__})"
    return f"{type(error).__name__}: {error}"


def _place(error: OSError) -> str:
    return "" if error.filename is None else f"{error.filename}: "
