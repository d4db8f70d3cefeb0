"""What an attack may see of one target: views over the signals, for every variant and kind of reference.

The references of consecutive targets differ in a row or two, so they are kept in one array of which only those rows are
written again; where the references are consecutive rows and none is hidden for any record, nothing is copied at all.
Hidden references hold NaN (`bitleak.attacks.attack_views`), which is written into that array and taken out again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.answers.answer_signals import Signals
from bitleak.answers.attack_design import Design
from bitleak.attacks import negative_control, recalibrated, side_values
from bitleak.core.seeds import seed_for
from bitleak.core.spill import Scratch
from bitleak.core.types import AttackView, ReferenceKind

FULL, QUANTIZED, CONTROL = "fp32", "quantized", "control"

Rows = Int64[np.ndarray, "refs"]
Use = Bool[np.ndarray, "refs records"]

CONTROL_RECORDS = 10_000
"""Records whose answers give the control its mean and deviation where there is no population."""


class Case(NamedTuple):
    """A variant, attacked with one kind of reference.

    Attributes:
        variant: `fp32`, `quantized` or `control`.
        reference: Where the references come from.
    """

    variant: str
    reference: ReferenceKind


class Latest(NamedTuple):
    """A view and the references that it was made for."""

    rows: Rows
    use: Use
    view: AttackView


class References:
    """The reference models of one target after the other.

    Args:
        signals: Of all models.
        scratch: Where a large array goes.
        count: How many signals, from the first on, are read of references; None is all.
    """

    def __init__(self, signals: Signals, scratch: Scratch, count: int | None = None) -> None:
        self._signals = replace(signals, pool=signals.pool[:count], population=signals.population[:count])
        self._scratch = scratch
        self._pool = self._population = np.empty(0)
        self._held: list[int] | None = None
        self._shown: Use = np.empty((0, 0), bool)

    def take(self, rows: Rows, use: Use) -> tuple[np.ndarray, np.ndarray]:
        """Signals of these models on the pool, NaN where not used, and on the population; valid until the next call."""
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
            if self._held[place] != row:
                self._pool[:, place] = signals.pool[:, row]
                self._population[:, place] = signals.population[:, row]
                self._held[place] = row
                self._shown[place] = True
            again = np.flatnonzero(use[place] & ~self._shown[place])
            self._pool[:, place, again] = signals.pool[:, row, again]
            self._pool[:, place, np.flatnonzero(self._shown[place] & ~use[place])] = np.nan
            self._shown[place] = use[place]
        return _as_seen(self._pool), _as_seen(self._population)


@dataclass(frozen=True)
class Views:
    """Makes the views of a run.

    Attributes:
        design: Who is attacked with which references.
        labels: Of the audited records; zeros where the source has none.
        signals: By variant: `fp32`, and `quantized` if there is one.
        references: Likewise.
        latest: The last view by each of them, of which other cases with the same references take what is computed.
    """

    design: Design
    labels: Int64[np.ndarray, "records"]
    signals: Mapping[str, Signals]
    references: Mapping[str, References]
    latest: dict[str, Latest] = field(default_factory=dict, init=False, compare=False, repr=False)

    def of(self, target: int, case: Case, rows: Rows, use: Use) -> AttackView:
        """The view of one target in one case, with the references that `Design.references` gave for it.

        Raises:
            ValueError: The target's answers cannot be recalibrated.
        """
        name = self.signals[FULL].names[target]
        attacked = self.signals[QUANTIZED if case.variant == QUANTIZED else FULL]
        by = QUANTIZED if case == (QUANTIZED, "matched") else FULL
        row = attacked.names.index(name)
        own, by_view = attacked.population_of(row), self._by(by, rows, use)
        if own.shape[0] != by_view.population_references.shape[1]:  # one of the two files has no population
            own = own[:0]
            by_view = replace(by_view, population_references=by_view.population_references[:, :0])
        view = by_view.of_target(attacked.of(row), own)
        if case.variant == CONTROL:
            return control_of(view, np.random.default_rng(seed_for(self.design.seed, "control", target)))
        return recalibrated(view) if case.reference == "recalibrated" else view

    def _by(self, by: str, rows: Rows, use: Use) -> AttackView:
        """A view by these references; its target is to be replaced."""
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
            self.latest[by] = held = Latest(rows, use, view)
        return held.view


def control_of(view: AttackView, generator: np.random.Generator) -> AttackView:
    """The negative control; without a population its noise has the moments of answers about audited records."""
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


def _as_seen(planes: Float64[np.ndarray, "signals *axes"]) -> Float64[np.ndarray, "*axes signals"]:
    """With the signals as the last axis; nothing is copied."""
    return np.moveaxis(planes, 0, -1)
