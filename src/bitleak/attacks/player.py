"""A reference in the target's place: an attack is tried out where the membership is known.

The adversary who attacks a target has models of the same kind, whose training sets are known. One
of them plays the target, the others are its references; its scores of the records that it was not
trained on are scores of non-members, and a threshold can be set on them. Neither the target nor its
complement takes part.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from bitleak.attacks.attack import Attack, blocks, keep_checks, reference_signal, signal_of
from bitleak.attacks.recalibrate import recalibrated
from bitleak.attacks.reference_subsets import Subsets, exchangeable
from bitleak.core.errors import TooFewForAttack
from bitleak.core.spill import copy_columns, copy_rows
from bitleak.core.types import IN, OUT, AttackView

ModelSignals = tuple[
    Float64[np.ndarray, "records queries signals"],
    Float64[np.ndarray, "population queries signals"],
]
"""Signals of one model on the audited and on the population records."""


class Player:
    """A reference in the target's place, with the references on other training sets.

    References on its own training set or on the complement are left out.

    Args:
        view: View of any target.
        generator: Source of the player and, if the counts are uneven, of the references that are
            used.
        row: The reference that is the player; None draws it.
        answers: The player's signals on the audited and on the population records, if they are not
            those of the reference, such as a quantized version's; None are the reference's.

    Attributes:
        member: True for the records that the player was trained on.
        records: True for the records that it is used for; `member` and the views hold these alone.

    Raises:
        TooFewForAttack: Some record would have no reference on one side.
    """

    def __init__(
        self,
        view: AttackView,
        generator: np.random.Generator,
        row: int | None = None,
        answers: ModelSignals | None = None,
    ) -> None:
        if not len(view.references):
            raise TooFewForAttack("a reference in the target's place needs references, got none")
        if row is None:
            row = int(generator.integers(len(view.references)))
        if answers is None:
            chosen = np.array([row])
            pool = copy_rows(view.references, chosen)[0]
            population = copy_rows(view.population_references, chosen)[0]
        else:
            pool, population = answers
        self._original = view
        self._references = other_models(view, row)
        # hidden for the other records: neither its answers nor its membership are known
        self.records = view.use[row]
        self.member = view.member[row, self.records]

        # uneven counts per side would betray the membership: all records get as many as the poorest
        # one
        side = view.side[self._references][:, self.records]
        fewest = 0
        if side.size:
            fewest = min(int((side == value).sum(axis=0).min()) for value in (IN, OUT))
        if fewest < 1:
            raise TooFewForAttack(
                "with a reference in the target's place, some record has no other reference on a side"
            )
        self._count = fewest

        # without the references' signals, which only `view` copies
        self._bare = replace(
            view,
            target=pool[self.records],
            references=np.broadcast_to(np.nan, (*side.shape, *view.references.shape[2:])),
            side=side,
            split=view.split[self._references],
            population_target=population,
            population_references=copy_rows(view.population_references, self._references),
            labels=view.labels[self.records],
        )
        keep_checks(self._bare, view)
        self._subsets = Subsets(self._bare, generator)

        self._views: dict[str, AttackView] = {}

    def view(self) -> AttackView:
        """Return the view of the player, with the records that it is used for.

        Every record has the same number of references on both sides, the largest possible one; so
        at least one fewer per side than in the original view.
        """
        if not self._subsets.paired:
            rows, columns = np.flatnonzero(self._references), np.flatnonzero(self.records)
            return self._subsets.masked(self._count, self._original.references, rows, columns)
        references = copy_rows(self._original.references, self._references)
        if not self.records.all():
            references = copy_columns(references, self.records)
        full = replace(self._bare, references=references)
        if self.paired and 2 * self._count == len(references):
            return full
        return self._subsets.of(full).view(self._count)

    @property
    def paired(self) -> bool:
        """Whether all references are pairs of complements and used for all records."""
        return self._subsets.paired and bool(self.records.all())

    def compact_view(self) -> AttackView:
        """Like `view`, for attacks that are `exchangeable`; the references are copied once."""
        if self._subsets.paired:
            return self.view()
        rows, columns = np.flatnonzero(self._references), np.flatnonzero(self.records)
        return self._subsets.gathered(self._count, self._original.references, rows, columns)

    def groups(
        self, attacks: Sequence[Attack], *, recalibrate: bool
    ) -> list[tuple[list[Attack], AttackView]]:
        """Return the attacks with the views that suit them, which are made once for all calls.

        Args:
            attacks: Attacks on the player.
            recalibrate: Whether the player's answers are mapped onto the references' calibration;
                the references stay, and so do the sums over them.

        Raises:
            UnfitView: The player's confidence does not vary on the population records.
            TooFewForAttack: There are fewer than two of these.
        """
        compact = [attack for attack in attacks if exchangeable(attack)]
        others = [attack for attack in attacks if attack not in compact]
        groups = []
        for group, name, make in (
            (compact, "compact", self.compact_view),
            (others, "whole", self.view),
        ):
            if group:
                if name not in self._views:
                    self._views[name] = make()
                groups.append((group, self._views[name]))
        if not recalibrate:
            return groups
        target, population = self._recalibrated()
        mapped = []
        for group, view in groups:
            outside = population[: len(view.population_target)]
            mapped.append((group, view.of_target(target, outside)))
        return mapped

    def _recalibrated(self) -> ModelSignals:
        """Return the player's answers, mapped by its references' answers about the population."""
        paired = self._subsets.paired and 2 * self._count < len(self._bare.side)
        mapped = recalibrated(self._subsets.view(self._count) if paired else self._bare)
        return mapped.target, mapped.population_target


def player_view(
    view: AttackView, generator: np.random.Generator
) -> tuple[AttackView, Bool[np.ndarray, "records"]]:
    """Return `Player.view`, and True for each of its records in the player's training set."""
    player = Player(view, generator)
    return player.view(), player.member


