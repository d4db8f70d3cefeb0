"""Tables of encoded images in the Hugging Face Hub's layout: Parquet files, or a Hub's table.

The files are read with pyarrow, whose schema carries the Hub's features: this needs no copy in a
cache, and every image keeps the name of its file and its row (counted from 0 in the file).
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bitleak.core.damage import damage_as
from bitleak.core.errors import DataError
from bitleak.core.parquet import PARQUET_BATCH, opened_parquet, without_index
from bitleak.data.class_labels import LABEL_NAMES, plain_labels
from bitleak.data.decode import Item
from bitleak.data.folders import subfolders, within
from bitleak.data.image_source import Part
from bitleak.data.shards import split_of

SPLIT_NAMES = ("train", "test", "validation", "valid", "val")
"""Names of folders that are splits and not configurations."""

_ROWS = 256
"""Rows that are copied out of a table at a time."""

_FEW_IMAGES = 1 << 20
"""Bytes of images that are read at a time: a reader of the first image reads no more."""


@dataclass(frozen=True)
class Columns:
    """Which columns hold the images and the labels.

    Attributes:
        image: A column of bytes, or of structs with `bytes` and `path`.
        label: A column of integers, text or truth values.
        class_names: Names in the label's feature; None if it has none.
        integers: Whether the labels are stored as integers.
    """

    image: str
    label: str
    class_names: tuple[str, ...] | None
    integers: bool = True

    @property
    def sentence(self) -> str:
        """A sentence on the columns that are read."""
        return f"images from column {self.image!r}, labels from column {self.label!r}"


def parquet_splits(folder: Path, named: Sequence[str] = ()) -> dict[str, list[Path]]:
    """Return by split the Parquet files of a folder, its subfolder `data`, or its only one.

    If these hold no file but one folder per split (`train/0000.parquet`), its name is the split.

    `train-00000-of-00002.parquet` and `train.parquet` belong to the split `train`. Shards are in
    the order of their names.

    Raises:
        DataError: Several subfolders hold Parquet files.
    """
    files = sorted(folder.glob("*.parquet"))
    if not files:
        inner = [name for name in subfolders(folder) if _has_parquet(folder / name)]
        if set(inner) & {*SPLIT_NAMES, *named}:
            return {name: sorted((folder / name).glob("*.parquet")) for name in inner}
        if "data" in inner:
            inner = ["data"]
        if len(inner) > 1:
            raise DataError(
                f"{folder}: several subfolders hold Parquet files, give one of them: {', '.join(inner)}"
            )
        return parquet_splits(folder / inner[0], named) if inner else {}
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: not a regular file; a Parquet file is needed")
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(split_of(file), []).append(file)
    return splits


def _has_parquet(folder: Path, depth: int = 2) -> bool:
    if any(folder.glob("*.parquet")):
        return True
    return depth > 0 and any(_has_parquet(folder / name, depth - 1) for name in subfolders(folder))


def columns_of(schema: pa.Schema, image: str | None, label: str | None, *, source: str) -> Columns:
    """Return the image and label columns, from the features or as named.

    Args:
        schema: Schema of the table, with the Hub's features in its metadata if it has them.
        image: Name of the image column; None finds the only one.
        label: Name of the label column; None finds the only column of class labels or, without any,
            the only one with a name of `LABEL_NAMES`, unless it holds no integers and others do.
        source: Name of the table, for messages.

    Raises:
        DataError: A named column is missing or of the wrong type, or there is not exactly one
            candidate.
    """
    # The Hub's features decide; without them, the types and the usual names.
    features = _features(schema, source)
    images = [field.name for field in schema if _holds_images(field.type)]
    usable = [field.name for field in schema if _holds_labels(field.type)]
    classes = [name for name in usable if features.get(name, {}).get("_type") == "ClassLabel"]
    called = [name for name in schema.names if name.lower() in LABEL_NAMES and name != image]

    # A list of labels per image is the usual reason why no column can be used.
    multiple = [name for name in called if not classes and _is_list(schema.field(name).type)]
    if label in schema.names and _is_list(schema.field(label).type):
        multiple = [label]
    if multiple:
        raise DataError(
            f"{source}: column {multiple[0]!r} holds several labels an image; one class per image is needed"
        )

    image = _column("image", image, images, images, schema=schema, source=source)
    labels = classes or [name for name in called if name in usable]
    if label is None and not classes:
        _check_certain(labels, schema, source)
    label = _column("label", label, usable, labels, schema=schema, source=source)
    return Columns(
        image=image,
        label=label,
        class_names=_class_names(features.get(label, {}), label, source),
        integers=bool(pa.types.is_integer(schema.field(label).type)),
    )


def parquet_part(files: list[Path], image: str | None, label: str | None) -> tuple[Part, Columns]:
    """Read the shards of one split, whose schemas must agree.

    Raises:
        DataError: As `columns_of`, or a file cannot be read.
    """
    # Shards of different makes would mix columns, or number the classes differently.
    columns = [columns_of(_schema(file), image, label, source=str(file)) for file in files]
    for file, shard in zip(files, columns, strict=True):
        if shard != columns[0]:
            raise DataError(
                f"{file}: columns and class names must be those of {files[0].name}: expected {columns[0].sentence} "
                f"({_listed(columns[0].class_names)}), got {shard.sentence} ({_listed(shard.class_names)})"
            )
    column = columns[0].label
    labels = [_labels(_tables(file, column), column, str(file)) for file in files]

    def items() -> Iterator[Item]:
        for file in files:
            tables = _tables(file, columns[0].image, size=_FEW_IMAGES)
            yield from _images(tables, columns[0].image, str(file), _below(file.parent))

    where = _where(files, [len(rows) for rows in labels])
    part = Part(
        items=items, labels=np.concatenate(labels), where=where, integers=columns[0].integers
    )
    return part, columns[0]


def table_part(
    tables: Callable[[], Iterable[pa.Table]],
    columns: Columns,
    source: str,
    folders: Sequence[Path] = (),
) -> Part:
    """Return a split of the Hub, which comes as Arrow tables.

    Args:
        tables: Starts over at every call.
        columns: The columns to read.
        source: Name of the split, for messages.
        folders: Folders of this data set in the Hub's cache, for images that are stored as paths.
    """

    def items() -> Iterator[Item]:
        return _images(tables(), columns.image, source, lambda path: _in_cache(path, folders))

    labels = _labels(tables(), columns.label, source)
    return Part(
        items=items,
        labels=labels,
        where=lambda row: f"{source}, row {row}",
        integers=columns.integers,
    )


def _listed(class_names: tuple[str, ...] | None) -> str:
    if class_names is None:
        return "no class names"
    shown = ", ".join(class_names[:12])
    return f"classes {shown}, ..." if len(class_names) > 12 else f"classes {shown}"


def _features(schema: pa.Schema, source: str) -> dict[str, Any]:
    """Return the Hub's features by column; empty if the schema has none.

    Raises:
        DataError: There are some that are no JSON mapping: class names would be lost.
    """
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return {}
    with damage_as(
        DataError,
        f"{source}: the Hub's features in its schema cannot be read",
        "write the file again",
    ):
        features: Any = json.loads(text)
        for key in ("info", "features"):
            features = features.get(key) or {}
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _class_names(feature: dict[str, Any], label: str, source: str) -> tuple[str, ...] | None:
    names = feature.get("names")
    if names is None or names == []:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
        raise DataError(
            f"{source}: class names of column {label!r} must be a list of text, got {str(names)[:60]}"
        )
    return tuple(map(str, names))


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _holds_labels(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    # By its name, since the oldest pyarrow that may be installed has no test for views
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view"
    return bool(
        text or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind)
    )


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_images(kind.field("bytes").type)
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or str(kind) == "binary_view"
    )


def _check_certain(labels: list[str], schema: pa.Schema, source: str) -> None:
    """Refuse to guess between a label column of text and integers of another name.

    Text called `label` may be the classes, or a caption of classes that are numbered beside it.

    Raises:
        DataError: There are both; the message lists the columns and the option that chooses.
    """
    texts = [name for name in labels if not pa.types.is_integer(schema.field(name).type)]
    integers = [field.name for field in schema if pa.types.is_integer(field.type)]
    if len(labels) == 1 and texts and integers:
        raise DataError(
            f"{source}: column {texts[0]!r} holds {_shown(schema.field(texts[0]).type)}, and integers are in "
            f"{', '.join(map(repr, integers))}; say which one holds the classes, such as label: {texts[0]}"
        )


def _column(
    role: str,
    named: str | None,
    usable: list[str],
    candidates: list[str],
    *,
    schema: pa.Schema,
    source: str,
) -> str:
    names, kind = (
        schema.names,
        "encoded images (bytes)" if role == "image" else "integers, text or truth values",
    )
    listed = ", ".join(names)
    if named is not None:
        if named not in names:
            raise DataError(f"{source}: no column {named!r} for the {role}; the columns: {listed}")
        if named not in usable:
            raise DataError(
                f"{source}: {role} column {named!r} must hold {kind}; columns that do: {', '.join(usable)}"
            )
        return named
    if not candidates:
        way_out = f"; name one as '{role}': {', '.join(usable)}" if usable else ""
        typed = ", ".join(f"{field.name} ({_shown(field.type)})" for field in schema)
        raise DataError(
            f"{source}: no {role} column, which holds {kind}, among the columns: {typed}{way_out}"
        )
    if len(candidates) > 1:
        raise DataError(
            f"{source}: several {role} columns, name one of them as '{role}': {', '.join(candidates)}"
        )
    return candidates[0]


def _shown(kind: pa.DataType) -> str:
    text = str(kind)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _schema(file: Path) -> pa.Schema:
    with opened_parquet(file) as opened:
        return without_index(opened.schema)


def _tables(file: Path, column: str, *, size: int = PARQUET_BATCH) -> Iterator[pa.RecordBatch]:
    with opened_parquet(file) as opened:
        yield from opened.batches([column], size=size)


def _labels(tables: Iterable[Any], column: str, source: str) -> np.ndarray:
    parts: list[np.ndarray] = []
    rows = 0
    for table in tables:
        values = table.column(column)
        if values.null_count:
            row = rows + values.is_null().to_pylist().index(True)
            raise DataError(f"{source}, row {row}: label is missing")
        with damage_as(DataError, f"{source}: labels cannot be read", also=(pa.ArrowException,)):
            # An empty batch has no type of its own, and would turn text or integers into objects.
            if len(values):
                parts.append(np.array(values.to_pylist()))
        rows += len(values)
    labels = np.concatenate(parts) if parts else np.empty(0, np.int64)
    return plain_labels(labels, lambda row: f"{source}, row {row}")


def _images(
    tables: Iterable[Any], column: str, source: str, locate: Callable[[str], Path | None]
) -> Iterator[Item]:
    row = 0
    for table in tables:
        for content, path in _contents(table.column(column)):
            where = f"{source}, row {row}"
            if content is None:
                yield _named_file(None if path is None else path.as_py(), where, locate), where
            else:
                yield content, where
            row += 1


def _contents(
    column: pa.Array | pa.ChunkedArray,
) -> Iterator[tuple[bytes | None, pa.Scalar | None]]:
    """Yield bytes and path of every row of an image column; no path if the column holds bytes alone.

    Most rows have bytes; scalars of text take long to make, so that paths stay as they are.
    """
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        for start in range(0, len(chunk), _ROWS):
            part = chunk.slice(start, _ROWS)
            if not pa.types.is_struct(part.type):
                yield from ((content, None) for content in part.to_pylist())
                continue
            fields = part.flatten()
            places = [part.type.get_field_index(name) for name in ("bytes", "path")]
            paths = fields[places[1]] if places[1] >= 0 else [None] * len(part)
            yield from zip(fields[places[0]].to_pylist(), paths, strict=True)


def _named_file(path: Any, where: str, locate: Callable[[str], Path | None]) -> Path:
    """Return the file that the path of a row without bytes names."""
    if not path:
        raise DataError(f"{where}: image is missing")
    message = f"{where}: image has no bytes, and its path {str(path)[:200]!r}"
    with damage_as(DataError, f"{message} is no name of a file"):
        file = locate(str(path))
        if file is None:
            raise DataError(f"{message} is not below the data's folder")
        if not file.is_file():
            raise DataError(f"{message} is no regular file")
        return file


def _below(folder: Path) -> Callable[[str], Path | None]:
    """Find the file of a relative path in a folder; None for a path that leads out of it."""

    def locate(path: str) -> Path | None:
        relative = Path(path)
        return (
            None
            if relative.is_absolute() or ".." in relative.parts
            else within(folder / relative, folder)
        )

    return locate


def _in_cache(path: str, folders: Sequence[Path]) -> Path | None:
    """Return the file of an absolute path in one of these folders, links resolved; else None."""
    target = Path(path).resolve()
    known = Path(path).is_absolute() and any(
        target.is_relative_to(folder.resolve()) for folder in folders
    )
    return target if known else None


def _where(files: list[Path], counts: list[int]) -> Callable[[int], str]:
    """Return the function from a row of the split to its file and the row there."""
    ends = np.cumsum(counts)

    def where(row: int) -> str:
        shard = int(np.searchsorted(ends, row, side="right"))
        return f"{files[shard]}, row {row - int(ends[shard]) + counts[shard]}"

    return where
