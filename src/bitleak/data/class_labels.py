"""From labels as they are stored (integers, text, truth values, whole floats) to class indices.

Integers that count from 0 are indices already. Other values (ids, 0 and 255, numbers from 1, text,
truth values) are sorted, and the class index is the position; the mapping is reported in a note.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitleak.core.errors import DataError

OWN_VALUES = 20
"""From this number of images on, labels of which more than half occur once are refused as ids."""


MOST_CLASSES = 100_000
"""Largest number of classes that can be given."""

LABEL_NAMES = frozenset(
    {
        "label",
        "labels",
        "fine_label",
        "class",
        "classes",
        "class_label",
        "class_id",
        "category",
        "target",
        "targets",
        "y",
    }
)
"""Names, in lower case, by which a column without a class feature is taken for the labels."""


@dataclass(frozen=True)
class Classes:
    """Labels as indices, per part, with the names of the classes.

    Attributes:
        labels: One array of class indices per part.
        names: One name per class.
        note: How the stored values became indices; empty if they are the indices and every class
            has an image.
        is_sorted: Whether the indices are positions among the sorted values, and not the stored
            integers.
    """

    labels: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    note: str = ""
    is_sorted: bool = False


def plain_labels(values: Any, where: Callable[[int], str]) -> np.ndarray:
    """Return stored labels as int64 or as text, `[records]`.

    Args:
        values: Integers, text, truth values or floats that are integers, `[records]` or
            `[records, 1]`.
        where: File and row of a record, for messages.

    Raises:
        DataError: Several labels per image, a missing label, a float that is no integer, or another
            type.
    """
    # One label per image; a column of width 1 is one.
    labels = np.asarray(values)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(
            f"{where(0)}: labels of shape {labels.shape} are several labels an image; one class per image is "
            "needed (of one-hot rows, give the argmax)"
        )

    # Text and truth values are sorted later; a missing one would become a class of its own.
    if labels.dtype.kind == "S":
        labels = _text(labels, where)
    if labels.dtype.kind == "U":
        empty = np.flatnonzero(np.char.strip(labels) == "")
        if len(empty):
            raise DataError(f"{where(int(empty[0]))}: label is missing (an empty text)")
        return labels
    if labels.dtype.kind == "b":
        return np.where(labels, "true", "false")

    # Floats and unsigned integers must be int64 without loss; float64 holds integers up to 2^53.
    if labels.dtype.kind == "f":
        wrong = np.flatnonzero(
            ~np.isfinite(labels) | (labels != np.floor(labels)) | (abs(labels) > 2**53)
        )
        if len(wrong):
            raise DataError(
                f"{where(int(wrong[0]))}: label must be an integer, got {labels[wrong[0]]}"
            )
        return labels.astype(np.int64)
    if labels.dtype == np.uint64 and labels.size and labels.max() > np.iinfo(np.int64).max:
        raise DataError(
            f"{where(int(labels.argmax()))}: label must fit into int64, got {labels.max()}"
        )
    if labels.dtype.kind in "iu":
        return labels.astype(np.int64)
    raise DataError(
        f"{where(0)}: labels must be integers, text or truth values, got {labels.dtype}"
    )


def classes_of(
    parts: Sequence[np.ndarray],
    where: Sequence[Callable[[int], str]],
    count: int | None = None,
    *,
    negative: bool = False,
) -> Classes:
    """Return class indices of labels without given names.

    Integers stay as they are if they begin at 0 and at least half of the numbers up to the largest
    occur.

    Args:
        parts: Labels per part from `plain_labels`, the training part first.
        where: File and row of a record, per part.
        count: Number of classes of labels that are indices as they are stored; None decides by the
            values.
        negative: Whether negative integers are names of classes, as in the tables' -1 and 1, and no
            marks of a missing label.

    Raises:
        DataError: A negative label, labels of two kinds, labels that are as many as the images, or
            labels that are no indices below `count`.
    """
    # An empty part has no kind of its own.
    kinds = {part.dtype.kind for part in parts if len(part)}
    if len(kinds) > 1:
        raise DataError(f"{where[0](0)}: labels are integers in one part and text in the other")
    values = np.unique(np.concatenate(parts)) if kinds else np.empty(0, np.int64)
    if kinds == {"i"} and not (negative and count is None):
        _check_not_negative(
            parts, where, highest=max(int(values[-1]), 0) if count is None else count - 1
        )
    if count is not None:
        return _as_stored(parts, where, values, count)

    # Ids of images, perhaps of a column that is no label.
    images = sum(map(len, parts))
    if images >= OWN_VALUES and 2 * len(values) > images:
        raise DataError(
            f"{where[0](0)}: labels have {len(values)} different values for {images} images: these are no classes "
            "but numbers of the images; name the label column as 'label'"
        )

    # Integers that count from 0 with few gaps are indices already; all else is sorted.
    counted = kinds != {"U"}
    if counted and (not len(values) or (values[0] == 0 and values[-1] < 2 * len(values))):
        return _as_stored(parts, where, values, int(values[-1]) + 1 if len(values) else 0)
    positions = [np.searchsorted(values, part).astype(np.int64) for part in parts]
    kind = "numbers" if counted else "text or truth values"
    note = f"labels are {kind} from {values[0]} to {values[-1]}; sorted, they are classes 0 to {len(values) - 1}"
    names = tuple(map(str, values))
    alike = _alike(names)
    if alike:
        note += f"; classes whose names differ only by capitals or spaces: {alike}"
    return Classes(tuple(positions), names, note, is_sorted=True)


def _text(labels: np.ndarray, where: Callable[[int], str]) -> np.ndarray:
    try:
        return np.char.decode(labels, "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where(0)}: labels that are bytes must be UTF-8 text: {error}") from None


def _alike(names: Sequence[str]) -> str:
    """Return the first names that differ only by capitals or spaces; empty if none do."""
    # "Cat" and "cat " are two classes here, and one for the person who typed them.
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault("".join(name.casefold().split()), []).append(name)
    alike: list[str] = []
    for group in groups.values():
        alike += group if len(group) > 1 else []
    return ", ".join(map(repr, alike[:6])) + (", ..." if len(alike) > 6 else "")


def _check_not_negative(
    parts: Sequence[np.ndarray], where: Sequence[Callable[[int], str]], highest: int
) -> None:
    for part, place in zip(parts, where, strict=True):
        negative = np.flatnonzero(part < 0)
        if len(negative):
            raise DataError(
                f"{place(int(negative[0]))}: label must be from 0 to {highest}, got {part[negative[0]]}; "
                "leave out images without a label, and number classes from 0"
            )


def _as_stored(
    parts: Sequence[np.ndarray],
    where: Sequence[Callable[[int], str]],
    values: np.ndarray,
    count: int,
) -> Classes:
    """Labels that are indices of `count` classes already."""
    for part, place in zip(parts, where, strict=True):
        if part.dtype.kind == "U" and len(part):
            raise DataError(
                f"{place(0)}: with a number of classes, labels must be integers, got {str(part[0])!r}"
            )
        large = np.flatnonzero(part >= count) if len(part) else part
        if len(large):
            raise DataError(
                f"{place(int(large[0]))}: label must be from 0 to {count - 1}, got {part[large[0]]}"
            )
    # No error: a class without images is usual in a subset, and its index has to stay.
    missing = count - len(values)
    note = f"{missing} of the {count} classes have no image" if missing else ""
    return Classes(
        tuple(part.astype(np.int64) for part in parts), tuple(map(str, range(count))), note
    )


def check_count(count: int | None, named: int, source: str) -> None:
    """Refuse a number of classes other than the number of names that the data set has."""
    if count is not None and count != named:
        raise DataError(
            f"{source}: classes: {count} was given, but the data set names {named} classes; leave it out"
        )
