"""Attack-R: how unusual is the target's confidence in the record among models that were not trained on it?

    score(x) = mean over queries of the share of OUT references r with s_r(x) < s(x), ties counted half

Ye et al. 2022 (arXiv 2111.09679), with the empirical distribution and the logit-scaled confidence in
place of minus the loss, which orders answers alike. It is the offline LiRA without its normal assumption, and pays for
that: the score has as many values as there are OUT references, so that false-positive rates far below one in that
number cannot be told apart.

Cost: O(refs records queries), in blocks of records.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitleak.attacks.attack import blocks, reference_signal, signal_of
from bitleak.attacks.reference_sums import refuse_few
from bitleak.core.checks import one_of
from bitleak.core.types import SIGNALS, AttackView, Scores, SignalName


@dataclass(frozen=True)
class Reference:
    """The target's answer ranked among those of OUT references.

    Attributes:
        signal: Which signal.

    Example:
        >>> Reference().name
        'reference'
    """

    signal: SignalName = "logit_scaled"

    exchangeable: ClassVar[bool] = True
    reads_one_signal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        one_of("signal", self.signal, SIGNALS)

    @property
    def name(self) -> str:
        """`reference`, with the signal if it is not the confidence."""
        return "reference" if self.signal == "logit_scaled" else f"reference-{self.signal}"

    @property
    def uses_references(self) -> bool:
        """True."""
        return True

    @property
    def fewest_population(self) -> int:
        """0: it looks at no population records."""
        return 0

    def __call__(self, view: AttackView) -> Scores:
        """Return the mid-rank of every record's signal among its OUT references', from 0 to 1.

        Raises:
            ValueError: A record has no usable OUT reference, or a signal is not finite.
        """
        target, references = signal_of(view.target, self.signal), reference_signal(view, self.signal)
        used = view.outside
        refuse_few(used, 1, self.name, side="OUT")
        score = np.empty(len(target))
        for block in blocks(references):
            answers, weights = references[:, block], used[:, block, None]
            higher = np.sum((answers < target[block]) & weights, axis=0)
            ties = np.sum((answers == target[block]) & weights, axis=0)
            score[block] = (higher + ties / 2).mean(axis=1) / used[:, block].sum(axis=0)
        return score
