"""Figures of single records: `records.parquet`, and the part of the summary that is made from it.

A record's exposure is its mean score under the headline attack, over the targets that were trained
on it, with the variant's references of the headline's kind; memorisation needs no attack. Both are
defined in `bitleak.metrics.exposure`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float64, Int64

from bitleak.core.output_folder import write_atomically
from bitleak.core.parquet import to_parquet
from bitleak.metrics import (
    Exposure,
    Memorisation,
    exposure,
    extremes,
    extremes_by_class,
    movement,
    reliability,
)

SHOWN = 10
"""Records at each end that the summary lists for every variant."""

SHOWN_BY_CLASS = 3
"""Records at each end that the summary lists for every class, at full precision."""

RECORDS_SCHEMA = pa.schema(
    [
        pa.field("variant", pa.string(), nullable=False),
        pa.field("attack", pa.string(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("record", pa.int64(), nullable=False),
        pa.field("label", pa.int64()),
        pa.field("exposure", pa.float64()),
        pa.field("exposure_std", pa.float64()),
        pa.field("targets", pa.int64(), nullable=False),
        pa.field("exposure_change", pa.float64()),
        pa.field("memorisation", pa.float64()),
        pa.field("memorisation_error", pa.float64()),
        pa.field("memorisation_change", pa.float64()),
    ]
)
"""Columns of `records.parquet`, a line per variant and record; null if a figure is not known."""


@dataclass(frozen=True)
class VariantRecords:
    """Figures of every record under one variant.

    Attributes:
        variant: As in `Row`.
        reference: Kind of reference of the attack.
        exposure: Exposure of every record.
        reliability: Reliability of the exposures' order; None if there are too few targets.
        memorisation: Memorisation of every record; None if the answers hold no probability.
    """

    variant: str
    reference: str
    exposure: Exposure
    reliability: float | None
    memorisation: Memorisation | None


@dataclass(frozen=True)
class RecordResults:
    """Figures of every record under every variant.

    Attributes:
        attack: The attack whose scores the exposures are.
        records: Numbers of the records in the data set (or in the file of answers).
        labels: True classes; None if they are not known.
        variants: Full precision first.
        class_names: Names by label; empty if the classes have none.
    """

    attack: str
    records: Int64[np.ndarray, "records"]
    labels: Int64[np.ndarray, "records"] | None
    variants: tuple[VariantRecords, ...]
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExposedRecord:
    """One record of the summary.

    Attributes:
        record: Number of the record.
        label: True class; None if it is not known.
        exposure: Mean score over the targets trained on it.
        std: Deviation over these targets; None if there is only one.
        targets: Number of these targets.
        memorisation: Probability of the true class under models trained on it minus under the
            others; None if it is not known.
    """

    record: int
    label: int | None
    exposure: float
    std: float | None
    targets: int
    memorisation: float | None


@dataclass(frozen=True)
class ExposedVariant:
    """The most and the least exposed records of a variant, compared with full precision.

    Attributes:
        variant: As in `Row`.
        reference: Kind of reference of the attack.
        mean: Mean exposure.
        reliability: See `metrics.reliability`.
        mean_change: Mean change of exposure from full precision; None for full precision.
        rank_correlation: Rank correlation of the exposures with those at full precision.
        kept: Number of records among the `SHOWN` most exposed both here and at full precision.
        memorisation: Mean memorisation.
        most: The most exposed first.
        least: The least exposed first.
    """

    variant: str
    reference: str
    mean: float
    reliability: float | None
    mean_change: float | None
    rank_correlation: float | None
    kept: int | None
    memorisation: float | None
    most: tuple[ExposedRecord, ...]
    least: tuple[ExposedRecord, ...]


@dataclass(frozen=True)
class ExposedClass:
    """One class at full precision.

    Attributes:
        label: The class.
        mean: Mean exposure of its records.
        most: Numbers of its most exposed records.
        least: Numbers of its least exposed records.
    """

    label: int
    mean: float
    most: tuple[int, ...]
    least: tuple[int, ...]


@dataclass(frozen=True)
class Exposed:
    """The part of the summary about single records.

    Attributes:
        attack: The attack whose scores the exposures are.
        variants: Full precision first.
        classes: Classes at full precision; empty if the labels are not known.
        class_names: Names by label; empty if the classes have none.
        rows: Each listed record of a table with its largest deviations; empty for images, which
            have pictures.
    """

    attack: str
    variants: tuple[ExposedVariant, ...]
    classes: tuple[ExposedClass, ...]
    class_names: tuple[str, ...] = ()
    rows: tuple[tuple[int, str], ...] = ()


def variant_records(
    names: tuple[str, str],
    scores: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    *,
    memorised: Memorisation | None,
    seed: int,
) -> VariantRecords:
    """Return a variant's figures of every record from the attack's scores.

    Args:
        names: Variant, and kind of reference.
        scores: Scores of the attacked targets.
        member: Their membership.
        memorised: Memorisation of the same records.
        seed: Seed of the random halvings that give the reliability.
    """
    # A rank correlation needs three records with a target in either half, and varied scores.
    halved = member.sum(axis=0) >= 2
    stable = None
    if halved.sum() >= 3 and np.ptp(scores) > 0:
        stable = reliability(scores, member, seed=seed)
    return VariantRecords(*names, exposure(scores, member), stable, memorised)


def write_records(results: RecordResults, folder: Path) -> None:
    """Write `records.parquet` into the folder.

    Raises:
        StoreError: The folder cannot be written to.
    """
    parts = [_columns(results, entry) for entry in results.variants]
    write_atomically(folder / "records.parquet", to_parquet(pa.concat_tables(parts)))


def exposed(results: RecordResults) -> Exposed | None:
    """Return the summary of single records; None if no target was trained on any of them."""
    full = results.variants[0]
    if not np.isfinite(full.exposure.mean).any():
        return None
    return Exposed(
        attack=results.attack,
        variants=tuple(_exposed_variant(results, entry) for entry in results.variants),
        classes=() if results.labels is None else _exposed_classes(results, results.labels),
        class_names=results.class_names,
    )


def _columns(results: RecordResults, entry: VariantRecords) -> pa.Table:
    """Return a variant's lines of `records.parquet`."""
    full, count = results.variants[0], len(results.records)
    unknown = np.full(count, np.nan)
    mean = error = full_mean = unknown
    if entry.memorisation is not None:
        mean, error = entry.memorisation.mean, entry.memorisation.error
    if full.memorisation is not None:
        full_mean = full.memorisation.mean

    # Full precision is compared with nothing: nulls, and not changes of zero.
    quantized = entry is not full
    figures = {
        "exposure": entry.exposure.mean,
        "exposure_std": entry.exposure.std,
        "exposure_change": entry.exposure.mean - full.exposure.mean if quantized else unknown,
        "memorisation": mean,
        "memorisation_error": error,
        "memorisation_change": mean - full_mean if quantized else unknown,
    }
    names = {"variant": entry.variant, "attack": results.attack, "reference": entry.reference}
    columns = {name: pa.repeat(pa.scalar(text), count) for name, text in names.items()}
    for name, values in figures.items():
        columns[name] = pa.array(values, pa.float64(), from_pandas=True)  # NaN becomes null
    columns["record"] = pa.array(results.records)
    columns["targets"] = pa.array(entry.exposure.targets)
    labels = pa.nulls(count, pa.int64()) if results.labels is None else pa.array(results.labels)
    columns["label"] = labels
    ordered = [columns[name] for name in RECORDS_SCHEMA.names]
    return pa.table(ordered, schema=RECORDS_SCHEMA)


