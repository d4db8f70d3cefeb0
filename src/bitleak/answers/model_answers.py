"""Answers of several models as they are stored in files: described and checked, not yet read.

| kind | per model | read as |
|---|---|---|
| `logits` | `[records queries classes]` | the exact signals |
| `probabilities` | `[records queries classes]`, each summing to 1 | their logarithms as logits |
| `scores` | `[records queries]` | logit-scaled confidences, log p_y / (1 - p_y) |

A missing query axis is one query. float16, float32 and float64 are taken and computed in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64

from bitleak.core.checks import truth_array
from bitleak.core.errors import DataError
from bitleak.core.limits import MOST_CLASSES

AnswerKind = Literal["logits", "probabilities", "scores"]

KINDS: tuple[AnswerKind, ...] = ("logits", "probabilities", "scores")


@dataclass(frozen=True)
class Answers:
    """The answers of some models about the same records, in the order of the rows of `member`.

    Attributes:
        source: File or folder, for messages.
        kind: Kind of the arrays.
        names: One per model; how a quantized file says which models its rows belong to.
        pool: One array per model about the audited records, `[records queries classes]` or, of scores,
            `[records queries]`; memory-mapped where the format allows it.
        member: True where the model was trained on the record; None if the source does not say.
        labels: True class of each record; None if the source does not say.
        population: Like `pool`, about records outside every model's training set; empty if there are none.
        population_labels: True class of those; None if the source does not say.
        record_numbers: Number of each audited record in the source; None if its records are only in an order.
        population_numbers: Numbers of the population records; None likewise.
        query_numbers: Numbers of the queries; None likewise.
        doubts: Reasons to doubt the answers that the layout of the source gives, a sentence each.
        clusters: Number of each audited record's cluster: records that depend on each other have equal numbers; None
            if all are independent.
    """

    source: str
    kind: AnswerKind
    names: tuple[str, ...]
    pool: tuple[np.ndarray, ...]
    member: Bool[np.ndarray, "models records"] | None
    labels: Int64[np.ndarray, "labels"] | None
    population: tuple[np.ndarray, ...] = ()
    population_labels: Int64[np.ndarray, "population_labels"] | None = None
    record_numbers: Int64[np.ndarray, "numbered"] | None = None
    population_numbers: Int64[np.ndarray, "population_numbered"] | None = None
    query_numbers: Int64[np.ndarray, "queries_numbered"] | None = None
    doubts: tuple[str, ...] = ()
    clusters: Int64[np.ndarray, "clustered"] | None = None

    @property
    def records(self) -> int:
        """Number of audited records."""
        return self.pool[0].shape[0]

    @property
    def queries(self) -> int:
        """Answers per model and record."""
        return self.pool[0].shape[1]

    @property
    def classes(self) -> int:
        """Number of classes; 0 where there are only scores."""
        return 0 if self.kind == "scores" else self.pool[0].shape[2]

    @property
    def population_records(self) -> int:
        """Number of records outside every model."""
        return self.population[0].shape[0] if self.population else 0

    def row(self, name: str) -> int:
        """Return the position of the model of this name."""
        return self.names.index(name)

    def numbered(self, positions: Int64[np.ndarray, "positions"]) -> Int64[np.ndarray, "positions"]:
        """Return the numbers that the source gives to audited records; their positions if it numbers none."""
        return positions if self.record_numbers is None else self.record_numbers[positions]

    def numbered_outside(
        self, positions: Int64[np.ndarray, "positions"]
    ) -> Int64[np.ndarray, "positions"]:
        """Return the numbers that the source gives to population records; their positions if it numbers none."""
        return positions if self.population_numbers is None else self.population_numbers[positions]

    def query_number(self, position: int) -> int:
        """Return the number that the source gives to a query; its position if it numbers none."""
        return position if self.query_numbers is None else int(self.query_numbers[position])


def of_one_model(array: np.ndarray, kind: AnswerKind, where: str) -> np.ndarray:
    """Return one model's answers with their query axis, dtype and number of axes checked."""
    floating(array, where)
    full = 2 if kind == "scores" else 3
    axes = "[records queries]" if kind == "scores" else "[records queries classes]"
    if array.ndim == full - 1:
        array = array[:, None]
    if array.ndim != full:
        raise DataError(
            f"{where}: one model's {kind} must be {axes} or without the query axis, got {array.shape}"
        )
    if 0 in array.shape:
        raise DataError(f"{where}: {kind} must not be empty, got shape {array.shape}")
    if kind != "scores" and array.shape[2] < 2:
        two = "0 and z, if z is" if kind == "logits" else "1 - p and p, if p is"
        raise DataError(
            f"{where}: {kind} of at least 2 classes are needed, got {array.shape[2]}; write both classes of a network "
            f"with one output ({two} the output for class 1)"
        )
    return array


