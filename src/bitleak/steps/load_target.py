"""Read the weights of a target that was trained elsewhere."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec, Weights
from bitleak.engine.worker import Runtime
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class LoadTarget:
    """Read the weights of a target, which stand in the place of a training's.

    Attributes:
        digest: SHA-256 of the file.
        network: A name of the registry's `MODELS`.
        options: Arguments of its builder.
        classes: Number of classes.
        channels: Channels of an image.
        size: Height and width of an image.
        mean: Mean per channel of the network's input, of pixels from 0 to 1.
        std: Deviation per channel.
    """

    digest: str
    network: str
    options: Mapping[str, Any]
    classes: int
    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    STAGE: ClassVar[str] = "target"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """Nothing of the store is read."""

    def cost(self, scale: Scale) -> float:
        """Seconds: 1 GB per second."""
        return 0.5 + 1e-9 * scale.weight_bytes

    def bytes(self, scale: Scale) -> int:
        """Bytes of the weights."""
        return scale.weight_bytes

    def memory(self, scale: Scale) -> int:
        """Memory of the file, of the weights and of the network."""
        return 3 * scale.weight_bytes

    @property
    def spec(self) -> ModelSpec:
        """The network that the weights are loaded into."""
        shape = (self.classes, self.channels, self.size)
        return ModelSpec(self.network, dict(self.options), *shape, self.mean, self.std)

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Weights:
        """Return the weights.

        Raises:
            ModelError: The file is not the one that the audit was planned with, or does not fit.
        """
        from bitleak.models import load
        from bitleak.models.checkpoint import fit_checkpoint, read_checkpoint
        from bitleak.models.fingerprint import with_fingerprint

        file = runtime.files.get(self.digest, runtime.weights)
        if file is None or digest_of(Path(file)) != self.digest:
            raise ModelError(
                f"target.weights: {file}: not the file that the audit was planned with; run "
                "`bitleak audit CONFIG --tier 2` again"
            )
        checkpoint = read_checkpoint(Path(file), "target.weights")
        weights, _ = fit_checkpoint(checkpoint, self.spec, "target.weights")
        network = load(weights, allow_external=runtime.network is not None)
        return with_fingerprint(weights, network)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        ModelError: There is none.
    """
    if not path.is_file():
        raise ModelError(f"target.weights: {path}: no such file; give a .safetensors or .pt file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
