"""Draw which model is trained on which records, and which records are held out."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from bitleak.core.params import later, params_of
from bitleak.core.types import Images, SplitMode, Splits
from bitleak.data.splits import make_splits
from bitleak.engine.worker import Runtime
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class DrawSplits:
    """Draw the membership matrix and the held-out parts.

    Attributes:
        mode: `population` or `dedicated`.
        targets: Models that are attacked.
        held_out: Share of the records held out if the source has no test part of its own.
        calibration: Held-out records for calibration.
        population: Held-out records for the adversary.
        test: Held-out records for the accuracy; None takes the rest.
        seed: Seed for all draws.
        models: Models of a population.
        shadows: Shadow models, if the targets are dedicated.
        canaries: Records of the pool that are canaries (`data.canaries`); each model has half of them, and
            half of the others.
        pairs: Whether these are drawn as complementary pairs.
    """

    mode: SplitMode
    targets: int
    held_out: float
    calibration: int
    population: int
    test: int | None
    seed: int
    models: int | None = later(None)
    shadows: int | None = later(None)
    canaries: int = later(0)
    pairs: bool = later(False)

    STAGE: ClassVar[str] = "splits"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """The images, for their number and labels."""

        images: Images

    def cost(self, scale: Scale) -> float:
        """Seconds."""
        return 0.1

    def bytes(self, scale: Scale) -> int:
        """Bytes of the matrix and of the indices."""
        records = scale.pool + scale.calibration + scale.population + scale.test
        return scale.models * scale.pool + 8 * records

    def memory(self, scale: Scale) -> int:
        """Memory of the matrix and of the indices."""
        return (scale.references + 8) * scale.pool

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Splits:
        """Return the splits."""
        return make_splits(inputs.images, **params_of(self))
