"""Views of a target for adversaries with fewer references: a curve of leakage against cost.

Cost: one sort of random keys over the references of every record serves all counts. A view by a
mask is a copy of all references; `compact_view`, for attacks that distinguish answers by their side
alone, holds 2 `count` references.
"""

from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64, Int, Int8, Int64, UInt64

from bitleak.attacks.attack import CACHED_SCORES, SCORE_BLOCK, Attack, keep_checks
from bitleak.core.checks import integer_in
from bitleak.core.random_columns import uniform_columns
from bitleak.core.spill import copy_rows, new_array, release
from bitleak.core.types import IN, OUT, UNUSED, AttackView

SMALL = 1 << 15
"""Models up to which their numbers are kept in two bytes each."""


def subset_view(view: AttackView, count: int, generator: np.random.Generator) -> AttackView:
    """Return the view with `count` references per side for every record.

    References that are each other's complements are kept or left out in pairs: `count` pairs are
    the 2 `count` models of a weaker adversary, and only their answers to population records are
    left. If the references do not pair up, every record keeps `count` random ones per side by the
    mask, and the population records keep all of theirs.

    Args:
        view: View of any target.
        count: References per side, at least 1.
        generator: Source of the choice; smaller counts under the same seed are subsets of larger
            ones.

    Raises:
        ValueError: A record has fewer usable references on one side.
    """
    integer_in("count", count, 1)
    return Subsets(view, generator).view(count)


def exchangeable(attack: Attack) -> bool:
    """Return whether an attack distinguishes a record's reference answers by their side alone.

    Such an attack has `exchangeable = True`: the model that gave an answer does not matter, and it
    reads no population records.
    """
    return getattr(attack, "exchangeable", False)


