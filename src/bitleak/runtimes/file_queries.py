"""Answers of a file in its runtime to the records of a data set, without PyTorch.

Cost: one run per batch and query.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64, Int64

from bitleak.core.types import Images, ModelSpec
from bitleak.data.array_images import queried_array, standardized_array
from bitleak.runtimes.runtime import OpenNetwork


def file_answers(
    network: OpenNetwork,
    images: Images,
    records: Int64[np.ndarray, "records"],
    *,
    spec: ModelSpec,
    queries: Sequence[str],
    batch: int,
    on_batch: Callable[[int], None] | None = None,
) -> list[Float64[np.ndarray, "records classes"]]:
    """Return a network's logits under each query; as `bitleak.query.answers` of the same file.

    Args:
        network: The network in its runtime.
        images: The data set.
        records: Indices of the records to evaluate.
        spec: The standardisation of the network's input.
        queries: Names of the fixed augmentations.
        batch: Images that are standardised at a time.
        on_batch: Called after each batch with the images that the network has seen.

    Raises:
        ModelError: The runtime fails, or a logit is not finite.
    """
    logits = [np.empty((len(records), spec.classes)) for _ in queries]
    for start in range(0, len(records), batch):
        pixels = np.asarray(images.pixels[records[start : start + batch]])
        for part, query in zip(logits, queries, strict=True):
            inputs = standardized_array(queried_array(pixels, query), spec.mean, spec.std)
            part[start : start + len(pixels)] = network(inputs)
        if on_batch is not None:
            on_batch(len(pixels) * len(queries))
    return logits
