"""Temporary files named by their owner, so that leftovers of killed processes are recognised.

A name holds `owner()`: the machine since its start, its numbering of processes (a container has its
own), the number of the process, and the time of its start. The owner is dead if this machine has no
such process any more. About processes of other machines nothing is known.
"""

import contextlib
import functools
import hashlib
import os
import platform
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path


def owner(process: int | None = None) -> str:
    """Return a name that no other process has, of this process or another of this machine.

    Example:
        >>> is_dead(owner())
        False
    """
    number = os.getpid() if process is None else process
    return f"{place()}.{number}.{_status(number)[1]}"


@functools.cache
def place() -> str:
    """Return a name of this machine, its start and its process numbering (containers have one)."""
    return hashlib.sha256(f"{machine()} {_numbering()}".encode()).hexdigest()[:12]


def machine() -> str:
    """Return a name of this machine and its start."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"{platform.node()}-{uuid.getnode():x}"


def is_dead(owner_name: str) -> bool:
    """Return whether an owner was a process of this machine and is dead; False if unknown."""
    where, _, rest = owner_name.partition(".")
    number, _, started = rest.partition(".")
    if where != place() or not number.isdigit() or not started.isdigit() or int(number) == 0:
        return False
    # signal 0 is never delivered: it only checks that the process exists
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    state, now = _status(int(number))
    return state == "Z" or (now != started and now != "0")  # the number has been given to another


def dead(folder: Path, prefix: str) -> Iterator[Path]:
    """Entries of a folder named `PREFIX` + owner, and `.` + anything, whose owner is dead."""
    try:
        names = [name for name in os.listdir(folder) if name.startswith(prefix)]
    except OSError:
        return
    for name in sorted(names):
        parts = name.removeprefix(prefix).split(".")
        if len(parts) >= 3 and is_dead(".".join(parts[:3])):
            yield folder / name


def sweep(folder: Path, prefix: str) -> int:
    """Remove the entries that `dead` yields, as far as possible; return their number."""
    paths = list(dead(folder, prefix))
    for path in paths:
        remove_path(path)
    return len(paths)


@contextlib.contextmanager
def temporary_folder(prefix: str = "bitleak-") -> Iterator[Path]:
    """Yield a new folder for temporary files; remove those that killed processes have left."""
    parent = Path(tempfile.gettempdir())
    sweep(parent, prefix)
    folder = parent / new_name(prefix)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        remove_path(folder)


def remove_path(path: Path) -> None:
    """Remove a file or a folder, as far as possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def new_name(prefix: str) -> str:
    """Return a unique name for a temporary file or folder of this process."""
    return f"{prefix}{owner()}.{uuid.uuid4().hex[:12]}"


def _numbering() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _status(process: int) -> tuple[str, str]:
    """Return the state of a process, and its start in ticks since the machine's; 0 if unknown."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            # the command's name in brackets may hold spaces and brackets; the state comes after it
            fields = file.read().rpartition(b")")[2].split()
        return fields[0].decode(), fields[19].decode()
    except (OSError, IndexError):
        return "", "0"
