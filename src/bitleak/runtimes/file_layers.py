"""The layers of a network's file, as every runtime counts them."""

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
    """Return levels counted, layers in full precision and bits per weight, as JSON values.

    Example:
        >>> layers = [LayerCount("conv", 4, 2, 80, 28), LayerCount("head", None, 32, 20, 80)]
        >>> facts_of_layers(layers)
        {'levels_counted': {'conv': 4}, 'float_layers': ['head'], 'bits_per_weight': 8.64}
    """
    weights = sum(layer.weights for layer in layers)
    stored = 8 * sum(layer.bytes for layer in layers)
    return {
        "levels_counted": {
            layer.name: layer.levels for layer in layers if layer.levels is not None
        },
        "float_layers": [layer.name for layer in layers if layer.levels is None],
        "bits_per_weight": stored / weights if weights else 32.0,
    }
