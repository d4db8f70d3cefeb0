"""Views that attacks get, in which nothing depends on the target's membership.

A membership matrix leaves each record with the number of IN and OUT references that it happens to
have, and these counts betray the target: where every record is in half of all models, the target's
members have one IN reference fewer. So a mask evens the counts (`bitleak.data.even_mask`), and a
reference that is not used for a record is *hidden* there: its side is `UNUSED`, trained on the
record or not, and all its signals are NaN. If the mask leaves nothing out, which holds for all
matrices that bitleak makes itself, nothing is hidden and nothing is copied.

Cost: O(refs records); if something is hidden, a copy of the references.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64

from bitleak.core.checks import truth_array
from bitleak.core.spill import new_array, record_blocks, release
from bitleak.core.types import IN, OUT, UNUSED, AttackView


def attack_view(
    *,
    target: Float64[np.ndarray, "records queries signals"],
    references: Float64[np.ndarray, "refs records queries signals"],
    member: Bool[np.ndarray, "refs records"],
    use: Bool[np.ndarray, "refs records"],
    population_target: Float64[np.ndarray, "population queries signals"],
    population_references: Float64[np.ndarray, "refs population queries signals"],
    labels: Int64[np.ndarray, "records"],
) -> AttackView:
    """Return the view of a target by references whose membership is known in full.

    Args:
        target: The target's `SIGNALS` on the audited records.
        references: The references' signals on the same records.
        member: True if the reference was trained on the record.
        use: True if the reference may be used for the record; `even_mask` makes it.
        population_target: The target's signals on records that no model was trained on.
        population_references: The references' signals on these.
        labels: True class of each audited record.

    Example:
        >>> member = np.array([[True], [True], [False]])
        >>> view = attack_view(target=np.zeros((1, 1, 6)), references=np.zeros((3, 1, 1, 6)), member=member,
        ...                    use=np.array([[False], [True], [True]]), population_target=np.zeros((0, 1, 6)),
        ...                    population_references=np.zeros((3, 0, 1, 6)), labels=np.zeros(1, np.int64))
        >>> view.side[:, 0].tolist(), view.references[:, 0, 0, 1].tolist()
        ([0, 1, -1], [nan, 0.0, 0.0])
    """
    member, use = truth_array("member", member), truth_array("use", use)
    return AttackView(
        target=target,
        references=hidden(references, use),
        side=side_values(member, use),
        split=split_numbers(member),
        population_target=population_target,
        population_references=population_references,
        labels=labels,
    )


def masked_view(view: AttackView, use: Bool[np.ndarray, "refs records"]) -> AttackView:
    """Return the view with further references hidden: those for which `use` is False."""
    if (use | ~view.use).all():
        return view
    if view.moments is not None:
        raise ValueError(
            "references that are predicted cannot be hidden: predict with fewer of them"
        )
    side = np.where(use, view.side, np.int8(UNUSED))
    return replace(view, side=side, references=hidden(view.references, side != UNUSED))


def side_values(
    member: Bool[np.ndarray, "refs records"], use: Bool[np.ndarray, "refs records"]
) -> Int8[np.ndarray, "refs records"]:
    """Return `IN`, `OUT` or `UNUSED` for every reference and record."""
    return np.where(use, np.where(member, np.int8(IN), np.int8(OUT)), np.int8(UNUSED))


def hidden(
    references: Float64[np.ndarray, "refs records queries signals"],
    use: Bool[np.ndarray, "refs records"],
) -> Float64[np.ndarray, "refs records queries signals"]:
    """Return the signals with NaN where a reference is not used; the same array if all are used."""
    if use.all():
        return references
    masked = new_array(references.shape, references.dtype)
    for block in record_blocks(references):
        masked[:, block] = np.where(use[:, block, None, None], references[:, block], np.nan)
        release(references)
        release(masked)
    return masked


def split_numbers(member: Bool[np.ndarray, "refs records"]) -> Int64[np.ndarray, "refs"]:
    """Return the number of each reference's training set, from 1; negative for a complement.

    Example:
        >>> split_numbers(np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1], [1, 1, 0]], bool)).tolist()
        [1, 2, -1, 1]
    """
    # a set or its complement, whichever comes first, gets the next number; the other one is its
    # negative
    known: dict[bytes, int] = {}
    numbers = []
    for row in member:
        records, complement = row.tobytes(), (~row).tobytes()
        number = known.get(records) or -known.get(complement, 0) or len(known) + 1
        known.setdefault(records if number > 0 else complement, abs(number))
        numbers.append(number)
    return np.array(numbers, np.int64)
