"""Decode the data set, once for the whole audit."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import TypeAdapter

from bitleak import registry
from bitleak.core.types import Images
from bitleak.data import limited
from bitleak.engine.worker import Runtime
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class LoadImages:
    """Decode the data set.

    Attributes:
        name: A name of the registry's `DATASETS`.
        options: Its arguments, all but the path, which does not change the content.
        limit: Records at most; None takes all.
        held_out: Held-out records at most; None takes all.
        fingerprint: Changes when the content does.
        seed: Seed for the choice of records.
    """

    name: str
    options: Mapping[str, Any]
    limit: int | None
    held_out: int | None
    fingerprint: str
    seed: int

    STAGE: ClassVar[str] = "images"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """Nothing of the store is read."""

    def cost(self, scale: Scale) -> float:
        """Seconds: 0.2 ms per image."""
        return 2e-4 * scale.images

    def bytes(self, scale: Scale) -> int:
        """Bytes of the decoded images."""
        return scale.decoded_bytes

    def memory(self, scale: Scale) -> int:
        """Memory of the images and of a copy."""
        return 2 * scale.decoded_bytes

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Images:
        """Return the images, limited to the number in the config."""
        path = {} if runtime.path is None else {"path": runtime.path}
        kind = registry.resolve(registry.DATASETS, self.name, kind="data set")
        # Lists come back from JSON where the data set has tuples.
        dataset = TypeAdapter(kind).validate_python({**self.options, **path})
        images = dataset.load(None if runtime.data is None else Path(runtime.data))
        return limited(images, self.limit, self.seed, held_out=self.held_out)
