"""How power grows with the number of references: `power.parquet`, one line per attack, number, target and metric."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from bitleak.core.parquet import to_parquet
from bitleak.core.types import Measure
from bitleak.report.output_folder import write_atomically
from bitleak.report.row_files import ROWS_SCHEMA, from_parquet

SCHEMA = pa.schema(
    [
        *[ROWS_SCHEMA.field(name) for name in ("variant", "attack", "reference")],
        pa.field("references", pa.int64(), nullable=False),
        *[ROWS_SCHEMA.field(name) for name in ("target", "metric", "value", "low", "high", "std", "interval")],
    ]
)
"""Columns of `power.parquet`, in order."""

GROUPS = {
    "LiRA online": "lira-online",
    "LiRA offline, one-sided": "lira-offline-one_sided",
    "LiRA offline, two-sided": "lira-offline-two_sided",
    "RMIA": "rmia",
    "difficulty calibration": "calibrated",
}
"""Attacks that are drawn together, by how their names begin; what is left is a group of its own."""

_MEASURE = ("value", "low", "high", "std", "interval")
_NAMES = tuple(name for name in SCHEMA.names if name not in _MEASURE)


@dataclass(frozen=True)
class PowerRow:
    """One figure with so many references.

    Attributes:
        variant: As in `Row`.
        attack: As in `Row`.
        reference: As in `Row`.
        references: References a side of every record.
        target: Row number of the target as text, or `all`.
        metric: `auc`, or the TPR at the headline FPR.
        measure: The figure; compared with nothing.
    """

    variant: str
    attack: str
    reference: str
    references: int
    target: str
    metric: str
    measure: Measure


def write_power(rows: Sequence[PowerRow], folder: Path) -> None:
    """Write `power.parquet` into the folder; where there are no rows, no such file is left in it.

    Raises:
        StoreError: The folder cannot be written to.
    """
    path = folder / "power.parquet"
    if not rows:
        path.unlink(missing_ok=True)
        return
    lines = [{name: getattr(row.measure if name in _MEASURE else row, name) for name in SCHEMA.names} for row in rows]
    write_atomically(path, to_parquet(pa.Table.from_pylist(lines, schema=SCHEMA)))


def read_power(folder: Path) -> list[PowerRow]:
    """The rows of `power.parquet`; none where there is no such file.

    Raises:
        StoreError: The file is broken or has other columns.
    """
    path = folder / "power.parquet"
    if not path.exists():
        return []
    return [_row(line) for line in from_parquet(path, SCHEMA).to_pylist()]


def grouped(rows: Iterable[PowerRow]) -> dict[str, tuple[str, ...]]:
    """The attacks by the group they are drawn in, both in the order of `GROUPS` and of the rows."""
    attacks = list(dict.fromkeys(row.attack for row in rows))
    found: dict[str, tuple[str, ...]] = {}
    for title, start in GROUPS.items():
        found[title] = tuple(name for name in attacks if name.startswith(start))
    known = [name for names in found.values() for name in names]
    found["other attacks"] = tuple(name for name in attacks if name not in known)
    return {title: names for title, names in found.items() if names}


def short(attack: str) -> str:
    """An attack's name without what its group says already.

    Example:
        >>> short("lira-offline-one_sided-fixed"), short("rmia-online"), short("rmia-x"), short("reference")
        ('fixed', 'online', 'x', 'reference')
    """
    start = next((start for start in GROUPS.values() if attack.startswith(f"{start}-")), "")
    return attack[len(start) + 1 :] if start else attack


def missing(rows: Iterable[PowerRow]) -> dict[int, tuple[str, ...]]:
    """The attacks that could not be run with so few references, by their number."""
    listed = list(rows)
    counts = sorted({row.references for row in listed})
    have = {(row.attack, row.references) for row in listed}
    attacks = list(dict.fromkeys(row.attack for row in listed))
    lacking = {count: tuple(name for name in attacks if (name, count) not in have) for count in counts}
    return {count: names for count, names in lacking.items() if names}


def _row(line: dict[str, Any]) -> PowerRow:
    measure = Measure(**{name: line[name] for name in _MEASURE})
    return PowerRow(measure=measure, **{name: line[name] for name in _NAMES})
