"""A reference in the target's place: how an adversary tries an attack out where the membership is known.

The adversary who attacks a target has models of the same kind, whose training sets are known. One of them plays the
target, the others are its references; what the attack says of the records that the player was not trained on shows
which scores non-members get, and a threshold can be set on them. Neither the target nor its complement has a part in
it.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from bitleak.attacks.power import subset_view
from bitleak.core.mapped import columns_of, rows_of
from bitleak.core.types import AttackView


def player_view(view: AttackView, generator: np.random.Generator) -> tuple[AttackView, Bool[np.ndarray, "records"]]:
    """Return the view of a random reference, by all others but those on its training set or on the complement.

    It has the records that the player is used for: of others it is hidden whether it was trained on them.
    Every record has the same number of references on both sides, the largest that the others allow; so
    at least one fewer per side than in the view itself.

    Args:
        view: Of any target.
        generator: What the player, and the references used where the counts are uneven, are drawn from.

    Returns:
        The view, and which of its records were in the player's training set.

    Raises:
        ValueError: Some record would have no reference on a side.
    """
    row = int(generator.integers(len(view.references))) if len(view.references) else -1
    if row < 0:
        raise ValueError("a reference in the target's place needs references, got none")
    others = np.abs(view.split) != abs(view.split[row])  # neither on its training set nor on the complement
    records = view.use[row]
    target = rows_of(view.references, np.array([row]))[0]
    references, side = rows_of(view.references, others), view.side[others]
    if not records.all():  # hidden for the other records: neither its answers nor its membership are known
        target, references, side = target[records], columns_of(references, records), side[:, records]
    played = replace(
        view,
        target=target,
        references=references,
        side=side,
        split=view.split[others],
        population_target=rows_of(view.population_references, np.array([row]))[0],
        population_references=rows_of(view.population_references, others),
        labels=view.labels[records],
    )
    known = view.member[row, records]
    if not len(side) or not len(known):
        raise ValueError("with a reference in the target's place, some record has no other reference on a side")
    fewest = min(int(each.sum(axis=0).min()) for each in (played.member, played.outside))
    if fewest < 1:
        raise ValueError("with a reference in the target's place, some record has no other reference on a side")
    return subset_view(played, fewest, generator), known


def population_view(view: AttackView) -> AttackView:
    """The target's answers about the population records in place of those about the audited ones.

    For attacks without references: nobody is a member of the population, so what they score there shows where a
    threshold must be.
    """
    return replace(
        view,
        target=view.population_target,
        references=view.population_references,
        side=np.zeros(view.population_references.shape[:2], np.int8),
        labels=np.zeros(len(view.population_target), np.int64),
    )
