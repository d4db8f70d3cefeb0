"""From codes and grids to `QuantizedWeights`, and back to a network that can be run."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitleak.core.types import QuantizedLayer, QuantizedWeights
from bitleak.quantizers.grid import Grid, to_weights
from bitleak.quantizers.network.input_grids import input_grids
from bitleak.quantizers.network.operands import check_operands
from bitleak.quantizers.scheme import FULL_PRECISION, Layer, Scheme, left_out


@dataclass(frozen=True)
class QuantizedLayers:
    """The layers of a network that are quantized so far, by name.

    Attributes:
        codes: Their codes, in the shape of the weight.
        grids: Their grids.
        record: Facts of their quantization, JSON values only.
    """

    codes: dict[str, Tensor] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)
    record: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, codes: Tensor, grid: Grid, facts: Mapping[str, Any]) -> None:
        """Add a layer."""
        self.codes[name], self.grids[name] = codes, grid
        self.record[name] = {"levels": grid.levels, **facts}

    def assembled(self, network: nn.Module, scheme: Scheme, images: Tensor) -> QuantizedWeights:
        """Return the quantized network, see `assemble_weights`."""
        return assemble_weights(
            network, self.codes, self.grids, self.record, scheme=scheme, images=images
        )


def assemble_weights(
    network: nn.Module,
    codes: Mapping[str, Tensor],
    grids: Mapping[str, Grid],
    record: Mapping[str, Mapping[str, Any]],
    *,
    scheme: Scheme,
    images: Tensor,
) -> QuantizedWeights:
    """Return the quantized network as plain arrays, after a run that multiplied its codes' weights.

    Args:
        network: In evaluation mode, not changed; gives every tensor of the state dict that is not
            quantized (biases, batch norm, ...).
        codes: The uint8 codes per layer, in the shape of the layer's weight.
        grids: The grid of each of these layers.
        record: Facts of the quantization per layer, JSON values only.
        scheme: Layers that it leaves in full precision are recorded with `fp32` as their levels.
        images: Normalised images, of which one batch is run, see `operands`.

    Returns:
        Arrays of their own (nothing is shared with the network), with `spec=None`.

    Raises:
        QuantizationError: A layer multiplies other weights than those of its codes.
    """
    layers: dict[str, QuantizedLayer] = {}
    weights: dict[str, Tensor] = {}
    for name, layer_codes in codes.items():
        layers[name] = _layer(layer_codes, grids[name])
        weights[f"{name}.weight"] = to_weights(layer_codes, grids[name])
    rest: dict[str, np.ndarray] = {}
    for key, value in network.state_dict().items():
        if key.removesuffix(".weight") not in codes:
            rest[key] = _array(value)

    # Layers in full precision are recorded too: else nothing shows that this was on purpose.
    facts = dict(record)
    for name, module in network.named_modules():
        if isinstance(module, Layer) and left_out(scheme, name):
            facts[name] = {"levels": FULL_PRECISION}
    # Ranges of the activations are those after the quantized weights, in the network as it will be.
    if scheme.activations is not None:
        inputs = input_grids(network, weights, images.detach().float(), bits=scheme.activations)
        facts.update({name: {**facts.get(name, {}), "activations": inputs[name]} for name in codes})
    result = QuantizedWeights(layers=layers, rest=rest, record=facts)
    return check_operands(network, result, images.detach().float(), weights=weights)


def deployed(network: nn.Module, quantized: QuantizedWeights) -> nn.Module:
    """Return a copy of the network with the dequantized weights, in evaluation mode; activations stay float."""
    copied = copy.deepcopy(network).eval()
    tensors = quantized.dequantize().tensors
    copied.load_state_dict(
        {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
    )
    return copied


def _layer(codes: Tensor, grid: Grid) -> QuantizedLayer:
    return QuantizedLayer(_array(codes), _array(grid.scale), _array(grid.zero_point), grid.levels)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()
