"""The common result of all readers of encoded images: places, labels, and held-out records."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np
from jaxtyping import Int64

from bitleak.core.errors import DataError
from bitleak.core.types import Description, Images
from bitleak.data.data_checks import (
    SORTED,
    UPRIGHT,
    check_classes,
    check_labels,
    checked_images,
    counts_of,
    read_as,
    untrained,
)
from bitleak.data.decode import Item, geometry, stacked
from bitleak.data.image_metadata import marks_of


@dataclass(frozen=True)
class Part:
    """The training or the test part of a source, not decoded.

    Attributes:
        items: Starts over at every call: each image as bytes or file, with its file and row.
        labels: Labels, not checked yet; text if the source has no numbers, until its parts are put
            together.
        where: File and row of a record, counted from 0, for messages.
        integers: Whether the labels are stored as integers.
    """

    items: Callable[[], Iterator[Item]]
    labels: np.ndarray
    where: Callable[[int], str]
    integers: bool = True


@dataclass(frozen=True)
class Source:
    """A data set found, its labels read, its images not decoded.

    Attributes:
        name: Folder or Hub name, for messages.
        class_names: One name per class.
        train: Part that models may train on.
        test: Held-out part, or None.
        fingerprint: Returns a digest of the content.
        notes: Sentences on how it was read.
        sorted_labels: Whether the labels are positions among sorted values, and not the integers
            that are stored.
    """

    name: str
    class_names: tuple[str, ...]
    train: Part
    test: Part | None
    fingerprint: Callable[[], str]
    notes: tuple[str, ...] = ()
    sorted_labels: bool = False


def source_description(source: Source) -> Description:
    """Return counts, classes, channels and size.

    One image is decoded, the bytes of all are searched for marks.
    """
    # Labels first: they cost nothing, and a wrong one makes the rest useless.
    labels = _checked_labels(source)
    channels, size = geometry(source_items(source))
    marks = marks_of(source_items(source))
    held_out = np.arange(len(labels)) >= len(source.train.labels)
    readings = [SORTED] if source.sorted_labels else []
    readings += [UPRIGHT] if marks.turned else []
    return Description(
        records=len(labels),
        held_out=len(labels) - len(source.train.labels),
        classes=len(source.class_names),
        channels=channels,
        size=size,
        fingerprint=read_as(source.fingerprint(), readings),
        counts=counts_of(labels, source.class_names),
        notes=(*source.notes, *untrained(labels, held_out, source.class_names), *marks.notes),
        sorted_labels=source.sorted_labels,
    )


def source_images(source: Source) -> Images:
    """Return all images, the training part first, then the held-out part."""
    labels = _checked_labels(source)
    images = Images(
        pixels=stacked(source_items(source), len(labels)),
        labels=labels,
        class_names=source.class_names,
        held_out=np.arange(len(labels)) >= len(source.train.labels),
    )
    return checked_images(images, source.name)


def chosen_images(
    source: Source, choose: Callable[[Images], Int64[np.ndarray, "chosen"]]
) -> Images:
    """Return all labels and marks, and the pixels of some records; those of the others are 0.

    Args:
        source: The data set.
        choose: Returns the numbers of the records to decode, from the labels and marks of all.

    Raises:
        DataError: As `source_images`, for the records that are decoded.
    """
    labels = _checked_labels(source)
    shape = (len(labels), *_shape(source))
    outline = Images(
        pixels=np.broadcast_to(np.uint8(0), shape),  # takes no memory
        labels=labels,
        class_names=source.class_names,
        held_out=np.arange(len(labels)) >= len(source.train.labels),
    )
    records = np.unique(choose(outline))

    # Parts without a chosen record are not read; pages of zeros take no memory either.
    pixels = np.zeros(shape, np.uint8)
    start = 0
    for part in _parts(source):
        within = records[(records >= start) & (records < start + len(part.labels))]
        if len(within):
            decoded = stacked(_items_at(part, within - start), len(within))
            if decoded.shape[2:] != shape[2:]:
                raise DataError(
                    f"{part.where(int(within[0] - start))}: image must be {shape[2]}x{shape[3]} like the first one, "
                    f"got {decoded.shape[2]}x{decoded.shape[3]}"
                )
            pixels[within] = decoded  # greyscale images of a set in colour are repeated
        start += len(part.labels)
    return checked_images(replace(outline, pixels=pixels), source.name)


def _shape(source: Source) -> tuple[int, int, int]:
    channels, size = geometry(source_items(source))
    return channels, size, size


def _items_at(part: Part, rows: Int64[np.ndarray, "rows"]) -> Iterator[Item]:
    """Yield the encoded images of these rows, ascending."""
    wanted = set(rows.tolist())
    for row, item in enumerate(islice(part.items(), int(rows[-1]) + 1)):
        if row in wanted:
            yield item


def source_items(source: Source) -> Iterator[Item]:
    """Yield each encoded image with its place, the training part first."""
    return chain.from_iterable(part.items() for part in _parts(source))


def _parts(source: Source) -> list[Part]:
    return [source.train] if source.test is None else [source.train, source.test]


def _checked_labels(source: Source) -> Int64[np.ndarray, "records"]:
    """Return all labels, checked before anything is decoded."""
    parts = _parts(source)
    for part in parts:
        check_labels(part.labels, len(source.class_names), part.where)
    check_classes(source.train.labels, source.class_names, source.name)
    return np.concatenate([part.labels for part in parts])
