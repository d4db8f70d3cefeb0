"""Reasons to doubt a list of members, from the target's answers to listed and other records."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from bitleak.audit.target.network_answers import Records, answered_signals
from bitleak.audit.target.tabular_model import OnStep
from bitleak.core.errors import ConfigError
from bitleak.core.seeds import seed_for
from bitleak.core.types import LOGIT_SCALED
from bitleak.metrics.membership_fit import BETTER, CERTAIN, membership_fit

_SAMPLE = 1500
"""Records that are evaluated for the list alone, before trainings."""


def check_list(
    confidence: Float64[np.ndarray, "records"],
    numbers: Int64[np.ndarray, "records"],
    members: Int64[np.ndarray, "members"],
    where: str = "",
) -> tuple[str, ...]:
    """Refuse a list that counts from 1; return a warning if members and others may be exchanged.

    Args:
        confidence: The target's confidence in the true class.
        numbers: Numbers of these records.
        members: Numbers of the members, as given.
        where: Put before the name of the field in the message.

    Raises:
        ConfigError: The records numbered one less look like members, and the listed ones do not.
    """
    listed, earlier = np.isin(numbers, members), np.isin(numbers, members - 1)
    fit = membership_fit(confidence[None], np.stack([listed, earlier]))
    (given, shifted), (auc, shifted_auc) = fit.deviations[0], fit.auc[0]
    if shifted > CERTAIN and shifted - given > BETTER:
        raise ConfigError(
            f"{where}members: do the numbers count from 1? The target is surer of the records numbered one less (AUC "
            f"{shifted_auc:.3f}) than of the listed ones ({auc:.3f}). Records are counted from 0: subtract 1"
        )
    if given > -CERTAIN:
        return ()
    return (
        f"The target is less sure of its members than of the others (AUC {auc:.3f}): are members and others "
        "exchanged?",
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
    return check_list(signals[:, 0, LOGIT_SCALED], chosen, members, where)
