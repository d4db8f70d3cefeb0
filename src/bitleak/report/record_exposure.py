"""Which records are exposed: `records.parquet`, and the part of the summary that is made from it.

Exposure is the mean score of one attack, the headline attack, over the targets that were trained on the record, with
the variant's references of the headline's kind; memorisation needs no attack. What each means is said in
`bitleak.metrics.exposure`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float64, Int64

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
from bitleak.report.output_folder import write_atomically

SHOWN = 10
"""Records at each end that the summary lists for every variant."""

SHOWN_BY_CLASS = 3
"""Records at each end that it lists for every class, at full precision."""

SCHEMA = pa.schema(
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
"""Columns of `records.parquet`: one line per variant and record; nothing where something is not known."""


@dataclass(frozen=True)
class VariantRecords:
    """What one variant makes of every record.

    Attributes:
        variant: As in `Row`.
        reference: Kind of reference of the attack.
        exposure: Of every record.
        reliability: Of the exposures' order; None where there are too few targets.
        memorisation: Of every record; None where the answers hold no probability.
    """

    variant: str
    reference: str
    exposure: Exposure
    reliability: float | None
    memorisation: Memorisation | None


@dataclass(frozen=True)
class Records:
    """What the variants make of every record.

    Attributes:
        attack: Whose scores the exposures are.
        records: Numbers of the records in the data set (or in the file of answers).
        labels: True classes; None where nobody knows them.
        variants: Full precision first.
        class_names: By label; empty where they have none.
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
        record: Its number.
        label: True class; None where nobody knows it.
        exposure: Mean score over the targets trained on it.
        std: Deviation over these; None where there is one.
        targets: Their number.
        memorisation: IN minus OUT probability; None where it is not known.
    """

    record: int
    label: int | None
    exposure: float
    std: float | None
    targets: int
    memorisation: float | None


@dataclass(frozen=True)
class ExposedVariant:
    """The most and the least exposed records of a variant, and what has become of the order at full precision.

    Attributes:
        variant: As in `Row`.
        reference: Kind of reference of the attack.
        mean: Mean exposure.
        reliability: See `metrics.reliability`.
        mean_change: Of the exposure, from full precision; None for full precision.
        rank_correlation: Of the exposure with that at full precision.
        kept: How many of the `SHOWN` most exposed at full precision are among the `SHOWN` most exposed here.
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
        attack: Whose scores the exposures are.
        variants: Full precision first.
        classes: At full precision; empty where the labels are not known.
        class_names: By label; empty where they have none.
    """

    attack: str
    variants: tuple[ExposedVariant, ...]
    classes: tuple[ExposedClass, ...]
    class_names: tuple[str, ...] = ()


def variant_records(
    about: tuple[str, str],
    scores: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    *,
    memorised: Memorisation | None,
    seed: int,
) -> VariantRecords:
    """The exposures of a variant from the attack's scores.

    Args:
        about: Variant, and kind of reference.
        scores: Of the attacked targets.
        member: Who is in whose training set.
        memorised: Of the same records.
        seed: Of the halvings behind the reliability.
    """
    enough = (member.sum(axis=0) >= 2).sum() >= 3 and np.ptp(scores) > 0
    stable = reliability(scores, member, seed=seed) if enough else None
    return VariantRecords(*about, exposure(scores, member), stable, memorised)


def write_records(found: Records, folder: Path) -> None:
    """Write `records.parquet` into the folder.

    Raises:
        StoreError: The folder cannot be written to.
    """
    full = found.variants[0]
    parts = []
    for one in found.variants:
        nothing = np.full(len(found.records), np.nan)
        mean, error = (one.memorisation.mean, one.memorisation.error) if one.memorisation else (nothing, nothing)
        before = full.memorisation.mean if full.memorisation else nothing
        numbers = {
            "exposure": one.exposure.mean,
            "exposure_std": one.exposure.std,
            "exposure_change": nothing if one is full else one.exposure.mean - full.exposure.mean,
            "memorisation": mean,
            "memorisation_error": error,
            "memorisation_change": nothing if one is full else mean - before,
        }
        texts = {"variant": one.variant, "attack": found.attack, "reference": one.reference}
        columns = {name: pa.repeat(pa.scalar(text), len(found.records)) for name, text in texts.items()}
        columns |= {name: pa.array(values, pa.float64(), from_pandas=True) for name, values in numbers.items()}
        columns |= {"record": pa.array(found.records), "targets": pa.array(one.exposure.targets)}
        columns["label"] = pa.nulls(len(found.records), pa.int64()) if found.labels is None else pa.array(found.labels)
        parts.append(pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA))
    write_atomically(folder / "records.parquet", to_parquet(pa.concat_tables(parts)))


def exposed(found: Records) -> Exposed | None:
    """What the summary says of single records; None where no target was trained on any of them."""
    full = found.variants[0]
    if not np.isfinite(full.exposure.mean).any():
        return None
    classes: list[ExposedClass] = []
    if found.labels is not None:
        most, least = (
            extremes_by_class(full.exposure.mean, found.labels, SHOWN_BY_CLASS, end=end) for end in ("most", "least")
        )
        for label in most:
            own = full.exposure.mean[(found.labels == label) & np.isfinite(full.exposure.mean)]
            if len(own):
                ends = (tuple(found.records[at[label]].tolist()) for at in (most, least))
                classes.append(ExposedClass(label, float(own.mean()), *ends))
    return Exposed(
        attack=found.attack,
        variants=tuple(_variant(found, one) for one in found.variants),
        classes=tuple(classes),
        class_names=found.class_names,
    )


def _variant(found: Records, one: VariantRecords) -> ExposedVariant:
    before, now = found.variants[0].exposure.mean, one.exposure.mean
    most, least = extremes(now, SHOWN), extremes(now, SHOWN, end="least")
    moved: Mapping[str, float] = {}
    if one is not found.variants[0]:
        moved = _moved(before, now)
    return ExposedVariant(
        variant=one.variant,
        reference=one.reference,
        mean=float(np.nanmean(now)),
        reliability=one.reliability,
        mean_change=moved.get("change"),
        rank_correlation=moved.get("order"),
        kept=None if not moved else len(np.intersect1d(extremes(before, SHOWN), most)),
        memorisation=_mean_of_known(one.memorisation.mean) if one.memorisation else None,
        most=tuple(_record(found, one, int(at)) for at in most),
        least=tuple(_record(found, one, int(at)) for at in least),
    )


def _mean_of_known(values: Float64[np.ndarray, "records"]) -> float | None:
    """The mean of the finite values; None if there are none, as the memorisation of a single model."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def _moved(before: Float64[np.ndarray, "records"], now: Float64[np.ndarray, "records"]) -> dict[str, float]:
    """The mean change; the rank correlation only where both vary."""
    known = np.isfinite(before) & np.isfinite(now)
    moved = {"change": float((now - before)[known].mean())}
    if known.sum() >= 3 and np.ptp(before[known]) > 0 and np.ptp(now[known]) > 0:
        moved["order"] = movement(before, now).rank_correlation
    return moved


def _record(found: Records, one: VariantRecords, at: int) -> ExposedRecord:
    return ExposedRecord(
        record=int(found.records[at]),
        label=None if found.labels is None else int(found.labels[at]),
        exposure=float(one.exposure.mean[at]),
        std=_known(one.exposure.std[at]),
        targets=int(one.exposure.targets[at]),
        memorisation=_known(one.memorisation.mean[at]) if one.memorisation else None,
    )


def _known(value: float | np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None
