"""One threshold for all records: the mean over queries of a signal, by default the confidence.

    score(x) = mean over queries of log p_y / (1 - p_y) = z_y - logsumexp(z_others)

The simplest attack there is (Yeom et al. 2018, arXiv 1709.01604, section 3.2, with the logit-scaled
confidence instead of the loss). It needs no reference models and cannot tell an easy record from a member.
"""

from dataclasses import dataclass

from bitleak.attacks.attack import signal_of
from bitleak.core.checks import one_of
from bitleak.core.types import SIGNALS, AttackView, Scores, SignalName


@dataclass(frozen=True)
class Threshold:
    """A global threshold on a signal.

    Attributes:
        signal: Which signal.

    Example:
        >>> Threshold().name
        'threshold'
    """

    signal: SignalName = "logit_scaled"

    def __post_init__(self) -> None:
        one_of("signal", self.signal, SIGNALS)

    @property
    def name(self) -> str:
        """`threshold`, with the signal where it is not the confidence."""
        return "threshold" if self.signal == "logit_scaled" else f"threshold-{self.signal}"

    @property
    def uses_references(self) -> bool:
        """False: it looks at the target alone."""
        return False

    def __call__(self, view: AttackView) -> Scores:
        """The mean of the signal over the queries."""
        return signal_of(view.target, self.signal).mean(axis=1)
