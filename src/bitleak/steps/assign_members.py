"""Give a target that was trained elsewhere its members, and shadow models their random halves."""

import base64
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from bitleak.core.errors import DataError
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, Splits
from bitleak.data.splits import check_splits
from bitleak.engine.worker import Runtime
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class AssignMembers:
    """Make the membership matrix of one given target, row 0, and of shadow models.

    Each record of the pool is in the training sets of half of the shadows, drawn for each record,
    which is independent of the target.

    Attributes:
        records: Number of records of the data set.
        members: The target's members, as `packed` writes them.
        others: Records that it was not trained on, likewise.
        calibration: Others for calibration.
        population: Others for the adversary.
        test: Others for the accuracy.
        shadows: Number of shadow models, even.
        seed: Seed of all draws.
    """

    records: int
    members: str
    others: str
    calibration: int
    population: int
    test: int
    shadows: int
    seed: int

    STAGE: ClassVar[str] = "assign"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """The images, for their number."""

        images: Images

    def cost(self, scale: Scale) -> float:
        """Seconds."""
        return 0.1

    def bytes(self, scale: Scale) -> int:
        """Bytes of the matrix and of the indices."""
        return scale.models * scale.pool + 8 * self.records

    def memory(self, scale: Scale) -> int:
        """Memory of the matrix and of the draws."""
        return (24 * scale.references + 8) * scale.pool

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Splits:
        """Return the splits.

        Raises:
            DataError: The data set has another number of records.
        """
        check_record_count(inputs.images, self.records)
        inside = np.flatnonzero(unpacked(self.members, self.records))
        outside = np.flatnonzero(unpacked(self.others, self.records))
        order = np.random.default_rng(seed_for(self.seed, "target parts")).permutation(outside)
        ends = np.cumsum([self.calibration, self.population, self.test])
        calibration, population, test, evaluated = np.split(order, ends)
        pool = np.sort(np.concatenate([inside, evaluated])).astype(np.int64)
        # Twice `argsort` gives the rank of each shadow; the lower half gets the record.
        rng = np.random.default_rng(seed_for(self.seed, "member"))
        ranks = rng.random((self.shadows, len(pool))).argsort(axis=0).argsort(axis=0)
        return given_target_splits(
            pool,
            np.concatenate([np.isin(pool, inside)[None], ranks < self.shadows // 2]),
            calibration=np.sort(calibration),
            population=np.sort(population),
            test=np.sort(test),
        )


def check_record_count(images: Images, records: int) -> None:
    """Check that a target's lists are about the data set.

    Args:
        images: The data set.
        records: Number of records that the lists were made for.

    Raises:
        DataError: The data set has another number of records.
    """
    if len(images.labels) != records:
        raise DataError(
            f"the target's lists are about {records:,} records, but the data set has {len(images.labels):,}"
        )


def given_target_splits(
    pool: Int64[np.ndarray, "records"],
    member: Bool[np.ndarray, "models records"],
    *,
    population: Int64[np.ndarray, "population"],
    calibration: Int64[np.ndarray, "calibration"] | None = None,
    test: Int64[np.ndarray, "test"] | None = None,
) -> Splits:
    """Return the splits of a target in row 0 that was trained elsewhere, checked.

    Args:
        pool: Records in ascending order.
        member: Membership of the target and, after it, of its references.
        population: Non-members for the adversary.
        calibration: Held-out records for calibration; None for none.
        test: Held-out records for the accuracy; None for none.
    """
    empty = np.zeros(0, np.int64)
    splits = Splits(
        mode="dedicated",
        pool=pool,
        member=member,
        targets=np.zeros(1, np.int64),
        calibration=empty if calibration is None else calibration,
        population=population,
        test=empty if test is None else test,
    )
    check_splits(splits)
    return splits


def packed(numbers: Int64[np.ndarray, "numbers"], records: int) -> str:
    """Return record numbers as text: a bit per record, in base 64.

    Example:
        >>> packed(np.array([0, 9]), 12), unpacked(packed(np.array([0, 9]), 12), 12).nonzero()[0].tolist()
        ('gEA=', [0, 9])
    """
    bits = np.zeros(records, bool)
    bits[numbers] = True
    return base64.b64encode(np.packbits(bits).tobytes()).decode()


def unpacked(text: str, records: int) -> Bool[np.ndarray, "records"]:
    """Return the bits that `packed` wrote."""
    content = np.frombuffer(base64.b64decode(text), np.uint8)
    return np.unpackbits(content, count=records).astype(bool)
