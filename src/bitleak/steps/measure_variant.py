"""Measure one variant by one kind of reference: scores become rows and curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from bitleak import metrics
from bitleak.core.params import later
from bitleak.core.seeds import seed_for
from bitleak.core.types import Row, SplitMode, Splits
from bitleak.core.variants import FULL, POSITIVE
from bitleak.engine.worker import Runtime
from bitleak.metrics import Estimates, MapInfluence
from bitleak.steps.attack_targets import AttackLabel, AttackScores
from bitleak.steps.choose_thresholds import Thresholds
from bitleak.steps.find_copies import Groups, groups_of
from bitleak.steps.result_rows import ROW_BYTES, ResultTable, Subject, measure_rows, shown_rows
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class MeasureVariant:
    """Measure one variant by one kind of reference.

    Attributes:
        variant: Its name in tables.
        quantizer: Its quantizer's label; empty if it has none.
        levels: Its grid points; None if it has none.
        reference: Kind of the references, as in tables.
        fpr: False positive rates.
        priors: Shares of members at which precision is reported.
        delta: The delta at which epsilon is bounded.
        comparisons: Number of attacks whose bounds on epsilon hold together.
        seed: The audit's seed.
        standalone: Whether attacks without references have their rows here.
        metrics: Metrics that the config adds, as `metrics.metric_entries` writes them.
        population_thresholds: Whether population records set the thresholds of attacks without references; if
            not, these have none.
    """

    variant: str
    quantizer: str
    levels: int | None
    reference: str
    fpr: tuple[float, ...]
    priors: tuple[float, ...]
    delta: float
    comparisons: int
    seed: int
    standalone: bool
    metrics: tuple[str, ...] = later(())
    population_thresholds: bool = later(True)

    STAGE: ClassVar[str] = "measure"
    VERSION: ClassVar[str] = "10"

    class Inputs(NamedTuple):
        """Scores, figures at full precision (`EstimateBaseline`), membership, thresholds and clusters."""

        scores: AttackScores
        baseline: Mapping[str, Any]
        splits: Splits
        thresholds: Thresholds | None = None
        clusters: Mapping[str, Any] | None = None

    def cost(self, scale: Scale) -> float:
        """Seconds."""
        return scale.measure_seconds

    def bytes(self, scale: Scale) -> int:
        """Bytes of the rows and of the thinned curves."""
        # AUC, balanced accuracy and epsilon; TPR, two rates at a chosen threshold and a precision per prior.
        rates = len(self.fpr)
        rows = 3 + 3 * rates + rates * len(self.priors) + len(self.metrics)
        return scale.attacks * (scale.targets + 1) * (16 * 200 + ROW_BYTES * rows)

    def memory(self, scale: Scale) -> int:
        """Memory of the scores, and of the influences of an attack and of its baseline."""
        influences = 2 * (2 + len(self.fpr))
        return 8 * (scale.attacks + influences) * scale.targets * scale.pool

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> ResultTable:
        """Return the rows and curves."""
        scores, split = inputs.scores, inputs.splits
        member = split.member[list(scores.targets)]
        rows: list[Row] = []
        curves: dict[str, np.ndarray] = {}
        for index, attack in enumerate(scores.attacks):
            if attack.references or self.standalone:
                table = self.attack_table(
                    attack,
                    scores.targets,
                    scores.scores[index],
                    member,
                    # a target that memorises by design is compared with nothing
                    baseline={}
                    if self.variant == POSITIVE
                    else metrics.unpack_estimates(inputs.baseline, attack.name),
                    thresholds=self._thresholds(inputs, index),
                    mode=split.mode,
                    clusters=groups_of(inputs.clusters),
                    map_influence=scores.map_influence_of(attack.name),
                )
                rows += table.rows
                curves |= table.curves
                progress((index + 1) / len(scores.attacks))
        return ResultTable(rows, curves)

    def attack_table(
        self,
        attack: AttackLabel,
        targets: Sequence[int],
        scores: Float64[np.ndarray, "targets records"],
        member: Bool[np.ndarray, "targets records"],
        *,
        baseline: Estimates,
        thresholds: Float64[np.ndarray, "targets fprs"] | None,
        mode: SplitMode,
        clusters: Groups | None = None,
        map_influence: MapInfluence = MappingProxyType({}),
    ) -> ResultTable:
        """Return the rows and curves of one attack.

        Args:
            attack: The attack.
            targets: Rows of the targets.
            scores: Scores of the attack.
            member: Membership of the targets.
            baseline: Figures of the attack at full precision by full-precision references, which are reported as they
                are if this is the same case.
            thresholds: Chosen without the targets; None leaves these rows out, as for the control.
            mode: Whether the targets share their records.
            clusters: Number of each record's cluster; None if all are independent.
            map_influence: Influence of population records through the map of recalibrated references.
        """
        reference = self.reference if attack.references else ""
        subject = Subject(self.variant, self.quantizer, self.levels, attack.name, reference)
        target_curves = [metrics.roc(*pair, clusters) for pair in zip(scores, member, strict=True)]
        # Full precision is its own baseline, whose estimates exist already. All others are compared
        # with it, pair by pair of target and record.
        if (self.variant, self.reference) == (FULL, FULL):
            measures = metrics.measures_from(baseline, mode=mode)
        else:
            seed = seed_for(self.seed, "measure")
            estimates = metrics.estimate_from_curves(target_curves, fprs=self.fpr, seed=seed)
            estimates = metrics.with_map_error(estimates, map_influence)
            measures = metrics.measures_from(estimates, mode=mode, baseline=baseline)
        # Curves are for the eye, so they are stored with few points.
        name = f"{attack.name}/{reference}"
        curves = {}
        for target, curve in zip(targets, target_curves, strict=True):
            curves[f"{name}/{target}"] = metrics.thin_curve(curve)
        curves[f"{name}/all"] = metrics.mean_curve(target_curves)
        del target_curves  # as large as the scores, and not needed by the rows below
        rows = measure_rows(subject, targets, measures)
        rows += shown_rows(
            subject, targets, self._adversary_figures(scores, member, thresholds, mode, clusters)
        )
        return ResultTable(rows, curves)

    def _adversary_figures(
        self,
        scores: Float64[np.ndarray, "targets records"],
        member: Bool[np.ndarray, "targets records"],
        thresholds: Float64[np.ndarray, "targets fprs"] | None,
        mode: SplitMode,
        clusters: Groups | None,
    ) -> dict[str, Any]:
        """Return figures at an adversary's thresholds, the bound on epsilon, and the config's metrics."""
        # Rates at a threshold that an adversary can set, if a player or the population gave one.
        shown: dict[str, Any] = {}
        if thresholds is not None:
            shown |= metrics.measure_at_thresholds(
                scores,
                member,
                thresholds,
                fprs=self.fpr,
                priors=self.priors,
                mode=mode,
                clusters=clusters,
            )
        # The bound on epsilon, corrected over all attacks on the variant.
        shown |= metrics.epsilon_measures(
            scores,
            member,
            seed=seed_for(self.seed, "epsilon"),
            delta=self.delta,
            comparisons=self.comparisons,
            clusters=clusters,
        )
        # Metrics that the config adds.
        shown |= metrics.further_measures(
            self.metrics, scores, member, mode=mode, clusters=clusters
        )
        return shown

    def _thresholds(self, inputs: Inputs, index: int) -> np.ndarray | None:
        """Return the thresholds of an attack: from players, or from the population if it uses no references."""
        if inputs.thresholds is None:
            return None
        scores, attack = inputs.scores, inputs.scores.attacks[index]
        if attack.references:
            return inputs.thresholds.thresholds[inputs.thresholds.attacks.index(attack.name)]
        if scores.population is None or not self.population_thresholds:
            return None
        place = sum(not other.references for other in scores.attacks[:index])
        return np.stack(
            [metrics.thresholds_for(outside, self.fpr) for outside in scores.population[place]]
        )
