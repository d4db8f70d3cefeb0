"""Changes of records on the device: standardisation, training augmentation, fixed queries.

Rows of a table are standardised column by column, and are not augmented.

Augmentations work on uint8 and float images alike and come before standardisation, so that an
empty border is black (0), as in the usual CIFAR recipe.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Shaped
from torch import Tensor
from torch.nn import functional

from bitleak.core.checks import one_of
from bitleak.data.augmentation_names import AUGMENTS, offsets


@dataclass(frozen=True)
class Standard:
    """(pixels / 255 - mean) / std per channel, in float32; of a table, (value - mean) / std per column.

    The constants lie on the device, so that a loop over batches copies nothing there and waits for
    nothing.

    Attributes:
        mean: Mean of each channel, in [0, 1].
        std: Standard deviation of each channel.
        layout: Memory order of the result.

    Example:
        >>> standard = Standard.on("cpu", (0.5,), (0.25,))
        >>> standard(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)).item()
        2.0
    """

    mean: Float32[Tensor, "channels 1 1"]
    std: Float32[Tensor, "channels 1 1"]
    layout: torch.memory_format

    @classmethod
    def on(
        cls,
        device: torch.device | str,
        mean: Sequence[float],
        std: Sequence[float],
        layout: torch.memory_format = torch.channels_last,
    ) -> "Standard":
        """Return the standardisation of images on this device."""
        means = torch.tensor(mean, dtype=torch.float32, device=device).view(-1, 1, 1)
        stds = torch.tensor(std, dtype=torch.float32, device=device).view(-1, 1, 1)
        return cls(means, stds, layout)

    def __call__(
        self, pixels: Shaped[Tensor, "records channels *size"]
    ) -> Float32[Tensor, "records channels *size"]:
        """Return the network's input; the pixels are not changed."""
        if pixels.ndim == 2:
            return pixels.sub(self.mean.view(-1)).div_(self.std.view(-1))
        inputs = torch.empty(
            pixels.shape, dtype=torch.float32, device=pixels.device, memory_format=self.layout
        )
        return inputs.copy_(pixels).div_(255).sub_(self.mean).div_(self.std)


def standardize(
    pixels: Shaped[Tensor, "records channels *size"],
    mean: Sequence[float],
    std: Sequence[float],
) -> Float32[Tensor, "records channels *size"]:
    """(pixels / 255 - mean) / std per channel, in float32, on the pixels' device; of a table, without the 255.

    See `Standard` for many batches.

    Example:
        >>> standardize(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8), (0.5,), (0.25,)).item()
        2.0
    """
    return Standard.on(pixels.device, mean, std, torch.contiguous_format)(pixels)


def augmented(
    pixels: Shaped[Tensor, "records channels *size"],
    names: Sequence[str],
    generator: torch.Generator,
) -> Shaped[Tensor, "records channels *size"]:
    """Return each image under the named augmentations in their order, drawn anew for every image.

    Args:
        pixels: A batch, on any device. It is not changed.
        names: Names of `AUGMENTS`; without any, the batch is returned as it is.
        generator: Source of the random draws. On the CPU, the draws are the same for a batch on any
            device.

    Raises:
        ValueError: A name is not known.
    """
    for name in names:
        one_of("augmentation", name, AUGMENTS)
        pixels = _flipped(pixels, generator) if name == "flip" else _cropped(pixels, generator)
    return pixels


def padding(size: int) -> int:
    """Border of `crop` in pixels: 4, or an eighth of the size of images below 32 pixels."""
    return min(4, size // 8)


def apply_query(
    pixels: Shaped[Tensor, "records channels *size"], name: str
) -> Shaped[Tensor, "records channels *size"]:
    """Return the batch under one of the fixed augmentations of `bitleak.data.augmentation_names`.

    Raises:
        ValueError: The name is not known.

    Example:
        >>> apply_query(torch.tensor([[[[1, 2, 3]]]]), "shift:1,0")
        tensor([[[[0, 1, 2]]]])
    """
    offset = offsets(name)
    if pixels.ndim == 2 and name != "identity":
        raise ValueError(f"query {name!r} is for images; rows of a table have 'identity' alone")
    if offset is None:
        return pixels.flip(-1) if name == "flip" else pixels
    right, down = offset
    # Negative padding cuts off: as many pixels as are added at the left are lost at the right.
    return functional.pad(pixels, (right, -right, down, -down))


def _flipped(pixels: Tensor, generator: torch.Generator) -> Tensor:
    coin = (
        torch.rand(len(pixels), generator=generator, device=generator.device).to(pixels.device)
        < 0.5
    )
    return torch.where(coin.view(-1, 1, 1, 1), pixels.flip(-1), pixels)


def _cropped(pixels: Tensor, generator: torch.Generator) -> Tensor:
    border = padding(pixels.shape[-1])
    draws = torch.randint(
        0, 2 * border + 1, (2, len(pixels)), generator=generator, device=generator.device
    )
    down, right = draws.to(pixels.device)
    height, width = pixels.shape[2:]
    padded = functional.pad(pixels, (border, border, border, border))
    # All windows as a view, (records, channels, down, right, height, width); one each is copied.
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(len(pixels), device=pixels.device), :, down, right]