def population_view(view: AttackView) -> AttackView:
    """Return the view with the population records in place of the audited ones.

    For attacks without references: the population has no members, so its scores show where a
    threshold must be.
    """
    return replace(
        view,
        target=view.population_target,
        references=view.population_references,
        side=np.zeros(view.population_references.shape[:2], np.int8),
        labels=np.zeros(len(view.population_target), np.int64),
    )


class StandIn(NamedTuple):
    """The median reference in the target's place.

    Attributes:
        row: The reference.
        references: True for the references on other training sets than its own or the complement.
        records: True for the records that it is used for, whose membership is known.
    """

    row: int
    references: Bool[np.ndarray, "refs"]
    records: Bool[np.ndarray, "records"]


def stand_in(view: AttackView) -> StandIn:
    """Return the reference with the median mean confidence as target.

    Unlike `Player` it is not drawn, so that an attack that tunes itself on it is deterministic.
    """
    means = [_mean_confidence(signal_of(view.population_references, "logit_scaled"))]
    # the population decides, the audited records only where its means tie
    if len(np.unique(means[0])) < len(means[0]):
        means.insert(0, _mean_confidence(reference_signal(view, "logit_scaled")))
    row = int(np.lexsort(means)[(len(means[0]) - 1) // 2])
    return StandIn(row, other_models(view, row), view.use[row])


def other_models(view: AttackView, row: int) -> Bool[np.ndarray, "refs"]:
    """Return True for references on another training set than a reference's or its complement."""
    return np.abs(view.split) != abs(view.split[row])


def _mean_confidence(
    confidence: Float64[np.ndarray, "refs records queries"],
) -> Float64[np.ndarray, "refs"]:
    """Return each reference's mean over the records that it is used for."""
    totals = [confidence[:, block].sum(axis=(1, 2)) for block in blocks(confidence)]
    means = np.sum(totals, axis=0) / confidence[0].size
    if not np.isnan(means).any():
        return means
    # hidden references are NaN: they count for nothing
    totals, counts = [], []
    for block in blocks(confidence):
        totals.append(np.nansum(confidence[:, block], axis=(1, 2)))
        counts.append(np.isfinite(confidence[:, block]).sum(axis=(1, 2)))
    return np.sum(totals, axis=0) / np.maximum(np.sum(counts, axis=0), 1)
