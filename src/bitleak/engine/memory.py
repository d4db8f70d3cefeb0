"""How much memory this process has held at most, task by task where the system allows it."""

import contextlib
import resource
import sys
from pathlib import Path


def forget_peak() -> None:
    """Reset the peak (Linux alone; elsewhere it is the peak of the whole process)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> int:
    """Return the peak memory of this process in bytes, mapped files included."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration, UnicodeDecodeError):
        kilo = 1 if sys.platform == "darwin" else 1024
        return kilo * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
