"""Find the scale of weight noise that costs as much accuracy as a quantization does."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool

from bitleak import metrics
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, Measure, Outputs, Splits, Weights
from bitleak.engine.worker import Runtime
from bitleak.steps.measure_utility import answers_of
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class NoiseMatch:
    """Noise that costs as much accuracy as a variant.

    Attributes:
        scale: Deviation of the noise, in deviations of a layer's weights; 0 if the variant costs nothing.
        accuracy: Accuracy under the noise, the mean over the targets.
        matched: Whether it is within the tolerance of the goal.
        evaluations: Scales that were tried.
        goal: Accuracy of the variant.
    """

    scale: float
    accuracy: float
    matched: bool
    evaluations: int
    goal: float

    def artifacts(self) -> dict[str, Any]:
        """Return the stored arrays and JSON values by name."""
        return {"match": asdict(self)}

    @classmethod
    def read(cls, artifacts: Mapping[str, Any]) -> "NoiseMatch":
        """Return the match that was stored as these artifacts."""
        return cls(**artifacts["match"])


@dataclass(frozen=True)
class MatchNoise:
    """Find the scale at which the targets are as accurate as in one variant, on records of the pool.

    Attributes:
        targets: Rows of the targets.
        records: Non-members of each target on which the accuracies are made equal, at most.
        low: Smallest scale that is tried.
        high: Largest scale that is tried.
        tolerance: Difference in accuracy that counts as equal.
        evaluations: Scales that are tried, at most.
        batch: Images per forward pass.
        seed: The audit's seed.
    """

    targets: tuple[int, ...]
    records: int
    low: float
    high: float
    tolerance: float
    evaluations: int
    batch: int
    seed: int

    STAGE: ClassVar[str] = "match"
    VERSION: ClassVar[str] = "3"

    class Inputs(NamedTuple):
        """The targets, their answers as the variant and at full precision, and the records."""

        weights: tuple[Weights, ...]
        outputs: tuple[Outputs, ...]
        baseline: tuple[Outputs, ...]
        images: Images
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds of the forward passes at every scale."""
        images = (
            len(self.targets) * min(self.records, scale.pool - scale.members) * self.evaluations
        )
        return scale.network.multiply_adds * images / scale.rate

    def bytes(self, scale: Scale) -> int:
        """Bytes of five numbers."""
        return 200

    def memory(self, scale: Scale) -> int:
        """Memory of the images, and of weights, noise and answers of every target."""
        of_targets = 2 * len(self.targets) * (scale.weight_bytes + scale.answer_bytes)
        return scale.decoded_bytes + of_targets + 4 * 64 * scale.pixels * self.batch

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> NoiseMatch:
        """Return the scale."""
        chosen = metrics.matching_records(
            inputs.splits, self.targets, records=self.records, seed=self.seed
        )
        goal = _accuracy(inputs, chosen)
        # A variant that costs no accuracy is matched by no noise.
        if goal.verdict != "lower":
            return NoiseMatch(0.0, goal.value - (goal.difference or 0.0), True, 0, goal.value)
        from bitleak.steps.noisy_accuracy import NoisyAccuracy

        accuracy = NoisyAccuracy(
            inputs.images,
            inputs.weights,
            [inputs.splits.pool[records] for records in chosen],
            seeds=[noise_seed(self.seed, row) for row in self.targets],
            batch=self.batch,
            runtime=runtime,
            on_call=lambda calls: progress(calls / (self.evaluations * len(self.targets))),
        )
        match = metrics.matched_scale(
            accuracy,
            goal.value,
            seeds=list(range(len(self.targets))),
            low=self.low,
            high=self.high,
            tolerance=self.tolerance,
            evaluations=self.evaluations,
        )
        return NoiseMatch(**asdict(match), goal=goal.value)


def noise_seed(seed: int, row: int) -> int:
    """Return the seed of the noise of one model."""
    return seed_for(seed, "noise", row)


def _accuracy(inputs: MatchNoise.Inputs, chosen: Bool[np.ndarray, "targets records"]) -> Measure:
    """Return the mean accuracy on the chosen records, compared with full precision."""
    correct, full = (answers_of(outputs)[1] for outputs in (inputs.outputs, inputs.baseline))
    measures = metrics.accuracy_on_members(correct, chosen, mode=inputs.splits.mode, baseline=full)
    return measures.aggregate["train_accuracy"]
