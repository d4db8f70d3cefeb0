"""A seeded, class-balanced subset of a data set."""

from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from bitleak.core.checks import integer_in
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images


def limited(images: Images, limit: int | None, seed: int, *, held_out: int | None = None) -> Images:
    """Draw at most `limit` records of each part, as many of every class as its count allows.

    A class with fewer records than its equal share gives all it has, and the others make up for it.
    The order is kept. Records that a smaller limit keeps, a larger one with the same seed keeps
    too.

    Args:
        images: A data set.
        limit: Largest number of records, at least 2: of all that are not held out. None, or a limit
            that is not reached, keeps them all.
        seed: The audit's root seed.
        held_out: Largest number of the source's held-out records; no effect if there are none.

    Raises:
        ValueError: A limit below 2.

    Example:
        >>> from bitleak.data.digits import Digits
        >>> np.bincount(limited(Digits().load(None), 100, seed=0).labels).tolist()
        [10, 10, 10, 10, 10, 10, 10, 10, 10, 10]
    """
    keep = [np.flatnonzero(~images.held_out), np.flatnonzero(images.held_out)]
    for part, (name, count) in enumerate([("limit", limit), ("held_out limit", held_out)]):
        if count is not None:
            rng = np.random.default_rng(seed_for(seed, "limit", part))
            records = keep[part]
            keep[part] = records[
                balanced_draw(images.labels[records], integer_in(name, count, 2), rng)
            ]
    records = np.sort(np.concatenate(keep))
    return replace(
        images,
        pixels=images.pixels[records],
        labels=images.labels[records],
        held_out=images.held_out[records],
    )


def balanced_draw(
    labels: Int64[np.ndarray, "records"], count: int, rng: np.random.Generator
) -> Int64[np.ndarray, "drawn"]:
    """Return ascending positions of at most `count` records, with classes as equal as possible."""
    if count >= len(labels):
        return np.arange(len(labels))
    order = rng.permutation(len(labels))
    # Place of each record among its class in the random order, and of each class in a random order.
    place = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        place[mine] = np.arange(len(mine))
    # Records by place first: one of every class, then a second of every class, and so on.
    turn = rng.permutation(labels.max() + 1)[labels]
    return np.sort(np.lexsort((turn, place))[:count])
