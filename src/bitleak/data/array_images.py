"""Images as arrays: statistics, standardisation and fixed queries without PyTorch.

Standardisation and queries give the numbers of `bitleak.data.augment`, bit for bit.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from bitleak.core.types import Images
from bitleak.data.augmentation_names import offsets

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


def standardized_array(
    pixels: Shaped[np.ndarray, "records channels *size"],
    mean: Sequence[float],
    std: Sequence[float],
) -> Float32[np.ndarray, "records channels *size"]:
    """Return (pixels / 255 - mean) / std per channel, in float32; of a table, without the 255.

    Example:
        >>> standardized_array(np.full((1, 1, 1, 1), 255, np.uint8), (0.5,), (0.25,)).item()
        2.0
    """
    shape = (-1, *[1] * (pixels.ndim - 2))
    means, stds = (np.array(values, np.float32).reshape(shape) for values in (mean, std))
    inputs = pixels.astype(np.float32)
    if pixels.ndim > 2:
        inputs /= np.float32(255)
    inputs -= means
    inputs /= stds
    return inputs


def queried_array(
    pixels: Shaped[np.ndarray, "records channels *size"], name: str
) -> Shaped[np.ndarray, "records channels *size"]:
    """Return the batch under one of the fixed augmentations of `bitleak.data.augmentation_names`.

    Raises:
        ValueError: The name is not known, or is for images and the batch holds rows of a table.

    Example:
        >>> queried_array(np.array([[[[1, 2, 3]]]]), "shift:1,0").tolist()
        [[[[0, 1, 2]]]]
    """
    offset = offsets(name)
    if pixels.ndim == 2 and name != "identity":
        raise ValueError(f"query {name!r} is for images; rows of a table have 'identity' alone")
    if offset is None:
        return pixels[..., ::-1] if name == "flip" else pixels
    height, width = pixels.shape[2:]
    right, down = offset
    moved = np.zeros_like(pixels)
    target = _kept(down, height), _kept(right, width)
    source = _kept(-down, height), _kept(-right, width)
    moved[:, :, target[0], target[1]] = pixels[:, :, source[0], source[1]]
    return moved


def _kept(offset: int, length: int) -> slice:
    """Return the places that a row moved by an offset fills."""
    return slice(min(max(offset, 0), length), max(min(length + offset, length), 0))