def _exposed_classes(
    results: RecordResults, labels: Int64[np.ndarray, "records"]
) -> tuple[ExposedClass, ...]:
    mean = results.variants[0].exposure.mean
    most = extremes_by_class(mean, labels, SHOWN_BY_CLASS, end="most")
    least = extremes_by_class(mean, labels, SHOWN_BY_CLASS, end="least")
    classes = []
    for label in most:
        class_mean = mean[(labels == label) & np.isfinite(mean)]
        if len(class_mean):
            first = tuple(results.records[most[label]].tolist())
            last = tuple(results.records[least[label]].tolist())
            classes.append(ExposedClass(label, float(class_mean.mean()), first, last))
    return tuple(classes)


def _exposed_variant(results: RecordResults, entry: VariantRecords) -> ExposedVariant:
    before, now = results.variants[0].exposure.mean, entry.exposure.mean
    first, last = extremes(now, SHOWN), extremes(now, SHOWN, end="least")
    mean_change, order, common = None, None, None
    if entry is not results.variants[0]:
        mean_change, order = _movement(before, now)
        common = len(np.intersect1d(extremes(before, SHOWN), first))
    return ExposedVariant(
        variant=entry.variant,
        reference=entry.reference,
        mean=float(np.nanmean(now)),
        reliability=entry.reliability,
        mean_change=mean_change,
        rank_correlation=order,
        kept=common,
        memorisation=_mean_of_known(entry.memorisation),
        most=tuple(_exposed_record(results, entry, index) for index in first.tolist()),
        least=tuple(_exposed_record(results, entry, index) for index in last.tolist()),
    )


def _mean_of_known(memorised: Memorisation | None) -> float | None:
    """Return the mean of the finite values; None if there are none, as with a single model."""
    if memorised is None:
        return None
    finite = memorised.mean[np.isfinite(memorised.mean)]
    return float(finite.mean()) if len(finite) else None


def _movement(
    before: Float64[np.ndarray, "records"], now: Float64[np.ndarray, "records"]
) -> tuple[float, float | None]:
    """Return the mean change and the rank correlation, which is None unless both vary."""
    known = np.isfinite(before) & np.isfinite(now)
    mean_change = float((now - before)[known].mean())
    if known.sum() < 3 or np.ptp(before[known]) == 0 or np.ptp(now[known]) == 0:
        return mean_change, None
    return mean_change, movement(before, now).rank_correlation


def _exposed_record(results: RecordResults, entry: VariantRecords, index: int) -> ExposedRecord:
    memorised = entry.memorisation
    return ExposedRecord(
        record=int(results.records[index]),
        label=None if results.labels is None else int(results.labels[index]),
        exposure=float(entry.exposure.mean[index]),
        std=_known(entry.exposure.std[index]),
        targets=int(entry.exposure.targets[index]),
        memorisation=None if memorised is None else _known(memorised.mean[index]),
    )


def _known(value: float | np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None
