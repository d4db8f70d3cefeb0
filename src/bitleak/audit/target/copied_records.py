"""Non-members whose content a target was trained on, since they are exact copies of members.

An attack that calls such a record a member is right about its content, and is counted as wrong: every
figure is pulled towards chance, most of all at a small FPR. Cost: a hash of every record.
"""

from hashlib import blake2b

import numpy as np
from jaxtyping import Int64

from bitleak.audit.target.network_answers import Records
from bitleak.audit.target.record_lists import Parts

SMALLEST_SHARE = 0.005
"""Share of the evaluated non-members from which copies are a reason to doubt the figures."""


def copied_record_doubts(records: Records, parts: Parts, where: str = "") -> tuple[str, ...]:
    """Return a warning if evaluated non-members are copies of members, else an empty tuple.

    Args:
        records: All records, images or rows.
        parts: Parts of the records.
        where: Put before the name of the field in the message.
    """
    of_members = dict(zip(_digests(records, parts.members), parts.members.tolist(), strict=True))
    copies: list[tuple[int, int]] = []
    others = parts.evaluated.tolist()
    for digest, record in zip(_digests(records, parts.evaluated), others, strict=True):
        if digest in of_members:
            copies.append((record, of_members[digest]))
    if len(copies) < max(2, SMALLEST_SHARE * len(others)):
        return ()
    record, member = copies[0]
    return (
        f"{where}others: {len(copies):,} of {len(others):,} evaluated others are exact copies of members, such as "
        f"record {record:,} of record {member:,}: the target was trained on their content, so attacks that find "
        "them are counted as wrong, and figures are too low. Leave them out of others.",
    )


def _digests(records: Records, chosen: Int64[np.ndarray, "chosen"]) -> list[bytes]:
    digests = []
    for record in chosen:
        content = np.ascontiguousarray(records.images[int(record)])
        digests.append(blake2b(content.data, digest_size=16).digest())
    return digests
