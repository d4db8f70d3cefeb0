"""Find which records are copies of others, exact and near, or read which depend on each other."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Int64

from bitleak.core.errors import DataError
from bitleak.core.params import later
from bitleak.core.types import Images, Splits
from bitleak.data.cluster_file import read_groups
from bitleak.data.image_copies import find_copies
from bitleak.engine.worker import Runtime
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress

Groups = Int64[np.ndarray, "records"]
"""Number of each pool record's group: records with equal numbers depend on each other."""


def groups_of(stored: Mapping[str, Any] | None) -> Groups | None:
    """Return the groups of a result of `FindCopies`; None if there is none."""
    return None if stored is None else np.asarray(stored["groups"])


@dataclass(frozen=True)
class FindCopies:
    """Find copies among the records of the pool, and between the pool and the held-out records.

    Attributes:
        file: File that gives the groups instead, so that no copies are searched; empty if none does.
        digest: Digest of the numbers in the file.
    """

    file: str = later("")
    digest: str = later("")

    STAGE: ClassVar[str] = "copies"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """The records, and which of them are held out."""

        images: Images
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds: 0.2 ms per record of the pool."""
        return 2e-4 * scale.pool

    def bytes(self, scale: Scale) -> int:
        """Bytes: a group number per record."""
        return 8 * scale.pool

    def memory(self, scale: Scale) -> int:
        """Memory of the images, of blocks of candidates, and of the hashes."""
        return scale.decoded_bytes + 4 * scale.pixels * (4 * 1024 + 5200) + 400 * scale.pool

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> dict[str, Any]:
        """Return the group of each pool record and the counts of copies."""
        images, split = inputs.images, inputs.splits
        if self.file:
            groups, digest = read_groups(Path(self.file))
            if digest != self.digest:
                raise DataError(
                    f"clusters: {self.file} has changed since the audit began; run again"
                )
            return {"groups": groups[split.pool]}
        held_out = np.concatenate([split.calibration, split.population, split.test])
        copies = find_copies(images.pixels, images.labels, split.pool, held_out)
        counts = {
            "exact": copies.exact,
            "near": copies.near,
            "held_out": copies.held_out,
            "contradicting": copies.contradicting,
            "distance": copies.distance,
        }
        return {"groups": copies.groups, "counts": counts}
