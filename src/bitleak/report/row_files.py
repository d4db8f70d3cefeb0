"""The results table and the ROC curves as files.

`results.csv` is for people and for comparing runs byte by byte: floats in the shortest decimal form
that reads back as the same float, missing values empty, lines that end in line feeds.
`results.parquet` holds the same columns with their types, `roc.parquet` one line per point of a
curve; the report reads these two.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bitleak.core.damage import reason
from bitleak.core.errors import StoreError
from bitleak.core.output_folder import write_atomically
from bitleak.core.parquet import opened_parquet, to_parquet
from bitleak.core.types import Curve, Measure, Row
from bitleak.report.audit_files import REMEDY

ROWS_SCHEMA = pa.schema(
    [
        pa.field("variant", pa.string(), nullable=False),
        pa.field("quantizer", pa.string(), nullable=False),
        pa.field("levels", pa.int64()),
        pa.field("attack", pa.string(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("std", pa.float64()),
        pa.field("interval", pa.string(), nullable=False),
        pa.field("difference", pa.float64()),
        pa.field("difference_low", pa.float64()),
        pa.field("difference_high", pa.float64()),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("p_value", pa.float64()),
        pa.field("p_adjusted", pa.float64()),
        pa.field("about", pa.string(), nullable=False),
        pa.field("family", pa.string(), nullable=False),
        pa.field("fpr_obtained", pa.float64()),
        pa.field("step_fpr", pa.float64()),
        pa.field("step_value", pa.float64()),
        pa.field("unbiased", pa.float64()),
        pa.field("chosen", pa.string(), nullable=False),
    ]
)
"""Columns of `results.csv` and `results.parquet`, in order."""

LATER_COLUMNS = (
    "about",
    "family",
    "fpr_obtained",
    "step_fpr",
    "step_value",
    "unbiased",
    "chosen",
)
"""Columns that runs of earlier versions lack; they are empty there."""

_CURVE = ("variant", "quantizer", "levels", "attack", "reference", "target")
_POINT = (
    pa.field("fpr", pa.float64(), nullable=False),
    pa.field("tpr", pa.float64(), nullable=False),
)

CURVES_SCHEMA = pa.schema([*map(ROWS_SCHEMA.field, _CURVE), *_POINT])
"""Columns of `roc.parquet`: one line per point."""

_MEASURE = tuple(field.name for field in fields(Measure))


@dataclass(frozen=True)
class RocCurve:
    """A ROC curve with its variant, attack and target.

    Attributes:
        variant: As in `Row`.
        quantizer: As in `Row`.
        levels: As in `Row`.
        attack: As in `Row`.
        reference: As in `Row`.
        target: Row number of the target as text, or `all` for the mean over targets.
        points: FPR and TPR, ascending.
    """

    variant: str
    quantizer: str
    levels: int | None
    attack: str
    reference: str
    target: str
    points: Curve


def named_curves(
    variant: str, quantizer: str, levels: int | None, curves: Mapping[str, Curve]
) -> list[RocCurve]:
    """Return curves of one variant whose names are `attack/reference/target`, as steps name them."""
    roc_curves = []
    for name, points in curves.items():
        attack, reference, target = name.split("/")
        roc_curves.append(RocCurve(variant, quantizer, levels, attack, reference, target, points))
    return roc_curves


def write_rows(rows: Iterable[Row], folder: Path) -> None:
    """Write `results.csv` and `results.parquet` into the folder.

    Raises:
        StoreError: The folder cannot be written to.
    """
    columns = _columns(list(rows))
    write_atomically(folder / "results.csv", _csv(columns))
    arrays = []
    for field, values in zip(ROWS_SCHEMA, columns.values(), strict=True):
        arrays.append(pa.array(values, field.type))
    write_atomically(folder / "results.parquet", to_parquet(pa.table(arrays, schema=ROWS_SCHEMA)))


def read_rows(folder: Path, *, target: str | None = None) -> list[Row]:
    """Read the rows of `results.parquet`, in their order.

    Args:
        folder: Output folder of an audit.
        target: Target whose rows are read; None = all rows.

    Raises:
        StoreError: The file is missing, broken or has other columns.
    """
    table = from_parquet(folder / "results.parquet", ROWS_SCHEMA, later=LATER_COLUMNS)
    if target is not None:
        import pyarrow.compute as pc  # here, since it takes long

        table = table.filter(pc.equal(table["target"], target))
    return [_row(line) for line in table.to_pylist()]


def write_curves(curves: Iterable[RocCurve], folder: Path) -> None:
    """Write `roc.parquet` into the folder.

    Raises:
        StoreError: The folder cannot be written to.
    """
    listed = list(curves)
    lengths = [len(curve.points) for curve in listed]
    curve_of_point = np.repeat(np.arange(len(listed)), lengths)
    columns = {}
    for name in _CURVE:
        values = [getattr(curve, name) for curve in listed]
        columns[name] = pa.array(values, CURVES_SCHEMA.field(name).type).take(curve_of_point)
    points = np.empty((len(curve_of_point), 2))
    if listed:
        np.concatenate([curve.points for curve in listed], out=points)
    columns |= {"fpr": pa.array(points[:, 0]), "tpr": pa.array(points[:, 1])}
    write_atomically(folder / "roc.parquet", to_parquet(pa.table(columns, schema=CURVES_SCHEMA)))


def read_curves(folder: Path) -> list[RocCurve]:
    """Read the curves of `roc.parquet`, in their order.

    Raises:
        StoreError: The file is missing, broken or has other columns.
    """
    table = from_parquet(folder / "roc.parquet", CURVES_SCHEMA)
    points = np.column_stack([table["fpr"].to_numpy(), table["tpr"].to_numpy()])
    starts = _starts(table)
    names = table.select(_CURVE).take(pa.array(starts, pa.int64())).to_pylist()
    ends = [*starts[1:], len(points)][: len(starts)]
    curves = []
    for name, start, stop in zip(names, starts, ends, strict=True):
        curves.append(RocCurve(**name, points=points[start:stop]))
    return curves


def _starts(table: pa.Table) -> list[int]:
    """Return the lines at which a curve begins: those that differ in a name from the line before."""
    if not len(table):
        return []
    begins = np.ones(len(table), bool)
    begins[1:] = False
    for name in _CURVE:
        names = table[name].combine_chunks().dictionary_encode(null_encoding="encode")
        codes = names.indices.to_numpy(zero_copy_only=False)
        begins[1:] |= codes[1:] != codes[:-1]
    return np.flatnonzero(begins).tolist()


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for name in ROWS_SCHEMA.names:
        if name in _MEASURE:
            columns[name] = [getattr(row.measure, name) for row in rows]
        else:
            columns[name] = [getattr(row, name) for row in rows]
    return columns


def _row(line: dict[str, Any]) -> Row:
    measure = Measure(**{name: line.pop(name) for name in _MEASURE})
    return Row(measure=measure, **line)


def _csv(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """Return header and lines; `csv` quotes a carriage return in some versions of Python only."""
    cells = [_cells(name, values) for name, values in columns.items()]
    lines = map(",".join, zip(*cells, strict=True))
    return "\n".join([*lines, ""]).encode()


def _cells(name: str, values: Sequence[Any]) -> list[str]:
    """Return a column's name and the shortest texts that read back as the same values."""
    if pa.types.is_floating(ROWS_SCHEMA.field(name).type):
        return [name, *map(_number, values)]
    texts = {None: ""}
    for value in set(values) - {None}:
        texts[value] = _quoted(str(value))
    return [name, *map(texts.__getitem__, values)]


