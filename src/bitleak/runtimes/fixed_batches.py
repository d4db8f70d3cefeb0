"""Runs of a fixed batch, filled up with zeros, so that an image is answered alike alone and in company."""

from collections.abc import Callable

import numpy as np

from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec
from bitleak.runtimes.network_ports import InputPort, OutputPort
from bitleak.runtimes.runtime import Logits, Standardised


def answer_batches(
    run: Callable[[np.ndarray], np.ndarray],
    images: Standardised,
    *,
    entry: InputPort,
    output: OutputPort,
    spec: ModelSpec,
    batch: int,
) -> Logits:
    """Return the logits of standardised images, or log-probabilities.

    Args:
        run: Answers one batch, in the file's own layout and number type.
        images: The images.
        entry: The file's input.
        output: The file's output.
        spec: Standardisation of the images, and the number of classes.
        batch: Images per run.

    Raises:
        ModelError: The run fails, or its answers are not one finite number per image and class.
    """
    parts = [np.empty((0, spec.classes), np.float32)]
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        filled = np.zeros((batch, *part.shape[1:]), np.float32)
        filled[: len(part)] = part
        values = run(entry.values(filled, spec))
        expected = (batch, spec.classes)
        if values.shape[:1] != expected[:1] or values.size != batch * spec.classes:
            raise ModelError(
                f"output {output.name!r} has the shape {list(values.shape)} for {batch} images; expected "
                f"{list(expected)}: is it a network for another data set, or another output?"
            )
        parts.append(output.logits(values)[: len(part)])
    return np.concatenate(parts)
