"""Parquet files, written with a checksum per page and read with checks against damaged files.

A page's checksum covers its data, so that a flipped bit of an answer or a label is noticed; files
from elsewhere may have none. Batches hold a number of bytes, not of rows: rows may be labels or
photographs.
"""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bitleak.core.damage import damage_as
from bitleak.core.errors import BitleakError, DataError
from bitleak.core.footer import Group, read_footer

PARQUET_BATCH = 32 << 20
"""Approximate size of a batch in memory, in bytes."""

PARQUET_ROWS = 1 << 17
"""Largest number of rows of a batch."""


def to_parquet(table: pa.Table) -> bytes:
    """Return the bytes of the file, with a checksum per page."""
    sink = io.BytesIO()
    pq.write_table(table, sink, write_page_checksum=True)
    return sink.getvalue()


@dataclass(frozen=True)
class Opened:
    """An open file whose footer has been checked.

    Attributes:
        file: pyarrow's reader.
        groups: Row groups.
    """

    file: pq.ParquetFile
    groups: tuple[Group, ...]

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self.file.schema_arrow

    def batches(
        self, columns: Sequence[str], *, size: int = PARQUET_BATCH
    ) -> Iterator[pa.RecordBatch]:
        """Yield rows of some columns, about `size` bytes at a time; text is valid UTF-8."""
        rows = max(1, min(PARQUET_ROWS, size // max(1, row_bytes(self.groups, columns))))
        for batch in self.file.iter_batches(rows, columns=list(columns)):
            batch.validate(full=True)
            yield batch


@contextmanager
def opened_parquet(
    path: Path, *, kind: type[BitleakError] = DataError, advice: str = "write it again"
) -> Iterator[Opened]:
    """Open a file whose pages are compared with their checksums, where they have any.

    Args:
        path: The file.
        kind: Error to raise.
        advice: Remedy, which ends the message.

    Raises:
        BitleakError: An error of that kind: it is no such file, or it is damaged.
    """
    if not path.is_file():
        raise kind(f"{path}: not a Parquet file: not a regular file")
    message = f"{path}: not a readable Parquet file, it may be cut off"
    with damage_as(kind, message, advice, also=(pa.ArrowException,)):
        groups = read_footer(path)
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield Opened(file, groups)


def without_index(schema: pa.Schema) -> pa.Schema:
    """Return the schema without the columns in which pandas keeps the index of a data frame.

    pandas writes one, `__index_level_0__`, for every frame that was filtered or shuffled.
    """
    try:
        listed = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))["index_columns"]
    except (
        KeyError,
        TypeError,
        ValueError,
    ):  # written by another library, or damaged: nothing is known of an index
        return schema
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    fields = [field for field in schema if field.name not in names]
    return pa.schema(fields, metadata=schema.metadata)


def row_bytes(groups: Sequence[Group], columns: Sequence[str]) -> int:
    """Return the bytes of a row of some columns: the largest mean of a row group.

    A value of a dictionary is stored once and may stand in every row, so there it is the whole
    dictionary.
    """
    largest = 0
    for group in groups:
        size = 0
        for chunk in group.chunks:
            if chunk.column in columns:
                size += chunk.size
                largest = max(largest, chunk.repeated)
        largest = max(largest, size // max(1, group.rows))
    return largest
