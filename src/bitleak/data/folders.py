"""Image folders: `train/<class>/*.png`, and the same for the other splits."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from bitleak.core.errors import DataError
from bitleak.data.decode import Item
from bitleak.data.image_source import Part

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}) | {
    ".jfif",
    ".jpe",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
}


def subfolders(folder: Path) -> tuple[str, ...]:
    """Names of the folders in a folder, sorted; hidden ones and a Mac's copy of attributes are left out."""
    names: list[str] = []
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.name.startswith((".", "__MACOSX")):
            names.append(entry.name)
    return tuple(sorted(names))


def images_in(folder: Path) -> list[Path]:
    """Return the images in a folder, sorted by name; hidden files and other suffixes are left out.

    Raises:
        DataError: There are none.
    """
    files = [entry for entry in folder.iterdir() if _is_image(entry)]
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: not a regular file; an image is needed")
    if not files:
        inner = [
            name for name in subfolders(folder) if any(map(_is_image, (folder / name).iterdir()))
        ]
        hint = (
            f"; its folders have some, such as {inner[0]}: if these are the classes, name the training split with train"
            if inner
            else ""
        )
        raise DataError(
            f"{folder}: no images in this folder (known: {' '.join(sorted(SUFFIXES))}){hint}"
        )
    return sorted(files, key=lambda file: file.name)


def _is_image(entry: Path) -> bool:
    return entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".")


def unread_files(folder: Path) -> str:
    """Return a note on files and folders in the class folders that are not read; empty if none."""
    counts: Counter[str] = Counter()
    for name in subfolders(folder):
        for entry in (folder / name).iterdir():
            if not entry.name.startswith(".") and not _is_image(entry):
                counts["folders" if entry.is_dir() else entry.suffix.lower() or "no suffix"] += 1
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    return (
        f"{folder.name}: {counts.total()} files or folders are left out: {kinds}" if counts else ""
    )


def within(file: Path, folder: Path) -> Path:
    """Return the file, if it is below the folder once links are resolved.

    A snapshot of the Hub's cache (`REPOSITORY/snapshots/REVISION`) consists of links into
    `REPOSITORY/blobs`, so files there count as below it.

    Raises:
        DataError: It is elsewhere.
    """
    # A link in somebody's data set must not make other files of this machine part of a result.
    target, root = file.resolve(), folder.resolve()
    if not target.is_relative_to(root) and not any(
        target.is_relative_to(blobs) for blobs in _blobs(root)
    ):
        raise DataError(
            f"{file}: links out of the data's folder {folder}, and nothing outside it is read; copy the file, or give "
            "the folder that holds both"
        )
    return file


def _blobs(folder: Path) -> list[Path]:
    """Return the folders with a snapshot's files in the Hub's cache; none for other folders."""
    blobs: list[Path] = []
    for parent in (folder, *folder.parents):
        if parent.name == "snapshots" and (parent.parent / "blobs").is_dir():
            blobs.append(parent.parent / "blobs")
    return blobs


def class_folders(folder: Path, class_names: Sequence[str], root: Path) -> list[tuple[Path, int]]:
    """Return every image of a split with its label, by class and name.

    Args:
        folder: Holds one folder per class.
        root: The data's folder, out of which no link may lead.
        class_names: Names of the classes; a label is a position among them.

    Raises:
        DataError: A folder of another name, or one without images.
    """
    labels = {name: label for label, name in enumerate(class_names)}
    for name in subfolders(folder):
        if name not in labels:
            raise DataError(f"{folder / name}: no class of this name in the training part")
    files: list[tuple[Path, int]] = []
    for name in subfolders(folder):
        for file in images_in(folder / name):
            files.append((within(file, root), labels[name]))
    return files


def layout_hint(folder: Path, train: str) -> str:
    """Return advice for an image folder without the folder of the split `train`."""
    # By how common the mistake is: one folder too high, other capitals, classes without splits.
    names = subfolders(folder)
    inner = [name for name in names if (folder / name / train).is_dir()]
    if inner:
        return f"; give the folder {folder / inner[0]}"
    other_case = [name for name in names if name.lower() == train.lower()]
    if other_case:
        return f"; name it with the option train: {other_case[0]}"
    if any(map(_is_image, chain.from_iterable((folder / name).iterdir() for name in names))):
        return "; if these folders are the classes, give the option train: . (a dot)"
    return "; name the training split with the option train"


def check_class_folders(folder: Path) -> None:
    """Refuse a split without folders of classes, such as one whose labels are in a table."""
    if not subfolders(folder):
        raise DataError(
            f"{folder}: no class folders; an image folder holds one folder per class, {folder.name}/<class>/, and "
            "labels in a table (CSV, JSON) beside the images are not read: make such folders, or a Parquet or .npz file"
        )


def file_part(files: Sequence[tuple[Path, int]]) -> Part:
    """Return a part whose images are files of their own."""
    items: list[Item] = [(file, str(file)) for file, _ in files]
    labels = np.array([label for _, label in files], np.int64)
    return Part(items=lambda: iter(items), labels=labels, where=lambda row: items[row][1])
