"""Options of a run on answers, checked before a file is read: attacks, rates, priors, delta and metrics."""

from bitleak.attacks import Attack, expand, forms_by_word
from bitleak.core.checks import number_in
from bitleak.core.errors import ConfigError
from bitleak.core.limits import MOST_RATES, why_too_many
from bitleak.metrics import load_metric, metric_entries


def chosen_attacks(names: tuple[str, ...] | None) -> tuple[Attack, ...]:
    """Return the attacks, each once.

    Args:
        names: Names of attacks, or words that stand for several; None for all.

    Raises:
        ConfigError: There is no such attack.
    """
    attacks: list[Attack] = []
    try:
        for name in forms_by_word() if names is None else names:
            attacks += expand(name)
    except ValueError as error:
        raise ConfigError(f"--attacks: {error}") from None
    return tuple(dict.fromkeys(attacks))


def checked_shares(option: str, values: tuple[float, ...], subject: str) -> tuple[float, ...]:
    """Return numbers between 0 and 1, ascending, each once.

    Args:
        option: Name of the option, for messages.
        values: Its numbers.
        subject: Noun for the numbers, for messages.

    Raises:
        ConfigError: There are too many numbers, or one is out of range.
    """
    reason = why_too_many(len(values), MOST_RATES, subject)
    if reason:
        raise ConfigError(f"{option}: {reason}")
    for value in values:
        if not 0 < value < 1:
            raise ConfigError(f"{option} must be numbers between 0 and 1, got {value:g}")
    return tuple(sorted(set(values)))


def checked_delta(delta: float) -> float:
    """Return the delta of the bounds on epsilon.

    Raises:
        ConfigError: It is not in [0, 1).
    """
    try:
        return number_in("--delta", delta, 0, 1, ends="[)")
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from None


def checked_metrics(entries: tuple[str, ...]) -> tuple[str, ...]:
    """Return the metrics as parameters of a step, each tried.

    Args:
        entries: Names of metrics, or `package.module:NAME`.

    Raises:
        ConfigError: A metric cannot be used, or two have one name.
    """
    try:
        names = [load_metric(entry).name for entry in dict.fromkeys(entries)]
    except ValueError as error:
        raise ConfigError(f"--metrics: {error}") from None
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--metrics: two metrics are called {name!r}")
    return tuple(metric_entries(entries))
