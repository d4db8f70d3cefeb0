"""Where arrays go that may be larger than memory: files in a folder that goes away."""

import itertools
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np

from bitleak.core.errors import StoreError

IN_MEMORY = 1 << 29
"""Bytes up to which an array is kept in memory."""


class Scratch:
    """A temporary folder, removed at the end of the `with` block, also after an error or an interrupt.

    Args:
        root: Where to make it.
        in_memory: Bytes up to which `allocate` makes no file.
    """

    def __init__(self, root: Path, *, in_memory: int = IN_MEMORY) -> None:
        self._in_memory = in_memory
        self._count = itertools.count()
        self._folder = Path(tempfile.mkdtemp(prefix=".scratch-", dir=root))

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def file(self, name: str, size: int) -> Path:
        """A new path that ends in the name.

        Raises:
            StoreError: The disk has less than `size` bytes left.
        """
        free = shutil.disk_usage(self._folder).free
        if size > free:
            raise StoreError(
                f"{self._folder.parent}: {size / 1e9:.1f} GB are needed for a while, but only {free / 1e9:.1f} GB are "
                "free; give another --out"
            )
        return self._folder / f"{next(self._count)}-{Path(name).name}"

    def allocate(self, shape: tuple[int, ...], dtype: type = np.float64) -> np.ndarray:
        """An array to be filled: in memory, or in a file of this folder where it is large."""
        size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        if size <= self._in_memory:
            return np.empty(shape, dtype)
        return np.lib.format.open_memmap(self.file("array.npy", size), mode="w+", dtype=dtype, shape=shape)
