"""How a network takes its images: scale, standardisation, order of channels, and orientation.

    input = (pixels / unit * scale - mean) / deviation

with `unit` = 255 for 8-bit pixels and 1 for others. The usual spellings are known here, so that a
network that errs on its own members can be tried under each of them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from bitleak.core.checks import number_in, one_of
from bitleak.data.standardisations import STANDARDS

Channels = Literal["rgb", "bgr"]
InputLayout = Literal["upright", "transposed"]


@dataclass(frozen=True)
class InputSpelling:
    """The way from stored images to a network's input.

    Attributes:
        mean: Mean per channel, or one for all, in units of the scaled pixels.
        deviation: Deviation per channel, or one for all.
        scale: Largest value of a pixel before standardisation: 1 or 255, as a rule.
        channels: Order of the channels that the network was trained on, of images that are RGB.
        layout: `transposed` if the network was trained on images with height and width exchanged.
    """

    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)
    scale: float = 1.0
    channels: Channels = "rgb"
    layout: InputLayout = "upright"

    def __post_init__(self) -> None:
        for value in self.mean:
            number_in("mean", value, -1e6, 1e6)
        for value in self.deviation:
            number_in("deviation", value, 0, 1e6, ends="(]")
        number_in("scale", self.scale, 0, 1e6, ends="(]")
        one_of("channels", self.channels, ("rgb", "bgr"))
        one_of("layout", self.layout, ("upright", "transposed"))

    def check_channels(self, channels: int) -> None:
        """Refuse numbers that are not one per channel.

        Raises:
            ValueError: They are not.
        """
        for name, values in (("mean", self.mean), ("deviation", self.deviation)):
            if len(values) not in (1, channels):
                raise ValueError(
                    f"{name}: expected 1 number or one per channel ({channels}), got {len(values)}"
                )

    def inputs(self, pixels: Tensor, unit: float) -> Tensor:
        """Return the network's input, float32.

        Args:
            pixels: `records channels height width`.
            unit: Value of a stored pixel that stands for 1.
        """
        values = pixels.float()
        if self.channels == "bgr":
            values = values.flip(1)
        if self.layout == "transposed":
            values = values.transpose(-1, -2)
        if self.scale != unit:
            values = values * (self.scale / unit)
        if self.mean == (0.0,) and self.deviation == (1.0,):
            return values.contiguous()
        mean, deviation = (
            torch.tensor(numbers, device=values.device).view(1, -1, *[1] * (values.ndim - 2))
            for numbers in (self.mean, self.deviation)
        )
        return ((values - mean) / deviation).contiguous()

    @property
    def unit_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation for pixels from 0 to 1."""
        return (
            tuple(value / self.scale for value in self.mean),
            tuple(value / self.scale for value in self.deviation),
        )

    def as_text(self, *, python: bool = False) -> str:
        """Return the keys that differ from the defaults, as a config or a call spells them."""
        default, parts = InputSpelling(), []
        sign = "=" if python else ": "
        for name in ("mean", "deviation"):
            values = getattr(self, name)
            if values != getattr(default, name):
                parts.append(f"{name}{sign}[{', '.join(f'{value:.5g}' for value in values)}]")
        if self.scale != default.scale:
            parts.append(f"scale{sign}{self.scale:g}")
        for name in ("channels", "layout"):
            if getattr(self, name) != getattr(default, name):
                value = repr(getattr(self, name)) if python else getattr(self, name)
                parts.append(f"{name}{sign}{value}")
        return ", ".join(parts) or f"mean{sign}[0], deviation{sign}[1], scale{sign}1"


@dataclass(frozen=True)
class Proposal:
    """A spelling to try.

    Attributes:
        title: Its name for people.
        spelling: The spelling.
        rank: Smaller is a smaller change, and is preferred to another spelling that does as well.
    """

    title: str
    spelling: InputSpelling
    rank: int = 0


def standard_proposals(channels: int, statistics: Any = None) -> list[Proposal]:
    """Return the usual standardisations.

    Args:
        channels: Number of channels.
        statistics: Mean and deviation of the data, for pixels from 0 to 1, or None.
    """
    proposals = [
        Proposal("inputs from 0 to 1", InputSpelling(), 1),
        Proposal("inputs from 0 to 255", InputSpelling(scale=255.0), 1),
    ]
    for title, (mean, deviation) in STANDARDS.items():
        if len(mean) in (1, channels):
            name = title if title.startswith("from") else f"{title}'s mean and deviation"
            proposals.append(Proposal(name, InputSpelling(mean, deviation), 2))
    if statistics is not None:
        proposals.append(
            Proposal("the data's own mean and deviation", InputSpelling(*statistics), 2)
        )
    return proposals


def in_larger_units(proposal: Proposal) -> Proposal:
    """Return a proposal for images from 0 to 255 whose pixels are not 8-bit."""
    spelling = replace(
        proposal.spelling,
        mean=tuple(255 * value for value in proposal.spelling.mean),
        deviation=tuple(255 * value for value in proposal.spelling.deviation),
    )
    return Proposal(f"{proposal.title}, images divided by 255", spelling, proposal.rank)


def variations(spelling: InputSpelling, pixels: Sequence[int]) -> Iterator[Proposal]:
    """Yield the spelling for pixels up to 255 or 1, with roots of deviations, channels or sides exchanged.

    Args:
        spelling: The spelling.
        pixels: Shape of an image: channels, height, width.
    """
    if spelling.scale in (1.0, 255.0) and (spelling.mean, spelling.deviation) != ((0.0,), (1.0,)):
        scale = 256.0 - spelling.scale
        title = f"the given mean and deviation, for pixels from 0 to {scale:g}"
        yield Proposal(title, replace(spelling, scale=scale))
    if spelling.scale == 1.0 and max(spelling.deviation) < 1:
        roots = tuple(math.sqrt(value) for value in spelling.deviation)
        title = "the square roots of the given deviations, which are variances then"
        yield Proposal(title, replace(spelling, deviation=roots))
    if pixels[0] == 3:
        order: Channels = "rgb" if spelling.channels == "bgr" else "bgr"
        yield Proposal("channels exchanged", replace(spelling, channels=order))
    if pixels[1] == pixels[2]:
        layout: InputLayout = "upright" if spelling.layout == "transposed" else "transposed"
        yield Proposal("height and width exchanged", replace(spelling, layout=layout))


def unit_of(images: np.ndarray | Tensor) -> float:
    """Return the value of a stored pixel that stands for 1: 255 for 8-bit pixels, 1 for rows of a table."""
    return 255.0 if images.ndim == 4 and str(images.dtype).endswith("uint8") else 1.0
