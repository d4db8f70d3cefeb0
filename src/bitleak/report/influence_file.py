"""`influences.parquet`: the influence of every record on the figures that two runs are compared by.

A figure's influence on record r is its derivative with respect to the record's weight
(`metrics.estimates`). With it, `bitleak compare` knows how far the figures of two runs rise and fall
together. There is one line per record and one column per figure, `float32`, named
`VARIANT ATTACK REFERENCE METRIC TARGET`:

- figures of the strongest adversary, of the adversary named beforehand, and the test accuracy;
- if intervals are about models trained anew, one column per target, else one of the mean over the
  targets, whose interval needs no more.

`part` is `pool` for records that are attacked and `test` for those that the test accuracy is measured
on; a figure is null on the records of the other part. `record` is the digest of the record's content,
by which two runs find the records that they share. If records were counted in clusters, a line is a cluster. The
value of a figure, its interval and its remaining numbers are JSON in the metadata of its column, the
digests of the targets' models in that of the file.

Size: 4 bytes per record and column before compression.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64
from pydantic import TypeAdapter

from bitleak.core.damage import DAMAGE, reason
from bitleak.core.errors import StoreError
from bitleak.core.output_folder import write_atomically
from bitleak.core.parquet import opened_parquet, to_parquet
from bitleak.core.types import About, Measure, SplitMode
from bitleak.metrics import Estimate, mean_over_records, verdict_about
from bitleak.report.audit_files import REMEDY
from bitleak.report.results_table import ALL

INFLUENCES = "influences.parquet"
_FILE_VERSION = 1
"""Version of the file's meaning."""

RecordPart = Literal["pool", "test"]
_RECORD_PARTS: tuple[RecordPart, ...] = ("pool", "test")

_DIGEST_BYTES = 8
"""Bytes of SHA-256 that identify a record or a model."""


@dataclass(frozen=True)
class FigureKey:
    """A column: as in `Row`, with the part of the records that it is measured on.

    Attributes:
        variant: As in `Row.variant`.
        attack: As in `Row.attack`; empty for the test accuracy.
        reference: As in `Row.reference`.
        metric: As in `Row.metric`.
        target: As in `Row.target`.
        part: Records that the figure is measured on.
    """

    variant: str
    attack: str
    reference: str
    metric: str
    target: str
    part: RecordPart

    def __str__(self) -> str:
        return f"{self.variant} {self.attack} {self.reference} {self.metric} {self.target}"


@dataclass(frozen=True)
class FigureNumbers:
    """Numbers of an `Estimate`, without its influence; NaN-free, minus infinity as null.

    Attributes:
        value: As in `Estimate.value`.
        centre: As in `Estimate.centre`.
        low: As in `Estimate.low`; None if the data say nothing from below.
        high: As in `Estimate.high`.
        choice_variance: As in `Estimate.choice_variance`.
        pairing: As in `Estimate.pairing`.
        bounded_below: As in `Estimate.bounded_below`.
    """

    value: float
    centre: float
    low: float | None
    high: float
    choice_variance: float
    pairing: float
    bounded_below: bool

    def __post_init__(self) -> None:
        for number in (self.value, self.centre, self.low or 0.0, self.high, self.choice_variance,
                       self.pairing):  # fmt: skip
            if not math.isfinite(number):
                raise ValueError(f"numbers of a figure must be finite, got {number}")


@dataclass(frozen=True)
class Influences:
    """Figures of a run with the influence of every record.

    Attributes:
        about: Subject of the intervals.
        models: Digest of every target's model, in the order of the targets.
        records: Digests of the records, or of the clusters, by part.
        figures: By column.
    """

    about: About
    models: tuple[str, ...]
    records: Mapping[RecordPart, tuple[str, ...]]
    figures: Mapping[FigureKey, Estimate]

    def of(
        self, variant: str, attack: str, reference: str, metric: str
    ) -> tuple[tuple[str, ...], RecordPart, tuple[Estimate, ...]] | None:
        """Return the targets, the part and the estimates of a figure; None if there are none."""
        targets, estimates = [], []
        part: RecordPart = "pool"
        for key, estimate in self.figures.items():
            if (key.variant, key.attack, key.reference, key.metric) == (
                variant, attack, reference, metric,
            ):  # fmt: skip
                targets.append(key.target)
                estimates.append(estimate)
                part = key.part
        return (tuple(targets), part, tuple(estimates)) if estimates else None


