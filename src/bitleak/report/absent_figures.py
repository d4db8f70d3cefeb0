"""Sentences on thresholds and points of the power curve that are absent, each with its reason."""

from collections.abc import Iterable, Mapping

from bitleak.report.format import count


def absence_notes(
    thresholds: Iterable[tuple[str, Mapping[str, str]]], power: Mapping[tuple[str, int], str]
) -> tuple[str, ...]:
    """Return a sentence per set of attacks and reason.

    Args:
        thresholds: Names of sets of thresholds, with the reasons of the attacks that have none, by attack.
        power: Reasons why a power curve lacks a point, by attack and references per side.

    Example:
        >>> absence_notes([("thresholds on fp32", {"lira": "too few"})], {("lira", 1): "too few"})
        ('Not computed for lira: thresholds on fp32; power at 1 reference per side, because too few.',)
    """
    # Attacks by absent figures and reason, each attack once.
    attacks_without: dict[tuple[str, str], dict[str, None]] = {}
    for figures, reasons in thresholds:
        for attack, reason in reasons.items():
            attacks_without.setdefault((figures, reason), {})[attack] = None
    for (attack, references), reason in power.items():
        figures = f"power at {count(references, 'reference')} per side"
        attacks_without.setdefault((figures, reason), {})[attack] = None
    # The same attacks lack thresholds on every variant, for the same reason: one sentence.
    figures_without: dict[tuple[str, str], list[str]] = {}
    for (figures, reason), attacks in attacks_without.items():
        figures_without.setdefault((", ".join(attacks), reason), []).append(figures)
    return tuple(
        f"Not computed for {names}: {'; '.join(absent)}, because {reason}."
        for (names, reason), absent in figures_without.items()
    )
