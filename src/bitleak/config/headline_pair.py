"""The pair of attack and adversary that a config names for its headline, or that stands for it."""

from collections.abc import Sequence

from bitleak.attacks import RECALIBRATED_SIGNALS, Attack, expand, known_names
from bitleak.config.schema import HeadlineConfig
from bitleak.core.checks import unknown_name
from bitleak.core.variants import FULL, quantized_count

NAMED_ATTACK = "lira-online-shrunk"
"""Attack of the pair if the config names none and this one is run."""

NAMED_ADVERSARIES = ("matched", "recalibrated", FULL)
"""Adversaries, the most knowing first: the first that is run is the pair's unless another is named.
Those with a few matched references come after `matched`."""


def settled_headline(
    named: HeadlineConfig,
    attacks: Sequence[str],
    references: Sequence[str],
    population: int,
    errors: list[str],
) -> HeadlineConfig:
    """Return the pair with every default filled in.

    Args:
        named: The config's section.
        attacks: Entries of the config, which are known.
        references: Kinds of references of the config, `matched-8` among them.
        population: Number of population records.
        errors: Mistakes are added to it, such as a pair that is not run.

    Example:
        >>> settled_headline(HeadlineConfig(), ["threshold", "rmia"], ["fp32"], 100, [])
        HeadlineConfig(attack='rmia-online', adversary='fp32')
    """
    forms: dict[str, Attack] = {}
    for entry in attacks:
        for form in expand(entry):
            if form.fewest_population <= population:
                forms[form.name] = form
    attack = named.attack or _first_with_references(forms)
    if attack not in forms:
        known = [*known_names(), *forms]
        if attack in known:
            problem = f"{attack} is not run; expected one of {', '.join(forms)}"
        else:
            problem = unknown_name("attack", attack, list(forms))
        errors.append(f"headline.attack: {problem}")
        return named
    adversary = _adversary(named, forms[attack], references, errors)
    return HeadlineConfig(attack, adversary)


def _first_with_references(forms: dict[str, Attack]) -> str:
    with_references = [name for name, form in forms.items() if form.uses_references]
    if NAMED_ATTACK in with_references:
        return NAMED_ATTACK
    return next(iter([*with_references, *forms]), NAMED_ATTACK)


def _adversary(
    named: HeadlineConfig,
    form: Attack,
    references: Sequence[str],
    errors: list[str],
) -> str:
    """Return the kind of references of the pair."""
    if not form.uses_references:
        if named.adversary:
            errors.append(
                f"headline.adversary: {form.name} uses no references; leave the adversary out"
            )
        return ""
    partly = [kind for kind in references if quantized_count(kind)]
    ordered = ["matched", *partly, *NAMED_ADVERSARIES[1:]]
    possible = [kind for kind in ordered if kind in references]
    if form.signal not in RECALIBRATED_SIGNALS and "recalibrated" in possible:
        possible.remove("recalibrated")
    if named.adversary and named.adversary not in possible:
        errors.append(
            f"headline.adversary: {form.name} is not run with {named.adversary} references; "
            f"expected one of {', '.join(possible)}"
        )
    return named.adversary or next(iter(possible), FULL)
