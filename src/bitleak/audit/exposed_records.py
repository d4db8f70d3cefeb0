"""Exposure of single records and figures by number of references, from a store in which all tasks
are done.
"""

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Int64
from PIL import Image

from bitleak.audit.graph.evaluation_tasks import standalone_kind
from bitleak.audit.preparation import Prepared
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, Splits
from bitleak.core.variants import FULL
from bitleak.data.array_images import channel_statistics
from bitleak.engine.codecs import decoded
from bitleak.engine.keys import Task
from bitleak.engine.store import Store
from bitleak.metrics import Memorisation
from bitleak.report import PowerRow, RecordResults, Summary, VariantRecords, variant_records
from bitleak.steps.attack_targets import AttackScores
from bitleak.steps.measure_power import PowerFigures

NAMED_COLUMNS = 3
"""Columns that are named of each listed row of a table."""


def decoded_result(store: Store, task: Task) -> Any:
    """Return the result of a task."""
    return decoded(store.read(task))


def exposed_records(
    prepared: Prepared, store: Store, summary: Summary, images: Images, splits: Splits
) -> RecordResults:
    """Return every record's exposure and memorisation under every variant."""
    variants = [FULL]
    variants += [entry.variant for entry in prepared.config.quantize]
    return RecordResults(
        attack=summary.headline_attack,
        records=splits.pool,
        labels=images.labels[splits.pool],
        variants=tuple(_variant(prepared, store, summary, splits, variant) for variant in variants),
        class_names=images.class_names,
    )


def power_curve_rows(prepared: Prepared, store: Store) -> list[PowerRow]:
    """Return the attacks at full precision by number of references; none if the config turns them
    off.
    """
    if prepared.plan.power is None:
        return []
    figures = PowerFigures.read(store.read_key(prepared.plan.power))
    return [PowerRow(FULL, reference=FULL, **figure._asdict()) for figure in figures.rows]


def pictures(images: Images, records: Iterable[int]) -> dict[int, bytes]:
    """Return a PNG of each of these records, as they are in the data set; rows of a table have none."""
    if not images.size:
        return {}
    return {record: _png(images.pixels[record]) for record in records}


def largest_deviations(
    table: Images, pool: Int64[np.ndarray, "pool"], records: Iterable[int]
) -> tuple[tuple[int, str], ...]:
    """Return each of these rows with the columns in which it is farthest from the pool's mean.

    Args:
        table: The data set; for images, and rows whose columns have no names, nothing is returned.
        pool: Records that mean and deviation are taken over.
        records: Records to describe.

    Example:
        >>> rows = np.array([[1, 0], [-1, 0], [1, 5]], np.float32)
        >>> table = Images(rows, np.zeros(3, np.int64), ("a",), np.zeros(3, bool), ("age", "size"))
        >>> largest_deviations(table, np.arange(3), [2])
        ((2, 'size = 5 (+1.4), age = 1 (+0.7)'),)
    """
    if table.size or not table.columns:
        return ()
    mean, std = (np.array(values) for values in channel_statistics(table, pool))
    described = []
    for record in dict.fromkeys(records):
        row = table.pixels[record].astype(np.float64)
        away = (row - mean) / std
        parts = []
        for column in np.argsort(-np.abs(away), kind="stable")[:NAMED_COLUMNS]:
            parts.append(f"{table.columns[column]} = {row[column]:.4g} ({away[column]:+.1f})")
        described.append((int(record), ", ".join(parts)))
    return tuple(described)


def _variant(
    prepared: Prepared, store: Store, summary: Summary, splits: Splits, variant: str
) -> VariantRecords:
    # Full precision is its own matched reference, so it has scores of one kind only.
    kinds = [kind for name, kind in prepared.plan.scores if name == variant]
    headline = summary.headline_reference
    kind = headline if headline in kinds else standalone_kind(prepared.config, kinds)
    scores = AttackScores.read(store.read_key(prepared.plan.scores[variant, kind]))
    uses_references = {attack.name: attack.references for attack in scores.attacks}[
        summary.headline_attack
    ]
    memorised = store.read_key(prepared.plan.memorisation[variant])
    return variant_records(
        (variant, kind if uses_references else ""),
        np.asarray(scores.of(summary.headline_attack)),
        splits.member[list(scores.targets)],
        memorised=Memorisation(memorised["mean"], memorised["error"]),
        seed=seed_for(prepared.config.seed, "reliability"),
    )


def _png(pixels: np.ndarray) -> bytes:
    sink = io.BytesIO()
    channels = pixels.shape[0]
    Image.fromarray(pixels[0] if channels == 1 else np.moveaxis(pixels, 0, -1)).save(
        sink, format="PNG"
    )
    return sink.getvalue()
