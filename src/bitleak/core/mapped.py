"""Arrays too large to be held in memory for every worker: they lie in files, and memory holds what is being read.

The answers of 64 models about 50,000 records under two queries are 300 MB, and every attack task reads them
for each of its targets. Stacked in a temporary file they can be read like any array; whoever reads them block by
block and then calls `let_go` never has more than a block of them in memory, however many models there are.
"""

import errno
import math
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Bool, Shaped

from bitleak.core.errors import StoreError

LARGE = 16 << 20
"""Arrays of at least this many bytes are put into files."""

BLOCK = 8 << 20
"""Bytes written at a time."""


def stacked(arrays: Sequence[Shaped[np.ndarray, "records *rest"]]) -> Shaped[np.ndarray, "arrays records *rest"]:
    """Arrays of one shape and type along a new first axis: in memory or, from `LARGE` on, in a temporary file.

    Example:
        >>> stacked([np.zeros(3), np.ones(3)]).tolist()
        [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    if len(arrays) * arrays[0].nbytes < LARGE:
        return np.stack(arrays)
    whole = room_for((len(arrays), *arrays[0].shape), arrays[0].dtype)
    for block in blocks_of(whole):
        for place, array in enumerate(arrays):
            whole[place, block] = array[block]
            let_go(array)
        let_go(whole)
    return whole


def rows_of(
    array: Shaped[np.ndarray, "arrays records *rest"], chosen: Shaped[np.ndarray, "chosen"]
) -> Shaped[np.ndarray, "some records *rest"]:
    """A copy of some rows of the first axis: in memory or, from `LARGE` on, in a temporary file.

    Args:
        array: May lie in a file.
        chosen: Row numbers, or a mask of the rows.

    Example:
        >>> rows_of(np.eye(3), np.array([2, 0])).tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    rows = np.arange(len(array))[chosen]
    found = room_for((len(rows), *array.shape[1:]), array.dtype)
    for block in blocks_of(array):
        found[:, block] = array[rows, block]
        let_go(array)
        let_go(found)
    return found


def columns_of(
    array: Shaped[np.ndarray, "arrays records *rest"], chosen: Bool[np.ndarray, "records"]
) -> Shaped[np.ndarray, "arrays some *rest"]:
    """A copy of some columns of the second axis: in memory or, from `LARGE` on, in a temporary file.

    Example:
        >>> columns_of(np.eye(3), np.array([True, False, True])).tolist()
        [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    """
    found = room_for((len(array), int(chosen.sum()), *array.shape[2:]), array.dtype)
    start = 0
    for block in blocks_of(array):
        part = array[:, block][:, chosen[block]]
        found[:, start : start + part.shape[1]] = part
        start += part.shape[1]
        let_go(array)
        let_go(found)
    return found


def blocks_of(whole: np.ndarray) -> Iterator[slice]:
    """Slices of the second axis of about `BLOCK` bytes each."""
    records = whole.shape[1]
    step = max(1, BLOCK * records // max(1, whole.nbytes))
    return (slice(start, start + step) for start in range(0, records, step))


def room_for(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array that is yet to be filled: in memory or, from `LARGE` on, in a temporary file.

    The file has no name, and goes with the array. It is where `tempfile` puts files: `TMPDIR` says where. In it
    the second axis comes first, so that a block of records lies together.
    """
    if math.prod(shape) * dtype.itemsize < LARGE:
        return np.empty(shape, dtype)
    first, second, *rest = shape
    return mapped_file((second, first, *rest), dtype).swapaxes(0, 1)


def mapped_file(
    shape: tuple[int, ...], dtype: np.dtype, folder: Path | None = None, *, advice: str = "set TMPDIR to another folder"
) -> np.memmap:
    """An array of zeros in a file without a name, which goes with the array, or with the process.

    All of its room is reserved first: a disk that is full where a mapped file is written to ends the process by a
    signal.

    Args:
        shape: Of the array, without a 0.
        dtype: Of its numbers.
        folder: Where the file is; None = where `tempfile` puts files: `TMPDIR` says where.
        advice: For whoever has no room there.

    Raises:
        StoreError: The folder cannot be written to, or has no room.
    """
    size = math.prod(shape) * dtype.itemsize
    where = Path(tempfile.gettempdir()) if folder is None else folder
    with disk_has_room(where, size, advice), tempfile.TemporaryFile(prefix=".bitleak-", dir=where) as file:
        reserve(file, size)
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def reserve(file: IO[bytes], size: int) -> None:
    """Makes a new file as long as that, on the disk and not only in its directory.

    Raises:
        OSError: The disk has no room for it.
    """
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except (AttributeError, OSError) as error:  # there is no such call on macOS, nor on some file systems
        if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
        file.truncate(0)
        for start in range(0, size, BLOCK):
            file.write(bytes(min(BLOCK, size - start)))
        file.flush()
        os.fsync(file.fileno())  # some file systems find room only now


@contextmanager
def disk_has_room(folder: Path, size: int, advice: str) -> Iterator[None]:
    """Turns an error of the file system into one that names the folder and the bytes that it must hold.

    Args:
        folder: Where something is written.
        size: Its bytes.
        advice: For whoever has no room there.

    Raises:
        StoreError: Instead of any `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{folder}: {size / 1e6:,.1f} MB are needed for a while ({error.strerror or error}); "
            f"free some space or {advice}"
        ) from error


def let_go(array: np.ndarray) -> None:
    """Gives back the memory of an array that lies in a file, or of which it is a part; it is read again when needed.

    Other arrays stay as they are, as do those whose changes the file does not see.
    """
    owner: object = array
    while isinstance(owner, np.ndarray):
        if isinstance(owner, np.memmap) and owner.mode == "c":
            return
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)
