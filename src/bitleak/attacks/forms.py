"""From a config's word for an attack to the attacks that it stands for."""

from collections.abc import Iterable

from bitleak.attacks.attack import RECALIBRATED_SIGNALS, Attack
from bitleak.attacks.calibrated import Calibrated
from bitleak.attacks.lira import LiRA
from bitleak.attacks.population import Population
from bitleak.attacks.power import exchangeable
from bitleak.attacks.quantile import Quantile
from bitleak.attacks.reference import Reference
from bitleak.attacks.rmia import RMIA
from bitleak.attacks.threshold import Threshold
from bitleak.core.checks import unknown_name
from bitleak.core.types import SIGNALS

EXPANSIONS: dict[str, tuple[Attack, ...]] = {
    "lira": (
        LiRA("online", "shrunk"),
        LiRA("online", "per_record"),
        LiRA("online", "fixed"),
        LiRA("online", "paper"),
        LiRA("offline", "shrunk", "one_sided"),
        LiRA("offline", "per_record", "one_sided"),
        LiRA("offline", "fixed", "one_sided"),
        LiRA("offline", "shrunk", "two_sided"),
        LiRA("offline", "per_record", "two_sided"),
        LiRA("offline", "fixed", "two_sided"),
        LiRA("offline", "paper", "one_sided"),
        LiRA("offline", "paper", "two_sided"),
    ),
    "rmia": (RMIA("online"), RMIA("offline"), RMIA("online", ties="kept"), RMIA("offline", ties="kept")),
    "threshold": (Threshold(),),
    "signals": (
        Threshold("log_probability"),
        Threshold("hinge"),
        Threshold("entropy"),
        Threshold("modified_entropy"),
    ),
    "gap": (Threshold("correct"),),
    "population": (Population(),),
    "reference": (Reference(),),
    "calibrated": (
        Calibrated("offline"),
        Calibrated("online"),
        Calibrated("offline", "logit_scaled"),
        Calibrated("online", "logit_scaled"),
    ),
    "quantile": (Quantile("normal"), Quantile("pinball")),
}
"""`lira` is every form: online and offline, the latter one-sided (the paper's test) and two-sided (its code).

There is no word for all attacks: what it stands for would change with every version, and the best of many attacks,
chosen by what they found, looks better than it is.
"""


def expand(entry: str) -> tuple[Attack, ...]:
    """The attacks that a config's entry stands for.

    Args:
        entry: A word of `EXPANSIONS`, for all its attacks, or the full name of one of them.

    Raises:
        ValueError: The entry is neither; the message lists what is known.

    Example:
        >>> [attack.name for attack in expand("threshold")]
        ['threshold']
        >>> expand("lira-online-paper")
        (LiRA(mode='online', variance='paper', side='one_sided', signal='logit_scaled'),)
    """
    if entry in EXPANSIONS:
        return EXPANSIONS[entry]
    single = {attack.name: attack for attacks in EXPANSIONS.values() for attack in attacks}
    if entry not in single:
        raise ValueError(unknown_name("attack", entry, known_names()))
    return (single[entry],)


def signals_of_references(attacks: Iterable[Attack]) -> int:
    """How many of `SIGNALS`, from the first on, these attacks and the control read of references: 2 to 6."""
    count = len(RECALIBRATED_SIGNALS)
    for attack in attacks:
        if exchangeable(attack) or isinstance(attack, RMIA):
            count = max(count, 1 + SIGNALS.index(attack.signal))
        elif attack.uses_references:  # any
            count = len(SIGNALS)
    return count


def known_names() -> list[str]:
    """All words, and the full names of their attacks."""
    return list(dict.fromkeys([*EXPANSIONS, *(attack.name for attacks in EXPANSIONS.values() for attack in attacks)]))
