"""The values that float weights of a quantized network take, counted per grid.

Grids are looked for in this order: per output channel, per tensor, per block of a channel, and
evenly spaced values per channel. The last one finds 8 bits in channels of few weights, whose values
hardly repeat: all (w - min w) / step are whole numbers for a step of (max w - min w) / n with n up
to 255. A layer is in full precision if none is found, or if the tool has not changed it.

Codes are counted as those of this package's quantizers (see `metrics.accuracy_and_size`): log2 of
the levels per weight, five bytes per grid.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32
from torch import nn

MOST_LEVELS = 256
BLOCKS = (128, 64, 32, 16)
"""Sizes of blocks that are tried."""

GRID_BYTES = 5
"""Bytes of a grid: a float32 scale and a zero point."""

_FEWEST = 6
"""Weights of a channel that can show evenly spaced values."""

_TOLERANCE = 0.01
"""Largest distance from a whole number of steps."""


class GridCount(NamedTuple):
    """The grids of one weight.

    Attributes:
        levels: Largest number of different values on any grid.
        grids: Number of grids.
    """

    levels: int
    grids: int


def weight_facts(
    network: nn.Module, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Return levels counted, layers in full precision and sizes, as JSON values.

    Args:
        network: Its convolutions and linear layers are counted.
        before: The state dict in full precision.
        after: The state dict of the result.
    """
    levels: dict[str, int] = {}
    left: list[str] = []
    layer_bytes, count = 0, 0
    for name, module in network.named_modules():
        key = f"{name}.weight"
        kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)
        if not isinstance(module, kinds) or key not in after:
            continue
        weight = after[key]
        # A layer that the tool left alone may lie on a grid by chance.
        grids = None if np.array_equal(weight, before[key]) else count_grids(weight)
        count += weight.size
        if grids is None:
            left.append(name)
            layer_bytes += weight.nbytes
        else:
            levels[name] = grids.levels
            bits = weight.size * math.log2(max(2, grids.levels))
            layer_bytes += math.ceil(bits / 8) + GRID_BYTES * grids.grids
    counted = {f"{name}.weight" for name in (*levels, *left)}
    rest = sum(array.nbytes for key, array in after.items() if key not in counted)
    return {
        "levels_counted": levels,
        "float_layers": left,
        "bits_per_weight": 8 * layer_bytes / count if count else 32.0,
        "bytes": layer_bytes + rest,
        "folded_batch_norms": False,
        "quantized_activations": False,
    }


def count_grids(weight: Float32[np.ndarray, "out *rest"]) -> GridCount | None:
    """Return the grids of a weight; None if its values lie on none.

    Example:
        >>> weight = np.array([[0, 1, 1, 0, 2, 0, 1, 1], [0, 3, 3, 0, 0, 3, 3, 3]], np.float32)
        >>> count_grids(weight)
        GridCount(levels=3, grids=2)
        >>> count_grids(np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)) is None
        True
    """
    channels = weight.reshape(len(weight), -1)
    columns = channels.shape[1]
    levels = _most_values(channels)
    if 2 * levels <= min(2 * MOST_LEVELS, columns):
        return GridCount(levels, len(channels))
    levels = len(np.unique(channels))
    if 2 * levels <= min(2 * MOST_LEVELS, channels.size):
        return GridCount(levels, 1)
    for block in BLOCKS:
        whole = columns // block * block
        if block >= columns or not whole:
            continue
        blocks = channels[:, :whole].reshape(-1, block)
        levels = _most_values(blocks)
        if 2 * levels <= min(2 * MOST_LEVELS, block):
            return GridCount(levels, len(channels) * math.ceil(columns / block))
    if columns >= _FEWEST and all(_is_even(channel) for channel in channels):
        return GridCount(_most_values(channels), len(channels))
    return None


def _most_values(rows: Float32[np.ndarray, "rows columns"]) -> int:
    """Return the largest number of different values in a row."""
    ordered = np.sort(rows, axis=1)
    return 1 + int((np.diff(ordered, axis=1) != 0).sum(axis=1).max(initial=0))


def _is_even(channel: Float32[np.ndarray, "columns"]) -> bool:
    """Return whether all values are whole numbers of steps apart, of at most 255 steps."""
    values = np.unique(channel).astype(np.float64)
    if len(values) == 1:
        return True
    if len(values) > MOST_LEVELS:
        return False
    shares = (values - values[0]) / (values[-1] - values[0])
    steps = shares * np.arange(1, MOST_LEVELS)[:, None]  # (steps, values)
    return bool((np.abs(steps - np.rint(steps)) < _TOLERANCE).all(axis=1).any())
