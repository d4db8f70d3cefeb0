"""Scores by a number of references that is no whole number.

References of which some are predicted are worth n per side, and n is seldom whole. The attack runs
with l = floor(n) and with l + 1 references per side, the former being among the latter, and its
scores are averaged,

    score = (1 - t) score_l + t score_(l + 1),    t = 1 - sqrt((1/n - 1/(l + 1)) / (1/l - 1/(l + 1))).

To first order a score is linear in the mean over the references. The average of the two means gives
each of the first l references the weight (1 - t) / l + t / (l + 1) and the last one t / (l + 1), so
that its variance is, with one reference's variance as the unit,

    1 / (l + 1) + (1 - t)^2 (1/l - 1/(l + 1)) = 1/n.

An attack that reads OUT references only takes the n of that side. For the others n is the harmonic
mean of both sides, which has the same 1/n_IN + 1/n_OUT: the variance of the shift between the means.

Misleading where a score is no smooth function of the references, such as a median of few.

Cost: two runs of the attack; one if n is whole.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from bitleak.attacks.attack import Attack
from bitleak.attacks.reference_sums import SideName
from bitleak.core.types import AttackView, Scores

WHOLE = 1e-9
"""Distance from a whole number below which a number of references counts as whole."""


def number_of_references(attack: Attack, effective: Mapping[SideName, float]) -> float:
    """Return the number of references per side that counts for an attack.

    Args:
        attack: Attack that uses references.
        effective: Number by side, > 0.

    Example:
        >>> from bitleak.attacks import LiRA
        >>> effective = {"IN": 4.0, "OUT": 6.0}
        >>> number_of_references(LiRA(mode="offline"), effective)
        6.0
        >>> round(number_of_references(LiRA(), effective), 6)
        4.8
    """
    if getattr(attack, "outside_only", False):
        return effective["OUT"]
    return 2 / (1 / effective["IN"] + 1 / effective["OUT"])


def fractional_scores(
    attacks: Sequence[Attack],
    view_with: Callable[[int], AttackView],
    effective: Mapping[SideName, float],
) -> list[Scores]:
    """Return the scores of attacks by a number of references per side.

    Args:
        attacks: Attacks that use references.
        view_with: Function from a whole number of references per side to the view. Fewer references
            are among more; every number is asked for once, in ascending order.
        effective: Number of references by side, at least 1.

    Raises:
        ValueError: A number is below 1.
    """
    weights = [weights_by_count(number_of_references(attack, effective)) for attack in attacks]
    scores: list[Scores | None] = [None] * len(attacks)
    for count in sorted({count for of_attack in weights for count in of_attack}):
        view = view_with(count)
        for place, (attack, of_attack) in enumerate(zip(attacks, weights, strict=True)):
            if count in of_attack:
                part, before = of_attack[count] * attack(view), scores[place]
                scores[place] = part if before is None else before + part
    return [of_attack for of_attack in scores if of_attack is not None]


def weights_by_count(number: float) -> dict[int, float]:
    """Return the weights of the scores by one or two whole numbers of references.

    Raises:
        ValueError: The number is below 1.

    Example:
        >>> weights_by_count(4.0)
        {4: 1.0}
        >>> {count: round(weight, 3) for count, weight in weights_by_count(4.5).items()}
        {4: 0.667, 5: 0.333}
    """
    if number < 1 - WHOLE:
        raise ValueError(f"a number of references per side must be at least 1, got {number:g}")
    fewer = math.floor(number + WHOLE)
    if number - fewer <= WHOLE:
        return {fewer: 1.0}
    step = 1 / fewer - 1 / (fewer + 1)
    share = 1 - math.sqrt((1 / number - 1 / (fewer + 1)) / step)
    return {fewer: 1 - share, fewer + 1: share}
