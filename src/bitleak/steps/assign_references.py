"""Draw the training records of a target's references among non-members that are not evaluated."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, Splits
from bitleak.engine.worker import Runtime
from bitleak.steps.assign_members import check_record_count, given_target_splits, unpacked
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class AssignReferences:
    """Make the membership matrix of one given target, row 0, and of references outside of it.

    The pool holds the evaluated records and the training part. References are trained on random
    draws of the training part alone.

    Attributes:
        records: Number of records of the data set.
        members: The target's members, as `assign_members.packed` writes them.
        evaluated: Evaluated non-members, likewise.
        training: Non-members that references are trained on, likewise.
        population: Non-members for the adversary, likewise.
        references: Number of references.
        drawn: Training records of each.
        seed: Seed of the draws.
    """

    records: int
    members: str
    evaluated: str
    training: str
    population: str
    references: int
    drawn: int
    seed: int

    STAGE: ClassVar[str] = "outsiders"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """The images, for their number."""

        images: Images

    def cost(self, scale: Scale) -> float:
        """Seconds."""
        return 0.1

    def bytes(self, scale: Scale) -> int:
        """Bytes of the matrix and of the indices."""
        return (1 + self.references) * scale.pool + 8 * self.records

    def memory(self, scale: Scale) -> int:
        """Memory of the matrix and of the draws."""
        return (9 + self.references) * self.records

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Splits:
        """Return the splits.

        Raises:
            DataError: The data set has another number of records.
        """
        check_record_count(inputs.images, self.records)
        members, evaluated, training, population = (
            np.flatnonzero(unpacked(text, self.records)).astype(np.int64)
            for text in (self.members, self.evaluated, self.training, self.population)
        )
        pool = np.sort(np.concatenate([members, evaluated, training]))
        rows = [np.isin(pool, members)]
        for index in range(self.references):
            chance = np.random.default_rng(seed_for(self.seed, "reference records", index))
            rows.append(np.isin(pool, chance.permutation(training)[: self.drawn]))
        return given_target_splits(pool, np.stack(rows), population=population)
