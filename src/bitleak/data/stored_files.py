"""Facts on records as they are stored, besides their content: names, sizes, formats and order."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.data.decode import Item

_MAGIC = (
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8", "JPEG"),
    (b"RIFF", "WEBP"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
)
"""First bytes of encoded images."""

_LONGEST = 4


@dataclass(frozen=True)
class StoredFiles:
    """Facts on all records of a data set, in its order.

    Attributes:
        names: File of every record; None if records have no files of their own.
        sizes: Bytes of every encoded image; None if not known.
        formats: Format of every encoded image, such as `PNG`; None if not known.
        order: Place of every record in its source, or its date; None if not known.
    """

    names: tuple[str, ...] | None = None
    sizes: Int64[np.ndarray, "records"] | None = None
    formats: np.ndarray | None = None
    order: Float64[np.ndarray, "records"] | None = None


def stored_files(
    dataset: Any, root: Path | None, held_out: Bool[np.ndarray, "records"]
) -> StoredFiles:
    """Return the facts about a data set's records besides their content.

    A data set whose images are encoded has a method `items`, which yields each image as bytes or
    file with its place.

    Args:
        dataset: An entry of the registry's `DATASETS`.
        root: Local folder or file that overrides the data set's own.
        held_out: True for the records of the source's own test part.
    """
    known = StoredFiles(order=places(held_out))
    if not hasattr(dataset, "items"):
        return known
    files = files_of(dataset.items(root))
    # A data set that yields other records than it loads cannot be matched with its images.
    if files.sizes is None or len(files.sizes) != len(held_out):
        return known
    return replace(files, order=known.order)


def places(held_out: Bool[np.ndarray, "records"]) -> Float64[np.ndarray, "records"]:
    """Return the place of every record in its part, from 0 to 1: parts have orders of their own.

    Example:
        >>> places(np.array([False, False, True])).tolist()
        [0.0, 0.5, 0.0]
    """
    order = np.empty(len(held_out))
    for part in (True, False):
        records = np.flatnonzero(held_out == part)
        order[records] = np.arange(len(records)) / max(1, len(records))
    return order


def files_of(items: Iterable[Item]) -> StoredFiles:
    """Return names, sizes and formats of encoded images."""
    names: list[str] = []
    sizes: list[int] = []
    formats: list[str] = []
    has_names = True
    for content, _ in items:
        if isinstance(content, Path):
            names.append(content.as_posix())
            sizes.append(content.stat().st_size)
            with content.open("rb") as file:
                start = file.read(_LONGEST)
        else:
            has_names = False
            sizes.append(len(content))
            start = content[:_LONGEST]
        formats.append(next((name for magic, name in _MAGIC if start.startswith(magic)), "other"))
    return StoredFiles(
        names=tuple(names) if has_names and names else None,
        sizes=np.array(sizes, np.int64),
        formats=np.array(formats),
    )