def _number(value: float | None) -> str:
    return "" if value is None else repr(float(value))  # NumPy's floats have a repr of their own


def _quoted(content: str) -> str:
    if not set(content) & set(',"\r\n'):
        return content
    doubled = content.replace('"', '""')
    return f'"{doubled}"'


def from_parquet(path: Path, schema: pa.Schema, *, later: Sequence[str] = ()) -> pa.Table:
    """Read a file that an audit wrote, with exactly the columns of the schema.

    Args:
        path: The file.
        schema: Its columns.
        later: Columns that earlier versions did not write, and that are empty then.

    Raises:
        StoreError: The file is missing, broken or has other columns.
    """
    if not path.is_file():
        raise StoreError(
            f"{path}: there is no such file; the output folder of an audit holds it, {REMEDY}"
        )
    with opened_parquet(path, kind=StoreError, advice=REMEDY) as opened:
        table = opened.file.read()
        table.validate(full=True)  # text that is not UTF-8
    for name in later:
        if name not in table.column_names:
            text = pa.types.is_string(schema.field(name).type)
            empty = pa.array([""] * len(table), pa.string()) if text else pa.nulls(len(table))
            table = table.append_column(name, empty)
    absent = [name for name in schema.names if name not in table.column_names]
    if absent:
        raise StoreError(
            f"{path}: expected the columns {', '.join(schema.names)}; missing {', '.join(absent)}; {REMEDY}"
        )
    try:
        table = table.select(schema.names).cast(schema)
    except (ValueError, pa.ArrowException) as error:
        raise StoreError(
            f"{path}: a column has a wrong type ({reason(error)}); {REMEDY}"
        ) from error
    return table
