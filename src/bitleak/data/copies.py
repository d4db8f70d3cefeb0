"""Images that occur more than once, exactly or nearly.

The distance of two images is the root mean square of the differences of all pixel values (0 to 255).
Means of blocks of pixels are an orthogonal projection, so that their scaled distance is never larger:
a k-d tree over them finds candidates, whose distance is then computed from all pixels.

Only the 8 principal directions of these means are in the tree, which shortens distances further.

Cost: one pass over the pixels and a tree of 8 numbers per image; 60,000 images of 32x32 take seconds.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8
from scipy.spatial import cKDTree

NEAR = 6.0
"""Largest root-mean-square difference of near copies, in steps of 0 to 255."""

_NEIGHBOURS = 4
_DIRECTIONS = 8
_CHUNK = 4096


@dataclass(frozen=True)
class Copies:
    """Counts of copies in a pool and between the pool and held-out records.

    Attributes:
        pool: Images in the pool.
        held_out: Images outside the pool.
        exact: Images of the pool of which another image of the pool is the same in every pixel.
        near: Further images of the pool within `distance` of another image of the pool.
        conflicting: Images of the pool that have an exact copy with another label.
        across_exact: Held-out images that are in the pool, pixel for pixel.
        across_near: Further held-out images within `distance` of an image of the pool.
        distance: Root mean square of the differences of pixel values, 0 to 255.
    """

    pool: int
    held_out: int
    exact: int
    near: int
    conflicting: int
    across_exact: int
    across_near: int
    distance: float = NEAR

    def sentences(self) -> tuple[str, ...]:
        """A sentence per kind of copy; none without copies."""
        lines = []
        if self.exact or self.near:
            other = f" ({self.conflicting} of them with another label)" if self.conflicting else ""
            lines.append(
                f"{self.exact} of the {self.pool} images in the pool have an exact copy in it{other}, {self.near} more "
                f"a near copy (root-mean-square difference of at most {self.distance:g} of 255): a copy in training "
                "makes a non-member look like a member, so that the attack's figures come out too low."
            )
        if self.across_exact or self.across_near:
            lines.append(
                f"{self.across_exact} of the {self.held_out} held-out images are exact copies of images in the pool, "
                f"{self.across_near} more near copies (at most {self.distance:g} of 255): the test accuracy comes "
                "out too high."
            )
        return tuple(lines)


def copies_of(
    pixels: UInt8[np.ndarray, "records channels height width"],
    labels: Int64[np.ndarray, "records"],
    pool: Int64[np.ndarray, "pool"],
    held_out: Int64[np.ndarray, "others"],
) -> Copies:
    """Count copies within the pool and between the held-out records and the pool.

    Args:
        pixels: All images.
        labels: Their classes.
        pool: Records that may be trained on.
        held_out: Records that no model is trained on.
    """
    records = np.concatenate([pool, held_out]).astype(np.int64)
    groups = _groups(pixels, records)
    inside = np.arange(len(records)) < len(pool)
    counts = np.bincount(groups[inside], minlength=int(groups.max(initial=-1)) + 1)
    exact = inside & (counts[groups] > 1)
    across = ~inside & (counts[groups] > 0)
    lowest, highest = np.full(len(counts), np.iinfo(np.int64).max), np.full(len(counts), -1)
    np.minimum.at(lowest, groups[inside], labels[pool])
    np.maximum.at(highest, groups[inside], labels[pool])
    # near copies are looked for among one image of each group
    first = np.unique(groups[inside], return_index=True)[1]
    near = _near(pixels, records, first) & ~exact & ~across
    return Copies(
        pool=len(pool),
        held_out=len(held_out),
        exact=int(exact.sum()),
        near=int((near & inside).sum()),
        conflicting=int((exact & (lowest[groups] != highest[groups])).sum()),
        across_exact=int(across.sum()),
        across_near=int((near & ~inside).sum()),
    )


def _groups(pixels: np.ndarray, records: np.ndarray) -> np.ndarray:
    """A number per record, equal for images that are equal."""
    known: dict[bytes, int] = {}
    return np.array([known.setdefault(pixels[record].tobytes(), len(known)) for record in records], np.int64)


def _near(pixels: np.ndarray, records: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Whether another image among `first` (positions in records) is within NEAR, per record."""
    marks = np.zeros(len(records), bool)
    if not len(first):
        return marks
    points = _projected(pixels, records)
    tree = cKDTree(points[first])
    count = min(_NEIGHBOURS, len(first))
    for start in range(0, len(records), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(records)))
        found = np.asarray(tree.query(points[rows], k=[*range(1, count + 1)], distance_upper_bound=NEAR * 1.0001)[1])
        row, column = np.nonzero(found < len(first))
        mine, other = rows[row], first[found[row, column]]
        mine, other = mine[mine != other], other[mine != other]
        for pair in range(0, len(mine), _CHUNK):
            one = pixels[records[mine[pair : pair + _CHUNK]]].astype(np.float32)
            two = pixels[records[other[pair : pair + _CHUNK]]].astype(np.float32)
            close = ((one - two) ** 2).mean(axis=(1, 2, 3)) <= NEAR**2
            marks[mine[pair : pair + _CHUNK][close]] = True
    return marks


def _projected(pixels: np.ndarray, records: np.ndarray) -> np.ndarray:
    """Means of up to 4x4 blocks per channel, scaled so that distances are never above the images' distance."""
    size = pixels.shape[2]
    edges = np.unique(np.linspace(0, size, min(4, size) + 1).astype(int))
    areas = np.outer(np.diff(edges), np.diff(edges)) / (size * size * pixels.shape[1])
    parts = []
    for start in range(0, len(records), _CHUNK):
        images = pixels[records[start : start + _CHUNK]].astype(np.float32)
        sums = np.add.reduceat(np.add.reduceat(images, edges[:-1], axis=2), edges[:-1], axis=3)
        sides = np.outer(np.diff(edges), np.diff(edges))
        parts.append((sums / sides * np.sqrt(areas)).reshape(len(images), -1))
    points = np.concatenate(parts).astype(np.float64)
    points -= points.mean(axis=0)
    directions = np.linalg.eigh(points.T @ points)[1][:, ::-1][:, :_DIRECTIONS]
    return points @ directions
