"""Records that are copies of others: an audit of them measures something else.

A record with a copy in the other half is a non-member whose content was trained on, so every figure
is pulled towards chance; a held-out record with a copy among the members is no stranger.

Two images are *exact* copies if all their pixels are equal. They are *near* copies if, each of them
standardised (its own mean taken away, divided by its own deviation), the root mean square of their
difference is at most a distance d, which is a correlation of at least 1 - d^2 / 2. d is `FARTHEST`,
or `NEAR_SHARE` of the usual distance between neighbours of this data set if that is less: in small
pictures of digits, strangers are as alike as copies of photographs. Images of almost one colour are
no near copies. This finds images that were compressed again, brightened or edited in a corner; it
does not find shifted, mirrored or cropped ones. Rows of a table have exact copies only: columns have units and
meanings of their own, so that no distance is small for all of them.

Candidates come from a search for neighbours in a space of `DIMENSIONS`: means over blocks of
pixels, projected on their principal axes. Neither step makes a distance larger, so no pair is lost
unless more than `NEIGHBOURS` images are that near in the small space. Cost: a few passes over the
pixels, and the search; 12 s of a core for 60,000 images of 32 x 32.
"""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

FARTHEST = 0.25
"""Largest distance of near copies, in standard deviations of the pixels of an image."""

NEAR_SHARE = 0.2
"""Largest distance of near copies as a share of the usual distance to a tenth neighbour."""

FLAT = 4.0
"""Grey levels of 255: images whose pixels deviate less are no near copies of anything."""

DIMENSIONS = 12
NEIGHBOURS = 16
_BLOCKS = 4
_BATCH = 1024
_SOME, _OTHERS, _TENTH = 200, 5000, 10


@dataclass(frozen=True)
class Copies:
    """Copies among the audited records, and between them and the held-out ones.

    Attributes:
        groups: Number of the group of each record of the pool: records with the same number are
            copies of each other, directly or by way of others.
        exact: Records of the pool that have an exact copy in it.
        near: Further records of the pool that have a near copy in it.
        held_out: Held-out records that have an exact or near copy in the pool.
        contradicting: Records of the pool that have an exact copy in it with another label.
        distance: Largest distance of near copies that was used, see the module; 0 for a table.
    """

    groups: Int64[np.ndarray, "records"]
    exact: int
    near: int
    held_out: int
    contradicting: int
    distance: float


def find_copies(
    pixels: (
        UInt8[np.ndarray, "images channels height width"] | Float32[np.ndarray, "images channels"]
    ),
    labels: Int64[np.ndarray, "images"],
    pool: Int64[np.ndarray, "records"],
    held_out: Int64[np.ndarray, "others"],
) -> Copies:
    """Find the copies in a data set.

    Args:
        pixels: All images, or the rows of a table.
        labels: Their classes.
        pool: Indices of the audited records.
        held_out: Indices of the records that no model is trained on.

    Example:
        >>> from bitleak.data.digits import Digits
        >>> images = Digits().load(None)
        >>> once = np.arange(len(images.labels))
        >>> copies = find_copies(images.pixels, images.labels, np.append(once, 3), once[:0])
        >>> copies.exact, int((copies.groups == copies.groups[3]).sum())
        (2, 2)
    """
    # Neighbours are searched among different contents; an exact copy would fill up their number.
    index = np.concatenate([pool, held_out])
    first, content = _contents(pixels, index)
    distance, pairs = 0.0, np.empty((0, 2), np.int64)
    if pixels.ndim == 4:
        distance = near_distance(pixels, index[first])
        pairs = _near_pairs(pixels, index[first], distance)
    of_pool, of_others = content[: len(pool)], content[len(pool) :]

    # per content: records of the pool that have it, and whether one near it is in the pool
    counts = np.bincount(of_pool, minlength=len(first))
    has_neighbour = np.zeros(len(first), bool)
    has_neighbour[pairs[counts[pairs[:, 1]] > 0, 0]] = True
    has_neighbour[pairs[counts[pairs[:, 0]] > 0, 1]] = True

    # A record of the pool counts itself, so two of a content make a copy.
    exact = counts[of_pool] > 1
    return Copies(
        groups=_components(len(first), pairs)[of_pool],
        exact=int(exact.sum()),
        near=int((~exact & has_neighbour[of_pool]).sum()),
        held_out=int(((counts > 0) | has_neighbour)[of_others].sum()),
        contradicting=_contradicting(of_pool, labels[pool]),
        distance=distance,
    )