def figure_columns(
    cell: tuple[str, str, str],
    metric: str,
    estimates: Sequence[Estimate],
    measures: Mapping[str, Measure],
    *,
    targets: Sequence[int],
    mode: SplitMode,
    part: RecordPart = "pool",
) -> dict[FigureKey, Estimate]:
    """Return the columns of one figure; none if the results have no interval of it.

    Args:
        cell: Variant, attack and reference.
        metric: As in `Row.metric`.
        estimates: The figure of every target, on the same records.
        measures: The reported measures by target, with that of all targets.
        targets: Rows of the targets.
        mode: How the targets' training sets were drawn.
        part: Records that the figure is measured on.
    """
    if any(estimate.is_step for estimate in estimates):
        return {}
    if verdict_about(mode, len(targets)) == "trainings":
        by_target = dict(zip(map(str, targets), estimates, strict=True))
    else:
        by_target = {ALL: mean_over_records(estimates)}
    columns = {}
    for target, estimate in by_target.items():
        measure = measures.get(target)
        if measure is None or measure.low is None or measure.high is None:
            return {}
        columns[FigureKey(*cell, metric, target, part)] = as_reported(estimate, measure)
    return columns


def as_reported(estimate: Estimate, measure: Measure) -> Estimate:
    """Return an estimate with the reported interval, which may be wider than its own.

    The interval of the strongest adversary is widened by the error of the choice, which is no sum
    over records. With w times the estimate's own width, the variance that the choice adds is
    (w^2 - 1) times that of the influences.

    Args:
        estimate: Figure of the pairs that were chosen.
        measure: The row of the results; an end at the range of the figure was cut there.
    """
    if measure.low is None or measure.high is None or math.isinf(estimate.low):
        return estimate
    smallest, largest = estimate.limits
    if measure.low <= smallest or measure.high >= largest or not estimate.bounded_below:
        return estimate
    own = estimate.high - estimate.low
    widening = max(1.0, (measure.high - measure.low) / own) if own > 0 else 1.0
    if widening < 1 + 1e-9:
        return estimate
    added = (widening**2 - 1) * float(estimate.influence @ estimate.influence)
    return replace(
        estimate,
        low=measure.low,
        high=measure.high,
        choice_variance=estimate.choice_variance + added,
    )


def record_digests(*contents: Iterable[bytes]) -> tuple[str, ...]:
    """Return a digest per record.

    Args:
        contents: Parts of every record's content, such as its label and its pixels.

    Example:
        >>> record_digests([b"a", b"a"], [b"1", b"2"])[0] == record_digests([b"a"], [b"1"])[0]
        True
    """
    digests = []
    for parts in zip(*contents, strict=True):
        digest = hashlib.sha256()
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        digests.append(digest.hexdigest()[: 2 * _DIGEST_BYTES])
    return tuple(digests)


def cluster_digests(
    digests: Sequence[str], clusters: Int64[np.ndarray, "records"] | None
) -> tuple[str, ...]:
    """Return a digest per cluster, in which the order of its records has no part."""
    if clusters is None:
        return tuple(digests)
    members: list[list[str]] = [[] for _ in range(int(clusters.max()) + 1)]
    for digest, cluster in zip(digests, clusters.tolist(), strict=True):
        members[cluster].append(digest)
    return record_digests(["".join(sorted(texts)).encode() for texts in members])


