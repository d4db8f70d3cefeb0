"""Arrays in the format of `numpy.save`: the header is checked before memory is reserved.

A header is a Python literal in a file that was handed in. Shape, type and the number of bytes that
are there are compared here, so that no number in it decides how much memory is taken.
"""

import ast
import functools
import math
import re
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from bitleak.core.damage import damage_as, reason
from bitleak.core.errors import DataError

MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 1 << 16

_TYPE = re.compile(r"[<>=|]?(?:[?biufcSU][0-9]{0,9}|O[0-9]*)")
"""Truth values, numbers, text, and Python objects, which get a message of their own."""

_LENGTH = {1: 2, 2: 4, 3: 4}
"""Bytes of the header's length by major version."""


@runtime_checkable
class Stream(Protocol):
    """Source of bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most that many bytes; none at the end."""


@dataclass(frozen=True)
class Header:
    """Layout of an array.

    Attributes:
        shape: Lengths of the axes.
        order: `F` if the first axis varies fastest, else `C`.
        dtype: Type of the numbers.
        start: Bytes before the first number.
    """

    shape: tuple[int, ...]
    order: str
    dtype: np.dtype
    start: int

    @property
    def size(self) -> int:
        """Bytes of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: Stream, where: str, available: int) -> Header:
    """Read the header of an `.npy` stream, which then is at the first number.

    Args:
        stream: At its start.
        where: File and array, for messages.
        available: Bytes of the stream, header and numbers.

    Raises:
        DataError: It is no such stream, holds Python objects, or its numbers take more than
            `available`.
    """
    # magic, version (2 bytes), length of the header (2 or 4 bytes, by the version), header
    with damage_as(DataError, f"{where}: not an .npy array", "write it again with numpy.save"):
        if stream.read(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin as one")
        version = stream.read(2)
        width = _LENGTH[version[0]]
        length = int.from_bytes(_exactly(stream, width), "little")
        if length > LONGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        text = _exactly(stream, length).decode("latin1")
        shape, order, descr = _fields(text)
        # `np.dtype` evaluates its text: only plain types get that far
        if not _TYPE.fullmatch(descr):
            raise ValueError(f"arrays of numbers or text are needed, got type {descr!r}")
        dtype = np.dtype(descr)

    # the sizes are compared before memory is reserved
    if dtype.hasobject:
        raise DataError(
            f"{where}: holds Python objects, a pickle; pickles are never loaded, so save plain numbers"
        )
    header = Header(shape, order, dtype, len(MAGIC) + 2 + width + length)
    if header.start + header.size > available:
        raise DataError(
            f"{where}: the array is cut off: {header.size:,} bytes of numbers are needed, "
            f"{max(0, available - header.start):,} are there; write it again with numpy.save"
        )
    return header


def read_array(stream: Stream, where: str, available: int) -> np.ndarray:
    """Read the array of an `.npy` stream into memory.

    Args:
        stream: At its start.
        where: File and array, for messages.
        available: Bytes of the stream, header and numbers.

    Raises:
        DataError: As `read_header`, or the stream ends before its numbers do.
    """
    header = read_header(stream, where, available)
    with damage_as(DataError, f"{where}: cannot be read", "write it again with numpy.save"):
        content = stream.read(header.size)
        stream.read(1)  # some streams compare a checksum at their end
    return as_array(np.frombuffer(content, np.uint8), header, where)


def as_array(content: np.ndarray, header: Header, where: str) -> np.ndarray:
    """Return the bytes after a header as its array, without a copy.

    Raises:
        DataError: They are too few.
    """
    if len(content) < header.size:
        raise DataError(f"{where}: the array is cut off; write it again with numpy.save")
    if not header.size:
        return np.empty(header.shape, header.dtype)
    return content[: header.size].view(header.dtype).reshape(header.shape, order=header.order)  # type: ignore[call-overload]


def _exactly(stream: Stream, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise ValueError("its header is cut off")
    return content


@functools.lru_cache(maxsize=512)
def _fields(text: str) -> tuple[tuple[int, ...], str, str]:
    """Shape, order and type of a header's text."""
    try:
        value = ast.literal_eval(
            re.sub(r"(?<=\d)L\b", "", text).strip()
        )  # Python 2 wrote long integers as 3L
    except (
        ValueError,
        SyntaxError,
        TypeError,
        RecursionError,
        MemoryError,
    ) as error:  # the last: of the parser's stack
        raise ValueError(f"its header is no Python literal: {reason(error)}") from None
    if not isinstance(value, dict) or set(value) != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header must hold descr, fortran_order and shape")
    shape, fortran, descr = value["shape"], value["fortran_order"], value["descr"]
    if (
        not isinstance(shape, tuple)
        or len(shape) > 32
        or any(type(n) is not int or not 0 <= n < 1 << 62 for n in shape)
    ):
        raise ValueError(f"its shape must be lengths of 0 or more, got {str(shape)[:60]}")
    if not isinstance(fortran, bool):
        raise ValueError(f"its fortran_order must be True or False, got {str(fortran)[:60]}")
    return shape, "F" if fortran else "C", descr if isinstance(descr, str) else str(descr)[:60]
