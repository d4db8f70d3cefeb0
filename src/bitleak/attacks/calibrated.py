"""Difficulty calibration: how much better is the target on the record than models of its kind are?

    offline:  score(x) = mean over queries of s(x) - mean over OUT references of s_r(x)
    online:   score(x) = mean over queries of s(x) - (mean over IN + mean over OUT) / 2

Watson et al. 2022 (arXiv 2111.08440), whose s is minus the loss (here the default, the
log-probability). Their references are trained without the record: `offline`. `online` takes both
kinds with equal weights, which subtracts half of the rise that membership adds and changes the
order only where that rise differs between records. It is LiRA's test for a normal signal whose
deviation is the same for all records.

Misleading where records differ in the spread of their answers: a record with noisy answers exceeds
its mean by chance, so that false positives gather on such records and the TPR at a low FPR suffers
more than the AUC.

Cost: O(refs records queries), in blocks of records.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from bitleak.attacks.attack import signal_of
from bitleak.attacks.reference_sums import side_sums
from bitleak.core.checks import one_of
from bitleak.core.types import SIGNALS, AttackView, Scores, SignalName


@dataclass(frozen=True)
class Calibrated:
    """The signal less its mean over references.

    Attributes:
        mode: `offline` uses OUT references only, `online` IN and OUT.
        signal: Which signal.

    Example:
        >>> Calibrated().name, Calibrated("online", "logit_scaled").name
        ('calibrated-offline', 'calibrated-online-logit_scaled')
    """

    mode: Literal["offline", "online"] = "offline"
    signal: SignalName = "log_probability"

    exchangeable: ClassVar[bool] = True
    reads_one_signal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        one_of("mode", self.mode, ("offline", "online"))
        one_of("signal", self.signal, SIGNALS)

    @property
    def name(self) -> str:
        """Name with the mode, and with the signal if it is not the paper's."""
        suffix = "" if self.signal == "log_probability" else f"-{self.signal}"
        return f"calibrated-{self.mode}{suffix}"

    @property
    def uses_references(self) -> bool:
        """True."""
        return True

    @property
    def outside_only(self) -> bool:
        """Whether it looks at OUT references only: `offline`."""
        return self.mode == "offline"

    @property
    def fewest_population(self) -> int:
        """0: it looks at no population records."""
        return 0

    def __call__(self, view: AttackView) -> Scores:
        """Return the mean difference over the queries.

        Raises:
            ValueError: A record lacks usable references on one side, or a signal is not finite.
        """
        usual = side_sums(view, self.signal, "OUT", fewest=1, caller=self.name).mean
        if self.mode == "online":
            usual = (
                usual + side_sums(view, self.signal, "IN", fewest=1, caller=self.name).mean
            ) / 2
        return (signal_of(view.target, self.signal) - usual).mean(axis=1)


CALIBRATED_FORMS = (
    Calibrated("offline"),
    Calibrated("online"),
    Calibrated("offline", "logit_scaled"),
    Calibrated("online", "logit_scaled"),
)
"""Both modes, on the paper's signal and on the confidence."""
