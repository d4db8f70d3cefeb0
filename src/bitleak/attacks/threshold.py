"""One threshold for all records: the mean over queries of a signal, by default the confidence.

    score(x) = mean over queries of log p_y / (1 - p_y) = z_y - logsumexp(z_others)

The simplest attack there is. It needs no reference models and takes an easy record for a member.
The signal makes it one of the classic attacks:

    logit_scaled      the default: the order of the loss, but resolved where probabilities round to 1
    log_probability   minus the loss (Yeom et al. 2018, arXiv 1709.01604, section 3.2)
    correct           members are classified correctly more often: the gap attack, which sees labels
                      only (the same paper); with few queries most of its scores tie
    hinge             the margin z_y - max z_others
    entropy           members are classified with less doubt; blind to the label (Song and Mittal
                      2021, arXiv 2003.10595)
    modified_entropy  the entropy that also falls with the true class's probability (the same paper,
                      equation 9)

Entropies are negated, so that larger means member throughout. The second paper sets one threshold
per class from shadow models; here there is one threshold for all.

Misleading where records differ in difficulty: a low figure means that an adversary without
references finds little, not that there is little to find, and at a low FPR the first records that
are called members are the easy ones. If membership goes with the class, it measures the classes.

Cost: O(records queries).
"""

from dataclasses import dataclass
from typing import ClassVar

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

    reads_one_signal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        one_of("signal", self.signal, SIGNALS)

    @property
    def name(self) -> str:
        """`threshold`, with the signal if it is not the confidence."""
        return "threshold" if self.signal == "logit_scaled" else f"threshold-{self.signal}"

    @property
    def uses_references(self) -> bool:
        """False: it looks at the target alone."""
        return False

    @property
    def fewest_population(self) -> int:
        """0: it looks at no population records."""
        return 0

    def __call__(self, view: AttackView) -> Scores:
        """Return the mean of the signal over the queries."""
        return signal_of(view.target, self.signal).mean(axis=1)


ON_OTHER_SIGNALS = (
    Threshold("log_probability"),
    Threshold("hinge"),
    Threshold("entropy"),
    Threshold("modified_entropy"),
)
"""A threshold on each signal but the default one and `correct`."""
GAP_ATTACK = (Threshold("correct"),)
"""The gap attack."""
