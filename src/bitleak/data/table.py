"""Tables: one row per record, columns of numbers and a column of labels, in Parquet or CSV files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bitleak.core.checks import integer_in, unknown_name
from bitleak.core.errors import DataError
from bitleak.core.types import Description, Images
from bitleak.data.class_labels import LABEL_NAMES, MOST_CLASSES, classes_of, plain_labels
from bitleak.data.data_checks import (
    SORTED,
    checked_images,
    content_fingerprint,
    counts_of,
    existing,
    read_as,
    untrained,
)
from bitleak.data.data_notes import empty_channels, quoted_names
from bitleak.data.folders import within


@dataclass(frozen=True)
class TableFile:
    """A Parquet or CSV file with one row per record.

    Every column but the labels is a feature. Columns of numbers are taken as they are, truth values
    as 0 and 1, columns named in `categorical` as one column of 0 and 1 per value. Text, missing
    values, and columns that number the rows are refused with their place and the remedy.

    Attributes:
        path: The file: Parquet, CSV, or CSV packed as `.csv.gz`.
        label: Column of the labels: integers, text or truth values; None takes the only column that
            is called like one (`label`, `class`, `target`, `y`, ...).
        test: Name of a second file in the same folder, with the same columns, whose rows are held
            out; None draws the held-out rows from the first.
        categorical: Columns whose values are categories.
        drop: Columns to leave out.
        separator: Sign between the values of a CSV file.
        header: Whether the first line of a CSV file holds the names of the columns; if not, they
            are called 0, 1, 2, ...
        classes: Number of classes of labels that are indices as they are stored, for a network
            whose outputs are numbered so; None sorts and renumbers labels that do not count from 0.
    """

    path: str
    label: str | int | None = None
    test: str | None = None
    categorical: tuple[str | int, ...] = ()
    drop: tuple[str | int, ...] = ()
    separator: str = ","
    header: bool = True
    classes: int | None = None

    is_table: ClassVar[bool] = True
    """Whether records are rows of numbers, so that augmentations and networks for images do not apply."""

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path must be a Parquet or CSV file, got an empty text")
        if self.test is not None and (not self.test or Path(self.test).name != self.test):
            raise ValueError(
                f"test must be the name of a file in the folder of path, got {self.test!r}"
            )
        if len(self.separator) != 1:
            raise ValueError(f"separator must be one sign, such as ';', got {self.separator!r}")
        if self.classes is not None:
            integer_in("classes", self.classes, 2, MOST_CLASSES)

    def describe(self, root: Path | None) -> Description:
        """Describe the table: all of it is read and checked.

        Args:
            root: File to read instead of `path`, or a folder with a file of `path`'s name.

        Raises:
            DataError: As `load`.
        """
        images, notes, is_sorted = self._read(root)
        files = self._files(root)
        folder = files[0].parent
        return Description(
            records=len(images.labels),
            held_out=int(images.held_out.sum()),
            classes=len(images.class_names),
            channels=images.channels,
            size=0,
            fingerprint=read_as(
                content_fingerprint(files, folder if len(files) > 1 else files[0]),
                [SORTED] if is_sorted else [],
            ),
            counts=counts_of(images.labels, images.class_names),
            notes=(
                *notes,
                *untrained(images.labels, images.held_out, images.class_names),
                *empty_channels(images),
            ),
            sorted_labels=is_sorted,
        )

    def load(self, root: Path | None) -> Images:
        """Return all rows in the order of the file, those of `test` last.

        Args:
            root: File to read instead of `path`, or a folder with a file of `path`'s name.

        Raises:
            DataError: A file or a column is missing, or a column holds no numbers;
                the message names the file, the row and the column.
        """
        return self._read(root)[0]

    def _read(self, root: Path | None) -> tuple[Images, tuple[str, ...], bool]:
        """Return the rows, notes on the reading, and whether labels are sorted positions."""
        # Here, since importing pyarrow takes time.
        from bitleak.data.table_files import (
            feature_columns,
            label_values,
            read_frame,
            truth_columns,
        )

        files = self._files(root)
        frames = [read_frame(file, separator=self.separator, header=self.header) for file in files]
        names = tuple(frames[0].columns)
        for frame in frames[1:]:
            _check_same(tuple(frame.columns), names, frame.file, files[0])
        label = self._label(names, files[0])
        dropped, categorical = self._named(self.drop, names), self._named(self.categorical, names)
        taken = [name for name in names if name != label and name not in dropped]
        if not taken:
            raise DataError(
                f"{files[0]}: no column is left for the features, of {quoted_names(names)}"
            )

        # Labels cost nothing, and a wrong one makes the rest useless.
        places = [frame.where for frame in frames]
        stored = [label_values(frame, label) for frame in frames]
        _check_few(stored, label, files[0])
        parts = [plain_labels(labels, place) for labels, place in zip(stored, places, strict=True)]
        classes = classes_of(parts, places, self.classes, negative=True)
        columns, features = feature_columns(
            frames, taken, [name for name in categorical if name in taken]
        )
        rows = frames[0].rows
        images = Images(
            pixels=features,
            labels=np.concatenate(classes.labels),
            class_names=classes.names,
            held_out=np.arange(len(features)) >= rows,
            columns=columns,
        )
        checked_images(
            images,
            str(files[0]),
            lambda row: places[0](row) if row < rows else places[1](row - rows),
        )

        # How it was read, before any work.
        notes = [f"labels from column {label!r}, {len(columns)} columns of features"]
        for sentence, chosen in (
            ("truth values are 0 and 1 in", truth_columns(frames[0], taken)),
            ("a column of 0 and 1 per category of", [n for n in categorical if n in taken]),
            ("columns that are left out:", dropped),
        ):
            if chosen:
                notes.append(f"{sentence} {quoted_names(chosen)}")
        if classes.note:
            notes.append(classes.note)
        return images, tuple(notes), classes.is_sorted

    def _files(self, root: Path | None) -> list[Path]:
        file = Path(self.path) if root is None else root
        if file.is_dir():
            file = within(existing(file / Path(self.path).name, "table"), file)
        files = [existing(file, "table")]
        if self.test is not None:
            files.append(within(existing(file.parent / self.test, "table"), file.parent))
        for file in files:
            if not file.is_file():
                raise DataError(f"{file}: a Parquet or CSV file is needed, and this is none")
        return files

    def _label(self, names: Sequence[str], file: Path) -> str:
        """Return the label column, as named or the only one that is called like one."""
        if self.label is not None:
            return self._named((self.label,), names, "label")[0]
        called = [name for name in names if name.strip().lower() in LABEL_NAMES]
        if len(called) == 1:
            return called[0]
        count = "several columns are" if called else "no column is"
        raise DataError(
            f"{file}: {count} called like labels; name one of them, such as label: {(called or list(names))[-1]}; "
            f"the columns: {quoted_names(called or names)}"
        )

    def _named(
        self, chosen: Sequence[Any], names: Sequence[str], option: str = "column"
    ) -> list[str]:
        """Return names of columns as text, or refuse one that the file does not have."""
        for name in chosen:
            if str(name) not in names:
                raise DataError(f"{self.path}: {unknown_name(option, str(name), names)}")
        return [str(name) for name in chosen]


def _check_same(names: Sequence[str], expected: Sequence[str], file: Path, first: Path) -> None:
    missing = [name for name in expected if name not in names]
    further = [name for name in names if name not in expected]
    for problem, differing in (("lacks", missing), ("also has", further)):
        if differing:
            raise DataError(
                f"{file}: the columns must be those of {first.name}, but it {problem} {quoted_names(differing)}"
            )


def _check_few(parts: Sequence[np.ndarray], label: str, file: Path) -> None:
    """Refuse labels that are numbers to predict, and no classes."""
    rows, values = sum(map(len, parts)), len(np.unique(np.concatenate(parts)))
    if rows >= 20 and 2 * values > rows:
        raise DataError(
            f"{file}: label column {label!r} has {values} different values in {rows} rows, which are no classes: "
            "name another column as label, or put its values into classes"
        )
