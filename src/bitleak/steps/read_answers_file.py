"""Read the answers of a given target to the training part, which imitated references learn from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from bitleak.core.errors import DataError
from bitleak.core.npy import read_array
from bitleak.engine.worker import Runtime
from bitleak.steps.load_target import digest_of
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class ReadAnswersFile:
    """Read the logits of a target from an `.npy` file, which the process that plans has written.

    Attributes:
        digest: SHA-256 of the file.
        records: Number of its rows.
        classes: Number of its columns.
    """

    digest: str
    records: int
    classes: int

    STAGE: ClassVar[str] = "imitated"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """Nothing of the store is read."""

    def cost(self, scale: Scale) -> float:
        """Seconds: 1 GB per second."""
        return 0.1 + 4e-9 * self.records * self.classes

    def bytes(self, scale: Scale) -> int:
        """Bytes of the logits."""
        return 4 * self.records * self.classes

    def memory(self, scale: Scale) -> int:
        """Memory of the logits and of a copy."""
        return 8 * self.records * self.classes

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Mapping[str, Any]:
        """Return the logits, float32 `records classes`, as the artifact `logits`.

        Raises:
            DataError: The file is not the one that the audit was planned with.
        """
        path = Path(runtime.files.get(self.digest, ""))
        if not path.is_file() or digest_of(path) != self.digest:
            raise DataError(
                "the target's answers to the training part are not there; run the same command again"
            )
        with path.open("rb") as file:
            logits = read_array(file, str(path), path.stat().st_size)
        return {"logits": np.asarray(logits, np.float32)}
