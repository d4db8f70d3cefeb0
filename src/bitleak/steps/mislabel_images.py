"""Give the canaries wrong labels, the same for all models."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from bitleak.core.types import Images, Splits
from bitleak.data.canaries import mislabelled
from bitleak.engine.worker import Runtime
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class MislabelImages:
    """Draw canaries from the pool, and give each a wrong label.

    Attributes:
        records: Number of canaries.
        seed: The audit's seed.
    """

    records: int
    seed: int

    STAGE: ClassVar[str] = "mislabel"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """The data set, and the splits whose pool holds the canaries."""

        images: Images
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds to write the images again."""
        return 0.1 + 1e-9 * scale.decoded_bytes

    def bytes(self, scale: Scale) -> int:
        """Bytes of the images."""
        return scale.decoded_bytes

    def memory(self, scale: Scale) -> int:
        """Memory of the images and of a copy."""
        return 2 * scale.decoded_bytes

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Images:
        """Return the images with wrong labels on the canaries."""
        return mislabelled(inputs.images, inputs.splits, self.records, self.seed)
