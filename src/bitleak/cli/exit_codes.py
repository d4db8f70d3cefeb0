"""Ends of a command that was stopped: a line with the reason, and an exit code.

| code | reason |
|---|---|
| 2 | the disk is full or read-only, or there is no permission: more room, or another folder, and it goes on |
| 4 | something outside broke: no more processes or memory, a lost helper process, a reader that has gone |
| 128 + signal | Ctrl-C (130), SIGTERM (143), SIGHUP (129) |

`python -X dev -m bitleak ...` prints the traceback too.
"""

import errno
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from typer.core import TyperGroup

from bitleak.core.command_end import print_error, report_signal
from bitleak.core.interrupts import interrupt_in

LEFT = 3
"""Exit code that a command returns if the time was up before all was done."""

OUTSIDE = 4
"""Exit code if something outside bitleak broke."""

SIGNALLED = 128
"""Exit codes from here on are signals."""

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


class Stopped(Exception):
    """A command was stopped by an error that is not a mistake in its input.

    Args:
        error: The error.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class CommandGroup(TyperGroup):
    """A group of commands that keeps the reason of a stop; Typer takes any `EOFError` for Ctrl-C,
    and is silent.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Raises:
            Stopped: An interrupt, an input that ended too early, or another error of the system.
        """
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, EOFError, OSError, MemoryError) as error:
            raise Stopped(error) from error
        except Exception as error:
            if interrupt_in(error) is None:
                raise
            # The cleaning up after an interrupt has failed.
            raise Stopped(error) from error


def report_stop(stopped: Stopped, arguments: Sequence[str]) -> int:
    """Print the reason of a stop in one line, and return the exit code.

    Args:
        stopped: The stop.
        arguments: Arguments of the command line; they decide whether the same command goes on.
    """
    error = stopped.error
    if sys.flags.dev_mode:
        traceback.print_exception(error)
    end = interrupt_in(error)
    if end is not None:
        return report_signal(end, arguments)
    if isinstance(error, OSError) and error.errno in _DISK:
        print_error(
            f"error: {_place(error)}{error.strerror}; free some space or give another folder, and run it again"
        )
        return 2
    print_error(f"error: {_reason(error)}")
    return OUTSIDE


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
