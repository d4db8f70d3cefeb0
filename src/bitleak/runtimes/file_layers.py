"""The layers of a network's file, as every runtime counts them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LayerCount:
    """A layer of a file.

    Attributes:
        name: Name of its operator, or of its output.
        levels: Largest number of different codes on any grid; None in full precision.
        bits: Width of the stored codes or floats.
        weights: Number of weights.
        bytes: Bytes of codes, scales and zero points, or of the floats.
    """

    name: str
    levels: int | None
    bits: int
    weights: int
    bytes: int


def facts_of_layers(layers: Sequence[LayerCount]) -> dict[str, Any]:
    """Return levels counted, layers in full precision, bits per weight and bytes, as JSON values.

    `layer_bytes` are the bytes of the layers in the file, `coded_bytes` those that tables count:
    log2(levels) bits per code.

    Example:
        >>> layers = [LayerCount("conv", 4, 2, 80, 28), LayerCount("head", None, 32, 20, 80)]
        >>> facts = facts_of_layers(layers)
        >>> facts
        {'levels_counted': {'conv': 4}, 'float_layers': ['head'], 'bits_per_weight': 8.64, ...}
        >>> facts["layer_bytes"], facts["coded_bytes"]
        (108, 108)
    """
    weights = sum(layer.weights for layer in layers)
    stored = sum(layer.bytes for layer in layers)
    return {
        "levels_counted": {
            layer.name: layer.levels for layer in layers if layer.levels is not None
        },
        "float_layers": [layer.name for layer in layers if layer.levels is None],
        "bits_per_weight": 8 * stored / weights if weights else 32.0,
        "layer_bytes": stored,
        "coded_bytes": sum(map(_coded_bytes, layers)),
    }


def _coded_bytes(layer: LayerCount) -> int:
    """Return the bytes of a layer with codes of log2(levels) bits."""
    if layer.levels is None:
        return layer.bytes
    grids = layer.bytes - layer.weights * layer.bits // 8
    return math.ceil(layer.weights * math.log2(max(2, layer.levels)) / 8) + grids
