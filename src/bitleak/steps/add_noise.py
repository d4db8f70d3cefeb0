"""Add weight noise of the matched scale to one model."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from bitleak.core.types import Weights
from bitleak.engine.worker import Runtime
from bitleak.steps.match_noise import NoiseMatch, noise_seed
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class AddNoise:
    """Add noise to one model.

    Attributes:
        model: Its row of the membership matrix.
        seed: The audit's seed.
    """

    model: int
    seed: int

    STAGE: ClassVar[str] = "noise"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """Full-precision weights, and the scale."""

        weights: Weights
        match: NoiseMatch

    def cost(self, scale: Scale) -> float:
        """Seconds."""
        return 0.1

    def bytes(self, scale: Scale) -> int:
        """Bytes of the weights."""
        return scale.weight_bytes

    def memory(self, scale: Scale) -> int:
        """Memory of the weights and of the noise."""
        return 3 * scale.weight_bytes

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Weights:
        """Return the noisy weights."""
        from bitleak.models.fingerprint import is_external, with_fingerprint
        from bitleak.models.weight_noise import noise_for, with_noise
        from bitleak.steps.networks import network_of, spec_of

        seed = noise_seed(self.seed, self.model)
        noise = noise_for(inputs.weights, seed, allow_external=runtime.network is not None)
        noisy = with_noise(inputs.weights, noise, inputs.match.scale)
        return (
            with_fingerprint(noisy, network_of(noisy, runtime))
            if is_external(spec_of(noisy))
            else noisy
        )
