"""Answers of a file in its runtime, without PyTorch: to standardised images, and to a data set.

Runs have a fixed batch, filled up with zeros, so that an image is answered alike alone and in
company. Cost: one run per batch and query.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from bitleak.core.errors import ModelError
from bitleak.core.types import Images, ModelSpec
from bitleak.data.array_images import queried_array, standardized_array
from bitleak.runtimes.network_ports import InputPort, OutputPort
from bitleak.runtimes.runtime import Logits, OpenNetwork, Standardised


@dataclass(frozen=True)
class BatchedNetwork:
    """A network in its runtime that answers standardised images with logits.

    Attributes:
        run: Answers one batch, in the file's own layout and number type; it raises ModelError.
        entry: The file's input.
        output: The file's output.
        spec: Standardisation of the images, and the number of classes.
        facts: Name and version of the runtime, its provider and its arithmetic.
    """

    run: Callable[[np.ndarray], np.ndarray]
    entry: InputPort
    output: OutputPort
    spec: ModelSpec
    facts: Mapping[str, Any]

    def __call__(self, images: Standardised) -> Logits:
        """Return the logits of standardised images, or log-probabilities.

        Raises:
            ModelError: The run fails, or its answers are not one finite number per image and class.
        """
        batch, classes = self.entry.batch, self.spec.classes
        parts = [np.empty((0, classes), np.float32)]
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            filled = part
            if len(part) < batch:
                filled = np.zeros((batch, *part.shape[1:]), np.float32)
                filled[: len(part)] = part
            values = self.run(self.entry.values(filled, self.spec))
            if values.shape[:1] != (batch,) or values.size != batch * classes:
                raise ModelError(
                    f"output {self.output.name!r} has the shape {list(values.shape)} for {batch} images; "
                    f"expected {[batch, classes]}: is it a network for another data set, or another output?"
                )
            parts.append(self.output.logits(values)[: len(part)])
        return np.concatenate(parts)


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
