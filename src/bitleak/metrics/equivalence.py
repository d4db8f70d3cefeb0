"""Equivalence of two AUCs: not the absence of a difference, but one that is known to be small.

Two one-sided tests at 5 % each (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15) show that a
difference lies within +- `EQUIVALENCE_MARGIN` if its 90 % interval does. That interval comes from the paired 95 %
interval: the reach on each side, which is proportional to the quantile of the normal, times
1.645 / 1.960. Over dedicated targets the reach is Student's, whose 90 % interval is narrower still, so
that the test is on the safe side there.
"""

from typing import NamedTuple

from scipy.stats import norm

from bitleak.core.types import Measure

EQUIVALENCE_MARGIN = 0.005
"""Largest difference in AUC between equivalent references."""

_SHARE = float(norm.ppf(0.95) / norm.ppf(0.975))


class Equivalence(NamedTuple):
    """A difference with its 90 % interval.

    Attributes:
        difference: The difference.
        low: Lower end of the interval.
        high: Upper end.
    """

    difference: float
    low: float
    high: float

    @property
    def is_shown(self) -> bool:
        """Whether the interval lies within +- `EQUIVALENCE_MARGIN`."""
        return max(-self.low, self.high) <= EQUIVALENCE_MARGIN


def equivalence(difference: Measure) -> Equivalence | None:
    """Return a difference with its 90 % interval, or None if it has no 95 % interval.

    Args:
        difference: A paired difference of two AUCs.

    Example:
        >>> found = equivalence(Measure(value=0.001, low=-0.004, high=0.006))
        >>> round(found.low, 4), round(found.high, 4), found.is_shown
        (-0.0032, 0.0052, False)
    """
    if difference.low is None or difference.high is None:
        return None
    below, above = difference.value - difference.low, difference.high - difference.value
    low, high = difference.value - _SHARE * below, difference.value + _SHARE * above
    return Equivalence(difference.value, low, high)
