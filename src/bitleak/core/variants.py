"""Variants of the audited networks as values, and their names in tables.

| name | kind | meaning |
|---|---|---|
| `fp32` | `full` | the networks as they were trained |
| `obc-2+last8` | `plain` | quantized, with the label from the config |
| `fp32&obc-2` | `joint` | several releases of one target, seen together |
| `noise@obc-2` | `noise` | full precision with weight noise, as accurate as `obc-2` |
| `round-2@obc-2` | `channel` | `obc-2`, whose answers come through a channel (`core.channel_names`) |
| `canaries@obc-2` | `canaries` | `obc-2`, attacked on mislabelled records alone |
| `control` | `control` | targets whose answers are noise |
| `positive_control` | `positive` | a target that memorises by a known amount |

An attack's name with `calibration:` in front is the same attack on the members of a calibration
set. No label may hold one of the `SIGNS`, so a name has one reading only.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from bitleak.core.channel_names import Channel, is_channel

FULL = "fp32"
CONTROL = "control"
POSITIVE = "positive_control"
CONTROLS = (CONTROL, POSITIVE)
"""Variants that are made up, to test the measurement itself."""

JOINT = "joint"
JOINT_LEARNED = "joint-learned"
"""Names of the attacks on several releases: the Gaussian one, and a classifier that players train."""

BLIND = "blind"
"""Name of the guess at membership without the model, in the column `attack`; never the headline
next to an attack."""

STRONGEST = "strongest"
"""Name of the attack in rows of the pair of attack and adversary that was chosen on players."""

NAMED = "(named)"
"""Mark in the column `chosen`: too few models play the target, so that the pair is the named one."""

OTHER = "other:"
"""Start of the kind of references that are quantized as another variant than the target is."""

UNADAPTED = "unadapted:"
"""Start of the kind of references that answer by logits while the target answers through a channel."""

SIGNS = ("&", "@", ":")

_PARTLY = re.compile(r"matched-(\d+)")
_NOISE = "noise@"
_CANARIES = "canaries@"
_CALIBRATION = "calibration:"

VariantKind = Literal[
    "full", "plain", "joint", "noise", "channel", "canaries", "control", "positive"
]

Question = Literal[
    "plain", "joint", "noise", "channel", "canaries", "calibration", "control", "positive"
]
"""Subject of a row of the results; rows of different subjects are never compared."""


@dataclass(frozen=True)
class Variant:
    """One version of the audited networks.

    Two variants with the same name are equal, whether or not their quantizer is known.

    Attributes:
        kind: See the table of this module.
        labels: Labels of the releases: several for `joint`; for `noise`, of the variant with the
            same accuracy; for `channel` and `canaries`, of the variant that answers.
        quantizer: As in `Row`; empty if there is none, or if it is not known.
        levels: As in `Row`.
        channel: Name of the channel; empty for other kinds.

    Raises:
        ValueError: The number of labels does not fit the kind, a label is empty or holds a sign, or
            there is no such channel.

    Example:
        >>> Variant.parse("fp32&obc-2")
        Variant(kind='joint', labels=('fp32', 'obc-2'), quantizer='', levels=None, channel='')
        >>> str(Variant("noise", ("obc-2",)))
        'noise@obc-2'
    """

    kind: VariantKind
    labels: tuple[str, ...]
    quantizer: str = field(default="", compare=False)
    levels: int | None = field(default=None, compare=False)
    channel: str = ""

    def __post_init__(self) -> None:
        if self.kind == "channel":
            Channel.parse(self.channel)
        elif self.channel:
            raise ValueError(
                f"a variant of kind {self.kind} must have no channel, got {self.channel!r}"
            )
        expected = "at least two labels" if self.kind == "joint" else "one label"
        if len(self.labels) < 2 if self.kind == "joint" else len(self.labels) != 1:
            raise ValueError(
                f"a variant of kind {self.kind} must have {expected}, got {list(self.labels)}"
            )
        for label in self.labels:
            if not label or any(sign in label for sign in SIGNS):
                raise ValueError(
                    f"a label must be some text without any of {' '.join(SIGNS)}, got {label!r}"
                )

    @classmethod
    def parse(cls, name: str, *, quantizer: str = "", levels: int | None = None) -> "Variant":
        """Return the variant with this name.

        Args:
            name: As in `Row.variant`.
            quantizer: As in `Row`.
            levels: As in `Row`.

        Raises:
            ValueError: No variant has such a name.
        """
        kind: VariantKind = "plain"
        labels = tuple(name.split("&"))
        channel, _, answering = name.partition("@")
        if is_channel(channel) and answering:
            return cls("channel", (answering,), quantizer, levels, channel)
        if len(labels) > 1:
            kind = "joint"
        elif name.startswith(_NOISE):
            kind, labels = "noise", (name.removeprefix(_NOISE),)
        elif name.startswith(_CANARIES):
            kind, labels = "canaries", (name.removeprefix(_CANARIES),)
        elif name in (FULL, CONTROL):
            kind = "full" if name == FULL else "control"
        elif name == POSITIVE:
            kind = "positive"
        return cls(kind, labels, quantizer, levels)

    def __str__(self) -> str:
        if self.kind == "channel":
            return through(self.channel, self.labels[0])
        if self.kind == "canaries":
            return canaries_of(self.labels[0])
        return noise_like(self.labels[0]) if self.kind == "noise" else joined(self.labels)

    @property
    def suffix(self) -> str:
        """Part of a label after its first `+`, which describes layers that differ from the rest."""
        return self.labels[0].partition("+")[2] if self.kind == "plain" else ""

    @property
    def family(self) -> tuple[str, str]:
        """The quantizer and the suffix: shared by variants that differ only in their precision."""
        return self.quantizer, self.suffix


@dataclass(frozen=True)
class AttackName:
    """An attack's name in a row.

    Attributes:
        attack: Name of the attack; empty for a row that no attack has a part in.
        calibration: Whether the attack is on calibration sets rather than on training sets.

    Example:
        >>> AttackName.parse("calibration:reference")
        AttackName(attack='reference', calibration=True)
        >>> str(AttackName("reference", calibration=True))
        'calibration:reference'
    """

    attack: str
    calibration: bool = False

    @classmethod
    def parse(cls, name: str) -> "AttackName":
        """Return the attack and its subject."""
        return cls(name.removeprefix(_CALIBRATION), name.startswith(_CALIBRATION))

    def __str__(self) -> str:
        return f"{_CALIBRATION if self.calibration else ''}{self.attack}"


UNQUANTIZED = Variant("full", (FULL,))
NEGATIVE_CONTROL = Variant("control", (CONTROL,))
POSITIVE_CONTROL = Variant("positive", (POSITIVE,))


def partly_kind(count: int) -> str:
    """Return the kind of references of which a number are quantized as the target is.

    Example:
        >>> partly_kind(16)
        'matched-16'
    """
    return f"matched-{count}"


def quantized_count(kind: str) -> int | None:
    """Return the number of quantized references in the name of a kind; None of any other kind.

    Example:
        >>> quantized_count("matched-16"), quantized_count("matched")
        (16, None)
    """
    match = _PARTLY.fullmatch(kind)
    return int(match[1]) if match else None


def joined(releases: Sequence[str]) -> str:
    """Return the name of several releases together.

    Example:
        >>> joined(["fp32", "obc-2"])
        'fp32&obc-2'
    """
    return "&".join(releases)


def noise_like(label: str) -> str:
    """Return the name of full precision with noise, as accurate as the given variant.

    Example:
        >>> noise_like("obc-1.58")
        'noise@obc-1.58'
    """
    return f"{_NOISE}{label}"


def canaries_of(label: str) -> str:
    """Return the name of a variant that is attacked on mislabelled records alone.

    Example:
        >>> canaries_of("obc-1.58")
        'canaries@obc-1.58'
    """
    return f"{_CANARIES}{label}"


def through(channel: str, label: str) -> str:
    """Return the name of a variant whose answers come through a channel.

    Example:
        >>> through("round-2", "obc-1.58")
        'round-2@obc-1.58'
    """
    return f"{channel}@{label}"


def on_calibration(attack: str) -> str:
    """Return the attack's name in rows about calibration sets.

    Example:
        >>> on_calibration("reference")
        'calibration:reference'
    """
    return str(AttackName(attack, calibration=True))


@lru_cache(4096)
def question_of(variant: str, attack: str = "") -> Question:
    """Return the question that a row answers.

    Args:
        variant: As in `Row`.
        attack: As in `Row`.

    Example:
        >>> [question_of("obc-2"), question_of("obc-2", "joint"), question_of("noise@obc-2", "threshold")]
        ['plain', 'joint', 'noise']
    """
    kind = Variant.parse(variant).kind
    if kind in ("control", "positive"):
        return "control" if kind == "control" else "positive"
    if AttackName.parse(attack).calibration:
        return "calibration"
    if kind == "joint" or attack in (JOINT, JOINT_LEARNED):
        return "joint"
    if kind == "channel" or kind == "canaries":
        return kind
    return "noise" if kind == "noise" else "plain"
