"""The common result of all readers of encoded images: places, labels, and held-out records."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Int64

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


def source_items(source: Source) -> Iterator[Item]:
    """Yield each encoded image with its place, the training part first."""
    parts = [source.train] if source.test is None else [source.train, source.test]
    return chain.from_iterable(part.items() for part in parts)


def _checked_labels(source: Source) -> Int64[np.ndarray, "records"]:
    """Return all labels, checked before anything is decoded."""
    parts = [source.train] if source.test is None else [source.train, source.test]
    for part in parts:
        check_labels(part.labels, len(source.class_names), part.where)
    check_classes(source.train.labels, source.class_names, source.name)
    return np.concatenate([part.labels for part in parts])
