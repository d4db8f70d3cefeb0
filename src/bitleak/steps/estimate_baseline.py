"""Estimate the figures at full precision that every variant is compared with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from bitleak import metrics
from bitleak.core.seeds import seed_for
from bitleak.core.types import Splits
from bitleak.engine.worker import Runtime
from bitleak.steps.attack_targets import AttackScores
from bitleak.steps.find_copies import groups_of
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class EstimateBaseline:
    """Estimate every metric of every attack, with the influence of each record.

    Attributes:
        fpr: False positive rates.
        seed: The audit's seed.
    """

    fpr: tuple[float, ...]
    seed: int

    STAGE: ClassVar[str] = "estimate"
    VERSION: ClassVar[str] = "4"

    class Inputs(NamedTuple):
        """Scores at full precision, the membership, and clusters of records."""

        scores: AttackScores
        splits: Splits
        clusters: Mapping[str, Any] | None = None

    def cost(self, scale: Scale) -> float:
        """Seconds."""
        return scale.measure_seconds

    def bytes(self, scale: Scale) -> int:
        """Bytes of the influences: AUC, balanced accuracy and a TPR per rate."""
        return 8 * scale.attacks * (2 + len(self.fpr)) * scale.targets * scale.pool

    def memory(self, scale: Scale) -> int:
        """Memory of the scores and of the influences."""
        return 2 * self.bytes(scale) + 8 * scale.attacks * scale.targets * scale.pool

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> Mapping[str, Any]:
        """Return the estimates, packed as arrays."""
        scores, seed = inputs.scores, seed_for(self.seed, "measure")
        member = inputs.splits.member[list(scores.targets)]
        estimates = {}
        for index, attack in enumerate(scores.attacks):
            estimates[attack.name] = metrics.estimate_metrics(
                scores.scores[index],
                member,
                fprs=self.fpr,
                seed=seed,
                clusters=groups_of(inputs.clusters),
            )
            progress((index + 1) / len(scores.attacks))
        return metrics.pack_estimates(estimates)
