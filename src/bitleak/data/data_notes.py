"""Sentences on a data set: how it was read before work, and its copies after it."""

from collections.abc import Sequence

import numpy as np

from bitleak.core.types import Description, Images

LISTED_CLASSES = 12
"""Up to this many classes are listed by name."""


def quoted_names(names: Sequence[str]) -> str:
    """Return the first names in quotes, and the number of the others."""
    shown = ", ".join(repr(name[:40]) for name in names[:LISTED_CLASSES])
    further = len(names) - LISTED_CLASSES
    return f"{shown} and {further} more" if further > 0 else shown


def data_lines(description: Description) -> list[str]:
    """Columns, number of classes, images per class, and everything left out or renumbered."""
    lines = list(description.notes)
    counts = [count for _, count in description.counts]
    if counts:
        per_class = f"{counts[0]} {description.kind} each"
        if min(counts) < max(counts):
            per_class = f"{min(counts)} to {max(counts)} {description.kind} each"
        if len(counts) <= LISTED_CLASSES:
            per_class = ", ".join(f"{name[:40]!r}: {count}" for name, count in description.counts)
        lines.append(f"{sum(counts)} {description.kind}, {len(counts)} classes ({per_class})")
    return lines


def numbering_hint(description: Description) -> str:
    """Return the advice on renumbered labels, for the message that a network has other classes."""
    if not description.sorted_labels:
        return ""
    names = [name[:20] for name, _ in description.counts]
    listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return (
        f"; the data's labels ({listed}) were sorted and numbered from 0 to {len(names) - 1}: for a network whose "
        "outputs are numbered by the stored integers, give the data set's option `classes`, the number of outputs"
    )


def empty_channels(images: Images) -> tuple[str, ...]:
    """Return a sentence if a colour channel or a column has one value in all records."""
    if not images.size:
        constant = np.flatnonzero((images.pixels == images.pixels[:1]).all(axis=0))
        if not len(constant):
            return ()
        names = quoted_names([images.columns[column] for column in constant])
        return (f"Columns of one value in all rows, standardised with deviation 1: {names}.",)
    empty: list[str] = []
    for channel in range(images.pixels.shape[1]):
        values = images.pixels[:, channel]
        if (values == values[0, 0, 0]).all():
            empty.append(str(channel))
    if not empty:
        return ()
    return (
        f"Channel {', '.join(empty)} has one value in all images: it is standardised with deviation 1.",
    )


def unscaled(images: Images) -> tuple[str, ...]:
    """Return a sentence if no pixel is above 1, as when numbers from 0 to 1 became integers."""
    if images.pixels.max(initial=0) > 1:
        return ()
    return (
        "No pixel is above 1, of 255: unless the images are black and white, pixels from 0 to 1 were made integers "
        "before they were multiplied by 255.",
    )
