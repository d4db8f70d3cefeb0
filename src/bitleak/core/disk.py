"""Waiting until files have reached the disk: singly, many at a time, or a whole file system.

A file is durable after `fsync` of the file and of the folder that names it, which costs a write of
the journal each time: about 4 for every small result. `syncfs` makes everything durable that was
written to a file system before, in one write of the journal. It is used where it can be relied on,
for many files: on Linux from 5.8 on (older ones do not report failed writes), and on the file
systems of `_WHOLE`, whose `syncfs` waits for the disk's own cache too.
"""

import ctypes
import functools
import os
import platform
import re
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

SYNCS = 32
"""Number of files that wait for the disk at a time: a journal writes their entries together."""

MANY = 512
"""Fewest files and folders for which a whole file system is flushed, with all writes to it."""

_WHOLE = {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs"}


def flush(path: str | Path) -> None:
    """Wait until a file, or the entries of a folder, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_all(paths: Iterable[str | Path]) -> None:
    """Wait until many files and folders have reached the disk, as `flush` does for each."""
    with ThreadPoolExecutor(SYNCS) as pool:
        for _ in pool.map(flush, paths):
            pass


class Barrier:
    """Waits for all that is written below a folder between its start and `wait`.

    The folder is opened before anything is written: the system reports a failed write once to every
    descriptor that was open when it failed.

    Args:
        root: The folder.
    """

    def __init__(self, root: str | Path) -> None:
        self._device = os.stat(root).st_dev
        self._descriptor = (
            os.open(root, os.O_RDONLY) if file_system(self._device) in _WHOLE and syncfs() else None
        )

    def __enter__(self) -> "Barrier":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def wait(self, paths: Collection[str], parents: Iterable[str]) -> None:
        """Return when files and folders have reached the disk.

        Args:
            paths: The files and folders.
            parents: Folders that hold all of them, any of which may be a link to another file
                system.

        Raises:
            OSError: One of them could not be written.
        """
        sync = syncfs()
        # a folder mounted below the root is another file system, which `syncfs` would not reach
        one_device = all(os.stat(parent).st_dev == self._device for parent in parents)
        if self._descriptor is None or sync is None or not one_device or len(paths) < MANY:
            flush_all(paths)
        else:
            sync(self._descriptor)


@functools.cache
def syncfs() -> Callable[[int], None] | None:
    """Return the call that flushes a descriptor's file system, or None if it is unreliable here."""
    version = re.match(r"(\d+)\.(\d+)", platform.release())
    if (
        platform.system() != "Linux"
        or version is None
        or (int(version[1]), int(version[2])) < (5, 8)
    ):
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None

    def call(descriptor: int) -> None:
        if function(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    return call


def file_system(device: int) -> str:
    """Return the type of the file system with a device number; empty if it is not known."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = (
            Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        )
    except OSError:
        return ""
    for line in lines:
        mount, _, source = line.partition(" - ")
        fields = mount.split()
        if len(fields) > 2 and fields[2] == number and source:
            return source.split()[0]
    return ""
