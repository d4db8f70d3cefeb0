"""`power.parquet`: figures by number of references, a line per attack, number, target, metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from bitleak.core.output_folder import write_atomically
from bitleak.core.parquet import to_parquet
from bitleak.core.types import Measure
from bitleak.report.row_files import ROWS_SCHEMA, from_parquet

_KEYS = ("variant", "attack", "reference", "references", "target", "metric")
_MEASURE = ("value", "low", "high", "std", "interval")

_REFERENCES = pa.field("references", pa.int64(), nullable=False)
POWER_SCHEMA = pa.schema(
    [_REFERENCES if name == "references" else ROWS_SCHEMA.field(name) for name in _KEYS + _MEASURE]
)
"""Columns of `power.parquet`, in order."""


@dataclass(frozen=True)
class PowerRow:
    """A figure at one number of references.

    Attributes:
        variant: As in `Row`.
        attack: As in `Row`.
        reference: As in `Row`.
        references: References per side of every record.
        target: Row number of the target as text, or `all`.
        metric: `auc`, or the TPR at the headline FPR.
        measure: The figure, without a comparison.
    """

    variant: str
    attack: str
    reference: str
    references: int
    target: str
    metric: str
    measure: Measure


def write_power(rows: Sequence[PowerRow], folder: Path) -> None:
    """Write `power.parquet` into the folder; without rows, remove it.

    Raises:
        StoreError: The folder cannot be written to.
    """
    path = folder / "power.parquet"
    if not rows:
        path.unlink(missing_ok=True)
        return
    columns = {}
    for name in _KEYS:
        columns[name] = [getattr(row, name) for row in rows]
    for name in _MEASURE:
        columns[name] = [getattr(row.measure, name) for row in rows]
    write_atomically(path, to_parquet(pa.table(columns, schema=POWER_SCHEMA)))


def read_power(folder: Path) -> list[PowerRow]:
    """Read the rows of `power.parquet`; none if there is no such file.

    Raises:
        StoreError: The file is broken or has other columns.
    """
    path = folder / "power.parquet"
    if not path.exists():
        return []
    rows = []
    for line in from_parquet(path, POWER_SCHEMA).to_pylist():
        measure = Measure(**{name: line.pop(name) for name in _MEASURE})
        rows.append(PowerRow(measure=measure, **line))
    return rows