def near_distance(
    pixels: UInt8[np.ndarray, "images channels height width"], index: Int64[np.ndarray, "contents"]
) -> float:
    """Return the largest distance of near copies in a data set.

    Args:
        pixels: All images.
        index: Images to compare, no two of them with equal pixels.
    """
    # Evenly spread, so nothing is drawn; the tenth neighbour is no copy unless there are ten.
    sample = index[:: max(1, len(index) // _SOME)][:_SOME]
    neighbours = index[:: max(1, len(index) // _OTHERS)][:_OTHERS]
    if len(neighbours) <= _TENTH:
        return FARTHEST

    # |a - b|^2 = 2 - 2 a.b for standardised images, as a mean over pixels.
    left, right = _standardised(pixels[sample]), _standardised(pixels[neighbours])
    squares = np.sort(2 - 2 * (left @ right.T) / left.shape[1], axis=1)
    usual = float(np.median(np.sqrt(np.maximum(squares[:, _TENTH], 0))))
    return min(FARTHEST, NEAR_SHARE * usual)


def _contents(
    pixels: np.ndarray, index: np.ndarray
) -> tuple[Int64[np.ndarray, "contents"], Int64[np.ndarray, "images"]]:
    """Return the first image of each different content, and the number of each image's content."""
    digests = [blake2b(pixels[image].tobytes(), digest_size=16).digest() for image in index]
    _, first, content = np.unique(np.array(digests), return_index=True, return_inverse=True)
    return first.astype(np.int64), content.astype(np.int64)


def _near_pairs(
    pixels: np.ndarray, index: np.ndarray, distance: float
) -> Int64[np.ndarray, "pairs two"]:
    """Return the pairs of different contents that are near copies, as positions in `index`."""
    # Images of almost one colour are standardised noise, and near copies of nothing.
    detailed = [np.empty(0, bool)]
    for part in _batches(index):
        detailed.append(_deviations(pixels[part]) >= FLAT)
    rows = np.flatnonzero(np.concatenate(detailed))
    if len(rows) < 2:
        return np.empty((0, 2), np.int64)
    points = np.concatenate([_block_means(pixels[index[part]]) for part in _batches(rows)])

    # the bound is widened by the rounding of float32; the pixels decide below
    count = min(NEIGHBOURS + 1, len(rows))
    _, nearest = KDTree(_projected(points)).query(
        _projected(points), k=count, distance_upper_bound=distance + 1e-4
    )
    left, right = np.repeat(np.arange(len(rows)), count), nearest.reshape(-1)
    # The tree gives a missing neighbour the number of rows.
    known = (right < len(rows)) & (left != right)
    ends = np.sort(np.stack([left[known], right[known]], axis=1), axis=1)
    candidates = rows[np.unique(ends, axis=0)]

    near = [np.empty(0, bool)]
    for part in _batches(candidates):
        near.append(_distances(pixels[index[part[:, 0]]], pixels[index[part[:, 1]]]) <= distance)
    return candidates[np.concatenate(near)]


def _distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the root mean square difference of standardised images, pair by pair."""
    apart = _standardised(left) - _standardised(right)
    return np.sqrt(np.square(apart).mean(axis=1))


def _deviations(pixels: np.ndarray) -> np.ndarray:
    deviations: np.ndarray = pixels.reshape(len(pixels), -1).std(axis=1, dtype=np.float32)
    return deviations


def _standardised(
    pixels: UInt8[np.ndarray, "images channels height width"],
) -> Float32[np.ndarray, "images pixels"]:
    flat = pixels.reshape(len(pixels), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(flat.std(axis=1, keepdims=True), 1e-6)
    return flat


def _block_means(
    pixels: UInt8[np.ndarray, "images channels height width"],
) -> Float32[np.ndarray, "images blocks"]:
    """Return means of standardised images over 4 x 4 blocks, weighted so that distances never grow.

    The mean square over pixels of a difference is at least that over blocks of its means, if each
    block counts by its number of pixels.
    """
    images = _standardised(pixels).reshape(pixels.shape)
    edges = [np.linspace(0, size, min(_BLOCKS, size) + 1).astype(int) for size in pixels.shape[2:]]
    sums = np.add.reduceat(np.add.reduceat(images, edges[0][:-1], axis=2), edges[1][:-1], axis=3)
    sizes = np.outer(np.diff(edges[0]), np.diff(edges[1]))  # pixels per block
    weighted = sums / np.sqrt(sizes * sizes.sum() * pixels.shape[1])
    return weighted.reshape(len(pixels), -1).astype(np.float32)


def _projected(
    points: Float32[np.ndarray, "images blocks"],
) -> Float32[np.ndarray, "images dimensions"]:
    """Return the coordinates along the principal axes: distances never grow."""
    centred = points - points.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
    return (centred @ axes[:, ::-1][:, :DIMENSIONS]).astype(np.float32)


def _components(count: int, pairs: np.ndarray) -> Int64[np.ndarray, "contents"]:
    """Return the number of the connected group of each content."""
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    groups: np.ndarray = connected_components(graph, directed=False)[1]
    return groups.astype(np.int64)


def _contradicting(content: np.ndarray, labels: np.ndarray) -> int:
    """Return the number of records whose content occurs with another label too."""
    # Contents with two or more different labels, each pair once.
    different = np.unique(np.stack([content, labels], axis=1), axis=0)
    names_of = np.bincount(different[:, 0], minlength=int(content.max(initial=-1)) + 1)
    return int((names_of[content] > 1).sum())


def _batches(index: np.ndarray) -> list[np.ndarray]:
    return [index[start : start + _BATCH] for start in range(0, len(index), _BATCH)]
