"""Parquet files, written with a checksum per page and read with all that a damaged file may hold in mind.

A page's checksum covers its data, so that a flipped bit of an answer or a label is noticed; files of others may have
none. Batches hold a number of bytes, not of rows: rows may be labels or photographs.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bitleak.core.damage import damage_as
from bitleak.core.errors import BitleakError, DataError

BATCH = 32 << 20
"""Bytes of a batch, about, as Arrow holds it."""

ROWS = 1 << 17
"""Rows of a batch at most."""

MOST = 1 << 31
"""Rows of a file at most."""

_TEXT, _LIST = 64 << 20, 4 << 20
"""Bytes of a text and items of a list in the file's own description at most."""


def to_parquet(table: pa.Table) -> bytes:
    """Return the bytes of the file, with a checksum per page."""
    sink = io.BytesIO()
    pq.write_table(table, sink, write_page_checksum=True)
    return sink.getvalue()


@contextmanager
def opened_parquet(
    path: Path, *, kind: type[BitleakError] = DataError, advice: str = "write it again"
) -> Iterator[pq.ParquetFile]:
    """Open a file whose pages are compared with their checksums, where they have any.

    Args:
        path: The file.
        kind: Error to raise.
        advice: Remedy, which ends the message.

    Raises:
        BitleakError: Of that kind: it is no such file, or what is done with it meets damage.
    """
    if not path.is_file():
        raise kind(f"{path}: not a Parquet file: not a regular file")
    message = f"{path}: not a readable Parquet file, it may be cut off"
    with (
        damage_as(kind, message, advice, also=(pa.ArrowException,)),
        pq.ParquetFile(
            path,
            page_checksum_verification=True,
            thrift_string_size_limit=_TEXT,
            thrift_container_size_limit=_LIST,
        ) as file,
    ):
        if not 0 <= file.metadata.num_rows <= MOST:
            raise ValueError(f"it claims to have {file.metadata.num_rows} rows")
        yield file


def batches(file: pq.ParquetFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Return the rows of some columns, about `BATCH` bytes at a time."""
    rows = max(1, min(ROWS, BATCH // max(1, row_bytes(file.metadata, columns))))
    return file.iter_batches(rows, columns=list(columns))


def row_bytes(metadata: pq.FileMetaData, columns: Sequence[str]) -> int:
    """Return the bytes of a row of some columns: the largest mean of a row group.

    A value of a dictionary is stored once and may stand in every row, so there it is the whole dictionary.
    """
    largest = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        size = 0
        for place in range(group.num_columns):
            column = group.column(place)
            if column.path_in_schema.split(".")[0] not in columns:
                continue
            size += column.total_uncompressed_size // max(1, group.num_rows)
            if column.has_dictionary_page and column.physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"):
                packed = max(0, column.data_page_offset - (column.dictionary_page_offset or 0))
                ratio = column.total_uncompressed_size / max(1, column.total_compressed_size)
                size = max(size, min(column.total_uncompressed_size, int(packed * max(1.0, ratio))))
        largest = max(largest, size)
    return largest
