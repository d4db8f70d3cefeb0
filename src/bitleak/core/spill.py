"""Arrays and files that may be larger than memory: stored in temporary files without a name.

The answers of 64 models on 50,000 records under two queries are 300 MB, and every attack task reads
them for each of its targets. Stacked in a temporary file they can be read like any array. Code that
reads them block by block, and calls `release` after each, holds one block in memory, however many
models there are.

The whole file is reserved before it is used: writing to a mapped file on a full disk would end the
process by a signal. The file has no name, so that nothing of it is left however the process ends.
"""

import contextlib
import errno
import math
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from jaxtyping import Bool, Shaped

from bitleak.core.errors import StoreError
from bitleak.core.npy import Stream

LARGE = 16 << 20
"""Arrays of at least this many bytes are stored in files."""

IN_MEMORY = 1 << 29
"""Largest array that `Scratch` keeps in memory by default, in bytes."""

BLOCK_BYTES = 8 << 20
"""Bytes read or written at a time."""

SET_TMPDIR = "set TMPDIR to another folder"
"""Advice if there is no room in the folder for temporary files."""


def spill_file(size: int, folder: Path | None = None, *, advice: str = SET_TMPDIR) -> IO[bytes]:
    """Open a file without a name for which all room is reserved; it ends when it is closed.

    Args:
        size: Bytes to reserve.
        folder: Folder of the file, or None for the folder where `tempfile` puts files (`TMPDIR`).
        advice: Last words of the message if the folder has no room.

    Returns:
        The file, open for reading and writing, at its start.

    Raises:
        StoreError: The folder cannot be written to, or has no room.
    """
    where = Path(tempfile.gettempdir()) if folder is None else folder
    with _room_named(where, size, advice):
        file = tempfile.TemporaryFile(prefix=".bitleak-", dir=where)  # noqa: SIM115 -- the caller closes it
        try:
            _reserve(file, size)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file


