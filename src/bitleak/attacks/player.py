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
from bitleak.core.mapped import rows_of
from bitleak.core.types import AttackView


def player_view(view: AttackView, generator: np.random.Generator) -> tuple[AttackView, Bool[np.ndarray, "records"]]:
    """A view of one of the references, drawn at random, by all others but its complement.

    Every record has the same number of references on both sides, the largest that the others allow; so it has at
    least one reference a side less than in the view itself.

    Args:
        view: Of any target.
        generator: What the player, and the references used where the counts are uneven, are drawn from.

    Returns:
        The view, and who was in the player's training set.

    Raises:
        ValueError: Some record would have no reference on a side.
    """
    row = int(generator.integers(len(view.references))) if len(view.references) else -1
    if row < 0:
        raise ValueError("a reference in the target's place needs references, got none")
    member = view.member[row]
    others = (view.member == member).any(axis=1)  # all but its complement
    others[row] = False
    played = replace(
        view,
        target=rows_of(view.references, np.array([row]))[0],
        references=rows_of(view.references, others),
        member=view.member[others],
        use=view.use[others],
        population_target=rows_of(view.population_references, np.array([row]))[0],
        population_references=rows_of(view.population_references, others),
    )
    sides = (played.use & side for side in (played.member, ~played.member))
    fewest = min(int(side.sum(axis=0).min(initial=0 if len(played.use) == 0 else len(played.use))) for side in sides)
    if fewest < 1:
        raise ValueError("with a reference in the target's place, some record has no other reference on a side")
    return subset_view(played, fewest, generator), member


def population_view(view: AttackView) -> AttackView:
    """The target's answers about the population records in place of those about the audited ones.

    For attacks without references: nobody is a member of the population, so what they score there shows where a
    threshold must be.
    """
    nobody = np.zeros(view.population_references.shape[:2], bool)
    return replace(
        view,
        target=view.population_target,
        references=view.population_references,
        member=nobody,
        use=nobody,
        labels=np.zeros(len(view.population_target), np.int64),
    )
