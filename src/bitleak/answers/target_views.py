"""Views of one target that an attack may see, over the signals, for every variant and kind of reference.

The references of consecutive targets differ in a row or two, so they are kept in one array of which only those rows are
written again; where the references are consecutive rows and none is hidden for any record, nothing is copied at all.
Hidden references hold NaN (`bitleak.attacks.attack_views`), which is written into that array and taken out again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.answers.answer_signals import AnswerSignals
from bitleak.answers.attack_design import Design
from bitleak.answers.serving_models import ReferenceRows, ReferenceUse
from bitleak.answers.variant_scales import VariantScale
from bitleak.attacks import negative_control, positive_control, recalibrated, side_values
from bitleak.core.seeds import seed_for
from bitleak.core.spill import Scratch
from bitleak.core.types import AttackView, ReferenceKind
from bitleak.core.variants import CONTROL, FULL, POSITIVE

QUANTIZED = "quantized"
"""Name of the quantized variant in tables."""

CONTROL_RECORDS = 10_000
"""Records whose answers give the control its mean and deviation where there is no population."""


class Case(NamedTuple):
    """A variant, attacked with one kind of reference.

    Attributes:
        variant: `fp32`, `quantized` or `control`.
        reference: Kind of the references.
    """

    variant: str
    reference: ReferenceKind

    @property
    def quantizer(self) -> str:
        """Entry of the column `quantizer`."""
        return QUANTIZED if self.variant == QUANTIZED else ""

    @property
    def recalibrated(self) -> bool:
        """Whether the references' answers are mapped onto the target's first."""
        return self.reference == "recalibrated"


MEMORISING = Case(POSITIVE, "fp32")
"""A target that memorises by a known amount, in the place of the first target alone."""

FULL_BY_FULL = Case(FULL, "fp32")
"""The first case of every run, which all others are compared with."""

QUANTIZED_BY_MATCHED = Case(QUANTIZED, "matched")

PLAYED_CASES = (FULL_BY_FULL, Case(FULL, "recalibrated"), QUANTIZED_BY_MATCHED)
"""Cases in which a reference plays the target, to choose thresholds."""


def threshold_case(case: Case) -> Case:
    """Return the case whose thresholds serve this one: those at full precision serve all variants."""
    return case if case.reference == "matched" else Case(FULL, case.reference)


class TargetSignals(NamedTuple):
    """Signals of one target about the audited records and about the population."""

    pool: Float64[np.ndarray, "records queries signals"]
    population: Float64[np.ndarray, "population queries signals"]


class LatestView(NamedTuple):
    """A view and the references that it was made for."""

    rows: ReferenceRows
    use: ReferenceUse
    view: AttackView


class ReferenceSignals:
    """The signals of the references of one target after another.

    Args:
        signals: Signals of all models.
        scratch: Where a large array goes.
        count: Number of signals, from the first on, that attacks read from references; None is all.
    """

    def __init__(self, signals: AnswerSignals, scratch: Scratch, count: int | None = None) -> None:
        self._signals = replace(
            signals, pool=signals.pool[:count], population=signals.population[:count]
        )
        self._scratch = scratch
        self._pool = self._population = np.empty(0)
        self._held: list[int] | None = None
        self._shown: ReferenceUse = np.empty((0, 0), bool)

    def take(self, rows: ReferenceRows, use: ReferenceUse) -> tuple[np.ndarray, np.ndarray]:
        """Return the signals of these models on the pool, NaN if not used, and on the population.

        Both are valid until the next call.
        """
        signals = self._signals
        if len(rows) and (np.diff(rows) == 1).all() and use.all():
            span = slice(int(rows[0]), int(rows[-1]) + 1)
            return _as_seen(signals.pool[:, span]), _as_seen(signals.population[:, span])
        if self._held is None or len(self._held) != len(rows):
            self._pool, self._population = (
                self._scratch.allocate((part.shape[0], len(rows), *part.shape[2:]))
                for part in (signals.pool, signals.population)
            )
            self._held = [-1] * len(rows)
            self._shown = np.ones(use.shape, bool)
        for place, row in enumerate(rows.tolist()):
            held = self._held[place] == row
            if held and np.array_equal(use[place], self._shown[place]):
                continue
            # all of a row and NaN where it is hidden: faster than the records that changed alone
            hidden = np.flatnonzero(~use[place])
            for signal in range(len(self._pool)):
                self._pool[signal, place] = signals.pool[signal, row]
                self._pool[signal, place, hidden] = np.nan
            self._shown[place] = use[place]
            if not held:
                self._population[:, place] = signals.population[:, row]
                self._held[place] = row
        return _as_seen(self._pool), _as_seen(self._population)


@dataclass(frozen=True)
class TargetViews:
    """Makes the views of a run.

    Attributes:
        design: Targets and their references.
        labels: Classes of the audited records; zeros if the source has none.
        signals: By variant: `fp32`, and `quantized` if there is one.
        references: Likewise.
        scales: Scale of the answers in `signals`, by variant.
        quantized_by_full: Returns the signals of a row of the quantized answers on the scale of full precision; None if
            both have one scale.
        latest: The last view by variant of the references, whose sums serve other cases with the same references.
    """

    design: Design
    labels: Int64[np.ndarray, "records"]
    signals: Mapping[str, AnswerSignals]
    references: Mapping[str, ReferenceSignals]
    scales: Mapping[str, VariantScale] = field(default_factory=dict)
    quantized_by_full: Callable[[int], TargetSignals] | None = None
    latest: dict[str, LatestView] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def of(self, target: int, case: Case, rows: ReferenceRows, use: ReferenceUse) -> AttackView:
        """Return the view of one target in one case, with the references that `Design.references` gave for it.

        Raises:
            ValueError: The target's answers cannot be recalibrated.
        """
        view = self.as_answered(target, case, rows, use)
        return recalibrated(view) if case.recalibrated else view

    def as_answered(
        self, target: int, case: Case, rows: ReferenceRows, use: ReferenceUse
    ) -> AttackView:
        """Like `of`, with the answers of the target before they are recalibrated."""
        name = self.signals[FULL].names[target]
        attacked = self.signals[QUANTIZED if case.variant == QUANTIZED else FULL]
        by = QUANTIZED if case == QUANTIZED_BY_MATCHED else FULL
        row = attacked.names.index(name)
        if case.variant == QUANTIZED and by == FULL and self.quantized_by_full is not None:
            pool, population = self.quantized_by_full(row)
        else:
            pool, population = attacked.of(row), attacked.population_of(row)
        by_view = self._by(by, rows, use)
        if (
            population.shape[0] != by_view.population_references.shape[1]
        ):  # one of the two files has no population
            population = population[:0]
            by_view = replace(by_view, population_references=by_view.population_references[:, :0])
        view = by_view.of_target(pool, population)
        if case.variant == CONTROL:
            return control_of(
                view, np.random.default_rng(seed_for(self.design.seed, "control", target))
            )
        return view

    def _by(self, by: str, rows: ReferenceRows, use: ReferenceUse) -> AttackView:
        """Return a view by these references, whose target is to be replaced."""
        held = self.latest.get(by)
        if held is None or not (np.array_equal(held.rows, rows) and np.array_equal(held.use, use)):
            names = self.signals[by].names
            taken = np.array([names.index(self.signals[FULL].names[row]) for row in rows], np.int64)
            pool, population = self.references[by].take(taken, use)
            view = AttackView(
                target=self.signals[by].of(0),
                references=pool,
                side=side_values(self.design.member[rows], use),
                split=self.design.split[rows],
                population_target=self.signals[by].population_of(0),
                population_references=population,
                labels=self.labels,
            )
            self.latest[by] = held = LatestView(rows, use, view)
        return held.view


def control_of(view: AttackView, generator: np.random.Generator) -> AttackView:
    """Return the negative control; without a population its noise has the moments of answers about audited records."""
    if view.population_references.shape[0] and view.population_references.shape[1]:
        return negative_control(view, generator)
    seen = view.references if view.references.shape[0] else view.target[None]
    stand_in = replace(
        view,
        references=seen,
        side=np.zeros(seen.shape[:2], np.int8),
        split=np.zeros(len(seen), np.int64),
        population_target=view.target[:CONTROL_RECORDS],
        population_references=seen[:, :CONTROL_RECORDS],
    )
    return view.of_target(negative_control(stand_in, generator).target, view.population_target)


def memorising_of(
    view: AttackView, member: Bool[np.ndarray, "records"], seed: int, target: int
) -> AttackView:
    """Return the positive control of a target.

    Args:
        view: View of the target.
        member: Its membership.
        seed: Seed of the run.
        target: Row of the target.
    """
    generator = np.random.default_rng(seed_for(seed, "positive control", target))
    return positive_control(view, member, generator)


def _as_seen(planes: Float64[np.ndarray, "signals *axes"]) -> Float64[np.ndarray, "*axes signals"]:
    """Return the planes with the signals as the last axis; nothing is copied."""
    return np.moveaxis(planes, 0, -1)
