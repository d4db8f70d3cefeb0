"""The results table and the ROC curves as files.

`results.csv` is for people and for comparing runs byte by byte: the shortest decimal form that reads
back as the same float, nothing where there is no value, line feeds. `results.parquet` holds the same
columns with their types, `roc.parquet` one line per point of a curve; the report reads these two.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bitleak.core.damage import reason
from bitleak.core.errors import StoreError
from bitleak.core.parquet import opened_parquet, to_parquet
from bitleak.core.types import Curve, Measure, Row
from bitleak.report.output_folder import REMEDY, write_atomically

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
    ]
)
"""Columns of `results.csv` and `results.parquet`, in order."""

CURVES_SCHEMA = pa.schema(
    [
        *[ROWS_SCHEMA.field(name) for name in ("variant", "quantizer", "levels", "attack", "reference", "target")],
        pa.field("fpr", pa.float64(), nullable=False),
        pa.field("tpr", pa.float64(), nullable=False),
    ]
)
"""Columns of `roc.parquet`: one line per point."""

_MEASURE = tuple(field.name for field in fields(Measure))
_CURVE = ("variant", "quantizer", "levels", "attack", "reference", "target")


@dataclass(frozen=True)
class RocCurve:
    """A ROC curve and what it is a curve of.

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


def write_rows(rows: Iterable[Row], folder: Path) -> None:
    """Write `results.csv` and `results.parquet` into the folder.

    Raises:
        StoreError: The folder cannot be written to.
    """
    columns = _columns(list(rows))
    write_atomically(folder / "results.csv", _csv(columns))
    arrays = [pa.array(values, field.type) for values, field in zip(columns.values(), ROWS_SCHEMA, strict=True)]
    write_atomically(folder / "results.parquet", to_parquet(pa.table(arrays, schema=ROWS_SCHEMA)))


def read_rows(folder: Path, *, target: str | None = None) -> list[Row]:
    """The rows of `results.parquet`, in their order.

    Args:
        folder: What `bitleak audit --out` was given.
        target: Only the rows of this target; None = all rows.

    Raises:
        StoreError: The file is missing, broken or has other columns.
    """
    table = from_parquet(folder / "results.parquet", ROWS_SCHEMA)
    if target is not None:
        table = table.filter(pc.equal(table["target"], target))
    return [_row(line) for line in table.to_pylist()]


def write_curves(curves: Iterable[RocCurve], folder: Path) -> None:
    """Write `roc.parquet` into the folder.

    Raises:
        StoreError: The folder cannot be written to.
    """
    listed = list(curves)
    lengths = [len(curve.points) for curve in listed]
    names = {name: np.repeat(np.arange(len(listed)), lengths) for name in _CURVE}
    columns = {name: pa.array([getattr(curve, name) for curve in listed], CURVES_SCHEMA.field(name).type).take(index)
               for name, index in names.items()}  # fmt: skip
    points = np.concatenate([np.empty((0, 2)), *[curve.points for curve in listed]]).astype(np.float64)
    columns |= {"fpr": pa.array(points[:, 0]), "tpr": pa.array(points[:, 1])}
    write_atomically(folder / "roc.parquet", to_parquet(pa.table(columns, schema=CURVES_SCHEMA)))


def read_curves(folder: Path) -> list[RocCurve]:
    """The curves of `roc.parquet`, in their order.

    Raises:
        StoreError: The file is missing, broken or has other columns.
    """
    table = from_parquet(folder / "roc.parquet", CURVES_SCHEMA)
    points = np.column_stack([table["fpr"].to_numpy(), table["tpr"].to_numpy()])
    keys = list(zip(*[table[name].to_pylist() for name in _CURVE], strict=True))
    curves, start = [], 0
    for key, group in groupby(keys):
        stop = start + len(list(group))
        curves.append(RocCurve(**dict(zip(_CURVE, key, strict=True)), points=points[start:stop]))
        start = stop
    return curves


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    measures = [row.measure for row in rows]
    return {
        name: [getattr(one, name) for one in (measures if name in _MEASURE else rows)] for name in ROWS_SCHEMA.names
    }


def _row(line: dict[str, Any]) -> Row:
    measure = Measure(**{name: line[name] for name in _MEASURE})
    return Row(measure=measure, **{name: value for name, value in line.items() if name not in _MEASURE})


def _csv(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """Header and lines; written here, since the standard library quotes a carriage return in some versions only."""
    cells = [_cells(name, values) for name, values in columns.items()]
    return "".join(",".join(row) + "\n" for row in zip(*cells, strict=True)).encode()


def _cells(name: str, values: Sequence[Any]) -> list[str]:
    """A column's name and the shortest texts that read back as the same values; NumPy's floats are floats."""
    if pa.types.is_floating(ROWS_SCHEMA.field(name).type):
        return [name, *["" if value is None else repr(float(value)) for value in values]]
    texts = {value: _quoted("" if value is None else str(value)) for value in set(values)}
    return [name, *[texts[value] for value in values]]


def _quoted(content: str) -> str:
    return '"' + content.replace('"', '""') + '"' if any(sign in content for sign in ',"\r\n') else content


def from_parquet(path: Path, schema: pa.Schema) -> pa.Table:
    """The table of a file that an audit wrote, with exactly the columns of the schema.

    Raises:
        StoreError: The file is missing, broken or has other columns.
    """
    if not path.is_file():
        raise StoreError(
            f"{path}: there is no such file; `bitleak report` needs the output folder of an audit, {REMEDY}"
        )
    with opened_parquet(path, kind=StoreError, advice=REMEDY) as opened:
        table = opened.file.read()
        table.validate(full=True)  # text that is not UTF-8
    absent = [name for name in schema.names if name not in table.column_names]
    if absent:
        raise StoreError(
            f"{path}: expected the columns {', '.join(schema.names)}; missing {', '.join(absent)}; {REMEDY}"
        )
    try:
        table = table.select(schema.names).cast(schema)
    except (ValueError, pa.ArrowException) as error:
        raise StoreError(f"{path}: a column has a wrong type ({reason(error)}); {REMEDY}") from error
    return table
