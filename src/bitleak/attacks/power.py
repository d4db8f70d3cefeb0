"""The same target seen by an adversary with fewer references: what a curve of leakage against cost is made of."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int64

from bitleak.attacks.seen import masked_view
from bitleak.core.checks import integer_in
from bitleak.core.mapped import rows_of
from bitleak.core.types import AttackView


def subset_view(view: AttackView, count: int, generator: np.random.Generator) -> AttackView:
    """The view with `count` references a side for every record.

    References that are each other's complements are kept or left out in pairs, so that `count` pairs are what an
    adversary with 2 `count` models has: their answers to population records are the only ones left. Where the
    references do not pair up, every record keeps `count` random ones a side by the mask, and the population records
    keep all of theirs.

    Args:
        view: Of any target.
        count: References a side, at least 1.
        generator: What the choice is drawn from; smaller counts under the same seed are subsets of larger ones.

    Raises:
        ValueError: A record has fewer usable references on a side.
    """
    integer_in("count", count, 1)
    inside, outside = (side.sum(axis=0) for side in (view.member, view.outside))
    fewest = int(np.minimum(inside, outside).min())
    if count > fewest:
        raise ValueError(f"count must be at most {fewest}, the usable references a side of some record, got {count}")
    pairs = complementary_pairs(view.member) if view.use.all() else None
    if pairs is not None:
        rows = np.sort(generator.permutation(pairs)[:count].ravel())
        return replace(
            view,
            references=rows_of(view.references, rows),
            side=view.side[rows],
            split=view.split[rows],
            population_references=rows_of(view.population_references, rows),
        )
    keys = generator.random(view.side.shape)
    sides = [view.member, view.outside]
    ranks = [np.where(side, keys, 2.0).argsort(axis=0).argsort(axis=0) for side in sides]
    kept = [side & (rank < count) for side, rank in zip(sides, ranks, strict=True)]
    return masked_view(view, kept[0] | kept[1])


def complementary_pairs(member: Bool[np.ndarray, "refs records"]) -> Int64[np.ndarray, "pairs 2"] | None:
    """Rows that are each other's complement, by the first of the two; None if some row has no partner left.

    Example:
        >>> complementary_pairs(np.array([[1, 0], [1, 1], [0, 0], [0, 1]], bool)).tolist()
        [[0, 3], [1, 2]]
    """
    waiting: dict[bytes, list[int]] = {}
    pairs = []
    for row, members in enumerate(member):
        partners = waiting.get((~members).tobytes(), [])
        if partners:
            pairs.append((partners.pop(0), row))
        else:
            waiting.setdefault(members.tobytes(), []).append(row)
    if any(waiting.values()):
        return None
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)
