"""Attack-P: how unusual is the target's confidence in the record among records without members?

    score(x) = mean over queries of the share of population records z with s(z) < s(x), ties counted
    half

Ye et al. 2022 (arXiv 2111.09679), with the empirical distribution and the logit-scaled confidence
in place of minus the loss, which orders records alike. 1 - score is a p-value: the false-positive
rate at which the threshold would be the record's own confidence. With one query the attack
`threshold` orders the records alike, but for the population's resolution; this attack adds the
scale. With several queries each answer is ranked among answers to the same query, unlike the mean
of the confidences.

Misleading as the plain threshold is: an easy record is taken for a member. With few population
records many audited ones tie, and no FPR below one in their number can be reached.

Cost: O((records + population) queries log population).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitleak.attacks.attack import refuse_small_population, signal_of
from bitleak.core.checks import one_of
from bitleak.core.types import SIGNALS, AttackView, Scores, SignalName


@dataclass(frozen=True)
class Population:
    """The target's answer ranked among its answers to population records.

    Attributes:
        signal: Which signal.

    Example:
        >>> Population().name
        'population'
    """

    signal: SignalName = "logit_scaled"

    reads_one_signal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        one_of("signal", self.signal, SIGNALS)

    @property
    def name(self) -> str:
        """`population`, with the signal if it is not the confidence."""
        return "population" if self.signal == "logit_scaled" else f"population-{self.signal}"

    @property
    def uses_references(self) -> bool:
        """False: it looks at the target alone."""
        return False

    @property
    def fewest_population(self) -> int:
        """1."""
        return 1

    def __call__(self, view: AttackView) -> Scores:
        """Return the mid-rank of every record's signal among the population's, from 0 to 1.

        Raises:
            ValueError: There are no population records, or a signal is not finite.
        """
        refuse_small_population(view.population_target, self.fewest_population, self.name)
        target = signal_of(view.target, self.signal)
        population = signal_of(view.population_target, self.signal)
        score = np.zeros(len(target))
        for query in range(target.shape[1]):
            ascending = np.sort(population[:, query])
            below = np.searchsorted(ascending, target[:, query], side="left")
            up_to = np.searchsorted(ascending, target[:, query], side="right")
            score += (below + up_to) / (2 * len(ascending))  # ties counted half
        return score / target.shape[1]