def floating(array: np.ndarray, where: str) -> None:
    """Refuse an array that is not float16, float32 or float64."""
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise DataError(
            f"{where}: expected float16, float32 or float64, got {array.dtype}; convert it with .astype"
        )


def checked_member(array: np.ndarray, where: str) -> Bool[np.ndarray, "models records"]:
    """Return the membership matrix, if it is of truth values, or of 1 and 0, and has two axes."""
    if array.ndim != 2:
        raise DataError(f"{where}: member must be [models records], got shape {array.shape}")
    try:
        return np.array(truth_array("member", array))
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None


def checked_labels(array: np.ndarray, where: str) -> Int64[np.ndarray, "records"]:
    """Return labels as int64, if they are integers with one axis."""
    if array.ndim != 1 or array.dtype.kind not in "iu" or array.dtype == np.uint64:
        raise DataError(
            f"{where}: labels must be integers [records] of at most 64 bits with a sign, got {array.dtype} "
            f"{array.shape}; save them as labels.astype(numpy.int64)"
        )
    return np.array(array, np.int64)


def checked_clusters(array: np.ndarray, where: str) -> Int64[np.ndarray, "records"]:
    """Return numbers of clusters as int64, if they are integers with one axis."""
    if array.ndim != 1 or array.dtype.kind not in "iu" or array.dtype == np.uint64:
        raise DataError(
            f"{where}: clusters must be integers [records], one number per record, got {array.dtype} {array.shape}; "
            "for names, write numpy.unique(names, return_inverse=True)[1]"
        )
    return np.array(array, np.int64)


def checked(answers: Answers) -> Answers:
    """Return the answers as they came, if shapes, names, membership, labels and clusters fit together.

    Raises:
        DataError: Shapes differ between models, names occur twice, or membership, labels or clusters are missing,
            of another length or out of range.
    """
    # All models have answers of one shape, and a name of their own.
    source, kind = answers.source, answers.kind
    for part, arrays in (("", answers.pool), ("population_", answers.population)):
        _alike(arrays, f"{source}: {part}{kind}")
    if len(set(answers.names)) != len(answers.names):
        twice = next(name for name in answers.names if answers.names.count(name) > 1)
        raise DataError(f"{source}: the model {twice} occurs twice")
    # The same models answered the population, with the same queries.
    if answers.population:
        if len(answers.population) != len(answers.pool):
            raise DataError(
                f"{source}: population_{kind} must be of the same models, "
                f"got {len(answers.population)} models beside {len(answers.pool)}"
            )
        if answers.population[0].shape[1:] != answers.pool[0].shape[1:]:
            raise DataError(
                f"{source}: population_{kind} must have the queries and classes of {kind}, "
                f"{answers.pool[0].shape[1:]}, got {answers.population[0].shape[1:]}"
            )
    # Membership, labels and clusters fit the records.
    expected = (len(answers.pool), answers.records)
    if answers.member is not None and answers.member.shape != expected:
        raise DataError(
            f"{source}: member must be [models records], here {expected}, got {answers.member.shape}"
        )
    _check_labels(answers, "labels", answers.labels, answers.records)
    if answers.clusters is not None and len(answers.clusters) != answers.records:
        raise DataError(
            f"{source}: clusters must be one number per audited record, {answers.records}, got {len(answers.clusters)}"
        )
    if answers.population:
        _check_labels(
            answers, "population_labels", answers.population_labels, answers.population_records
        )
    return answers


def _alike(arrays: Sequence[np.ndarray], where: str) -> None:
    for row, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise DataError(
                f"{where}: all models must answer the same records and queries: model 0 has the shape "
                f"{arrays[0].shape}, model {row} {array.shape}"
            )


def _check_labels(answers: Answers, name: str, labels: np.ndarray | None, count: int) -> None:
    source, classes = answers.source, answers.classes
    if labels is None:
        if classes:
            remedy = "; give them with --labels FILE.npy" if name == "labels" else ""
            raise DataError(
                f"{source}: {name} are missing, and {answers.kind} say nothing without them{remedy}"
            )
        return
    if len(labels) != count:
        swapped = len(labels) in answers.pool[0].shape or len(labels) == len(answers.pool)
        axes = "; the axes of the answers are [models records queries classes], are they in another order?"
        raise DataError(
            f"{source}: {name} must be one per record, {count}, got {len(labels)}{axes if swapped else ''}"
        )
    most = classes or MOST_CLASSES
    wrong = np.flatnonzero((labels < 0) | (labels >= most))
    if len(wrong):
        numbered = answers.numbered if name == "labels" else answers.numbered_outside
        record = numbered(wrong[:1])[0]
        raise DataError(
            f"{source}: {name} must be from 0 to {most - 1}, got {labels[wrong[0]]} for record {record}"
        )
