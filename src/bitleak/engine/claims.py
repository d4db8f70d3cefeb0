"""Claims: who is doing a task, so that two runs on one store share the work.

A claim is a file, `ROOT/.claims/<key>`. It says who holds it, and its owner keeps it locked (flock)
for as long as the owner lives.

| the owner is | and is taken for dead |
|---|---|
| on this machine | as soon as its process has ended in any way: the system then lifts its lock |
| on another machine, or on a file system without locks | when its file has not changed for `LEASE` seconds |

Owners touch their claims every `BEAT` seconds. A waiting run measures the lease with its own clock,
from its first sight of the unchanged file: no two clocks are compared, and no clock need be right.

A claim saves work; it protects nothing. Every result is committed by one rename, and the second of
two is dropped. So the rare cases in which two owners meet (a machine that slept for longer than the
lease, two machines that bury the same dead owner in the same instant) cost a task done twice, and
no more.
"""

import contextlib
import fcntl
import json
import os
import platform
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitleak.core import leftovers
from bitleak.core.errors import StoreError
from bitleak.core.interrupts import uninterrupted
from bitleak.core.leftovers import machine

CLAIMS_FOLDER = ".claims"
BEAT = 10.0
"""Seconds between two signs of life."""
LEASE = 60.0
"""Seconds without a sign of life after which an owner on another machine is taken for dead."""


_TEMPORARY = ".new."


@dataclass(frozen=True)
class Claim:
    """A task that a run is doing.

    Attributes:
        key: Key of the task.
        host: The name of the machine, as it was written.
        process: The number of the process there.
    """

    key: str
    host: str
    process: Any


@dataclass(frozen=True)
class _Seen:
    """A claim as it was at a time of this process's own clock."""

    mark: tuple[str, int]
    since: float


class Claims:
    """The claims of this run and of others.

    Args:
        root: The store's folder.
        beat: Seconds between two signs of life.
        lease: Seconds without one after which an owner on another machine is taken for dead.
    """

    def __init__(self, root: str | Path, *, beat: float = BEAT, lease: float = LEASE) -> None:
        self._folder = Path(root) / CLAIMS_FOLDER
        self._beat = beat
        self._lease = lease
        self._held: dict[str, int] = {}  # key -> the descriptor whose lock holds it
        self._seen: dict[str, _Seen] = {}
        self._guard = threading.Lock()
        self._closing = threading.Event()
        self._pulse: threading.Thread | None = None

    def take(self, key: str) -> bool:
        """Claim a task unless a living owner has it.

        Raises:
            StoreError: The store cannot be written to.
        """
        path = self._folder / key
        try:
            if path.exists() and not self._bury(path):
                return False
            self._folder.mkdir(exist_ok=True)
            with uninterrupted():
                return self._place(path)
        except OSError as error:
            raise StoreError(
                f"store {self._folder.parent} cannot be written to: {error.strerror or error}"
            ) from error

    def release(self, key: str) -> None:
        """Give a task back: it is done, or it has failed."""
        with uninterrupted():
            with self._guard:
                descriptor = self._held.pop(key, None)
            if descriptor is None:
                return
            with contextlib.suppress(OSError):
                _remove_if_same(self._folder / key, descriptor)
            os.close(descriptor)

    def close(self) -> None:
        """Give everything back. May be repeated."""
        self._closing.set()
        if self._pulse:
            self._pulse.join()
        for key in list(self._held):
            self.release(key)

    def sweep(self) -> int:
        """Remove the claims of owners of this machine that are dead; return how many."""
        leftovers.sweep(self._folder, _TEMPORARY)
        return sum(self._bury(path) for path in sorted(self._folder.glob("*")))

    def living(self) -> list[Claim]:
        """Return the claims whose owners live; those of the dead are removed.

        An owner of this machine is known at once; on another machine, one is waited for until its
        lease is over.
        """
        first: dict[str, int] = {}
        while True:
            claims = []
            moved = False
            for path in self._paths():
                with contextlib.suppress(FileNotFoundError):
                    if not self._bury(path):
                        record = _facts_of(path)
                        claims.append(
                            Claim(path.name, str(record.get("host", "")), record.get("process"))
                        )
                        changed = path.stat().st_mtime_ns
                        moved = moved or first.setdefault(path.name, changed) != changed
                        moved = moved or bool(
                            record.get("locked") and record.get("machine") == machine()
                        )
            if not claims or moved:
                return claims
            time.sleep(min(1.0, self._lease / 4))

    def _paths(self) -> list[Path]:
        """Yield the names of all claims, alive or dead."""
        return sorted(path for path in self._folder.glob("*") if not path.name.startswith("."))

    def _place(self, path: Path) -> bool:
        """Create a claim, locked before others can see it; return False if another was faster."""
        temporary = path.with_name(leftovers.new_name(_TEMPORARY))
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        placed = False
        try:
            os.write(descriptor, json.dumps(_claim_facts(locked=_lock(descriptor))).encode())
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
                placed = True
        finally:
            temporary.unlink(missing_ok=True)
            if not placed:
                os.close(descriptor)
        if placed:
            with self._guard:
                self._held[path.name] = descriptor
            self._start_pulse()
        return placed

    def _bury(self, path: Path) -> bool:
        """Remove the claim of a dead owner; return False if the owner lives."""
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            if not self._dead(path.name, descriptor):
                return False
            _remove_if_same(path, descriptor)
            self._seen.pop(path.name, None)
            return True
        finally:
            os.close(descriptor)

    def _dead(self, key: str, descriptor: int) -> bool:
        record = _read(descriptor)
        if record.get("locked") and record.get("machine") == machine():
            return _lock(descriptor)
        mark = (str(record.get("owner")), os.fstat(descriptor).st_mtime_ns)
        seen = self._seen.get(key)
        if seen is None or seen.mark != mark:
            self._seen[key] = _Seen(mark, time.monotonic())
            return False
        return time.monotonic() - seen.since > self._lease

    def _start_pulse(self) -> None:
        if self._pulse is None:
            self._pulse = threading.Thread(target=self._beat_on, name="claims", daemon=True)
            self._pulse.start()

    def _beat_on(self) -> None:
        while not self._closing.wait(self._beat):
            with self._guard:
                for descriptor in self._held.values():
                    with contextlib.suppress(OSError):
                        os.utime(descriptor)


def _claim_facts(*, locked: bool) -> dict[str, Any]:
    host, process = platform.node(), os.getpid()
    return {
        "owner": uuid.uuid4().hex,
        "machine": machine(),
        "host": host,
        "process": process,
        "locked": locked,
    }


def _lock(descriptor: int) -> bool:
    """Lock a file, if no other process has and the file system can."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read(descriptor: int) -> dict[str, Any]:
    try:
        record = json.loads(os.pread(descriptor, 4096, 0))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _facts_of(path: Path) -> dict[str, Any]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return _read(descriptor)
    finally:
        os.close(descriptor)


def _remove_if_same(path: Path, descriptor: int) -> None:
    """Remove the file that is open, and no other that has taken its name since."""
    try:
        if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
            path.unlink()
    except FileNotFoundError:
        pass
