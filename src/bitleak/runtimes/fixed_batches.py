"""Runs of a fixed batch, filled up with zeros, so that an image is answered alike alone and in company."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec
from bitleak.runtimes.network_ports import InputPort, OutputPort
from bitleak.runtimes.runtime import Logits, Standardised


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
