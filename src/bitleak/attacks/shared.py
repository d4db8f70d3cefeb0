"""What several attacks compute of one side's references, computed once for all attacks on a view.

It is kept in `AttackView.shared`, and goes with the view. Twelve forms of LiRA need the same two sums.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool

from bitleak.attacks.attack import reference_signal
from bitleak.attacks.reference_sums import Sums, refuse_few, sums
from bitleak.core.types import AttackView, SignalName

References = Literal["IN", "OUT"]
"""Which side of a record: those trained on it, or the others."""


def side_of(view: AttackView, side: References) -> Bool[np.ndarray, "refs records"]:
    """The references of one side that may be used."""
    return view.member if side == "IN" else view.outside


def side_sums(view: AttackView, signal: SignalName, side: References, *, fewest: int, what: str) -> Sums:
    """`sums` of a signal of one side's references, computed once for all attacks on a view.

    Args:
        view: What the attack is on.
        signal: Of the references.
        side: `IN` or `OUT`.
        fewest: References that every record needs.
        what: Needs them, for the message.

    Raises:
        ValueError: A record has fewer, or a signal is not finite.
    """
    used = side_of(view, side)
    refuse_few(used, fewest, what, side=side)
    key = ("sums", signal, side)
    if key not in view.shared:
        view.shared[key] = sums(reference_signal(view, signal), used)
    return view.shared[key]
