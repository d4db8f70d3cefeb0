"""Divide the pool into canaries and other records, which no table mixes."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from bitleak.core.types import Splits
from bitleak.data.canaries import pool_part
from bitleak.engine.worker import Runtime
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class DividePool:
    """Keep the canaries of a pool, or all its other records.

    Attributes:
        records: Number of canaries.
        canaries: Whether the canaries are kept; if not, the others are.
        seed: The audit's seed.
    """

    records: int
    canaries: bool
    seed: int

    STAGE: ClassVar[str] = "part"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """The splits whose pool holds the canaries."""

        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds."""
        return 0.1

    def bytes(self, scale: Scale) -> int:
        """Bytes of the matrix and of the indices."""
        records = scale.pool + scale.calibration + scale.population + scale.test
        return scale.models * scale.pool + 8 * records

    def memory(self, scale: Scale) -> int:
        """Memory of the matrix and of a part of it."""
        return 2 * (scale.models + 8) * (scale.pool + scale.canaries)

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Splits:
        """Return the splits with a smaller pool."""
        return pool_part(inputs.splits, self.records, self.seed, canaries=self.canaries)
