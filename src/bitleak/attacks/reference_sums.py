"""Sums over a record's IN or OUT references, from which most attacks with references start.

They are kept in `AttackView.shared`: twelve forms of LiRA need the same two. All of them are
computed in blocks of records, so that the memory beyond the view is a few MB.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.attacks.attack import blocks, cached_blocks, reference_signal
from bitleak.core.errors import TooFewForAttack
from bitleak.core.types import AttackView, SignalName

SideName = Literal["IN", "OUT"]
"""Side of a record: references trained on it, or not."""


class Sums(NamedTuple):
    """Sums over the used references of one side."""

    counts: Int64[np.ndarray, "records"] | Float64[np.ndarray, "records"]
    """Number of references; of references that are partly predicted, the effective number."""
    mean: Float64[np.ndarray, "records queries"]
    squares: Float64[np.ndarray, "records queries"]
    """Sum of squared residuals around the mean."""
    freedom: Float64[np.ndarray, "records"] | None = None
    """Degrees of freedom of the squares, or None for one less than the counts."""

    @property
    def degrees(self) -> Float64[np.ndarray, "records"]:
        """Degrees of freedom of every record's variance."""
        return self.counts - 1.0 if self.freedom is None else self.freedom

    @property
    def pooled(self) -> Float64[np.ndarray, "queries"]:
        """Variance of the residuals of all records together."""
        return self.squares.sum(axis=0) / self.degrees.sum()

    def only(self, query: int) -> "Sums":
        """Return the sums of one query."""
        return Sums(
            self.counts, self.mean[:, query, None], self.squares[:, query, None], self.freedom
        )


def sums(
    references: Float64[np.ndarray, "refs records queries"], used: Bool[np.ndarray, "refs records"]
) -> Sums:
    """Return counts, means and squared residuals of the used references; hidden ones may be NaN."""
    counts = used.sum(axis=0)
    rows = serving_rows(used)
    whole = bool(used[rows].all())
    mean, squares = np.empty(references.shape[1:]), np.empty(references.shape[1:])
    for block in cached_blocks(references):
        unused = None if whole else ~used[rows, block]
        for query in range(references.shape[2]):
            # a copy, since an axis of two or three at the end would make every pass slow
            values = np.array(references[rows, block, query], order="C")
            if unused is not None:  # hidden references are NaN, and 0 times NaN is NaN
                np.copyto(values, 0.0, where=unused)
            centre = np.einsum("mr->r", values) / counts[block]
            values -= centre
            if unused is not None:
                np.copyto(values, 0.0, where=unused)
            mean[block, query] = centre
            squares[block, query] = np.einsum("mr,mr->r", values, values)
    return Sums(counts, mean, squares)


def serving_rows(used: Bool[np.ndarray, "refs records"]) -> slice:
    """Return the span of the references that are used for some record.

    In a compact view (`reference_subsets`) each side has its own rows, used for all records.
    """
    rows = np.flatnonzero(used.any(axis=1))
    return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)


def query_means(
    references: Float64[np.ndarray, "refs records queries"],
) -> Float64[np.ndarray, "refs records"]:
    """Return the means over the queries."""
    means = np.empty(references.shape[:2])
    for block in blocks(references):
        means[:, block] = references[:, block].mean(axis=2)
    return means


def refuse_few(
    used: Bool[np.ndarray, "refs records"], fewest: int, caller: str, *, side: str
) -> None:
    """Refuse a view in which a record has fewer used references.

    Raises:
        TooFewForAttack: Some record has fewer; the message names the first.
    """
    counts = used.sum(axis=0)
    few = np.flatnonzero(counts < fewest)
    if len(few):
        references = "reference" if fewest == 1 else "references"
        raise TooFewForAttack(
            f"{caller} needs at least {fewest} usable {side} {references} for every record, "
            f"got {counts[few[0]]} for record {few[0]} ({len(few)} such records)"
        )


def refuse_few_of_side(view: AttackView, side: SideName, fewest: int, caller: str) -> None:
    """Like `refuse_few`, for one side of a view, whose references are counted once for all attacks.

    Raises:
        TooFewForAttack: Some record has fewer.
    """
    key = ("fewest", side)
    if key not in view.shared:
        view.shared[key] = int(side_of(view, side).sum(axis=0).min(initial=len(view.side)))
    if view.shared[key] < fewest:
        refuse_few(side_of(view, side), fewest, caller, side=side)


def side_of(view: AttackView, side: SideName) -> Bool[np.ndarray, "refs records"]:
    """Return True for the references of one side that may be used."""
    return view.member if side == "IN" else view.outside


def side_sums(
    view: AttackView, signal: SignalName, side: SideName, *, fewest: int, caller: str
) -> Sums:
    """Return `sums` of a signal of one side's references, computed once for all attacks on a view.

    Args:
        view: View that is attacked.
        signal: Name of the references' signal.
        side: `IN` or `OUT`.
        fewest: SideName that every record needs.
        caller: Name for the message.

    Raises:
        ValueError: A record has fewer, or a signal is not finite.
    """
    refuse_few_of_side(view, side, fewest, caller)
    if view.moments is not None:
        return view.moments[signal, side]
    key = ("sums", signal, side)
    if key not in view.shared:
        view.shared[key] = sums(reference_signal(view, signal), side_of(view, side))
    return view.shared[key]