def write_influences(influences: Influences, folder: Path) -> None:
    """Write `influences.parquet` into the folder.

    Raises:
        StoreError: The folder cannot be written to.
    """
    parts: list[str] = []
    digests: list[str] = []
    for part in _RECORD_PARTS:
        listed = influences.records.get(part, ())
        parts += [part] * len(listed)
        digests += listed
    place = np.array(parts)
    arrays = [pa.array(parts, pa.string()), pa.array(digests, pa.string())]
    fields = [
        pa.field("part", pa.string(), nullable=False),
        pa.field("record", pa.string(), nullable=False),
    ]
    for key, estimate in influences.figures.items():
        column = np.zeros(len(parts), np.float32)
        column[place == key.part] = estimate.influence
        arrays.append(pa.array(column, mask=place != key.part))
        described = json.dumps({"key": asdict(key), "numbers": asdict(_numbers(estimate))})
        fields.append(pa.field(str(key), pa.float32(), metadata={"figure": described}))
    run = json.dumps(
        {"version": _FILE_VERSION, "about": influences.about, "models": list(influences.models)}
    )
    schema = pa.schema(fields, metadata={"run": run})
    write_atomically(folder / INFLUENCES, to_parquet(pa.table(arrays, schema=schema)))


def read_influences(folder: Path) -> Influences | None:
    """Read `influences.parquet`; None if an earlier version wrote the folder, without this file.

    Raises:
        StoreError: The file is damaged, or of a newer version.
    """
    path = folder / INFLUENCES
    if not path.exists():
        return None
    with opened_parquet(path, kind=StoreError, advice=REMEDY) as opened:
        table = opened.file.read()
        table.validate(full=True)
    try:
        return _influences(table)
    except DAMAGE as error:
        raise StoreError(f"{path}: cannot be used ({reason(error)}); {REMEDY}") from error


def _influences(table: pa.Table) -> Influences:
    run = json.loads((table.schema.metadata or {})[b"run"])
    if run["version"] != _FILE_VERSION:
        raise ValueError(f"version must be {_FILE_VERSION}, got {run['version']!r}")
    place = np.array(table["part"].to_pylist())
    digests = table["record"].to_pylist()
    records: dict[RecordPart, tuple[str, ...]] = {}
    for part in _RECORD_PARTS:
        listed = np.flatnonzero(place == part)
        if len(listed):
            records[part] = tuple(digests[index] for index in listed)

    # The numbers of each figure, and its influences on the records of its part.
    figures: dict[FigureKey, Estimate] = {}
    keys, numbers = TypeAdapter(FigureKey), TypeAdapter(FigureNumbers)
    for index, column in enumerate(table.schema):
        if column.name in ("part", "record"):
            continue
        described = json.loads((column.metadata or {})[b"figure"])
        key = keys.validate_python(described["key"])
        influence = table.column(index).to_numpy()[place == key.part].astype(np.float64)
        if not np.isfinite(influence).all():
            raise ValueError(f"column {column.name!r}: expected finite numbers")
        figures[key] = _estimate(numbers.validate_python(described["numbers"]), influence)
    about = TypeAdapter(About).validate_python(run["about"])
    models = TypeAdapter(tuple[str, ...]).validate_python(run["models"])
    if about == "trainings":
        columns = Counter((key.variant, key.attack, key.reference, key.metric) for key in figures)
        if set(columns.values()) - {len(models)}:
            raise ValueError(f"expected a column per figure and model, of {len(models)} models")
    return Influences(about, models, records, figures)


def _numbers(estimate: Estimate) -> FigureNumbers:
    return FigureNumbers(
        value=float(estimate.value),
        centre=float(estimate.centre),
        low=None if math.isinf(estimate.low) else float(estimate.low),
        high=float(estimate.high),
        choice_variance=float(estimate.choice_variance),
        pairing=float(estimate.pairing),
        bounded_below=bool(estimate.bounded_below),
    )


def _estimate(numbers: FigureNumbers, influence: Float64[np.ndarray, "records"]) -> Estimate:
    return Estimate(
        value=numbers.value,
        centre=numbers.centre,
        low=-math.inf if numbers.low is None else numbers.low,
        high=numbers.high,
        influence=influence,
        interval="",
        choice_variance=numbers.choice_variance,
        pairing=numbers.pairing,
        bounded_below=numbers.bounded_below,
    )
