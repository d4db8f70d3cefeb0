"""Tiny ImageNet: 200 classes, 100,000 training and 10,000 validation images of 64x64 pixels.

The layout of `tiny-imagenet-200.zip`: `wnids.txt`, `words.txt`, `train/<wnid>/images/*.JPEG`,
`val/images/*.JPEG` and `val/val_annotations.txt`. The test part has no labels and is not read.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from bitleak.core.errors import DataError
from bitleak.core.types import Description, Images
from bitleak.data.data_checks import content_fingerprint, existing
from bitleak.data.folders import file_part, images_in, within
from bitleak.data.image_source import Source, source_description, source_images

_NAME = re.compile(r"[\w-][\w.-]{0,99}", re.ASCII)


@dataclass(frozen=True)
class TinyImageNet:
    """The original archive's folders; the validation part is held out, greyscale images become RGB.

    Classes are the sorted `wnids.txt`, named by `words.txt` if it is there.

    Attributes:
        path: The unpacked folder.
    """

    path: str

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError(
                "path must be the unpacked folder tiny-imagenet-200, got an empty text"
            )

    def describe(self, root: Path | None) -> Description:
        """Describe the folder: one image is decoded, all files are read for the fingerprint.

        Args:
            root: Folder to read instead of `path`.

        Raises:
            DataError: As `load`, except for images that only decoding shows to be bad.
        """
        return source_description(self._opened(root))

    def load(self, root: Path | None) -> Images:
        """Return all images: training by class and file name, then validation by file name.

        Args:
            root: Folder to read instead of `path`.

        Raises:
            DataError: A file or folder is missing, a class is not known, an annotation is missing
                or has no file, or an image cannot be decoded; the message names the file and the
                line.
        """
        return source_images(self._opened(root))

    def _opened(self, root: Path | None) -> Source:
        folder = Path(self.path) if root is None else root
        # Names of classes become paths, so anything but a plain name is refused.
        listed = _lines(folder / "wnids.txt")
        wnids = sorted({wnid.strip() for _, wnid in listed})
        for number, wnid in listed:
            if not _NAME.fullmatch(wnid.strip()):
                raise DataError(
                    f"{folder / 'wnids.txt'}, line {number}: expected the name of a folder, got {wnid[:60]!r}"
                )

        labels = {wnid: label for label, wnid in enumerate(wnids)}
        train: list[tuple[Path, int]] = []
        for wnid in wnids:
            for file in _images(folder / "train" / wnid / "images"):
                train.append((file, labels[wnid]))
        test = _validation(folder / "val", labels)
        files = [within(file, folder) for file, _ in train + test]
        texts = [folder / "wnids.txt", folder / "val" / "val_annotations.txt"]

        def digest() -> str:
            return content_fingerprint([*texts, *files], folder)

        return Source(
            str(folder),
            _names(folder / "words.txt", wnids),
            file_part(train),
            file_part(test),
            digest,
        )


def _validation(folder: Path, labels: dict[str, int]) -> list[tuple[Path, int]]:
    annotations = folder / "val_annotations.txt"
    files = _images(folder / "images")
    names = {file.name for file in files}
    labels_by_file: dict[str, int] = {}
    for number, line in _lines(annotations):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0].strip()
        if wnid not in labels:
            raise DataError(
                f"{annotations}, line {number}: class {wnid!r} of {name!r} is not in wnids.txt"
            )
        if name not in names:
            raise DataError(
                f"{annotations}, line {number}: no file {folder / 'images' / name[:60]}"
            )
        labels_by_file[name] = labels[wnid]
    labelled: list[tuple[Path, int]] = []
    for file in files:
        if file.name not in labels_by_file:
            raise DataError(f"{file}: no line for this image in {annotations}")
        labelled.append((file, labels_by_file[file.name]))
    return labelled


def _images(folder: Path) -> list[Path]:
    return images_in(existing(folder, "tiny_imagenet"))


def _lines(file: Path) -> list[tuple[int, str]]:
    """Return the lines of a file that are not empty, with their numbers from 1."""
    if not existing(file, "tiny_imagenet").is_file():
        raise DataError(f"{file}: not a regular file; a text is needed")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as text: {error}") from error
    return [
        (number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()
    ]


def _names(words: Path, wnids: list[str]) -> tuple[str, ...]:
    """Return the words of each class; the wnid of a class that has none."""
    if not words.exists():
        return tuple(wnids)
    named: dict[str, str] = {}
    for _, line in _lines(words):
        wnid, _, name = line.partition("\t")
        named[wnid.strip()] = name.strip()
    return tuple(named.get(wnid, wnid) for wnid in wnids)
