"""Figures of two runs on the records that the runs share.

A record is in both runs if its digest is. Influences on a record that is in one run alone correlate
with nothing, so they stay where they are and count as 0 in the other run. With psi the influences of
one figure and phi those of the other,

    covariance = sum over the records in both runs of psi_r phi_r,

which is all that two runs rise and fall together by: other trainings on the same records share what
makes these records easy or hard to find. The interval follows as within a run
(`metrics.intervals`, and `metrics.trainings` for models trained anew).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Int64

from bitleak.core.variants import FULL
from bitleak.metrics import (
    Estimate,
    difference_of_trainings,
    difference_over_records,
    difference_over_trainings,
    mean_over_records,
)
from bitleak.metrics.intervals import Difference
from bitleak.report.format import count
from bitleak.report.influence_columns import FigureCell
from bitleak.report.influence_file import Influences, RecordPart

Basis = Literal["identical", "models and records", "records", "independent"]
"""The way in which two figures are paired."""


@dataclass(frozen=True)
class PairedDifference:
    """The second run's figure minus the first's.

    Attributes:
        basis: How the two are paired.
        difference: Value, interval and p-value.
    """

    basis: Basis
    difference: Difference


@dataclass(frozen=True)
class RunPair:
    """Two runs that a figure can be compared in.

    Attributes:
        first: A run.
        second: Another one.
    """

    first: Influences
    second: Influences

    @property
    def same_models(self) -> bool:
        """Whether the targets of both runs are the same models."""
        return set(self.first.models) == set(self.second.models)

    def shared(self, part: RecordPart) -> int:
        """Return the number of records that both runs have."""
        return len(set(self.first.records.get(part, ())) & set(self.second.records.get(part, ())))

    def difference(self, old: FigureCell, new: FigureCell, metric: str) -> PairedDifference | None:
        """Return the paired difference of a figure; None if a run lacks it, or nothing is shared.

        Args:
            old: Variant, attack and references in the first run.
            new: Variant, attack and references in the second run.
            metric: As in `Row.metric`.
        """
        before, after = _figure(self.first, old, metric), _figure(self.second, new, metric)
        if before is None or after is None or before[1] != after[1]:
            return None
        (old_targets, part, olds), (new_targets, _, news) = before, after
        if not self.shared(part) or self.first.about != self.second.about:
            return None
        if self._identical(old_targets, new_targets, olds, news, part):
            return PairedDifference("identical", Difference(0.0, 0.0, 0.0, 1.0))
        first, second = self._aligned(part, olds, news)
        basis: Basis = "models and records" if self.same_models else "records"
        if self.first.about == "records":
            means = mean_over_records(second), mean_over_records(first)
            return PairedDifference(basis, difference_over_records(*means))
        if not self.same_models:
            return PairedDifference(basis, difference_of_trainings(second, first))

        # The same models may be targets in another order.
        by_model = dict(zip(self.first.models, first, strict=True))
        ordered = [by_model[model] for model in self.second.models]
        return PairedDifference(basis, difference_over_trainings(second, ordered))

    def sentence(self) -> str:
        """Return how the runs are paired, in words."""
        shared, whole = self.shared("pool"), len(self.first.records.get("pool", ()))
        if not shared:
            return "the runs have no record in common: intervals are those of independent figures"
        records = count(whole, "record")
        if shared < max(whole, len(self.second.records.get("pool", ()))):
            records = f"{count(shared, 'record')} that both have ({whole:,} in A)"
        if self.same_models:
            models = count(len(self.first.models), "model")
            return f"paired by model and record: the same {models} and {records}"
        return (
            f"paired by record ({records}); the models are other trainings, which are independent"
        )

    def _identical(
        self,
        old_targets: Sequence[str],
        new_targets: Sequence[str],
        olds: Sequence[Estimate],
        news: Sequence[Estimate],
        part: RecordPart,
    ) -> bool:
        """Whether both runs have this figure with equal numbers, and equal influences of all records."""
        if not self.same_models or old_targets != new_targets:
            return False
        if self.first.records[part] != self.second.records[part]:
            return False
        return all(map(_equal, olds, news))

    def _aligned(
        self, part: RecordPart, olds: Sequence[Estimate], news: Sequence[Estimate]
    ) -> tuple[list[Estimate], list[Estimate]]:
        """Return the estimates with influences on the records of both runs together."""
        first, second = self.first.records[part], self.second.records[part]
        names, places = np.unique(np.array([*first, *second]), return_inverse=True)
        of_first, of_second = places[: len(first)], places[len(first) :]
        return (
            [_placed(estimate, of_first, len(names)) for estimate in olds],
            [_placed(estimate, of_second, len(names)) for estimate in news],
        )


def _figure(
    run: Influences, cell: FigureCell, metric: str
) -> tuple[tuple[str, ...], RecordPart, tuple[Estimate, ...]] | None:
    """Return a figure; a full-precision target has the same references under every kind."""
    variant, attack, reference = cell
    figure = run.of(variant, attack, reference, metric)
    if figure is None and variant == FULL and reference:
        return run.of(variant, attack, FULL, metric)
    return figure


def _placed(estimate: Estimate, places: Int64[np.ndarray, "records"], count: int) -> Estimate:
    """Return the estimate with its influences at these places, added up for records that are equal."""
    influence = np.bincount(places, weights=estimate.influence, minlength=count)
    return replace(estimate, influence=influence)


def _equal(first: Estimate, second: Estimate) -> bool:
    numbers = []
    for estimate in (first, second):
        numbers.append((estimate.value, estimate.centre, estimate.low, estimate.high))
    return numbers[0] == numbers[1] and np.array_equal(first.influence, second.influence)
