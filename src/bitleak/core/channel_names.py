"""Channels: the forms in which an interface gives a model's answer away, by name.

| name | released |
|---|---|
| `logits` | the logits |
| `round-2` | the probabilities of all classes, rounded to 2 decimals (1 to 6) |
| `top1` | the predicted class and its probability, as a float32 |
| `label` | the predicted class |
| `temperature-2` | the probabilities of all classes at temperature 2 (any number above 0), unrounded |
| `int8-softmax` | the probabilities of all classes as 8-bit integers with the step 1/256, at most 255/256 |

`steps.channel_answers` computes them from logits.
"""

import re
from dataclasses import dataclass
from typing import Literal

from bitleak.core.checks import unknown_name

ChannelKind = Literal["logits", "round", "top1", "label", "temperature", "int8-softmax"]

LOGITS = "logits"
"""Name of the channel that hides nothing."""

CHANNELS = (LOGITS, "round-2", "top1", "label", "temperature-2", "int8-softmax")
"""Channels that messages name; `round` and `temperature` take other numbers too."""

_PLAIN = {name: name for name in (LOGITS, "top1", "label", "int8-softmax")}
_ROUND = re.compile(r"round-([1-6])")
_TEMPERATURE = re.compile(r"temperature-([0-9]{1,3}(?:\.[0-9]{1,3})?)")


@dataclass(frozen=True)
class Channel:
    """One channel.

    Attributes:
        name: As in the table of this module.
        kind: The name without its number.
        number: Decimals of `round`, temperature of `temperature`; 1 for the others.

    Example:
        >>> Channel.parse("temperature-2")
        Channel(name='temperature-2', kind='temperature', number=2.0)
    """

    name: str
    kind: ChannelKind
    number: float = 1.0

    @classmethod
    def parse(cls, name: str) -> "Channel":
        """Return the channel with this name.

        Raises:
            ValueError: There is none; the message has the nearest name.
        """
        if name in _PLAIN:
            return cls(name, _PLAIN[name])  # type: ignore[arg-type]
        if match := _ROUND.fullmatch(name):
            return cls(name, "round", float(match[1]))
        match = _TEMPERATURE.fullmatch(name)
        if match and float(match[1]) > 0 and f"{float(match[1]):g}" == match[1]:
            return cls(name, "temperature", float(match[1]))
        raise ValueError(
            f"{unknown_name('channel', name, CHANNELS)}; round-1 to round-6 and temperature-T with "
            "another T, such as temperature-1.5, are known too"
        )

    @property
    def is_coarse(self) -> bool:
        """Whether it releases less than the probabilities of all classes in full."""
        return self.kind not in ("logits", "temperature")


def is_channel(name: str) -> bool:
    """Return whether a channel has this name.

    Example:
        >>> is_channel("round-2"), is_channel("round-7"), is_channel("noise")
        (True, False, False)
    """
    try:
        Channel.parse(name)
    except ValueError:
        return False
    return True
