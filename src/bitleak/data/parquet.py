"""Tables of encoded images in the Hugging Face Hub's layout: Parquet files, or a table from the Hub.

The files are read with pyarrow, whose schema carries the Hub's features: this needs no copy in a
cache, and every image keeps the name of its file and its row (counted from 0 in the file).
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from bitleak.core.errors import DataError
from bitleak.data.decode import Item
from bitleak.data.folders import subfolders
from bitleak.data.parts import Part

_BATCH = 256


@dataclass(frozen=True)
class Columns:
    """Which columns hold the images and the labels.

    Attributes:
        image: A column of bytes, or of structs with `bytes` and `path`.
        label: A column of integers.
        class_names: From the label's feature; None where it has no names.
    """

    image: str
    label: str
    class_names: tuple[str, ...] | None


def parquet_splits(folder: Path) -> dict[str, list[Path]]:
    """The Parquet files of a folder, of its subfolder `data`, or of its only subfolder that has any, by split.

    `train-00000-of-00002.parquet` and `train.parquet` belong to the split `train`. Shards are in
    the order of their names.

    Raises:
        DataError: Several subfolders hold Parquet files.
    """
    found = sorted(folder.glob("*.parquet")) or sorted((folder / "data").glob("*.parquet"))
    if not found:
        inner = [name for name in subfolders(folder) if any((folder / name).glob("*.parquet"))]
        if len(inner) > 1:
            raise DataError(f"{folder}: several subfolders hold Parquet files, give one of them: {', '.join(inner)}")
        found = sorted((folder / inner[0]).glob("*.parquet")) if inner else []
    splits: dict[str, list[Path]] = {}
    for file in found:
        splits.setdefault(re.sub(r"-\d+-of-\d+(-[0-9a-f]+)?$", "", file.stem), []).append(file)
    return splits


def columns_of(schema: pa.Schema, image: str | None, label: str | None, *, source: str) -> Columns:
    """The image and label columns, from the features or as named.

    Args:
        schema: With the Hub's features in its metadata, if it has them.
        image: Name of the image column; None finds the only one.
        label: Name of the label column; None finds the only column of class labels or, where there
            are none, of integers.
        source: For messages.

    Raises:
        DataError: A named column is missing or of the wrong type, or there is not exactly one candidate.
    """
    features = _features(schema)
    images = [field.name for field in schema if _holds_images(field.type)]
    integers = [field.name for field in schema if pa.types.is_integer(field.type)]
    classes = [name for name in integers if features.get(name, {}).get("_type") == "ClassLabel"]
    image = _column("image", image, images, images, names=schema.names, source=source)
    label = _column("label", label, integers, classes or integers, names=schema.names, source=source)
    names = features.get(label, {}).get("names")
    return Columns(image=image, label=label, class_names=tuple(map(str, names)) if names else None)


def parquet_part(files: list[Path], image: str | None, label: str | None) -> tuple[Part, Columns]:
    """The shards of one split, whose schemas must agree.

    Raises:
        DataError: As `columns_of`, or a file cannot be read.
    """
    columns = [columns_of(_schema(file), image, label, source=str(file)) for file in files]
    for file, own in zip(files, columns, strict=True):
        if own != columns[0]:
            raise DataError(f"{file}: columns and class names must be those of {files[0].name}: {own} {columns[0]}")
    labels = [_labels(_tables(file, own.label), own.label, str(file)) for file, own in zip(files, columns, strict=True)]

    def items() -> Iterator[Item]:
        for file in files:
            yield from _images(_tables(file, columns[0].image), columns[0].image, str(file), file.parent)

    return Part(items=items, labels=np.concatenate(labels), where=_where(files, [len(own) for own in labels])), columns[
        0
    ]


def table_part(tables: Callable[[], Iterable[pa.Table]], columns: Columns, source: str) -> Part:
    """A split that comes as Arrow tables: one of the Hub's."""

    def items() -> Iterator[Item]:
        return _images(tables(), columns.image, source, Path())

    labels = _labels(tables(), columns.label, source)
    return Part(items=items, labels=labels, where=lambda row: f"{source}, row {row}")


def _features(schema: pa.Schema) -> dict[str, Any]:
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _column(
    what: str, wanted: str | None, usable: list[str], found: list[str], *, names: list[str], source: str
) -> str:
    listed = ", ".join(names)
    if wanted is not None:
        if wanted not in names:
            raise DataError(f"{source}: no column {wanted!r} for the {what}; the columns: {listed}")
        if wanted not in usable:
            kind = "encoded images (bytes)" if what == "image" else "integers"
            raise DataError(
                f"{source}: {what} column {wanted!r} must hold {kind}; columns that do: {', '.join(usable)}"
            )
        return wanted
    if not found:
        raise DataError(f"{source}: no {what} column among the columns: {listed}")
    if len(found) > 1:
        raise DataError(f"{source}: several {what} columns, name one of them as '{what}': {', '.join(found)}")
    return found[0]


def _schema(file: Path) -> pa.Schema:
    try:
        return pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: not a Parquet file that can be read: {error}") from error


def _tables(file: Path, column: str) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(file) as opened:
            yield from opened.iter_batches(batch_size=_BATCH, columns=[column])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: column {column!r} cannot be read: {error}") from error


def _labels(tables: Iterable[Any], column: str, source: str) -> Int64[np.ndarray, "records"]:
    labels = [label for table in tables for label in table.column(column).to_pylist()]
    if None in labels:
        raise DataError(f"{source}, row {labels.index(None)}: label is missing")
    return np.array(labels, np.int64)


def _images(tables: Iterable[Any], column: str, source: str, folder: Path) -> Iterator[Item]:
    row = 0
    for table in tables:
        for value in table.column(column).to_pylist():
            yield _encoded(value, f"{source}, row {row}", folder), f"{source}, row {row}"
            row += 1


def _encoded(value: Any, where: str, folder: Path) -> bytes | Path:
    content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if content is not None:
        return bytes(content)
    if not path:
        raise DataError(f"{where}: image is missing")
    return folder / str(path)


def _where(files: list[Path], counts: list[int]) -> Callable[[int], str]:
    ends = np.cumsum(counts)

    def where(row: int) -> str:
        shard = int(np.searchsorted(ends, row, side="right"))
        return f"{files[shard]}, row {row - int(ends[shard]) + counts[shard]}"

    return where
