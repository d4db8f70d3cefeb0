"""Images as NumPy arrays in one `.npz` file, never unpickled."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitleak.core.errors import DataError
from bitleak.core.types import Description, Images
from bitleak.data.checks import checked, existing, fingerprint

ARRAYS = ("pixels", "labels", "test_pixels", "test_labels", "class_names")


@dataclass(frozen=True)
class Arrays:
    """A `.npz` file with up to five arrays.

    | name | type | shape |
    |---|---|---|
    | `pixels` | uint8 | `[records, channels, size, size]`, `[records, size, size, channels]`, `[records, size, size]` |
    | `labels` | integers from 0 | `[records]` |
    | `test_pixels`, `test_labels` | the same | both or neither; the held-out part |
    | `class_names` | text | `[classes]`; without it, classes are named by their numbers |

    There are 1 or 3 channels. A shape that can be read in two ways is an error.

    Attributes:
        path: The file.
    """

    path: str

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path must be an .npz file, got an empty text")

    def describe(self, root: Path | None) -> Description:
        """What the file holds; its fingerprint is that of its content.

        Args:
            root: File to read instead of `path`, or a folder with a file of `path`'s name.

        Raises:
            DataError: As `load`.
        """
        images = self.load(root)
        file = self._file(root)
        return Description(
            records=len(images.labels),
            held_out=int(images.held_out.sum()),
            classes=len(images.class_names),
            channels=images.pixels.shape[1],
            size=images.pixels.shape[2],
            fingerprint=fingerprint([file], file),
        )

    def load(self, root: Path | None) -> Images:
        """All records in the order of the file, `test_pixels` last.

        Args:
            root: File to read instead of `path`, or a folder with a file of `path`'s name.

        Raises:
            DataError: The file is not an `.npz`, holds a pickle, or an array is missing, unknown, of
                the wrong type or of a shape that can be read in two ways.
        """
        file = self._file(root)
        arrays = _read(file)
        pixels, labels = [_pixels(arrays, "pixels", file)], [_labels(arrays, "labels", file)]
        if ("test_pixels" in arrays) != ("test_labels" in arrays):
            raise DataError(f"{file}: test_pixels and test_labels go together, and one of them is missing")
        if "test_pixels" in arrays:
            pixels.append(_pixels(arrays, "test_pixels", file))
            labels.append(_labels(arrays, "test_labels", file))
        _check_alike(pixels, labels, file)
        images = Images(
            pixels=np.ascontiguousarray(np.concatenate(pixels)),
            labels=np.concatenate(labels),
            class_names=_class_names(arrays, np.concatenate(labels), file),
            held_out=np.repeat([False, True][: len(labels)], [len(part) for part in labels]),
        )
        count = len(labels[0])
        return checked(
            images,
            str(file),
            lambda row: f"{file}, labels, row {row}" if row < count else f"{file}, test_labels, row {row - count}",
        )

    def _file(self, root: Path | None) -> Path:
        file = Path(self.path) if root is None else root
        return existing(file / Path(self.path).name if file.is_dir() else file, "arrays")


def _read(file: Path) -> Mapping[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # zip, header and pickle errors each have their own kind
        raise DataError(f"{file}: not an .npz file of plain arrays (pickles are never loaded): {error}") from error
    for name in arrays:
        if name not in ARRAYS:
            raise DataError(f"{file}: unknown array {name!r}; known: {', '.join(ARRAYS)}")
    return arrays


def _array(arrays: Mapping[str, np.ndarray], name: str, file: Path) -> np.ndarray:
    if name not in arrays:
        raise DataError(f"{file}: array {name!r} is missing; the arrays: {', '.join(sorted(arrays)) or 'none'}")
    return arrays[name]


def _pixels(arrays: Mapping[str, np.ndarray], name: str, file: Path) -> np.ndarray:
    """The pixels as `records channels height width`."""
    pixels = _array(arrays, name, file)
    if pixels.dtype != np.uint8:
        raise DataError(f"{file}: {name} must be uint8 from 0 to 255, got {pixels.dtype}")
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
    labels = _array(arrays, name, file)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{file}: {name} must be integers [records], got {labels.dtype} {labels.shape}")
    if labels.dtype == np.uint64:
        raise DataError(f"{file}: {name} must fit into int64, got uint64")
    return labels.astype(np.int64)


def _check_alike(pixels: list[np.ndarray], labels: list[np.ndarray], file: Path) -> None:
    for name, images, own in zip(("", "test_"), pixels, labels, strict=False):
        if len(images) != len(own):
            raise DataError(f"{file}: {len(images)} {name}pixels but {len(own)} {name}labels")
        if images.shape[1:] != pixels[0].shape[1:]:
            raise DataError(f"{file}: test_pixels must be like pixels, {pixels[0].shape[1:]}, got {images.shape[1:]}")


def _class_names(arrays: Mapping[str, np.ndarray], labels: np.ndarray, file: Path) -> tuple[str, ...]:
    if "class_names" not in arrays:
        return tuple(str(label) for label in range(int(labels.max(initial=-1)) + 1))
    names = arrays["class_names"]
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(f"{file}: class_names must be text [classes], got {names.dtype} {names.shape}")
    return tuple(names.tolist())
