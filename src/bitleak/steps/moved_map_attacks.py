"""Influence of population records on the figures of an attack on a recalibrated target."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float64

from bitleak import metrics
from bitleak.attacks import Attack, map_error_counts, moved_maps
from bitleak.core.types import AttackView, Scores

TargetInfluence = dict[str, Float64[np.ndarray, "population"]]
"""By metric: influence of every population record on the figure of one target."""


class MapError:
    """Attacks a target under maps that are off by a standard error each.

    Args:
        view: View of the target, not yet recalibrated.
        member: Membership of the target.
        fprs: FPRs of the figures.
    """

    def __init__(
        self, view: AttackView, member: Bool[np.ndarray, "records"], fprs: Sequence[float]
    ) -> None:
        self._moved, self._member, self._fprs = moved_maps(view), member, fprs

    def of(self, attack: Attack, scores: Scores) -> TargetInfluence:
        """Return the influences on the figures of one attack.

        Args:
            attack: The attack.
            scores: Its scores on the recalibrated view.
        """
        curve, *moved = (metrics.roc(row, self._member) for row in self._scores(attack, scores))
        return metrics.map_influence(curve, moved, self._moved.influence, self._fprs)

    def _scores(self, attack: Attack, scores: Scores) -> Iterator[Scores]:
        yield scores
        for view in self._moved.views:
            yield attack(view)


def map_error_of(
    view: AttackView, member: Bool[np.ndarray, "records"], fprs: Sequence[float]
) -> MapError | None:
    """Return the attacks under moved maps; None if the error of the map does not count.

    Args:
        view: View of the target, not yet recalibrated.
        member: Membership of the target.
        fprs: FPRs of the figures.
    """
    if map_error_counts(len(view.population_target), len(view.target)):
        return MapError(view, member, fprs)
    return None
