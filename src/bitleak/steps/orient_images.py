"""Bring the images to the order of channels and sides that a given target takes."""

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np

from bitleak.core.types import Images
from bitleak.engine.worker import Runtime
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class OrientImages:
    """Exchange channels or sides of all images, so that every network takes them as the target does.

    Attributes:
        channels: `bgr` reverses the channels.
        layout: `transposed` exchanges height and width.
    """

    channels: str
    layout: str

    STAGE: ClassVar[str] = "orient"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """The images as they are stored."""

        images: Images

    def cost(self, scale: Scale) -> float:
        """Seconds: 1 GB per second."""
        return 0.01 + 1e-9 * scale.pixels * scale.images

    def bytes(self, scale: Scale) -> int:
        """Bytes of the images."""
        return scale.pixels * scale.images

    def memory(self, scale: Scale) -> int:
        """Memory of the images and of a copy."""
        return 2 * scale.pixels * scale.images

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Images:
        """Return the images."""
        pixels = inputs.images.pixels
        if self.channels == "bgr":
            pixels = pixels[:, ::-1]
        if self.layout == "transposed":
            pixels = pixels.swapaxes(-1, -2)
        return replace(inputs.images, pixels=np.ascontiguousarray(pixels))
