"""Attacks by the words of a config.

The words are the names in the registry's `ATTACKS`; each stands for the forms that the attack's own
file exports. There is no word for all attacks: its meaning would change with every version, and the
best of many attacks, chosen by their results, looks better than it is.
"""

import functools
import re
from collections.abc import Iterable
from typing import Any

from bitleak import registry
from bitleak.attacks.attack import RECALIBRATED_SIGNALS, Attack
from bitleak.attacks.outside_attack import OutsideAttack
from bitleak.core.checks import LONGEST_LABEL, unknown_name
from bitleak.core.outside import is_outside, versioned
from bitleak.core.types import SIGNALS

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)


def forms_by_word() -> dict[str, tuple[Attack, ...]]:
    """Return the attacks that each word of the registry stands for, in its order."""
    return {word: _forms(word) for word in registry.ATTACKS}


def expand(entry: str) -> tuple[Attack, ...]:
    """Return the attacks that a config's entry stands for.

    Args:
        entry: A word of the registry, for all its forms; the full name of one form; or
            `package.module:Name`.

    Raises:
        ValueError: The entry is none of these, the message lists the known words; or the named
            object is no attack.

    Example:
        >>> [attack.name for attack in expand("threshold")]
        ['threshold']
        >>> expand("lira-online-paper")
        (LiRA(mode='online', variance='paper', side='one_sided', signal='logit_scaled'),)
    """
    if entry in registry.ATTACKS or is_outside(entry):
        return _forms(entry)
    for attacks in forms_by_word().values():
        for attack in attacks:
            if attack.name == entry:
                return (attack,)
    raise ValueError(unknown_name("attack", entry, known_names()))


def attack_entries(entries: Iterable[str]) -> list[str]:
    """Return the entries as parameters of tasks, each once: names of forms, versioned outside code.

    Example:
        >>> attack_entries(["calibrated", "gap", "calibrated-online"])[1:]
        ['calibrated-online', 'calibrated-offline-logit_scaled', 'calibrated-online-logit_scaled', 'threshold-correct']
    """
    names: list[str] = []
    for entry in entries:
        if is_outside(entry):
            names.append(versioned(entry))
        else:
            names += [attack.name for attack in expand(entry)]
    return list(dict.fromkeys(names))


def signals_of_targets(attacks: Iterable[Attack]) -> int:
    """Return the number of leading `SIGNALS` that attacks and control read of any model: 2, or all 6."""
    first = all(
        getattr(attack, "reads_one_signal", False) and attack.signal in RECALIBRATED_SIGNALS
        for attack in attacks
    )
    return len(RECALIBRATED_SIGNALS) if first else len(SIGNALS)


def signals_of_references(attacks: Iterable[Attack]) -> int:
    """Return the number of leading `SIGNALS` that attacks and control read: 2 to 6."""
    count = len(RECALIBRATED_SIGNALS)
    for attack in attacks:
        if not attack.uses_references:
            continue
        if getattr(attack, "reads_one_signal", False):
            count = max(count, 1 + SIGNALS.index(attack.signal))
        else:  # it does not declare which
            count = len(SIGNALS)
    return count


def known_names() -> list[str]:
    """Return all words, and the full names of their forms."""
    names = dict.fromkeys(registry.ATTACKS)
    for attacks in forms_by_word().values():
        names |= dict.fromkeys(attack.name for attack in attacks)
    return list(names)


def _forms(entry: str) -> tuple[Attack, ...]:
    """Return the forms that a word or outside name stands for, checked."""
    if is_outside(entry):
        loaded = registry.resolve(registry.ATTACKS, entry, kind="attack")
        return tuple(OutsideAttack(form) for form in _checked_forms(loaded, entry))
    return _own_forms(entry, registry.ATTACKS[entry])


@functools.cache
def _own_forms(word: str, line: str) -> tuple[Attack, ...]:
    """Load the forms of a word and its line once: a plan expands names thousands of times."""
    return _checked_forms(registry.find({word: line}, word, kind="attack"), word)


def _checked_forms(loaded: Any, entry: str) -> tuple[Attack, ...]:
    if isinstance(loaded, type):
        try:
            loaded = loaded()
        except Exception as error:  # foreign code may raise anything
            raise ValueError(
                f"attack {entry!r} cannot be made: {type(error).__name__}: {error}"
            ) from error
    forms = loaded if isinstance(loaded, tuple) else (loaded,)
    if not forms:
        raise ValueError(f"attack {entry!r} names an empty tuple; expected attacks")
    for form in forms:
        _check_form(form, entry)
    return forms


def _check_form(form: object, entry: str) -> None:
    if not isinstance(form, Attack):
        raise ValueError(
            f"attack {entry!r} must be an attack with name, signal, uses_references, fewest_population and a call, "
            f"or a tuple of such, got {type(form).__name__}"
        )
    if type(form).__hash__ is None:
        raise ValueError(
            f"attack {entry!r} must be a frozen dataclass, got {type(form).__name__}, which has no hash"
        )
    # a form is a key of dictionaries; its name is a column of tables and a part of file names, and
    # must not hold the signs of variants' names
    if (
        not isinstance(form.name, str)
        or not _NAME.fullmatch(form.name)
        or len(form.name) > LONGEST_LABEL
    ):
        raise ValueError(
            f"attack {entry!r}: name must hold at most {LONGEST_LABEL} letters, digits, '_', '-', '.' and '+', "
            f"got {form.name!a}"
        )
    if form.signal not in SIGNALS:
        raise ValueError(f"attack {entry!r}: {unknown_name('signal', form.signal, SIGNALS)}")
