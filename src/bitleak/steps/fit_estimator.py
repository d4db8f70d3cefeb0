"""Fit one estimator of rows, and keep its probabilities; the estimator itself is not stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from bitleak.core.seeds import seed_for
from bitleak.core.types import Splits
from bitleak.engine.worker import Runtime
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class FitEstimator:
    """Fit the estimator of one row of the membership matrix.

    Attributes:
        model: Its row.
        estimator: Digest of the estimator and the rows, see `train.given_estimator`.
        seed: The audit's seed, from which the model's own follows.
    """

    model: int
    estimator: str
    seed: int

    STAGE: ClassVar[str] = "estimator"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """Records of the fit, and records whose probabilities are kept."""

        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds: not known for code from outside; a millisecond per training record."""
        return 1e-3 * scale.members

    def bytes(self, scale: Scale) -> int:
        """Bytes of the probabilities."""
        return 8 * scale.classes * (scale.pool + scale.population)

    def memory(self, scale: Scale) -> int:
        """Memory of the rows and of the probabilities."""
        return scale.decoded_bytes + 2 * self.bytes(scale)

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Mapping[str, Any]:
        """Return the artifact `probabilities` of the pool's records, then the population's."""
        from bitleak.models.global_state import seeded_draws
        from bitleak.train.given_estimator import held

        split = inputs.splits
        seed = seed_for(self.seed, "estimator", self.model)
        trained = split.pool[split.member[self.model]]
        evaluated = np.concatenate([split.pool, split.population])
        # Estimators without a seed of their own draw from NumPy's global generator.
        with seeded_draws(seed):
            answers = held(self.estimator).probabilities(trained, evaluated, seed=seed)
        return {"probabilities": answers}
