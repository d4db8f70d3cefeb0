"""Names of variants, and of attacks, that are made of others.

| name | what it is |
|---|---|
| `fp32&obc-2` | two releases of one target, seen together |
| `noise@obc-2` | full precision with weight noise, as accurate as `obc-2` |
| `calibration:lira-online-shrunk` | that attack, on who was in the calibration set |

No label may hold one of the signs, so no other variant is called the same.
"""

from collections.abc import Sequence
from typing import Literal

FULL = "fp32"
CONTROL = "control"

JOINT = "joint"
"""The name of the attack on several releases."""

SIGNS = ("&", "@", ":")

Kind = Literal["plain", "joint", "noise", "calibration", "control"]


def joined(releases: Sequence[str]) -> str:
    """The variant that stands for all releases together.

    Example:
        >>> joined(["fp32", "obc-2"])
        'fp32&obc-2'
    """
    return "&".join(releases)


def noise_like(variant: str) -> str:
    """The variant that is full precision with noise, as accurate as the given one.

    Example:
        >>> noise_like("obc-1.58")
        'noise@obc-1.58'
    """
    return f"noise@{variant}"


def on_calibration(attack: str) -> str:
    """The attack's name where it asks for the calibration set.

    Example:
        >>> on_calibration("reference")
        'calibration:reference'
    """
    return f"calibration:{attack}"


def kind_of(variant: str, attack: str = "") -> Kind:
    """What a row is about: rows of different kinds are different questions.

    Example:
        >>> [kind_of("obc-2", "threshold"), kind_of("obc-2", "joint"), kind_of("noise@obc-2")]
        ['plain', 'joint', 'noise']
    """
    if variant == CONTROL:
        return "control"
    if attack.startswith("calibration:"):
        return "calibration"
    if "&" in variant or attack == JOINT:
        return "joint"
    return "noise" if variant.startswith("noise@") else "plain"
