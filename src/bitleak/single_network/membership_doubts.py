"""Reasons to doubt the memberships of `bitleak ask`, from the answers of the networks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from bitleak.core.signals import signals
from bitleak.core.types import LOGIT_SCALED

_MOST_RECORDS = 4000
"""Records whose answers are compared."""

_MOST_NETWORKS = 128
"""Networks that are compared, the first ones."""


def folder_doubts(out: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Return reasons to doubt `member.npy` of a complete folder of answers; none if it has none.

    Args:
        out: The folder.
        names: Name of each network.
    """
    if not (out / "member.npy").is_file():
        return ()
    logits = np.load(out / "logits.npy", mmap_mode="r")[:_MOST_NETWORKS]
    labels = np.load(out / "labels.npy")
    member = np.load(out / "member.npy")[:_MOST_NETWORKS]
    # The record before each one, before records are left out.
    earlier = np.roll(member, -1, axis=1)
    earlier[:, -1] = False
    step = max(1, -(-len(labels) // _MOST_RECORDS))
    confidence = np.empty((len(member), len(labels[::step])))
    for row in range(len(member)):
        answers = np.asarray(logits[row, ::step, 0], np.float64)
        confidence[row] = signals(answers, labels[::step])[:, LOGIT_SCALED]
    return membership_doubts(confidence, member[:, ::step], earlier[:, ::step], names)


def membership_doubts(
    confidence: Float64[np.ndarray, "models records"],
    member: Bool[np.ndarray, "models records"],
    earlier: Bool[np.ndarray, "models records"],
    names: Sequence[str],
) -> tuple[str, ...]:
    """Return reasons to doubt the rows of members.

    Args:
        confidence: Confidence of each network in the true class.
        member: True for the members, as given.
        earlier: True for the records one before them.
        names: Name of each network.
    """
    # Here, since importing SciPy's statistics takes time and most folders have no members.
    from bitleak.metrics.membership_fit import BETTER, CERTAIN, membership_fit

    fit, shifted = membership_fit(confidence, member), membership_fit(confidence, earlier)
    count, rows = len(member), np.arange(len(member))
    deviations = fit.deviations[rows, rows]
    # Numbers that count from 1.
    better = shifted.deviations[rows, rows]
    late = np.flatnonzero((better > CERTAIN) & (better - deviations > BETTER))
    if len(late):
        row = late[0]
        return (
            f"--members: {len(late)} of {count} networks, such as {names[row]}, are surer of the records before the "
            f"members (AUC {shifted.auc[row, row]:.3f}) than of these ({fit.auc[row, row]:.3f}): do the numbers "
            "count from 1? Records are counted from 0",
        )
    # Rows of other networks.
    best = fit.deviations.argmax(axis=1)
    largest = fit.deviations[rows, best]
    moved = np.flatnonzero((largest > CERTAIN) & (largest - deviations > BETTER))
    if len(moved):
        row, other = moved[0], best[moved[0]]
        return (
            f"--members: {len(moved)} of {count} networks fit another row of members better: {names[row]} is row "
            f"{row}, and fits row {other} (AUC {fit.auc[row, other]:.3f} against {fit.auc[row, row]:.3f}); the rows "
            "must be in the order of --weights",
        )
    against = np.flatnonzero(deviations < -CERTAIN)
    if not len(against):
        return ()
    row = against[0]
    return (
        f"--members: {len(against)} of {count} networks, such as {names[row]}, are less sure of their members than of "
        f"the others (AUC {fit.auc[row, row]:.3f}): are members and others exchanged?",
    )
