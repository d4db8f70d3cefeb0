"""Columns of numbers from Parquet and CSV files, checked value by value.

| column | features |
|---|---|
| numbers | themselves, in float32 |
| truth values | 0 and 1 |
| named as categorical | one column of 0 and 1 per category, sorted, named `COLUMN=CATEGORY` |
| text, dates, lists, row numbers | refused, with the remedy |

A missing or infinite value is refused with its place. Rows count from 0; a header is none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32
from pyarrow import csv

from bitleak.core.damage import damage_as
from bitleak.core.errors import DataError
from bitleak.core.parquet import opened_parquet, without_index

PARQUET = b"PAR1"
"""First bytes of a Parquet file."""

PICKLES = (b"\x80", b"PK")
"""First bytes of a pickle, and of the archives that NumPy and PyTorch write."""

MOST_ROUNDING = 1e-3
"""Largest rounding of a column's values to float32, in its standard deviations."""

FEWEST_ROWS = 20
"""From this number of rows on, columns of row numbers and categories of one row each are refused."""


@dataclass(frozen=True)
class Frame:
    """The columns of one file.

    Attributes:
        file: The file, for messages.
        columns: Values by name, in the order of the file.
        rows: Number of rows.
    """

    file: Path
    columns: Mapping[str, pa.ChunkedArray]
    rows: int

    def where(self, row: int) -> str:
        """Return file and row, for messages."""
        return f"{self.file}, row {row}"


def read_frame(file: Path, *, separator: str, header: bool) -> Frame:
    """Read all columns of a Parquet or CSV file; nothing is unpickled.

    Args:
        file: A file; Parquet is recognised by its content, `.csv.gz` is unpacked.
        separator: Sign between the values of a CSV file.
        header: Whether the first line of a CSV file holds the names; else they are 0, 1, 2, ...

    Raises:
        DataError: It is neither, is damaged, has no row, or its names are not those of columns.
    """
    with damage_as(DataError, f"{file}: the table cannot be read"), file.open("rb") as stream:
        start = stream.read(4)
    if start == PARQUET:
        with opened_parquet(file) as opened:
            names = without_index(opened.schema).names
            table = pa.Table.from_batches(list(opened.batches(names)), opened.schema.empty_table()
                                          .select(names).schema)  # fmt: skip
    elif start.startswith(PICKLES):
        raise DataError(
            f"{file}: a Parquet or CSV file is needed, and this is a pickle or an archive: nothing is unpickled; "
            "write it with `to_parquet` or `to_csv(index=False)`"
        )
    else:
        table = _read_csv(file, separator, header)
    _check_names(table.column_names, file, separator, header)
    if not table.num_rows:
        raise DataError(f"{file}: no row of values")
    return Frame(file, dict(zip(table.column_names, table.columns, strict=True)), table.num_rows)


def feature_columns(
    frames: Sequence[Frame], names: Sequence[str], categorical: Sequence[str]
) -> tuple[tuple[str, ...], Float32[np.ndarray, "rows columns"]]:
    """Return the names of the features and the features of all rows, one file after the other.

    Args:
        frames: Files with these columns.
        names: Columns to take, in this order.
        categorical: Names among them whose values are categories.

    Raises:
        DataError: A value is missing or infinite, or a column holds no numbers; with the place.
    """
    # Categories first: they decide how many columns there are.
    categories: dict[str, list[np.ndarray]] = {}
    known: dict[str, np.ndarray] = {}
    titles: list[str] = []
    for name in names:
        if name in categorical:
            categories[name] = [_categories(frame, name) for frame in frames]
            known[name] = np.unique(np.concatenate(categories[name]))
            _check_repeated(name, len(known[name]), frames)
            titles += [f"{name}={category}" for category in known[name]]
        else:
            titles.append(name)

    # One file after the other, each into its rows.
    features = np.empty((sum(frame.rows for frame in frames), len(titles)), np.float32)
    start = 0
    for part, frame in enumerate(frames):
        rows, place = features[start : start + frame.rows], 0
        for name in names:
            if name in categorical:
                width = len(known[name])
                rows[:, place : place + width] = categories[name][part][:, None] == known[name]
            else:
                width = 1
                rows[:, place] = _numbers(frame, name)
            place += width
        start += frame.rows
    # The two zeros are one number, and their rows are copies of each other.
    features[features == 0] = 0
    return tuple(titles), features


