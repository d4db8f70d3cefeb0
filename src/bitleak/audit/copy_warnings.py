"""Warnings about copies among the images, for the first lines of a report."""

from collections.abc import Mapping

from bitleak.report.format import count

_EFFECT = (
    "a record with a copy on the other side is called a non-member although its content was trained on, so that "
    "leakage looks smaller and intervals narrower than they are; remove copies from the data set"
)


def copy_warnings(counts: Mapping[str, int | float], *, records: int, held_out: int) -> tuple[str, ...]:
    """Return a sentence for each way in which copies change the figures.

    Args:
        counts: `exact`, `near`, `held_out`, `contradicting` and `distance`, as in
            `bitleak.data.image_copies.Copies`.
        records: Number of audited records.
        held_out: Number of held-out records.

    Example:
        >>> counts = {"exact": 2, "near": 0, "held_out": 1, "contradicting": 0, "distance": 0.2}
        >>> copy_warnings(counts, records=100, held_out=50)[1]
        '1 of 50 held-out records is a copy of an audited one (exact or near), so that test accuracy is too high.'
    """
    exact, near = int(counts["exact"]), int(counts["near"])
    outside, contradicting = int(counts["held_out"]), int(counts["contradicting"])
    sentences = []
    if exact or near:
        kinds = [f"{exact:,} have an exact copy among the others"] if exact else []
        if near:
            kinds.append(f"{near:,} a near copy (standardised pixels at most {counts['distance']:.2f} apart)")
        sentences.append(f"Of {count(records, 'audited record')} {' and '.join(kinds)}: {_EFFECT}.")
    if outside:
        are = "is a copy of an audited one" if outside == 1 else "are copies of audited ones"
        sentences.append(
            f"{outside:,} of {count(held_out, 'held-out record')} {are} (exact or near), "
            "so that test accuracy is too high."
        )
    if contradicting:
        sentences.append(f"{count(contradicting, 'audited record')} have an exact copy with another label.")
    return tuple(sentences)
