"""Stages that make records: the decoded data set and who is trained on what."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bitleak import registry
from bitleak.data import limited
from bitleak.data.image_copies import find_copies
from bitleak.data.splits import make_splits
from bitleak.engine.worker import Runtime
from bitleak.stages.signature import Artifacts, Params, Progress


def images(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """The data set, decoded once."""
    for one in params:
        where = {} if runtime.path is None else {"path": runtime.path}
        dataset = registry.resolve(registry.DATASETS, one["name"], kind="data set")(**one["options"], **where)
        found = dataset.load(None if runtime.data is None else Path(runtime.data))
        yield limited(found, one["limit"], one["seed"], held_out=one["held_out"])


def splits(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """Who is trained on what."""
    for one in params:
        yield make_splits(inputs["images"], **one)


def copies(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """Which records are copies of others."""
    images, held = inputs["images"], inputs["splits"]
    others = np.concatenate([held.calibration, held.population, held.test])
    for _ in params:
        found = find_copies(images.pixels, images.labels, held.pool, others)
        yield {
            "groups": found.groups,
            "counts": {
                "exact": found.exact,
                "near": found.near,
                "held_out": found.held_out,
                "contradicting": found.contradicting,
                "distance": found.distance,
            },
        }
