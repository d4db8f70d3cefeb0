"""Checks of every loader's result, and the parts of its description."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from bitleak.core.errors import DataError
from bitleak.core.types import Images

_CHUNK = 1 << 20

SORTED = "labels are positions among sorted values"
UPRIGHT = "images are turned as their orientation demands"
"""Readings that are part of a fingerprint, see `read_as`."""


def checked_images(
    images: Images, source: str, where: Callable[[int], str] | None = None
) -> Images:
    """Return the images unchanged after all checks.

    Args:
        images: Pixels, labels, class names and the held-out mark.
        source: Name of the file or data set, for the message.
        where: File and row of a record; None gives `SOURCE, row N`. Rows count from 0.

    Raises:
        DataError: Wrong dtypes or lengths, images that are not square, no record to train on, a
            label that is not the index of a class, or fewer than two classes to train on.
    """
    pixels = images.pixels
    # Rows of a table have no channels and no size.
    if images.columns or pixels.ndim == 2:
        _check_table(images, source)
    elif pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        raise DataError(
            f"{source}: pixels must be uint8 with 1 or 3 channels, got {pixels.dtype} {pixels.shape}"
        )
    elif pixels.shape[2] != pixels.shape[3]:
        raise DataError(
            f"{source}: images must be square, got {pixels.shape[2]}x{pixels.shape[3]} (height x width)"
        )
    if images.labels.dtype != np.int64 or not (
        images.labels.shape == images.held_out.shape == pixels.shape[:1]
    ):
        raise DataError(
            f"{source}: one int64 label and one held-out mark per image are needed, got {len(pixels)} images, "
            f"labels {images.labels.dtype} {images.labels.shape}, marks {images.held_out.shape}"
        )
    check_labels(
        images.labels, len(images.class_names), where or (lambda row: f"{source}, row {row}")
    )
    check_classes(images.labels[~images.held_out], images.class_names, source)
    return images


def _check_table(table: Images, source: str) -> None:
    """Refuse rows that are not finite float32 numbers with a name per column."""
    values = table.pixels
    if values.dtype != np.float32 or values.ndim != 2 or values.shape[1] != len(table.columns):
        raise DataError(
            f"{source}: rows must be float32 with a column per name, got {values.dtype} {values.shape} and "
            f"{len(table.columns)} names"
        )
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0].tolist()
        raise DataError(
            f"{source}, row {row}: column {table.columns[column]!r} must be finite, got {values[row, column]}"
        )


def check_labels(labels: np.ndarray, classes: int, where: Callable[[int], str]) -> None:
    """Refuse a label that is not the index of a class, by file and row."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(f"{where(row)}: label must be from 0 to {classes - 1}, got {labels[row]}")


def check_classes(labels: np.ndarray, class_names: Sequence[str], source: str) -> None:
    """Refuse training labels of fewer than two classes."""
    if not len(labels):
        raise DataError(f"{source}: no images to train on")
    present = np.unique(labels)
    if len(present) < 2:
        raise DataError(
            f"{source}: images of at least 2 classes are needed, all are of {class_names[present[0]]!r}"
        )


def counts_of(labels: np.ndarray, class_names: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Return the number of images of each class, by the class's name."""
    counts = np.bincount(labels, minlength=len(class_names)).tolist()
    return tuple(zip(class_names, counts, strict=True))


def untrained(
    labels: np.ndarray, held_out: np.ndarray, class_names: Sequence[str]
) -> tuple[str, ...]:
    """Return a sentence if classes occur in the held-out part only: no model can learn them."""
    # A note and no error: a test part from elsewhere may have more classes.
    learnt = np.bincount(labels[~held_out], minlength=len(class_names))
    tested = np.bincount(labels[held_out], minlength=len(class_names))
    names = [
        repr(class_names[index]) for index in np.flatnonzero((learnt == 0) & (tested > 0)).tolist()
    ]
    if not names:
        return ()
    listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return (
        f"{len(names)} classes have images in the held-out part only, so that no model learns them: {listed}",
    )


def existing(path: Path, source: str) -> Path:
    """Return the path, or refuse it if there is no file or folder."""
    if not path.exists():
        raise DataError(f"{source}: no such file or folder: {path}")
    return path


def content_fingerprint(files: Iterable[Path], root: Path) -> str:
    """Return SHA-256 over names relative to the root and contents.

    The order of the files does not matter.
    """
    # Lengths come before names and contents, so that no two lists of files give the same bytes.
    total = hashlib.sha256()
    for name, path in sorted((path.relative_to(root).as_posix(), path) for path in files):
        total.update(f"{len(name.encode())}:{name}:{path.stat().st_size}:".encode())
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                total.update(chunk)
    return total.hexdigest()


def read_as(content: str, readings: Sequence[str]) -> str:
    """Return the fingerprint of content whose values are not taken as they are stored.

    Args:
        content: Fingerprint of the content.
        readings: Changes by the reading, such as `SORTED`. Without any, the fingerprint is that of
            the content, so that earlier results keep their keys.
    """
    if not readings:
        return content
    return hashlib.sha256("\n".join([content, *readings]).encode()).hexdigest()
