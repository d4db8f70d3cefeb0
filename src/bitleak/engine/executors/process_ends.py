"""How a process has ended, in words; and the end of all processes of a session.

A session holds a process that has called `setsid` and its descendants, also those that have a
process group of their own or whose parent has gone. No signal of a terminal reaches it.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

END_SECONDS = 5.0
"""Seconds that killed processes are waited for; one that the kernel holds may take longer."""


def ending(code: int | None) -> str:
    """Return the end of a sentence on a process that has ended.

    Args:
        code: Its exit code, or minus the signal that has ended it; None if unknown.

    Example:
        >>> ending(3), ending(-9)
        ('ended with exit code 3', 'was ended by SIGKILL (out of memory?)')
    """
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
    return f"was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def end_session(session: int, *, spare: int | None = None) -> None:
    """Kill all processes of a session and wait until they are gone.

    Args:
        session: Number of the session: that of the process which opened it.
        spare: Process that is left alive.
    """
    deadline = time.monotonic() + END_SECONDS
    # a process may start another one before it is hit, so that one pass is not enough
    while living := [number for number in members(session) if number != spare]:
        for number in living:
            with suppress(OSError):
                os.kill(number, signal.SIGKILL)
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)


def members(session: int) -> Iterator[int]:
    """Yield the living processes of a session."""
    for number, state in _processes():
        with suppress(OSError):
            if not state.startswith("Z") and os.getsid(number) == session:
                yield number


def _processes() -> Iterator[tuple[int, str]]:
    """Yield number and state of every process."""
    if Path("/proc/self/stat").exists():
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError, IndexError):
                # the command's name in brackets may hold brackets; the state comes after it
                status = Path("/proc", name, "stat").read_bytes()
                yield int(name), status.rpartition(b")")[2].split()[0].decode()
        return
    command = ["ps", "-A", "-o", "pid=,stat="]
    for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines():
        number, state = line.split()[:2]
        yield int(number), state
