"""Images as NumPy arrays in one `.npz` file, never unpickled."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitleak.core.archive import opened_npz
from bitleak.core.checks import integer_in
from bitleak.core.errors import DataError
from bitleak.core.npy import read_array
from bitleak.core.params import later
from bitleak.core.types import Description, Images
from bitleak.data.class_labels import MOST_CLASSES, check_count, classes_of, plain_labels
from bitleak.data.data_checks import (
    SORTED,
    checked_images,
    content_fingerprint,
    counts_of,
    existing,
    read_as,
    untrained,
)
from bitleak.data.data_notes import empty_channels, unscaled
from bitleak.data.folders import within

ALIASES = (
    {
        "train_images": "pixels",
        "train_labels": "labels",
        "test_images": "test_pixels",
        "test_labels": "test_labels",
    },
    {"x_train": "pixels", "y_train": "labels", "x_test": "test_pixels", "y_test": "test_labels"},
    {"images": "pixels"},
)
"""Names of MedMNIST, of Keras and in common use, and what they stand for."""

UNREAD = ("val_images", "val_labels", "x_val", "y_val")
"""A third part, which is left out if there is one; a note says so."""

ARRAYS = ("pixels", "labels", "test_pixels", "test_labels", "class_names")


@dataclass(frozen=True)
class Arrays:
    """A `.npz` file with up to five arrays.

    | name | type | shape |
    |---|---|---|
    | `pixels` | uint8 | `[records, channels, size, size]`, channels last, or without channels |
    | `labels` | integers, text or truth values | `[records]` or `[records, 1]` |
    | `test_pixels`, `test_labels` | the same | both or neither; the held-out part |
    | `class_names` | text | `[classes]`; without it, classes are named by their numbers |

    MedMNIST's names (`train_images`, `train_labels`, `test_images`) and Keras' (`x_train`,
    `y_train`, `x_test`) are known too. Labels that do not count from 0 are sorted and renumbered.

    There are 1 or 3 channels. A shape that can be read in two ways is an error.

    Attributes:
        path: The file.
        classes: Number of classes of labels that are indices as they are stored, for a network
            whose outputs are numbered so; None sorts and renumbers labels that do not count from 0.
            Not for named classes.
    """

    path: str
    classes: int | None = later(None)

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path must be an .npz file, got an empty text")
        if self.classes is not None:
            integer_in("classes", self.classes, 2, MOST_CLASSES)

    def describe(self, root: Path | None) -> Description:
        """Describe the file, with a fingerprint of its content.

        Args:
            root: File to read instead of `path`, or a folder with a file of `path`'s name.

        Raises:
            DataError: As `load`.
        """
        file = self._file(root)
        images, notes, is_sorted = self._read(file)
        return Description(
            records=len(images.labels),
            held_out=int(images.held_out.sum()),
            classes=len(images.class_names),
            channels=images.pixels.shape[1],
            size=images.pixels.shape[2],
            fingerprint=read_as(content_fingerprint([file], file), [SORTED] if is_sorted else []),
            counts=counts_of(images.labels, images.class_names),
            notes=(
                *notes,
                *untrained(images.labels, images.held_out, images.class_names),
                *empty_channels(images),
                *unscaled(images),
            ),
            sorted_labels=is_sorted,
        )

    def load(self, root: Path | None) -> Images:
        """Return all records in the order of the file, `test_pixels` last.

        Args:
            root: File to read instead of `path`, or a folder with a file of `path`'s name.

        Raises:
            DataError: The file is not an `.npz`, holds a pickle, or an array is missing, unknown,
                of the wrong type or of a shape that can be read in two ways.
        """
        return self._read(self._file(root))[0]

    def _read(self, file: Path) -> tuple[Images, tuple[str, ...], bool]:
        """Return the images, notes on the reading, and whether labels are sorted positions."""
        # Both parts are read before any is checked against the other.
        arrays, notes = _read(file)
        pixels, labels = [_pixels(arrays, "pixels", file)], [_labels(arrays, "labels", file)]
        if ("test_pixels" in arrays) != ("test_labels" in arrays):
            raise DataError(
                f"{file}: test_pixels and test_labels go together, and one of them is missing"
            )
        if "test_pixels" in arrays:
            pixels.append(_pixels(arrays, "test_pixels", file))
            labels.append(_labels(arrays, "test_labels", file))
        _check_alike(pixels, labels, file)

        # Named classes are indices as they are stored; other labels may have to be sorted.
        is_sorted = False
        if "class_names" in arrays:
            names = _class_names(arrays["class_names"], file)
            check_count(self.classes, len(names), str(file))
            if any(part.dtype.kind == "U" for part in labels):
                raise DataError(
                    f"{file}: with class_names, labels must be integers, got text or truth values"
                )
        else:
            places = [_place(file, "labels"), _place(file, "test_labels")]
            classes = classes_of(labels, places[: len(labels)], self.classes)
            labels, names, is_sorted = list(classes.labels), classes.names, classes.is_sorted
            notes += (classes.note,) if classes.note else ()

        # Messages name the array and its row, though the parts are one by now.
        images = Images(
            pixels=np.ascontiguousarray(np.concatenate(pixels)),
            labels=np.concatenate(labels),
            class_names=names,
            held_out=np.repeat([False, True][: len(labels)], list(map(len, labels))),
        )
        count = len(labels[0])
        checked_images(
            images,
            str(file),
            lambda row: (
                f"{file}, labels, row {row}"
                if row < count
                else f"{file}, test_labels, row {row - count}"
            ),
        )
        return images, notes, is_sorted

    def _file(self, root: Path | None) -> Path:
        file = Path(self.path) if root is None else root
        if file.is_dir():
            return within(existing(file / Path(self.path).name, "arrays"), file)
        return existing(file, "arrays")


def _place(file: Path, name: str) -> Callable[[int], str]:
    return lambda row: f"{file}, {name}, row {row}"


def _read(file: Path) -> tuple[Mapping[str, np.ndarray], tuple[str, ...]]:
    """Return the arrays by the names of this module, and which were left out."""
    # Names before values: an unknown array is refused without being read.
    with opened_npz(file) as (archive, entries):
        names = _names(entries, file)
        arrays = {}
        for name, info in entries.items():
            if name in names:
                with archive.open(info) as stream:
                    arrays[names[name]] = read_array(stream, f"{file}, {name}", info.file_size)
    unread = [name for name in entries if name in UNREAD]
    return arrays, (f"arrays that are not read: {', '.join(unread)}",) if unread else ()


def _names(entries: Iterable[str], file: Path) -> dict[str, str]:
    """Return the names of this module by those of the file, without arrays that are not read.

    Raises:
        DataError: A name is not known.
    """
    names = {name: name for name in entries if name not in UNREAD}
    # Only in a file without `pixels`: next to it, `images` would be a second array of them.
    for aliases in ALIASES:
        known = {name: aliases.get(name, name) for name in names}
        if "pixels" not in names.values() and "pixels" in known.values():
            names = known
    for name, array in names.items():
        if array not in ARRAYS:
            known_names = ", ".join([*ARRAYS, *ALIASES[0], *ALIASES[1], *ALIASES[2]])
            raise DataError(f"{file}: unknown array {name!r}; known: {known_names}")
    return names


def _array(arrays: Mapping[str, np.ndarray], name: str, file: Path) -> np.ndarray:
    if name not in arrays:
        raise DataError(
            f"{file}: array {name!r} is missing; the arrays: {', '.join(sorted(arrays)) or 'none'}"
        )
    return arrays[name]


def _pixels(arrays: Mapping[str, np.ndarray], name: str, file: Path) -> np.ndarray:
    """Return the pixels as `records channels height width`."""
    pixels = _array(arrays, name, file)
    if pixels.dtype != np.uint8:
        raise DataError(
            f"{file}: {name} must be uint8 from 0 to 255, got {pixels.dtype}; scale to 0..255 and convert"
        )

    # An axis of 1 or 3 elements is that of the channels; with both, nothing decides.
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    first = pixels.ndim == 4 and pixels.shape[1] in (1, 3) and pixels.shape[2] == pixels.shape[3]
    last = pixels.ndim == 4 and pixels.shape[3] in (1, 3) and pixels.shape[1] == pixels.shape[2]
    if first and last:
        raise DataError(
            f"{file}: {name} of shape {pixels.shape} can be read with channels first and with channels last"
        )
    if not (first or last):
        raise DataError(
            f"{file}: {name} must be [records, channels, size, size], [records, size, size, channels] or "
            f"[records, size, size] with 1 or 3 channels and square images, got {arrays[name].shape}"
        )
    return pixels if first else pixels.transpose(0, 3, 1, 2)


def _labels(arrays: Mapping[str, np.ndarray], name: str, file: Path) -> np.ndarray:
    return plain_labels(_array(arrays, name, file), _place(file, name))


def _check_alike(pixels: list[np.ndarray], labels: list[np.ndarray], file: Path) -> None:
    for name, images, part_labels in zip(("", "test_"), pixels, labels, strict=False):
        if len(images) != len(part_labels):
            raise DataError(
                f"{file}: {len(images)} {name}pixels but {len(part_labels)} {name}labels"
            )
        if images.shape[1:] != pixels[0].shape[1:]:
            raise DataError(
                f"{file}: test_pixels must be like pixels, {pixels[0].shape[1:]}, got {images.shape[1:]}"
            )


def _class_names(names: np.ndarray, file: Path) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(
            f"{file}: class_names must be text [classes], got {names.dtype} {names.shape}"
        )
    return tuple(names.tolist())
