"""Attack-R: how unusual is the target's loss on the record among models that were not trained on
it?

    score(x) = mean over queries of 1 - rank(l(x)) / (R + 1)

with the rank of the target's loss l(x) among the sorted losses of the R OUT references,
interpolated linearly between them; 0 and `GREATEST_LOSS` are added as the ends, so that the rank
runs from 0 to R + 1. A tie has the middle of its ranks.

Ye et al. 2022 (arXiv 2111.09679): the threshold at level alpha is the alpha quantile of the OUT
losses, by linear interpolation as in the authors' code, and the score is 1 minus the smallest level
at which the record is called a member. Without interpolation the score has R + 1 values, and no FPR
below 1 / (R + 1) can be reached.

The loss is minus the log probability, which follows from the logit-scaled confidence f as log(1 +
exp(-f)); from `hinge` by the same function. Entropies are their own loss, and `correct` has 0 for a
right and 1 for a wrong answer.

Misleading at an FPR below one in the number of references: no quantile backs the order there, which
is that of the loss over the smallest loss of the references.

Cost: O(refs records queries), in blocks of records.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.attacks.attack import (
    cached_blocks,
    mean_of_queries,
    reference_signal,
    signal_of,
)
from bitleak.attacks.reference_sums import refuse_few, serving_rows
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
    outside_only: ClassVar[bool] = True

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
        """Return 1 minus the interpolated rank of every record's loss among its OUT references', in
        [0, 1].

        Raises:
            ValueError: A record has no usable OUT reference, or a signal is not finite.
        """
        target, references = (
            signal_of(view.target, self.signal),
            reference_signal(view, self.signal),
        )
        used = view.outside
        refuse_few(used, 1, self.name, side="OUT")
        rows = serving_rows(used)
        whole = bool(used[rows].all())
        ranks = np.empty(target.shape)
        for block in cached_blocks(references):
            hidden = None if whole else ~used[rows, block]
            for query in range(target.shape[1]):
                others = references[rows, block, query]
                ranks[block, query] = _ranks(target[block, query], others, hidden, self.signal)
        return 1 - mean_of_queries(ranks) / (used.sum(axis=0) + 1)


def _ranks(
    target: Float64[np.ndarray, "records"],
    others: Float64[np.ndarray, "refs records"],
    hidden: Bool[np.ndarray, "refs records"] | None,
    signal: SignalName,
) -> Float64[np.ndarray, "records"]:
    """Return the interpolated ranks of the target's losses among those of references that are not
    hidden.

    A loss falls as its signal rises. So the neighbours are found among the signals, and only their
    losses are made.
    """
    higher, lower = others > target, others < target
    if hidden is not None:
        higher &= ~hidden
        lower &= ~hidden
    count = len(others) - (0 if hidden is None else hidden.sum(axis=0))
    below = higher.sum(axis=0)
    ties = count - below - lower.sum(axis=0)
    above_target = np.where(higher, others, np.inf).min(axis=0)
    below_target = np.where(lower, others, -np.inf).max(axis=0)

    # 0 and the greatest loss are the ends; equal losses of unequal signals are counted as losses
    loss = _loss(target, signal)
    smaller, greater = np.zeros_like(loss), np.full_like(loss, GREATEST_LOSS)
    known = np.isfinite(above_target)
    smaller[known] = np.maximum(_loss(above_target[known], signal), 0.0)
    known_below = np.isfinite(below_target)
    greater[known_below] = np.minimum(_loss(below_target[known_below], signal), GREATEST_LOSS)
    ranks = _interpolated(loss, below, ties, smaller, greater)
    equal = np.flatnonzero((known & (smaller >= loss)) | (known_below & (greater <= loss)))
    if len(equal):
        losses = _loss(np.where(np.isnan(others[:, equal]), 0.0, others[:, equal]), signal)
        if hidden is not None:
            losses[hidden[:, equal]] = np.nan
        ranks[equal] = _interpolated_ranks(loss[equal], losses)
    return ranks


def _loss(values: Float64[np.ndarray, "*axes"], signal: SignalName) -> Float64[np.ndarray, "*axes"]:
    """Return losses of at least 0 from a signal that is larger for members."""
    if signal in ("logit_scaled", "hinge"):
        return np.logaddexp(0.0, -values)
    return 1 - values if signal == "correct" else -values


def _interpolated_ranks(
    loss: Float64[np.ndarray, "records"], others: Float64[np.ndarray, "refs records"]
) -> Float64[np.ndarray, "records"]:
    """Return ranks from 0 to the number of the others plus 1; others that are NaN do not count."""
    lower = others < loss
    smaller = np.max(others, axis=0, where=lower, initial=0.0)
    greater = np.min(others, axis=0, where=others > loss, initial=GREATEST_LOSS)
    return _interpolated(loss, lower.sum(axis=0), (others == loss).sum(axis=0), smaller, greater)


def _interpolated(
    loss: Float64[np.ndarray, "records"],
    below: Int64[np.ndarray, "records"],
    ties: Int64[np.ndarray, "records"],
    smaller: Float64[np.ndarray, "records"],
    greater: Float64[np.ndarray, "records"],
) -> Float64[np.ndarray, "records"]:
    """Return ranks from the numbers of smaller and of equal losses, and the next losses on both
    sides.
    """
    gap = greater - smaller
    share = (loss - smaller) / np.where(gap > 0, gap, 1.0)
    return np.where(ties > 0, below + (ties + 1) / 2, below + np.clip(share, 0.0, 1.0))
