"""Read a file of a target that a runtime executes, which stands in the place of a quantization."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec, NetworkFile
from bitleak.engine.worker import Runtime
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class LoadRelease:
    """Read a quantized version of a target from its file.

    Attributes:
        digest: SHA-256 over the file and the files of its tensors.
        options: Options of the runtime that answers it.
        made_by: Name and version of the runtime, which decides the last bits of its answers.
        network: Name of the target's network.
        arguments: Arguments of its builder.
        classes: Number of classes.
        channels: Channels of an image.
        size: Height and width of an image.
        mean: Mean per channel of the file's input, of pixels from 0 to 1.
        std: Deviation per channel.
    """

    digest: str
    options: Mapping[str, Any]
    made_by: str
    network: str
    arguments: Mapping[str, Any]
    classes: int
    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    STAGE: ClassVar[str] = "release"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """Nothing of the store is read."""

    def cost(self, scale: Scale) -> float:
        """Seconds: 1 GB per second."""
        return 0.5 + 1e-9 * scale.weight_bytes

    def bytes(self, scale: Scale) -> int:
        """Bytes of a file whose weights are floats."""
        return scale.weight_bytes + 20_000

    def memory(self, scale: Scale) -> int:
        """Memory of the file and of its graph."""
        return 3 * scale.weight_bytes

    @property
    def spec(self) -> ModelSpec:
        """Shape and standardisation of the images."""
        shape = (self.classes, self.channels, self.size)
        return ModelSpec(self.network, dict(self.arguments), *shape, self.mean, self.std)

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> NetworkFile:
        """Return the content of the file.

        Raises:
            ModelError: The file is not the one that the audit was planned with.
        """
        from bitleak.runtimes.runtime import runtime_for

        path = Path(runtime.files.get(self.digest, ""))
        if path.is_file():
            _, opener = runtime_for(path, self.options)
            file = opener.read(path, self.spec)
            if file.digest == self.digest:
                return file
        raise ModelError(
            f"{path}: not the file that the audit was planned with; run `bitleak audit CONFIG --tier 2` again"
        )
