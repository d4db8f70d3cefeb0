"""Changes of records on the device: standardisation, training augmentation, fixed queries.

Rows of a table are standardised column by column, and are not augmented.

Augmentations work on uint8 and float images alike and come before standardisation, so that an
empty border is black (0), as in the usual CIFAR recipe.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64, Shaped
from torch import Tensor
from torch.nn import functional

from bitleak.core.checks import one_of
from bitleak.core.types import Images
from bitleak.data.augmentation_names import AUGMENTS, offsets

_CHUNK = 4096


def channel_statistics(
    images: Images, records: Int64[np.ndarray, "some"]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel over all pixels of these records, in [0, 1].

    Exact: sums of integers. The standard deviation divides by the number of pixels. Of a table, mean and deviation
    of each column in its units, in float64.

    Raises:
        ValueError: No records, or no channel has any contrast. One without contrast beside others
            has deviation 1.
    """
    if not images.size:
        return _column_statistics(images, records)
    # Histograms: 256 counts per channel are all that mean and deviation need of the pixels.
    channels = images.pixels.shape[1]
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(records), _CHUNK):
        pixels = images.pixels[records[start : start + _CHUNK]]
        for channel in range(channels):
            counts[channel] += np.bincount(pixels[:, channel].ravel(), minlength=256)

    values, total = np.arange(256), max(int(counts[0].sum()), 1)
    mean = counts @ values / total
    std = np.empty(channels)
    for channel in range(channels):
        std[channel] = np.sqrt((counts[channel] * (values - mean[channel]) ** 2).sum() / total)
    if not std.any():
        raise ValueError(
            f"channel {int(np.argmin(std))} of {len(records)} images is constant: nothing to standardise"
        )
    # An empty channel next to others holds nothing: with deviation 1 it becomes a constant 0.
    std[std == 0] = 255
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def _column_statistics(
    table: Images, records: Int64[np.ndarray, "some"]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each column, in two passes, so that a large mean costs no digits."""
    parts = range(0, len(records), _CHUNK)
    mean = np.zeros(table.channels)
    for start in parts:
        mean += table.pixels[records[start : start + _CHUNK]].sum(axis=0, dtype=np.float64)
    mean /= max(len(records), 1)
    squares = np.zeros(table.channels)
    for start in parts:
        squares += np.square(table.pixels[records[start : start + _CHUNK]] - mean).sum(axis=0)
    std = np.sqrt(squares / max(len(records), 1))
    if not std.any():
        raise ValueError(
            f"every column of {len(records)} rows has one value: nothing to standardise"
        )
    std[std == 0] = 1
    return tuple(mean.tolist()), tuple(std.tolist())


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