def label_values(frame: Frame, name: str) -> np.ndarray:
    """Return the labels as they are stored: integers, floats, text or truth values."""
    column = frame.columns[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        row = int(pc.index(column.is_null(), True).as_py())
        raise DataError(f"{frame.where(row)}: label is missing in column {name!r}")
    return np.array(column.to_pylist())


def truth_columns(frame: Frame, names: Sequence[str]) -> list[str]:
    """Return the columns that hold truth values."""
    return [name for name in names if pa.types.is_boolean(frame.columns[name].type)]


def _read_csv(file: Path, separator: str, header: bool) -> pa.Table:
    advice = "give a CSV file in UTF-8 with the same number of values in every line"
    message = f"{file}: not a readable CSV file"
    with damage_as(DataError, message, advice, also=(pa.ArrowException,)):
        table = csv.read_csv(
            str(file),
            read_options=csv.ReadOptions(autogenerate_column_names=not header, use_threads=False),
            parse_options=csv.ParseOptions(delimiter=separator),
        )
    return table if header else table.rename_columns([str(i) for i in range(table.num_columns)])


def _check_names(names: Sequence[str], file: Path, separator: str, header: bool) -> None:
    """Refuse names that show that the file was read in the wrong way."""
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if header and len(names) > 1 and all(map(_is_number, names)):
        raise DataError(
            f"{file}: the first line holds numbers and no names ({', '.join(names[:4])}, ...): give header: false, "
            "and the label column by its place, such as label: 0"
        )
    if repeated:
        raise DataError(f"{file}: several columns are called {repeated[0]!r}; rename them")
    if len(names) == 1:
        others = [sign for sign in ",;\t|" if sign != separator and sign in names[0]]
        hint = f"; give separator: {others[0]!r}" if others else ""
        raise DataError(
            f"{file}: a label column and features are needed, got one column, {names[0][:60]!r}{hint}"
        )


def _numbers(frame: Frame, name: str) -> Float32[np.ndarray, "rows"]:
    """Return a column of numbers or truth values in float32."""
    column = frame.columns[name]
    kind = column.type
    if pa.types.is_null(kind) or column.null_count:
        missing = column.is_null()
        _refuse_missing(frame, name, int(pc.index(missing, True).as_py()), column.null_count)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = column.to_numpy()
    elif pa.types.is_decimal(kind):
        values = column.cast(pa.float64()).to_numpy()
    else:
        raise DataError(_no_numbers(frame, name))
    if values.dtype.kind in "iu":
        _check_no_row_numbers(frame, name, values)

    # A network computes in float32, which must not merge values that differ in the column.
    exact = values.astype(np.float64)
    infinite = np.flatnonzero(~np.isfinite(exact))
    if len(infinite):
        row = int(infinite[0])
        if np.isnan(exact[row]):
            _refuse_missing(frame, name, row, int(np.isnan(exact).sum()))
        raise DataError(
            f"{frame.where(row)}: column {name!r} must hold finite numbers, got {exact[row]}"
        )
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float32)
        lost = float(np.abs(rounded - exact).max())
    if not lost <= MOST_ROUNDING * max(float(exact.std()), np.finfo(np.float64).tiny):
        raise DataError(
            f"{frame.file}: column {name!r} has values up to {np.abs(exact).max():.6g}, which float32 rounds by "
            f"{lost:.2g}, too much for their deviation of {exact.std():.2g}: subtract a number near their mean, "
            f"or leave it out, drop: [{name}]"
        )
    return rounded


def _refuse_missing(frame: Frame, name: str, row: int, count: int) -> None:
    raise DataError(
        f"{frame.where(row)}: column {name!r} has no value ({count} of {frame.rows} rows have none): fill them in, "
        f"leave out these rows, or the column, drop: [{name}]"
    )


def _check_no_row_numbers(frame: Frame, name: str, values: np.ndarray) -> None:
    """Refuse integers that count the rows: the index that a data frame was written with."""
    if frame.rows >= FEWEST_ROWS and bool((np.diff(values.astype(np.int64)) == 1).all()):
        raise DataError(
            f"{frame.file}: column {name!r} holds the numbers of the rows, {values[0]} to {values[-1]}, by which a "
            f"network could tell each from all others: leave it out, drop: [{name!r}]"
        )


def _no_numbers(frame: Frame, name: str) -> str:
    """Return the message for a column that holds no numbers."""
    column = frame.columns[name]
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    drop = f"leave it out, drop: [{name}]"
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return f"{frame.file}: column {name!r} holds {str(kind)[:40]}, and numbers are needed: make it one, or {drop}"
    # A mark of a missing value turns a column of numbers into text.
    values = column.to_pylist()
    strangers = [row for row, value in enumerate(values) if not _is_number(value)]
    if strangers and 2 * len(strangers) < frame.rows:
        row = strangers[0]
        return (
            f"{frame.where(row)}: column {name!r} must hold numbers, got {str(values[row])[:40]!r} "
            f"({len(strangers)} of {frame.rows} rows hold no number): fill them in or leave out these rows; "
            f"as categories, categorical: [{name}]; or {drop}"
        )
    return (
        f"{frame.file}: column {name!r} holds text, such as {str(values[0])[:40]!r}: one column of 0 and 1 per value "
        f"with categorical: [{name}], or {drop}"
    )


def _categories(frame: Frame, name: str) -> np.ndarray:
    """Return the values of a categorical column as text; 1 and 1.0 are one category."""
    texts: list[str] = []
    for row, value in enumerate(frame.columns[name].to_pylist()):
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        text = "" if value is None or value != value else str(value).strip()
        if not text:
            raise DataError(
                f"{frame.where(row)}: column {name!r} has no category; write one, such as 'unknown', or leave out "
                "the row"
            )
        texts.append(text)
    return np.array(texts)


def _check_repeated(name: str, categories: int, frames: Sequence[Frame]) -> None:
    """Refuse categories that are names of single rows."""
    rows = sum(frame.rows for frame in frames)
    if rows >= FEWEST_ROWS and 2 * categories > rows:
        raise DataError(
            f"{frames[0].file}: categorical column {name!r} has {categories} different values in {rows} rows: these "
            f"are names of rows and no categories; leave it out, drop: [{name}]"
        )


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
