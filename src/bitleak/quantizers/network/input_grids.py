"""Grids of 8 bits for the inputs of quantized layers, one per tensor, from the calibration images.

With the smallest and the largest input of a layer in the quantized network, a <= 0 <= b (zero is in
range), and L levels:

    scale = (b - a) / (L - 1),    zero_point = round(-a / scale)

Cost: one forward pass of all images.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.network.layer_inputs import chunks
from bitleak.quantizers.network.operands import replaced_weights


@torch.no_grad()
def input_grids(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    images: Float[Tensor, "records *sample"],
    *,
    bits: int,
) -> dict[str, dict[str, Any]]:
    """Return the grid of each layer's input, as fields of `models.input_rounding.InputRounding`.

    Args:
        network: In evaluation mode; it is not changed.
        weights: Dequantized weights of the layers, by the tensors' names.
        images: Normalised images.
        bits: Width of the codes.

    Raises:
        QuantizationError: An input is not finite.
    """
    # Every range holds zero, so that a 0 stays 0 on the grid.
    ranges = {key.removesuffix(".weight"): (0.0, 0.0) for key in weights}

    def watch(name: str) -> Any:
        def widen(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            low, high = (float(end) for end in inputs[0].aminmax())
            ranges[name] = (min(ranges[name][0], low), max(ranges[name][1], high))

        return widen

    handles = [
        network.get_submodule(name).register_forward_pre_hook(watch(name)) for name in ranges
    ]
    try:
        with replaced_weights(network, weights):
            for part in chunks(images):
                network(part)
    finally:
        for handle in handles:
            handle.remove()
    return {name: _grid(name, *ends, bits) for name, ends in ranges.items()}


def _grid(name: str, low: float, high: float, bits: int) -> dict[str, Any]:
    levels = 2**bits
    width = torch.tensor(high - low, dtype=torch.float32)
    if not bool(torch.isfinite(width)):
        raise QuantizationError(f"layer {name!r}: its input holds NaN or infinite values")
    scale = float(width / (levels - 1)) or 1.0
    return {"scale": scale, "zero_point": round(-low / scale), "levels": levels}
