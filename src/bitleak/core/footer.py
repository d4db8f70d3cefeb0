"""The footer of a Parquet file, read and checked here before a library trusts the numbers in it.

A file ends in its description (a structure in Thrift's compact protocol), the length of that in 4
bytes, and `PAR1`. Libraries trust some of the numbers in it, and a wrong one can crash the process;
here they are compared with each other and with the size of the file.
Format: https://parquet.apache.org/docs/file-format/metadata/
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGEST_FOOTER = 16 << 20
"""Largest footer, in bytes."""

DEEPEST_FOOTER = 16
MOST_ROWS = 1 << 31
_MAGIC = b"PAR1"
_BYTES = (6, 7)
"""Physical types whose values have bytes of any number: BYTE_ARRAY and FIXED_LEN_BYTE_ARRAY."""


@dataclass(frozen=True)
class Chunk:
    """Values of one column in one row group.

    Attributes:
        column: Name of the outermost column.
        size: Bytes of the pages as they unpack.
        repeated: Bytes of the dictionary as it unpacks, about; 0 if there is none of bytes or text.
    """

    column: str
    size: int
    repeated: int


@dataclass(frozen=True)
class Group:
    """A row group.

    Attributes:
        rows: Number of rows.
        chunks: One per column of numbers or bytes.
    """

    rows: int
    chunks: tuple[Chunk, ...]


def read_footer(path: Path) -> tuple[Group, ...]:
    """Read the row groups of a file.

    Raises:
        ValueError: The footer is cut off, or its numbers contradict each other or the size of the
            file.
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        end = file.read(8)
        length = int.from_bytes(end[:4], "little")
        if end[4:] != _MAGIC:
            raise ValueError("it does not end as a Parquet file does")
        if not 0 < length <= min(LARGEST_FOOTER, size - 12):
            raise ValueError(f"a footer of {length} bytes in a file of {size}")
        file.seek(size - 8 - length)
        fields = _Compact(file.read(length)).structure()
    return _groups(fields, size)


def _groups(fields: dict[int, Any], size: int) -> tuple[Group, ...]:
    # Field 2 of the file is its schema, depth first; an element without children (field 5) is a
    # column.
    leaves = sum(1 for element in _structures(fields, 2) if not element.get(5))
    groups = []
    for group in _structures(fields, 4):
        columns = _structures(group, 1)
        if len(columns) != leaves:
            raise ValueError(f"a row group of {len(columns)} columns, the schema has {leaves}")
        groups.append(
            Group(_number(group, 3, MOST_ROWS), tuple(_chunk(column, size) for column in columns))
        )
    rows = _number(fields, 3, MOST_ROWS)
    if sum(group.rows for group in groups) != rows:
        raise ValueError(f"its row groups do not have the {rows} rows that it claims to have")
    return tuple(groups)


def _chunk(column: dict[int, Any], size: int) -> Chunk:
    metadata = column.get(3)
    if not isinstance(metadata, dict):
        raise ValueError("a column without a description")
    names = metadata.get(3)
    if not isinstance(names, list) or not names or not isinstance(names[0], bytes):
        raise ValueError("a column without a name")
    # ColumnMetaData: 6 and 7 are the unpacked and packed bytes, 9 and 11 where data and dictionary
    # begin.
    unpacked, packed = _number(metadata, 6, 1 << 50), _number(metadata, 7, size)
    data = _number(metadata, 9, size)
    start = _number(metadata, 11, size) if 11 in metadata else data
    first = min(start, data) if start else data
    if first + packed > size:
        raise ValueError(f"a column of {packed} bytes from byte {first} on, in a file of {size}")
    # The unpacked size of the dictionary alone is not stored: it is taken to be packed as the whole
    # column is.
    repeated = 0
    if 0 < start < data and metadata.get(1) in _BYTES:
        repeated = min(unpacked, (data - start) * max(1, -(-unpacked // max(1, packed))))
    return Chunk(names[0].decode("utf-8"), unpacked, repeated)


def _structures(fields: dict[int, Any], key: int) -> list[dict[int, Any]]:
    value = fields.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"its field {key} is no list of structures")
    return value


def _number(fields: dict[int, Any], key: int, largest: int) -> int:
    value = fields.get(key)
    if type(value) is not int or not 0 <= value <= largest:
        raise ValueError(
            f"its field {key} must be a number from 0 to {largest}, got {str(value)[:40]}"
        )
    return value


class _Compact:
    """A structure in Thrift's compact protocol as fields by number.

    Args:
        content: Its bytes.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    def structure(self, depth: int = 0) -> dict[int, Any]:
        """Return the structure that begins here."""
        if depth > DEEPEST_FOOTER:
            raise ValueError(f"its footer is nested more than {DEEPEST_FOOTER} deep")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._take(1)[0]:
            # a field's number is a difference from the one before in the upper 4 bits, or follows
            # if that is 0
            number = number + (head >> 4) if head >> 4 else self._signed()
            kind = head & 15
            # a truth value of a structure has no byte of its own: its type is its value
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        # 1, 2: bool; 3: i8; 4 to 6: i16 to i64; 7: double; 8: binary; 9, 10: list, set; 11: map;
        # 12: struct
        if kind in (1, 2):
            return self._take(1)[0] == 1
        if kind == 3:
            return self._take(1)[0]
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 7:
            return struct.unpack("<d", self._take(8))[0]
        if kind == 8:
            return self._take(self._unsigned())
        if kind in (9, 10):
            head = self._take(1)[0]
            count = head >> 4 if head >> 4 < 15 else self._unsigned()
            return [self._value(head & 15, depth + 1) for _ in range(self._count(count))]
        if kind == 11:
            count = self._count(self._unsigned())
            kinds = self._take(1)[0] if count else 0
            return [
                (self._value(kinds >> 4, depth + 1), self._value(kinds & 15, depth + 1))
                for _ in range(count)
            ]
        if kind == 12:
            return self.structure(depth + 1)
        raise ValueError(f"its footer holds a value of unknown type {kind}")

    def _count(self, count: int) -> int:
        """Return the number of items of a list: each takes a byte at least."""
        if count > len(self._content) - self._place:
            raise ValueError("its footer is cut off")
        return count

    def _take(self, size: int) -> bytes:
        content = self._content[self._place : self._place + size]
        if len(content) < size:
            raise ValueError("its footer is cut off")
        self._place += size
        return content

    def _unsigned(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self._take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
        raise ValueError("its footer holds a number of more than 64 bits")

    def _signed(self) -> int:
        value = self._unsigned()  # zigzag: 0, -1, 1, -2, ...
        return (value >> 1) ^ -(value & 1)
