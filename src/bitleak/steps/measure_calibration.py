"""Measure calibration-set inference on one variant: which members were in the calibration set?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from bitleak import metrics
from bitleak.core.seeds import seed_for
from bitleak.core.types import Measure, Row, Splits
from bitleak.core.variants import on_calibration
from bitleak.engine.worker import Runtime
from bitleak.steps.attack_targets import AttackScores
from bitleak.steps.result_rows import ROW_BYTES, ResultTable, Subject, measure_rows
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class MeasureCalibration:
    """Measure the attacks on the calibration sets of one variant.

    Attributes:
        variant: Its name in tables.
        quantizer: Its quantizer's label.
        levels: Its grid points.
        targets: Rows of the targets.
        fpr: False positive rates.
        seed: The audit's seed.
    """

    variant: str
    quantizer: str
    levels: int | None
    targets: tuple[int, ...]
    fpr: tuple[float, ...]
    seed: int

    STAGE: ClassVar[str] = "calibration"
    VERSION: ClassVar[str] = "5"

    class Inputs(NamedTuple):
        """Scores and candidates, by target."""

        scores: tuple[AttackScores, ...]
        splits: tuple[Splits, ...]

    def cost(self, scale: Scale) -> float:
        """Seconds."""
        return 1.0

    def bytes(self, scale: Scale) -> int:
        """Bytes of the rows and of a curve per attack."""
        return (
            ROW_BYTES * scale.attacks * (len(self.targets) + 1) * (2 + len(self.fpr))
            + 16 * 256 * scale.attacks
        )

    def memory(self, scale: Scale) -> int:
        """Memory of the scores and of their influences."""
        return (
            8
            * (scale.attacks + 4 + 2 * len(self.fpr))
            * len(self.targets)
            * scale.targets
            * scale.pool
        )

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> ResultTable:
        """Return the rows and curves: for every target the mean over its quantized models."""
        rows: list[Row] = []
        curves: dict[str, np.ndarray] = {}
        attacks = inputs.scores[0].attacks
        for index, attack in enumerate(attacks):
            subject = Subject(
                self.variant, self.quantizer, self.levels, on_calibration(attack.name), "matched"
            )
            by_target = [scores.scores[index] for scores in inputs.scores]
            rows += measure_rows(subject, self.targets, self._measures(by_target, inputs.splits))
            model_curves = []
            for scores, split in zip(by_target, inputs.splits, strict=True):
                model_curves += [
                    metrics.roc(*pair) for pair in zip(scores, split.member, strict=True)
                ]
            curves[f"{subject.attack}/{subject.reference}/all"] = metrics.mean_curve(model_curves)
            progress((index + 1) / len(attacks))
        rows.append(self._detectable(inputs.splits))
        return ResultTable(rows, curves)

    def _measures(
        self, by_target: Sequence[np.ndarray], splits: Sequence[Splits]
    ) -> metrics.Measures:
        """Return every metric: the mean over a target's models, which share its candidates; targets share none."""
        seed = seed_for(self.seed, "measure")
        means = []
        for scores, split in zip(by_target, splits, strict=True):
            estimates = metrics.estimate_metrics(scores, split.member, fprs=self.fpr, seed=seed)
            means.append(
                {
                    metric: metrics.mean_over_records(of_models)
                    for metric, of_models in estimates.items()
                }
            )
        figures = {}
        for metric in means[0]:
            # No candidate is shared between targets, so the errors of their means are independent.
            figures[metric] = metrics.on_separate_records([mean[metric] for mean in means])
        # Every model is a reference of the others, which correlates their errors.
        return metrics.widen_for_mutual_references(
            metrics.measures_from(figures, mode="population")
        )

    def _detectable(self, splits: Sequence[Splits]) -> Row:
        """Return the AUC that would be noticed in four of five such audits."""
        inside = int(splits[0].member[0].sum())
        outside = splits[0].member.shape[1] - inside
        count = sum(len(split.member) for split in splits)
        # every pair of models meets twice, as target and as reference: twice the variance of independent ones
        auc = metrics.detectable_auc(inside, outside, targets=count, correlation=1 / (count - 1))
        subject = Subject(self.variant, self.quantizer, self.levels)
        return Row(*subject, "all", "calibration_detectable_auc", Measure(auc))
