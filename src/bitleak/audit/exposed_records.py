"""Exposure of single records and figures by number of references, from a store in which all tasks
are done.
"""

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from bitleak.audit.graph.evaluation_tasks import standalone_kind
from bitleak.audit.preparation import Prepared
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, Splits
from bitleak.core.variants import FULL
from bitleak.engine.codecs import decode, kind_of
from bitleak.engine.keys import Task
from bitleak.engine.store import Store
from bitleak.metrics import Memorisation
from bitleak.report import PowerRow, RecordResults, Summary, VariantRecords, variant_records
from bitleak.steps.attack_targets import AttackScores
from bitleak.steps.measure_power import PowerFigures


def decoded_result(store: Store, task: Task) -> Any:
    """Return the result of a task."""
    artifacts = store.read(task)
    return decode(kind_of(artifacts), artifacts)


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
    """Return a PNG of each of these records, as they are in the data set."""
    return {record: _png(images.pixels[record]) for record in records}


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
