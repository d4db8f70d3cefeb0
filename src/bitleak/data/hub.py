"""Image-classification sets of Hugging Face's `datasets`, from the Hub or a local folder."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from bitleak.core.checks import integer_in
from bitleak.core.errors import DataError
from bitleak.core.params import later
from bitleak.core.types import Description, Images
from bitleak.data.class_labels import MOST_CLASSES, check_count, classes_of
from bitleak.data.data_checks import content_fingerprint, existing
from bitleak.data.decode import Item
from bitleak.data.folders import (
    check_class_folders,
    class_folders,
    file_part,
    layout_hint,
    subfolders,
    unread_files,
    within,
)
from bitleak.data.image_source import (
    Part,
    Source,
    chosen_images,
    source_description,
    source_images,
    source_items,
)
from bitleak.data.shards import check_shards

TEST_SPLITS = ("test", "validation", "valid", "val")
"""Splits that are taken for a held-out part, in this order, if none is named."""


WHOLE = "."
"""As training split: the image folder itself holds the class folders."""


@dataclass(frozen=True)
class Hub:
    """A Hub name, local Parquet files in the Hub's layout, or an image folder.

    What `path` names decides: a folder with `train-*.parquet` (or with these in `data/` or in its
    only subfolder that has any); a folder with `train/<class>/*.png`; anything that is not a
    folder here is a name on the Hub, which is downloaded into the cache of `datasets` on first use.
    Images become uint8: one channel if all are greyscale, else RGB.

    Attributes:
        path: Local folder, or Hub name such as `uoft-cs/cifar10`.
        image: Column of the images; None finds it. Not used for image folders.
        label: Column of the labels; None takes the only column of class labels or, without any, the
            only one called like one (`label`, `class`, `target`, `y`, ...). Not used for image
            folders.
        train: Split that models may train on; `.` is an image folder that holds the class folders
            itself.
        test: Split that is held out; None takes the first of `test`, `validation`, `valid` and
            `val` that there is with labels, and no held-out part if there is none.
        revision: Branch, tag or commit on the Hub; None is its newest. Not used for local folders.
        classes: Number of classes of labels that are indices as they are stored, for a network
            whose outputs are numbered so; None sorts and renumbers labels that do not count from 0.
            Not for named classes.
    """

    path: str
    image: str | None = None
    label: str | None = None
    train: str = "train"
    test: str | None = None
    revision: str | None = None
    classes: int | None = later(None)

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path must be a folder or a name on the Hub, got an empty text")
        if self.classes is not None:
            integer_in("classes", self.classes, 2, MOST_CLASSES)
        if self.train == self.test:
            raise ValueError(
                f"train and test must be different splits, got {self.train!r} for both"
            )

    def describe(self, root: Path | None) -> Description:
        """Describe the set: its labels are read and one image is decoded.

        The fingerprint is that of the files' contents or, for a set from the Hub, its name and
        revision.

        Args:
            root: Local folder to read instead of `path`.

        Raises:
            DataError: As `load`, except for images that only decoding shows to be bad.
        """
        return source_description(self._opened(root))

    def load(self, root: Path | None) -> Images:
        """Return all images, the training split first, in the order of their files and rows.

        Args:
            root: Local folder to read instead of `path`.

        Raises:
            DataError: A split, column or image is missing, ambiguous or of the wrong kind; the
                message names the file and the row, counted from 0 in its file.
        """
        return source_images(self._opened(root))

    def load_chosen(
        self, root: Path | None, choose: Callable[[Images], Int64[np.ndarray, "chosen"]]
    ) -> Images:
        """Like `load`, with the pixels of some records alone; those of the others are 0.

        Args:
            root: Local folder to read instead of `path`.
            choose: Returns the numbers of the records to decode, from the labels and marks of all.

        Raises:
            DataError: As `load`.
        """
        return chosen_images(self._opened(root), choose)

    def items(self, root: Path | None) -> Iterator[Item]:
        """Yield each encoded image with its place, in the order of `load`."""
        return source_items(self._opened(root))

    def is_remote(self, root: Path | None) -> bool:
        """Return whether `describe` and `load` need the Hub, and so perhaps a download."""
        path = Path(self.path)
        return root is None and not (
            path.exists() or path.is_absolute() or self.path.startswith(".")
        )

    def _opened(self, root: Path | None) -> Source:
        folder = Path(self.path) if root is None else existing(root, "data")
        if folder.is_dir():
            return self._local(folder)
        if not self.is_remote(root):
            raise DataError(
                f"{folder}: a folder or a name on the Hub is needed, and this is neither"
            )
        return self._remote()

    def _local(self, folder: Path) -> Source:
        # Here, since importing pyarrow takes time.
        from bitleak.data.parquet_images import parquet_part, parquet_splits

        splits = parquet_splits(folder, [name for name in (self.train, self.test) if name])
        if not splits:
            return self._image_folder(folder)
        for file in chain.from_iterable(splits.values()):
            within(file, folder)

        # A note per sentence: both splits mostly give the same one.
        notes: dict[str, None] = {}

        def read(split: str) -> tuple[Part, tuple[str, ...] | None]:
            check_shards(splits[split])
            part, columns = parquet_part(splits[split], self.image, self.label)
            notes[columns.sentence] = None
            return part, columns.class_names

        def digest(names: Iterable[str]) -> str:
            files: list[Path] = []
            for name in names:
                files += splits[name]
            return content_fingerprint(
                files, Path(os.path.commonpath([file.parent for file in files]))
            )

        return self._source(str(folder), splits, read, digest, notes)

    def _image_folder(self, folder: Path) -> Source:
        # Every other folder next to the training split is a split that may be named.
        splits = (WHOLE,) if self.train == WHOLE else subfolders(folder)
        if not splits:
            raise DataError(
                f"{folder}: neither Parquet files nor folders {self.train}/<class>/ with images"
            )
        if self.train not in splits:
            known = ", ".join(splits)
            raise DataError(
                f"{folder}: no split {self.train!r}; the splits: {known}{layout_hint(folder, self.train)}"
            )
        check_class_folders(folder / self.train)
        class_names = subfolders(folder / self.train)

        notes: dict[str, None] = {}

        def read(split: str) -> tuple[Part, tuple[str, ...] | None]:
            if omitted := unread_files(folder / split):
                notes[omitted] = None
            return file_part(class_folders(folder / split, class_names, folder)), class_names

        def digest(names: Iterable[str]) -> str:
            files: list[Path] = []
            for name in names:
                files += [file for file, _ in class_folders(folder / name, class_names, folder)]
            return content_fingerprint(files, folder)

        return self._source(str(folder), splits, read, digest, notes)

    def _remote(self) -> Source:
        from bitleak.data.parquet_images import columns_of, table_part

        tables = _downloaded(self.path, self.revision)
        notes: dict[str, None] = {}

        def read(split: str) -> tuple[Part, tuple[str, ...] | None]:
            name, table = f"{self.path} ({split})", tables[split].with_format("arrow")
            columns = columns_of(
                tables[split].features.arrow_schema, self.image, self.label, source=name
            )
            notes[columns.sentence] = None
            part = table_part(
                lambda: table.iter(batch_size=256), columns, name, _cache_folders(self.path)
            )
            return part, columns.class_names

        return self._source(
            self.path, tables, read, lambda _: f"{self.path}@{self.revision or 'main'}", notes
        )

    def _source(
        self,
        name: str,
        splits: Iterable[str],
        read: Callable[[str], tuple[Part, tuple[str, ...] | None]],
        digest: Callable[[Iterable[str]], str],
        notes: Iterable[str],
    ) -> Source:
        """Return the training and test splits, read."""
        # The two splits by name, or the first split that can be a test split.
        known = sorted(splits)
        for split in (self.train, self.test):
            if split is not None and split not in known:
                raise DataError(f"{name}: no split {split!r}; the splits: {', '.join(known)}")
        train, class_names = read(self.train)
        test_split, test = self._test(known, read, (train, class_names), name)
        used = [self.train] if test_split is None else [self.train, test_split]
        readings: list[str] = []
        if unused := [split for split in known if split not in used]:
            readings.append(f"splits that are not read: {', '.join(unused)}")

        # Without class names, labels of both parts become indices together.
        parts = [train] if test is None else [train, test]
        as_stored = all(part.integers for part in parts)
        if class_names is None:
            classes = classes_of(
                [part.labels for part in parts], [part.where for part in parts], self.classes
            )
            parts = [
                replace(part, labels=labels)
                for part, labels in zip(parts, classes.labels, strict=True)
            ]
            class_names, as_stored = classes.names, as_stored and not classes.is_sorted
            readings = [*filter(None, [classes.note]), *readings]
        elif any(part.labels.dtype.kind == "U" for part in parts):
            raise DataError(
                f"{name}: the label column has class names, so that its values must be integers"
            )
        check_count(self.classes, len(class_names), name)
        return Source(
            name=name,
            class_names=class_names,
            train=parts[0],
            test=parts[1] if len(parts) > 1 else None,
            fingerprint=lambda: digest(used),
            notes=(*notes, *readings),
            sorted_labels=not as_stored,
        )

    def _test(
        self,
        known: list[str],
        read: Callable[[str], tuple[Part, tuple[str, ...] | None]],
        train: tuple[Part, tuple[str, ...] | None],
        name: str,
    ) -> tuple[str | None, Part | None]:
        """Return the name and the part of the test split; None twice if there is none."""
        candidates = TEST_SPLITS if self.test is None else (self.test,)
        for split in candidates:
            if self.test is None and (split not in known or split == self.train):
                continue
            part, class_names = read(split)
            if class_names != train[1]:
                raise DataError(
                    f"{name}: splits {self.train!r} and {split!r} must have the same class names"
                )
            # The Hub marks the labels of a test split that are kept secret by -1.
            if self.test is not None or part.labels.dtype.kind == "U" or (part.labels >= 0).any():
                return split, part
        return None, None


def _downloaded(name: str, revision: str | None) -> Any:
    # Here, since importing it takes seconds.
    import datasets

    try:
        return datasets.load_dataset(name, revision=revision)
    except Exception as error:  # network, permissions, names, versions: every kind has its own
        raise DataError(
            f"data set {name!r} is no folder here and cannot be read from the Hub: {error} "
            "(give a local copy with --data PATH)"
        ) from error


def _cache_folders(name: str) -> list[Path]:
    """Return the folders of `datasets` for image files of a Hub set that are not in its tables."""
    from datasets import config
    from huggingface_hub import constants

    repository = "datasets--" + name.replace("/", "--")
    return [Path(constants.HF_HUB_CACHE) / repository, Path(config.EXTRACTED_DATASETS_PATH)]
