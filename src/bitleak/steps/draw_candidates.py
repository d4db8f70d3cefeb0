"""Draw the candidates of one target for calibration-set inference, and their random halves."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from bitleak.core.params import params_of
from bitleak.core.types import Splits
from bitleak.data.calibration_halves import calibration_candidates
from bitleak.engine.worker import Runtime
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class DrawCandidates:
    """Draw the candidates of one target, and which of them are in which calibration set.

    Attributes:
        target: Its row of the membership matrix.
        candidates: Members that may be in a calibration set.
        models: Quantized models, each with its own half of the candidates.
        population: Other members, in no calibration set.
        seed: Seed of this target's draw.
    """

    target: int
    candidates: int
    models: int
    population: int
    seed: int

    STAGE: ClassVar[str] = "candidates"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """The audit's splits."""

        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds."""
        return 0.1

    def bytes(self, scale: Scale) -> int:
        """Bytes of the matrix."""
        return self.models * self.candidates

    def memory(self, scale: Scale) -> int:
        """Memory of the audit's matrix."""
        return (scale.references + 8) * scale.pool

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Splits:
        """Return splits whose pool are the candidates."""
        return calibration_candidates(inputs.splits, **params_of(self))
