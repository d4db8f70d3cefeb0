"""From codes and grids to `QuantizedWeights`, and back to a network that can be run."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitleak.core.types import QuantizedLayer, QuantizedWeights
from bitleak.quant.grid import Grid


def assemble(
    network: nn.Module,
    codes: Mapping[str, Tensor],
    grids: Mapping[str, Grid],
    record: Mapping[str, Mapping[str, Any]],
) -> QuantizedWeights:
    """The quantized network as plain arrays.

    Args:
        network: Gives every tensor of the state dict that is not quantized (biases, batch norm, ...).
        codes: The uint8 codes per layer, in the shape of the layer's weight.
        grids: The grid of each of these layers.
        record: What happened per layer, JSON values only.

    Returns:
        Arrays of their own (nothing is shared with the network), with `spec=None`.
    """
    state = network.state_dict()
    layers = {name: _layer(codes[name], grids[name]) for name in codes}
    rest = {key: _array(value) for key, value in state.items() if key.removesuffix(".weight") not in codes}
    return QuantizedWeights(layers=layers, rest=rest, record=record)


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
