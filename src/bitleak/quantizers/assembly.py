"""From codes and grids to `QuantizedWeights`, and back to a network that can be run."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitleak.core.types import QuantizedLayer, QuantizedWeights
from bitleak.quantizers.grid import Grid, to_weights
from bitleak.quantizers.network.operands import check_operands
from bitleak.quantizers.scheme import FULL_PRECISION, Layer, Scheme, left_out


def assemble_weights(
    network: nn.Module,
    codes: Mapping[str, Tensor],
    grids: Mapping[str, Grid],
    record: Mapping[str, Mapping[str, Any]],
    *,
    scheme: Scheme,
    images: Tensor,
) -> QuantizedWeights:
    """The quantized network as plain arrays, once it has been seen to multiply the weights of its codes.

    Args:
        network: In evaluation mode, not changed; gives every tensor of the state dict that is not
            quantized (biases, batch norm, ...).
        codes: The uint8 codes per layer, in the shape of the layer's weight.
        grids: The grid of each of these layers.
        record: What happened per layer, JSON values only.
        scheme: Layers that it leaves in full precision are recorded with `fp32` as their levels.
        images: Normalised images, of which one batch is run, see `operands`.

    Returns:
        Arrays of their own (nothing is shared with the network), with `spec=None`.

    Raises:
        QuantizationError: A layer multiplies other weights than those of its codes.
    """
    state = network.state_dict()
    layers = {name: _layer(codes[name], grids[name]) for name in codes}
    rest = {key: _array(value) for key, value in state.items() if key.removesuffix(".weight") not in codes}
    kept = {name: {"levels": FULL_PRECISION} for name, module in network.named_modules() if _kept(scheme, name, module)}
    result = QuantizedWeights(layers=layers, rest=rest, record={**record, **kept})
    weights = {f"{name}.weight": to_weights(codes[name], grids[name]) for name in codes}
    return check_operands(network, result, images.detach().float(), weights=weights)


def _kept(scheme: Scheme, name: str, module: nn.Module) -> bool:
    return isinstance(module, Layer) and left_out(scheme, name)


def deployed(network: nn.Module, quantized: QuantizedWeights) -> nn.Module:
    """A copy of the network with the dequantized weights, in evaluation mode; the network is not changed."""
    copied = copy.deepcopy(network).eval()
    tensors = quantized.dequantize().tensors
    copied.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in tensors.items()})
    return copied


def _layer(codes: Tensor, grid: Grid) -> QuantizedLayer:
    return QuantizedLayer(_array(codes), _array(grid.scale), _array(grid.zero_point), grid.levels)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()
