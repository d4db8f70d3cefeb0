"""The size of weights: what a file would hold that packs the codes as tightly as their levels allow."""

import math
from collections.abc import Set

from bitleak.core.types import QuantizedWeights, Weights

SCALE_BYTES = 4
ZERO_POINT_BYTES = 1


def size(weights: Weights | QuantizedWeights, *, repeated: Set[str] = frozenset()) -> dict[str, float]:
    """Bytes in all, and effective bits per quantized weight.

    Codes count log2(levels) bits each, rounded up to whole bytes per layer; every grid has a float32
    scale and a one-byte zero point; everything else is kept as it is, once.

    Args:
        weights: Tensors, or codes and the rest.
        repeated: Names whose tensor stands under another name too, which is not among them.

    Returns:
        `bytes`: codes, grids and the rest. `bits_per_weight`: of codes and grids alone, per quantized
        weight, so a little more than log2(levels); the weights of layers that keep full precision by their names
        count too, with the bits that they have. 32 for weights that are not quantized.

    Example:
        >>> import numpy as np
        >>> from bitleak.core.types import QuantizedLayer
        >>> layer = QuantizedLayer(np.zeros((4, 50), np.uint8), np.ones(4, np.float32), np.zeros(4, np.float32), 4)
        >>> size(QuantizedWeights({"a": layer}, {"a.bias": np.zeros(4, np.float32)}))
        {'bytes': 86.0, 'bits_per_weight': 2.8}
    """
    if isinstance(weights, Weights):
        once = (array.nbytes for name, array in weights.tensors.items() if name not in repeated)
        return {"bytes": float(sum(once)), "bits_per_weight": 32.0}
    packed, count = 0, 0
    for layer in weights.layers.values():
        packed += math.ceil(layer.codes.size * math.log2(layer.levels) / 8)
        packed += layer.scale.size * (SCALE_BYTES + ZERO_POINT_BYTES)
        count += layer.codes.size
    rest = sum(array.nbytes for name, array in weights.rest.items() if name not in repeated)
    named = {key for name in weights.full_precision for key in _weights_of(name, weights)}
    kept = [weights.rest[name] for name in sorted(named - set(repeated))]
    count += sum(array.size for array in kept)
    bits = 8 * (packed + sum(array.nbytes for array in kept))
    return {"bytes": float(packed + rest), "bits_per_weight": bits / count if count else 0.0}


def _weights_of(name: str, weights: QuantizedWeights) -> list[str]:
    """Return the name of the weight of a layer that keeps full precision; or of all that it is computed from."""
    if f"{name}.weight" in weights.rest:
        return [f"{name}.weight"]
    return [key for key in weights.rest if key.startswith(f"{name}.") and not key.endswith("bias")]
