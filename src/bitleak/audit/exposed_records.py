"""What the output folder says of single records, and of fewer references, from a store in which all is done."""

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from bitleak.audit.preparation import Prepared
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, Measure, Splits
from bitleak.engine.codecs import decode, kind_of
from bitleak.engine.keys import Task
from bitleak.engine.store import Store
from bitleak.metrics import Memorisation
from bitleak.report import PowerRow, RecordResults, Summary, VariantRecords, variant_records


def decoded_result(store: Store, task: Task) -> Any:
    """The value that a task has left."""
    artifacts = store.read(task)
    return decode(kind_of(artifacts), artifacts)


def exposed_records(
    prepared: Prepared, store: Store, summary: Summary, images: Images, splits: Splits
) -> RecordResults:
    """Exposure under the headline attack, and memorisation, of every record under every variant."""
    variants = ["fp32", *(entry.variant for entry in prepared.config.quantize)]
    return RecordResults(
        attack=summary.headline_attack,
        records=splits.pool,
        labels=images.labels[splits.pool],
        variants=tuple(_variant(prepared, store, summary, splits, variant) for variant in variants),
        class_names=images.class_names,
    )


def power_curve_rows(prepared: Prepared, store: Store) -> list[PowerRow]:
    """The attacks at full precision by number of references; none where they were not asked for."""
    if prepared.plan.power is None:
        return []
    found = store.read_key(prepared.plan.power)
    return [
        PowerRow("fp32", reference="fp32", **{**row, "measure": Measure(**row["measure"])}) for row in found["rows"]
    ]


def pictures(images: Images, records: Iterable[int]) -> dict[int, bytes]:
    """PNG of some records, as they are in the data set."""
    return {record: _png(images.pixels[record]) for record in records}


def _variant(prepared: Prepared, store: Store, summary: Summary, splits: Splits, variant: str) -> VariantRecords:
    kinds = [kind for name, kind in prepared.plan.scores if name == variant]
    wanted = summary.headline_reference
    kind = wanted if wanted in kinds else kinds[0]  # full precision is its own matched reference
    found = store.read_key(prepared.plan.scores[variant, kind])
    index = [each["name"] for each in found["attacks"]].index(summary.headline_attack)
    memorised = store.read_key(prepared.plan.memorisation[variant])
    return variant_records(
        (variant, kind if found["attacks"][index]["references"] else ""),
        np.asarray(found["scores"][index]),
        splits.member[found["targets"]],
        memorised=Memorisation(memorised["mean"], memorised["error"]),
        seed=seed_for(prepared.config.seed, "reliability"),
    )


def _png(pixels: np.ndarray) -> bytes:
    sink = io.BytesIO()
    channels = pixels.shape[0]
    Image.fromarray(pixels[0] if channels == 1 else np.moveaxis(pixels, 0, -1)).save(sink, format="PNG")
    return sink.getvalue()
