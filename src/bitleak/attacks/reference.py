"""Attack-R: how unusual is the target's loss on the record among models that were not trained on it?

    score(x) = mean over queries of 1 - rank(l(x)) / (R + 1)

with the rank of the target's loss l(x) among the sorted losses of the R OUT references, interpolated
linearly between them; 0 and `GREATEST_LOSS` are added as the ends, so that the rank runs from 0 to
R + 1. A tie has the middle of its ranks.

Ye et al. 2022 (arXiv 2111.09679): the threshold at level alpha is the alpha quantile of the OUT losses, by linear
interpolation as in the authors' code, and the score is 1 minus the smallest level at which the record is called a
member. Without interpolation the score has R + 1 values, and no FPR below 1 / (R + 1) can be reached.

The loss is minus the log probability, which follows from the logit-scaled confidence f as log(1 + exp(-f)); from
`hinge` by the same function. Entropies are their own loss, and `correct` has 0 for a right and 1 for a wrong answer.

Cost: O(refs records queries), in blocks of records.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from bitleak.attacks.attack import blocks, reference_signal, signal_of
from bitleak.attacks.reference_sums import refuse_few
from bitleak.core.checks import one_of
from bitleak.core.types import SIGNALS, AttackView, Scores, SignalName

GREATEST_LOSS = 1000.0
"""Loss at the upper end of the interpolation, in nats: that of the authors' code."""


@dataclass(frozen=True)
class Reference:
    """The target's loss ranked among those of OUT references.

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
        """Return 1 minus the interpolated rank of every record's loss among its OUT references', in [0, 1].

        Raises:
            ValueError: A record has no usable OUT reference, or a signal is not finite.
        """
        target, references = (
            signal_of(view.target, self.signal),
            reference_signal(view, self.signal),
        )
        used = view.outside
        refuse_few(used, 1, self.name, side="OUT")
        score = np.empty(len(target))
        for block in blocks(references):
            shown = used[:, block, None]
            losses = _loss(np.where(shown, references[:, block], 0.0), self.signal)
            ranks = _interpolated_ranks(
                _loss(target[block], self.signal), np.where(shown, losses, np.nan)
            )
            score[block] = 1 - ranks.mean(axis=1) / (used[:, block].sum(axis=0) + 1)
        return score


def _loss(values: Float64[np.ndarray, "*axes"], signal: SignalName) -> Float64[np.ndarray, "*axes"]:
    """Return losses of at least 0 from a signal that is larger for members."""
    if signal in ("logit_scaled", "hinge"):
        return np.logaddexp(0.0, -values)
    return 1 - values if signal == "correct" else -values


def _interpolated_ranks(
    loss: Float64[np.ndarray, "records queries"],
    others: Float64[np.ndarray, "refs records queries"],
) -> Float64[np.ndarray, "records queries"]:
    """Return ranks from 0 to the number of the others plus 1; others that are NaN do not count."""
    lower, equal = others < loss, others == loss
    below = lower.sum(axis=0)
    ties = equal.sum(axis=0)
    nearest_below = np.max(others, axis=0, where=lower, initial=0.0)
    nearest_above = np.min(others, axis=0, where=others > loss, initial=GREATEST_LOSS)
    gap = nearest_above - nearest_below
    share = (loss - nearest_below) / np.where(gap > 0, gap, 1.0)
    return np.where(ties > 0, below + (ties + 1) / 2, below + np.clip(share, 0.0, 1.0))
