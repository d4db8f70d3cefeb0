"""The interface of an attack, and the signals that it reads.

An attack is a frozen dataclass of hyper-parameters that is called with an `AttackView` and returns
`Scores`, larger = more likely a member. The smallest member is `Threshold`, the famous one `LiRA`.
"""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64

from bitleak.core.errors import TooFewForAttack, UnfitView
from bitleak.core.spill import release
from bitleak.core.types import SIGNALS, AttackView, Scores, SignalName

RECALIBRATED_SIGNALS: tuple[SignalName, ...] = ("log_probability", "logit_scaled")
"""Signals that follow from the confidence alone; attacks on other signals have no recalibrated
row.
"""

SCORE_BLOCK = 2**19
"""Number of reference scores handled at a time."""

CACHED_SCORES = 2**15
"""Number of reference scores of one query that a core's cache holds, with two arrays more."""

DESCENDING: tuple[SignalName, ...] = ("entropy", "modified_entropy")
"""Signals that are smaller for members."""


@runtime_checkable
class Attack(Protocol):
    """An attack as the rest of bitleak sees it.

    Two optional attributes make it cheaper with fewer references; without them everything is
    copied.

    * `exchangeable = True`: see `reference_subsets.exchangeable`.
    * `reads_one_signal = True`: `signal` is the only signal of the target and of the references that it reads.

    An attack that reads further signals of the references names them in `further_signals`: it is then left out where
    answers are ready scores, which have none but the confidence.

    Another one, `outside_only = True`, states that a record's IN references have no effect on its score, so that the
    number of OUT references alone counts (`fractional_references`).
    """

    @property
    def name(self) -> str:
        """Name in the results table."""

    @property
    def signal(self) -> SignalName:
        """Signal of the target that is read."""

    @property
    def uses_references(self) -> bool:
        """Whether the reference models' answers are read."""

    @property
    def fewest_population(self) -> int:
        """Fewest population records that are needed; 0 if they are never read."""

    def __call__(self, view: AttackView) -> Scores:
        """Return the score of every audited record."""


def signal_of(
    signals: Float64[np.ndarray, "*axes signals"], name: SignalName
) -> Float64[np.ndarray, "*axes"]:
    """Return a signal, without a copy; entropies negated, so that larger always means member.

    Raises:
        UnfitView: It is not stored, or not finite: a recalibration leaves NaN for signals that do
            not follow from the confidence.
    """
    values = _plane(signals, name)
    if not _finite(values):
        known = ", ".join(RECALIBRATED_SIGNALS)
        raise UnfitView(f"signal {name!r} must be finite; a recalibrated view has {known} only")
    return -values if name in DESCENDING else values


def reference_signal(
    view: AttackView, name: SignalName
) -> Float64[np.ndarray, "refs records queries"]:
    """Return `signal_of` the references; NaN where a reference is hidden, finite elsewhere.

    Raises:
        UnfitView: It is not stored, or not finite for a reference that is used.
    """
    values = _plane(view.references, name)
    # many attacks read the same references: their values are checked once per view
    key = ("finite", name)
    if key not in view.shared:
        if not _finite(values):
            _refuse_infinite(values, view.use, name)
        view.shared[key] = True
    return -values if name in DESCENDING else values


def _refuse_infinite(
    values: Float64[np.ndarray, "refs records queries"],
    use: Bool[np.ndarray, "refs records"],
    name: SignalName,
) -> None:
    for block in cached_blocks(values):
        unused = ~use[:, block]
        for query in range(values.shape[2]):
            if not (np.isfinite(values[:, block, query]) | unused).all():
                raise UnfitView(
                    f"signal {name!r} of the references must be finite where they are used"
                )


def _plane(
    signals: Float64[np.ndarray, "*axes signals"], name: SignalName
) -> Float64[np.ndarray, "*axes"]:
    index = SIGNALS.index(name)
    if index >= signals.shape[-1]:
        raise UnfitView(
            f"signal {name!r} is not there; these answers have {', '.join(SIGNALS[: signals.shape[-1]])}"
        )
    return signals[..., index]


def _finite(values: Float64[np.ndarray, "*axes"]) -> bool:
    if values.ndim < 3:
        return bool(np.isfinite(values).all())
    return all(np.isfinite(values[:, block]).all() for block in blocks(values))


def refuse_small_population(
    population: Float64[np.ndarray, "population *rest"], fewest: int, name: str
) -> None:
    """Refuse fewer population records than the attack needs.

    Raises:
        TooFewForAttack: There are fewer.
    """
    if len(population) < fewest:
        raise TooFewForAttack(
            f"{name} needs at least {fewest} population records, got {len(population)}"
        )


def blocks(references: Float64[np.ndarray, "refs records queries"]) -> Iterator[slice]:
    """Yield slices of about `SCORE_BLOCK` scores; a file's memory is released after each."""
    refs, records, queries = references.shape
    step = max(1, SCORE_BLOCK // max(1, refs * queries))
    for start in range(0, records, step):
        yield slice(start, start + step)
        release(references)


def cached_blocks(references: Float64[np.ndarray, "refs records queries"]) -> Iterator[slice]:
    """Yield the slices of `blocks` in parts of about `CACHED_SCORES` scores of one query."""
    refs, records, _ = references.shape
    step = max(1, CACHED_SCORES // max(1, refs))
    for block in blocks(references):
        end = min(block.stop, records)
        for start in range(block.start, end, step):
            yield slice(start, min(start + step, end))


def mean_of_queries(
    values: Float64[np.ndarray, "records queries"],
) -> Float64[np.ndarray, "records"]:
    """Return the mean over the queries, query by query: sums along a short last axis are slow."""
    queries = values.shape[1]
    if queries >= 8:  # from there NumPy sums in another order
        return values.mean(axis=1)
    total = values[:, 0].copy()
    for query in range(1, queries):
        total += values[:, query]
    return total / queries


def keep_checks(view: AttackView, original: AttackView) -> AttackView:
    """Note that signals of references are finite, which were checked where these come from."""
    for key in original.shared:
        if key[0] == "finite":
            view.shared[key] = True
    return view
