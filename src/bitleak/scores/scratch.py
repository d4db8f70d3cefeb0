"""Where arrays go that may be larger than memory: files without a name, which go with the arrays."""

from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np

from bitleak.core.mapped import LARGE, mapped_file

IN_MEMORY = 1 << 29
"""Bytes up to which an array is kept in memory."""

ADVICE = "give another --out"

_CHUNK = 1 << 22


@runtime_checkable
class Stream(Protocol):
    """Something to read bytes from."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; none at the end."""


class Scratch:
    """Makes arrays in files of a folder, in which no name is left of them, however the process ends.

    Args:
        root: The folder.
        in_memory: Bytes up to which `allocate` makes no file.
    """

    def __init__(self, root: Path, *, in_memory: int = IN_MEMORY) -> None:
        self._root = root
        self._in_memory = in_memory

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left to do: a file goes when nobody uses its array any more."""

    def unpacked(self, stream: Stream, size: int) -> np.ndarray:
        """The bytes of a stream: in memory, or in a file where they are many.

        Args:
            stream: What is read to its end, or to `size` bytes if it has more.
            size: Bytes that it should have.

        Raises:
            StoreError: The folder cannot be written to, or has no room.
        """
        found = np.empty(size, np.uint8) if size < LARGE else self._in_file((size,), np.dtype(np.uint8))
        place = 0
        while place < size and (part := stream.read(min(_CHUNK, size - place))):
            found[place : place + len(part)] = np.frombuffer(part, np.uint8)
            place += len(part)
        stream.read(1)  # the checksum is compared at the end
        return found[:place]

    def allocate(self, shape: tuple[int, ...], dtype: type = np.float64) -> np.ndarray:
        """An array to be filled: in memory, or in a file where it is large.

        Raises:
            StoreError: The folder cannot be written to, or has no room.
        """
        size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        if size <= self._in_memory:
            return np.empty(shape, dtype)
        return self._in_file(shape, np.dtype(dtype))

    def _in_file(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return mapped_file(shape, dtype, self._root, advice=ADVICE)
