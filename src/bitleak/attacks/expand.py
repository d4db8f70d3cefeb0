"""From a config's word for an attack to the attacks that it stands for."""

from bitleak.attacks.attack import Attack
from bitleak.attacks.lira import LiRA
from bitleak.attacks.threshold import Threshold
from bitleak.core.checks import unknown_name

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
    "threshold": (Threshold(),),
}
"""`lira` is every form: online and offline, the latter one-sided (the paper's test) and two-sided (its code)."""


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
        raise ValueError(unknown_name("attack", entry, [*EXPANSIONS, *single]))
    return (single[entry],)