class Subsets:
    """References that every count keeps, drawn once for a view.

    Args:
        view: View of any target.
        generator: Source of the choice; smaller counts keep subsets of the references of larger
            counts.
    """

    def __init__(self, view: AttackView, generator: np.random.Generator) -> None:
        pairs = complementary_pairs(view.member) if view.use.all() else None
        orders: tuple[np.ndarray, ...] = ()
        if pairs is None:
            orders = _orders(uniform_columns(generator, *view.side.shape), view.side)
        else:
            pairs = generator.permutation(pairs)
        self._full, self._pairs, self._orders = view, pairs, orders

    @property
    def paired(self) -> bool:
        """Whether references that are each other's complements are kept or left out together."""
        return self._pairs is not None

    def of(self, view: AttackView) -> "Subsets":
        """Return the same choice in a view with the same sides."""
        subsets = copy(self)
        subsets._full = view
        return subsets

    def view(self, count: int) -> AttackView:
        """Return the view with `count` references per side, see `subset_view`.

        Raises:
            ValueError: A record has fewer usable references on one side.
        """
        self._refuse_few(count)
        if self._pairs is not None:
            return _of_rows(self._full, np.sort(self._pairs[:count].ravel()))
        chosen = self._chosen(count)
        if (chosen | ~self._full.use).all():
            return self._full
        refs, records = chosen.shape
        return self._masked(chosen, self._full.references, np.arange(refs), np.arange(records))

    def compact_view(self, count: int) -> AttackView:
        """Like `view`, with one row per place among a record's references instead of one per model.

        For attacks that are `exchangeable`: rows 0 to `count` - 1 are IN for every record, the
        others OUT, each in the order of the models.

        Raises:
            ValueError: A record has fewer usable references on one side.
        """
        if self.paired:
            return self.view(count)
        refs, records = self._full.side.shape
        return self.gathered(count, self._full.references, np.arange(refs), np.arange(records))

    def gathered(
        self,
        count: int,
        references: Float64[np.ndarray, "models all queries signals"],
        rows: Int64[np.ndarray, "refs"],
        columns: Int64[np.ndarray, "records"],
    ) -> AttackView:
        """Return `compact_view` of unpaired references that are rows and columns of a larger array.

        Args:
            count: References per side, at least 1.
            references: Array of signals that holds the view's references.
            rows: Row of each of the view's references in it.
            columns: Column of each of the view's records in it.

        Raises:
            ValueError: A record has fewer usable references on one side.
        """
        self._refuse_few(count)
        full = self._full
        chosen = np.concatenate(
            [_ascending(order[:count]) for order in self._orders]
        )  # (2 count, records)
        # two bytes instead of eight: there is one number per reference and record
        small = rows.astype(np.int16 if len(references) <= SMALL else np.int32)
        planes = _taken(references, small[chosen], columns)
        side = np.repeat(np.array([IN, OUT], np.int8), count)[:, None]
        compact = replace(
            full,
            references=np.moveaxis(planes, 0, -1),
            side=np.repeat(side, chosen.shape[1], axis=1),
            split=np.arange(1, len(chosen) + 1),
            population_target=full.population_target[:0],
            population_references=np.empty((len(chosen), 0, *references.shape[2:])),
        )
        return keep_checks(compact, full)

    def masked(
        self,
        count: int,
        references: Float64[np.ndarray, "models all queries signals"],
        rows: Int64[np.ndarray, "refs"],
        columns: Int64[np.ndarray, "records"],
    ) -> AttackView:
        """Return `view` of unpaired references that are rows and columns of a larger array.

        They are copied once; arguments and errors are those of `gathered`.
        """
        self._refuse_few(count)
        return self._masked(self._chosen(count), references, rows, columns)

    def _masked(
        self,
        chosen: Bool[np.ndarray, "refs records"],
        references: Float64[np.ndarray, "models all queries signals"],
        rows: Int64[np.ndarray, "refs"],
        columns: Int64[np.ndarray, "records"],
    ) -> AttackView:
        if self._full.moments is not None:
            raise ValueError(
                "references that are predicted cannot be hidden: predict with fewer of them"
            )
        masked = replace(
            self._full,
            side=np.where(chosen, self._full.side, np.int8(UNUSED)),
            references=np.moveaxis(_shown(references, rows, columns, chosen), 0, -1),
        )
        return keep_checks(masked, self._full)

    def _chosen(self, count: int) -> Bool[np.ndarray, "refs records"]:
        """Return True for `count` references per side of every record."""
        chosen = np.zeros(self._full.side.shape, bool)
        for order in self._orders:
            np.put_along_axis(chosen, order[:count], True, axis=0)
        return chosen

    def _refuse_few(self, count: int) -> None:
        fewest = int(
            min(side.sum(axis=0).min() for side in (self._full.member, self._full.outside))
        )
        if count > fewest:
            raise ValueError(
                f"count must be at most {fewest}, the usable references a side of some record, got {count}"
            )


def _of_rows(view: AttackView, rows: Int64[np.ndarray, "rows"]) -> AttackView:
    return replace(
        view,
        references=copy_rows(view.references, rows),
        side=view.side[rows],
        split=view.split[rows],
        population_references=copy_rows(view.population_references, rows),
    )


