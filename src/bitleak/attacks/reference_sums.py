"""Sums over a record's IN or OUT references: what most attacks with references start from.

Everything goes over blocks of records, so that the memory beyond the view is a few MB.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.core.errors import TooFewForAttack
from bitleak.core.spill import release

BLOCK = 2**19
"""Reference scores handled at a time."""


class Sums(NamedTuple):
    """Of the used references of one side."""

    counts: Int64[np.ndarray, "records"]
    mean: Float64[np.ndarray, "records queries"]
    squares: Float64[np.ndarray, "records queries"]
    """Sum of squared residuals around the mean."""

    @property
    def pooled(self) -> Float64[np.ndarray, "queries"]:
        """Variance of the residuals of all records together."""
        return self.squares.sum(axis=0) / (self.counts.sum() - len(self.counts))

    def only(self, query: int) -> "Sums":
        """Those of one query."""
        return Sums(self.counts, self.mean[:, query, None], self.squares[:, query, None])


def sums(references: Float64[np.ndarray, "refs records queries"], used: Bool[np.ndarray, "refs records"]) -> Sums:
    """Counts, means and squared residuals of the used references; what the others say, NaN too, has no part in it."""
    counts = used.sum(axis=0)
    mean, squares = (np.empty(references.shape[1:]) for _ in range(2))
    for block in blocks(references):
        weights = used[:, block].astype(np.float64)
        for query in range(references.shape[2]):  # an axis of two or three at the end would make every pass slow
            values = np.ascontiguousarray(references[:, block, query])
            total = np.einsum("mr,mr->r", values, weights)
            if np.isnan(total).any():  # hidden references are NaN, and 0 times NaN is NaN
                values = np.where(used[:, block], values, 0.0)
                total = np.einsum("mr,mr->r", values, weights)
            own = total / counts[block]
            residuals = (values - own) * weights
            mean[block, query] = own
            squares[block, query] = np.einsum("mr,mr->r", residuals, residuals)
    return Sums(counts, mean, squares)


def query_means(references: Float64[np.ndarray, "refs records queries"]) -> Float64[np.ndarray, "refs records"]:
    """The mean over the queries."""
    means = np.empty(references.shape[:2])
    for block in blocks(references):
        means[:, block] = references[:, block].mean(axis=2)
    return means


def blocks(references: Float64[np.ndarray, "refs records queries"]) -> Iterator[slice]:
    """Slices of records of about `BLOCK` scores each; what lies in a file is let go of after each."""
    refs, records, queries = references.shape
    step = max(1, BLOCK // max(1, refs * queries))
    for start in range(0, records, step):
        yield slice(start, start + step)
        release(references)


def refuse_few(used: Bool[np.ndarray, "refs records"], fewest: int, what: str, *, side: str) -> None:
    """Refuse a view in which a record has fewer used references.

    Raises:
        TooFewForAttack: Some record has fewer; the message names the first.
    """
    counts = used.sum(axis=0)
    few = np.flatnonzero(counts < fewest)
    if len(few):
        raise TooFewForAttack(
            f"{what} needs at least {fewest} usable {side} references for every record, "
            f"got {counts[few[0]]} for record {few[0]} ({len(few)} such records)"
        )
