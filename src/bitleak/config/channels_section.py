"""The section `channels` of a config: forms in which an interface gives answers away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitleak.attacks import expand, known_names
from bitleak.config.fields import name_list, section, value_text
from bitleak.config.schema import QueryConfig
from bitleak.core.channel_names import CHANNELS, LOGITS, Channel
from bitleak.core.variants import FULL

CHANNEL_ATTACKS = (
    "lira-online-shrunk",
    "lira-online-fixed",
    "lira-offline-one_sided-fixed",
    "rmia-online",
    "rmia-offline",
    "threshold",
)
"""Attacks on answers through channels unless the config names others."""


@dataclass(frozen=True)
class ChannelsConfig:
    """Channels that the targets' answers come through.

    Attributes:
        names: Channels, see `core.channel_names`.
        variants: Variants whose answers come through them; empty for full precision and every
            quantized variant.
        attacks: Entries as in the section `attacks`.
    """

    names: tuple[str, ...]
    variants: tuple[str, ...] = ()
    attacks: tuple[str, ...] = CHANNEL_ATTACKS

    @property
    def hiding(self) -> tuple[str, ...]:
        """The channels but `logits`."""
        return tuple(name for name in self.names if name != LOGITS)


def read_channels(raw: Any, variants: Sequence[str], errors: list[str]) -> ChannelsConfig | None:
    """Read the section.

    Args:
        raw: A list of channels, true for all that messages name, a mapping with the fields of
            `ChannelsConfig`, or None.
        variants: Names of the quantized variants.
        errors: Mistakes are added to it.

    Example:
        >>> read_channels({"names": ["label"], "variants": ["fp32"]}, [], []).variants
        ('fp32',)
    """
    # Every spelling as a mapping.
    if raw in (None, False):
        return None
    if raw is True:
        raw = list(CHANNELS)
    if isinstance(raw, list):
        raw = {"names": raw}
    if not isinstance(raw, Mapping):
        errors.append(
            f"channels: expected a list of channels such as [label, round-2], got {value_text(raw)}"
        )
        return None
    # Names may stand alone, and attacks are known by words, forms and outside code.
    entries = dict(raw)
    if "names" in entries and not isinstance(entries["names"], list):
        entries["names"] = [entries["names"]]
    if "attacks" in entries:
        mistakes: list[str] = []
        names = name_list(entries["attacks"], "attacks", known_names(), mistakes, load=expand)
        errors += [f"channels.{mistake}" for mistake in mistakes]
        entries["attacks"] = list(names)
    read = section(ChannelsConfig, entries, "channels", errors)
    if read is None:
        return None
    _check_names(read.names, errors)
    every = (FULL, *variants)
    return ChannelsConfig(read.names, read.variants or every, read.attacks)


def _check_names(names: Sequence[str], errors: list[str]) -> None:
    if not names:
        errors.append(
            f"channels: expected at least one of {', '.join(CHANNELS)}, got an empty list"
        )
    for name in dict.fromkeys(names):
        try:
            Channel.parse(name)
        except ValueError as error:
            errors.append(f"channels: {error}")
        if names.count(name) > 1:
            errors.append(f"channels: {name} is there twice; give every channel once")


def check_channels(
    channels: ChannelsConfig | None, query: QueryConfig, population: int, errors: list[str]
) -> None:
    """Check the section against the rest of the config.

    Args:
        channels: The section.
        query: The section `query`.
        population: Number of population records.
        errors: Mistakes are added to it.
    """
    if channels is None:
        return
    if query.keep != LOGITS:
        errors.append(
            "channels: are computed from logits, which are not kept; add query: {keep: logits}"
        )
    for name in channels.attacks:
        fewest = min(attack.fewest_population for attack in expand(name))
        if fewest > population:
            errors.append(
                f"channels.attacks: the attack {name} needs at least {fewest} population records, got "
                f"{population}; raise split.population or leave the attack out"
            )


def resolved_channels(channels: ChannelsConfig) -> dict[str, Any]:
    """Return the section in the form that `read_channels` reads."""
    return {
        "names": list(channels.names),
        "variants": list(channels.variants),
        "attacks": list(channels.attacks),
    }
