"""Reasons to doubt a list of members, from the target's answers to listed and other records."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.audit.target.network_answers import Records, answered_signals
from bitleak.audit.target.tabular_model import OnStep
from bitleak.core.errors import ConfigError
from bitleak.core.seeds import seed_for
from bitleak.core.types import CORRECT, LOGIT_SCALED
from bitleak.metrics.membership_fit import BETTER, CERTAIN, membership_fit

_RENUMBERED = {
    "counts from 1": (
        "{where}members: do the numbers count from 1? The target is surer of the records numbered one less (AUC "
        "{other:.3f}) than of the listed ones ({auc:.3f}). Records are counted from 0: subtract 1"
    ),
    "is in reversed order": (
        "{where}members: is the list in reversed order? The target is surer of the records as counted from the end "
        "(AUC {other:.3f}) than of the listed ones ({auc:.3f}). Records are counted from the first one: reverse truth "
        "values (member[::-1]), or subtract numbers from the last one"
    ),
}

_KNOWN = 0.3
"""Share of members by which a target must exceed guessing before its guessing on others is a doubt."""

_SAMPLE = 1500
"""Records that are evaluated for the list alone, before trainings."""


def check_list(
    confidence: Float64[np.ndarray, "records"],
    numbers: Int64[np.ndarray, "records"],
    members: Int64[np.ndarray, "members"],
    total: int,
    where: str = "",
) -> tuple[str, ...]:
    """Refuse a list in another numbering; return a warning if members and others may be exchanged.

    Args:
        confidence: The target's confidence in the true class.
        numbers: Numbers of these records.
        members: Numbers of the members, as given.
        total: Number of records of the data set.
        where: Put before the name of the field in the message.

    Raises:
        ConfigError: The records look like members that the list has if it counts from 1 or from the
            end, and the listed ones do not.
    """
    others = {
        "counts from 1": members - 1,
        "is in reversed order": total - 1 - members,
    }
    listed = [np.isin(numbers, members)]
    listed += [np.isin(numbers, renumbered) for renumbered in others.values()]
    fit = membership_fit(confidence[None], np.stack(listed))
    given, auc = float(fit.deviations[0, 0]), float(fit.auc[0, 0])
    for place, numbering in enumerate(others, start=1):
        deviations, other_auc = float(fit.deviations[0, place]), float(fit.auc[0, place])
        if deviations > CERTAIN and deviations - given > BETTER:
            raise ConfigError(_RENUMBERED[numbering].format(where=where, auc=auc, other=other_auc))
    if given > -CERTAIN:
        return ()
    return (
        f"The target is less sure of its members than of the others (AUC {auc:.3f}): are members and others "
        "exchanged?",
    )


def labels_doubt(
    right: Bool[np.ndarray, "records"],
    labels: Int64[np.ndarray, "records"],
    member: Bool[np.ndarray, "records"],
) -> tuple[str, ...]:
    """Return a warning if the target is right on its members, and guesses on the others.

    Labels of the others that belong to other records make every attack look strong.

    Args:
        right: True for a record that the target classifies right.
        labels: Their classes.
        member: True for members.
    """
    others = labels[~member]
    if not len(others) or member.all():
        return ()
    shares = float(right[member].mean()), float(right[~member].mean())
    guess = float(np.bincount(others).max() / len(others))
    deviation = math.sqrt(guess * (1 - guess) / len(others))
    if shares[1] >= guess + CERTAIN * deviation or shares[0] < guess + _KNOWN:
        return ()
    return (
        f"The target is right on {100 * shares[0]:.1f} % of its members, and on {100 * shares[1]:.1f} % of the others, "
        f"no better than guessing ({100 * guess:.1f} %): are the labels of the others those of other records, or "
        "their images prepared otherwise? Then attacks recognise the mistake and not the membership.",
    )


def check_list_first(
    model: object,
    records: Records,
    known: Sequence[Int64[np.ndarray, "_"]],
    members: Int64[np.ndarray, "members"],
    *,
    seed: int,
    on_step: OnStep,
    where: str = "",
) -> tuple[str, ...]:
    """Check a list on a sample of the records, before anything is trained; otherwise as `check_list`."""
    numbers = np.concatenate([members, *known])
    generator = np.random.default_rng(seed_for(seed, "list check"))
    chosen = np.sort(generator.permutation(numbers)[:_SAMPLE])
    signals = answered_signals(model, records, chosen, on_step, "checking the members")
    doubts = labels_doubt(
        signals[:, 0, CORRECT] > 0, records.labels[chosen], np.isin(chosen, members)
    )
    return doubts + check_list(
        signals[:, 0, LOGIT_SCALED], chosen, members, len(records.labels), where
    )