def _orders(
    keys: Iterable[tuple[slice, Float64[np.ndarray, "refs _some"]]],
    side: Int8[np.ndarray, "refs records"],
) -> tuple[Int[np.ndarray, "most_in records"], Int[np.ndarray, "most_out records"]]:
    """Return the references of each side in the order of their keys, as many as every record has.

    One sort of integers serves both sides: the side is in the highest bits, followed by the key, to
    47 bits or more, and the number of the reference.

    Args:
        keys: Keys in [0, 1) by block of records.
        side: Side of every reference.
    """
    refs, records = side.shape
    counts = [int((side == value).sum(axis=0).min(initial=refs)) for value in (IN, OUT)]
    kind = np.int16 if refs <= SMALL else np.int32
    orders = [np.empty((records, count), kind) for count in counts]
    step = max(1, CACHED_SCORES // max(1, refs))
    for drawn, of_records in keys:
        for start in range(0, of_records.shape[1], step):
            part = slice(start, start + step)
            block = slice(drawn.start + start, min(drawn.start + start + step, drawn.stop))
            ascending = _by_side_and_key(of_records[:, part], side[:, block])
            orders[0][block] = ascending[:, : counts[0]]
            first = (side[:, block] == IN).sum(axis=0)[:, None]
            orders[1][block] = np.take_along_axis(ascending, first + np.arange(counts[1]), axis=1)
    return orders[0].T, orders[1].T


def _by_side_and_key(
    keys: Float64[np.ndarray, "refs some"], side: Int8[np.ndarray, "refs some"]
) -> UInt64[np.ndarray, "some refs"]:
    """Return the references of every record in the order of their keys, IN first, unused ones last."""
    refs = len(keys)
    number_bits = max(1, (refs - 1).bit_length())
    packed = (keys * 2.0 ** min(53, 62 - number_bits)).astype(np.uint64)
    packed <<= np.uint64(number_bits)
    packed |= np.arange(refs, dtype=np.uint64)[:, None]
    packed |= (side == OUT).astype(np.uint64) << np.uint64(62)
    packed |= (side == UNUSED).astype(np.uint64) << np.uint64(63)
    ascending = np.array(packed.T, order="C")  # contiguous memory sorts several times faster
    ascending.sort(axis=1)
    ascending &= np.uint64((1 << number_bits) - 1)
    return ascending


def _ascending(rows: Int[np.ndarray, "count records"]) -> Int[np.ndarray, "count records"]:
    """Return the rows of every record in the order of the models."""
    # contiguous memory sorts several times faster
    return np.sort(np.ascontiguousarray(rows.T), axis=1).T


def _taken(
    references: Float64[np.ndarray, "models all queries signals"],
    rows: Int[np.ndarray, "some records"],
    columns: Int64[np.ndarray, "records"],
) -> Float64[np.ndarray, "signals some records queries"]:
    """Return the given rows of each of the given columns, signal by signal."""
    taken = new_array((references.shape[-1], *rows.shape, references.shape[2]), references.dtype)
    planes = np.moveaxis(np.asarray(references), -1, 0)  # a memory map takes long to index
    for block in _record_blocks(rows, taken):
        places = rows[:, block].astype(np.int64) * references.shape[1] + columns[block]
        for plane, taken_plane in zip(planes, taken, strict=True):
            if plane.flags.c_contiguous:
                taken_plane[:, block] = plane.reshape(-1, plane.shape[2]).take(places, axis=0)
            else:
                taken_plane[:, block] = plane[rows[:, block], columns[block]]
        release(references)
        release(taken)
    return taken


def _shown(
    references: Float64[np.ndarray, "models all queries signals"],
    rows: Int64[np.ndarray, "refs"],
    columns: Int64[np.ndarray, "records"],
    chosen: Bool[np.ndarray, "refs records"],
) -> Float64[np.ndarray, "signals refs records queries"]:
    """Return rows and columns of an array by signal, NaN where a reference is not chosen."""
    shape = (references.shape[-1], len(rows), len(columns), references.shape[2])
    shown = new_array(shape, references.dtype)
    planes = np.moveaxis(np.asarray(references), -1, 0)  # a memory map takes long to index
    whole = len(columns) == references.shape[1]
    for place, row in enumerate(rows.tolist()):
        hidden = np.flatnonzero(~chosen[place])
        for plane, shown_plane in zip(planes, shown, strict=True):
            shown_plane[place] = plane[row] if whole else plane[row].take(columns, axis=0)
            shown_plane[place][hidden] = np.nan
        release(references)
        release(shown)
    return shown


def _record_blocks(*arrays: np.ndarray) -> Iterator[slice]:
    """Return slices of records of about `SCORE_BLOCK` numbers of all arrays."""
    records = arrays[0].shape[1]
    step = max(1, SCORE_BLOCK * records // max(1, sum(array.size for array in arrays)))
    return (slice(start, start + step) for start in range(0, records, step))


def complementary_pairs(
    member: Bool[np.ndarray, "refs records"],
) -> Int64[np.ndarray, "pairs 2"] | None:
    """Return pairs of complementary rows, by the first of the two; None if a row has no partner.

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