def file_array(
    shape: tuple[int, ...], dtype: np.dtype, folder: Path | None = None, *, advice: str = SET_TMPDIR
) -> np.memmap:
    """Return an array of zeros in a file without a name, which ends with the array.

    Args:
        shape: Shape of the array, without a 0.
        dtype: Type of its numbers.
        folder: As in `spill_file`.
        advice: As in `spill_file`.

    Raises:
        StoreError: The folder cannot be written to, or has no room.
    """
    size = math.prod(shape) * dtype.itemsize
    where = Path(tempfile.gettempdir()) if folder is None else folder
    with spill_file(size, where, advice=advice) as file, _room_named(where, size, advice):
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def new_array(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array to be filled: in memory or, from `LARGE` on, in a temporary file.

    In a file the second axis comes first, so that a block of records is contiguous.
    """
    if math.prod(shape) * dtype.itemsize < LARGE:
        return np.empty(shape, dtype)
    first, second, *rest = shape
    return file_array((second, first, *rest), dtype).swapaxes(0, 1)


def stack_arrays(
    arrays: Sequence[Shaped[np.ndarray, "records *rest"]],
) -> Shaped[np.ndarray, "arrays records *rest"]:
    """Stack arrays of one shape and type: in memory or, from `LARGE` on, in a temporary file.

    Example:
        >>> stack_arrays([np.zeros(3), np.ones(3)]).tolist()
        [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    if len(arrays) * arrays[0].nbytes < LARGE:
        return np.stack(arrays)
    stacked = new_array((len(arrays), *arrays[0].shape), arrays[0].dtype)
    for block in record_blocks(stacked):
        for row, array in enumerate(arrays):
            stacked[row, block] = array[block]
            release(array)
        release(stacked)
    return stacked


def copy_rows(
    array: Shaped[np.ndarray, "arrays records *rest"], chosen: Shaped[np.ndarray, "chosen"]
) -> Shaped[np.ndarray, "some records *rest"]:
    """Copy some rows of the first axis: into memory or, from `LARGE` on, into a temporary file.

    Args:
        array: May be stored in a file.
        chosen: Row numbers, or a mask of the rows.

    Example:
        >>> copy_rows(np.eye(3), np.array([2, 0])).tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    rows = np.arange(len(array))[chosen]
    copied = new_array((len(rows), *array.shape[1:]), array.dtype)
    for block in record_blocks(array):
        copied[:, block] = array[rows, block]
        release(array)
        release(copied)
    return copied


def copy_columns(
    array: Shaped[np.ndarray, "arrays records *rest"], chosen: Bool[np.ndarray, "records"]
) -> Shaped[np.ndarray, "arrays some *rest"]:
    """Copy some columns of the second axis: into memory or, from `LARGE` on, into a temporary file.

    Example:
        >>> copy_columns(np.eye(3), np.array([True, False, True])).tolist()
        [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    """
    copied = new_array((len(array), int(chosen.sum()), *array.shape[2:]), array.dtype)
    start = 0
    for block in record_blocks(array):
        part = array[:, block][:, chosen[block]]
        copied[:, start : start + part.shape[1]] = part
        start += part.shape[1]
        release(array)
        release(copied)
    return copied


def record_blocks(array: np.ndarray) -> Iterator[slice]:
    """Yield slices of the second axis of about `BLOCK_BYTES` each."""
    records = array.shape[1]
    step = max(1, BLOCK_BYTES * records // max(1, array.nbytes))
    return (slice(start, start + step) for start in range(0, records, step))


def release(array: np.ndarray) -> None:
    """Free the memory of an array in a file, or of the array it views; it is read again on use.

    Arrays in memory stay as they are, and so do arrays whose changes are not written to their file.
    """
    # the chain of views ends at the map; one that is private to the process (mode "c") would lose
    # its changes
    owner: object = array
    while isinstance(owner, np.ndarray):
        if isinstance(owner, np.memmap) and owner.mode == "c":
            return
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


class Scratch:
    """Makes arrays in memory or, if they are large, in files of one folder.

    Args:
        root: The folder.
        in_memory: Largest number of bytes for which `allocate` makes no file.
    """

    def __init__(self, root: Path, *, in_memory: int = IN_MEMORY) -> None:
        self._root = root
        self._in_memory = in_memory

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing: a file ends when its array is not used any more."""

    def unpacked(self, stream: Stream, size: int) -> np.ndarray:
        """Return the bytes of a stream: in memory or, from `LARGE` on, in a file.

        Args:
            stream: Read to its end, or to `size` bytes if it has more.
            size: Number of bytes that it should have.

        Raises:
            StoreError: The folder cannot be written to, or has no room.
        """
        content = (
            np.empty(size, np.uint8) if size < LARGE else self._in_file((size,), np.dtype(np.uint8))
        )
        filled = 0
        while filled < size and (part := stream.read(min(BLOCK_BYTES // 2, size - filled))):
            content[filled : filled + len(part)] = np.frombuffer(part, np.uint8)
            filled += len(part)
        stream.read(1)  # the checksum is compared at the end
        return content[:filled]

    def allocate(self, shape: tuple[int, ...], dtype: type = np.float64) -> np.ndarray:
        """Return an array to be filled: in memory or, beyond the limit, in a file.

        Raises:
            StoreError: The folder cannot be written to, or has no room.
        """
        if math.prod(map(int, shape)) * np.dtype(dtype).itemsize <= self._in_memory:
            return np.empty(shape, dtype)
        return self._in_file(shape, np.dtype(dtype))

    def _in_file(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return file_array(shape, dtype, self._root, advice="give another --out")


def _reserve(file: IO[bytes], size: int) -> None:
    """Make a new file `size` bytes long, on the disk and not only in its directory.

    Raises:
        OSError: The disk has no room for it.
    """
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except (
        AttributeError,
        OSError,
    ) as error:  # there is no such call on macOS, nor on some file systems
        if isinstance(error, OSError) and error.errno not in (
            errno.EOPNOTSUPP,
            errno.ENOSYS,
            errno.EINVAL,
        ):
            raise
        file.truncate(0)
        for start in range(0, size, BLOCK_BYTES):
            file.write(bytes(min(BLOCK_BYTES, size - start)))
        file.flush()
        os.fsync(file.fileno())  # some file systems find room only now


@contextlib.contextmanager
def _room_named(folder: Path, size: int, advice: str) -> Iterator[None]:
    """Turn an error of the file system into one that names the folder and the size."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{folder}: {size / 1e6:,.1f} MB are needed for a while ({error.strerror or error}); "
            f"free some space or {advice}"
        ) from error
