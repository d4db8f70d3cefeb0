"""One walk through a network's layers that quantizes each of them at several levels.

The inputs of a layer in a quantized network depend on the codes of the layers before it, so there is
a quantized copy of the network for each number of levels. All copies, and the full-precision
network, are carried along in one pass over the images (see `layer_pass`).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bitleak.core.types import QuantizedWeights
from bitleak.quantizers.assembly import QuantizedLayers
from bitleak.quantizers.grid import Grid, grid_for, to_weights
from bitleak.quantizers.network.layer_inputs import OnLayer, prepare_for_schemes
from bitleak.quantizers.network.layer_pass import visit_in_order
from bitleak.quantizers.network.plain_copy import evaluation_copy
from bitleak.quantizers.scheme import Layer, Scheme

NetworkInputs = Iterable[tuple[Tensor, ...]]
"""A layer's inputs by chunks: in the full-precision network, then in each of the quantized ones."""

Adapted = tuple[Tensor, Grid, dict[str, Any]]
"""A layer's codes, their grid, and facts for the record."""

Adapt = Callable[[str, Layer, Sequence[Grid], NetworkInputs], list[Adapted]]
"""From a layer, its grids so far and its inputs to a result for each of the grids."""


@torch.no_grad()
def quantize_at_levels(
    schemes: Sequence[Scheme],
    network: nn.Module,
    images: Tensor,
    adapt_of: Callable[[nn.Module], Adapt],
    *,
    on_layer: OnLayer | None = None,
    memory: int | None = None,
) -> list[QuantizedWeights]:
    """Quantize a network layer after layer, each on its inputs after the quantized layers.

    Args:
        schemes: At least one; they differ in their levels only.
        network: Any network that needs no plain copy; it is not changed.
        images: Normalised images.
        adapt_of: From the full-precision network to the treatment of its layers.
        on_layer: Called after each layer for each of the schemes.
        memory: Bytes that activations may take, see `layer_pass.activation_budget`; it changes the
            time only.

    Returns:
        A result for each of the schemes.

    Raises:
        QuantizationError: A layer cannot be quantized.
    """
    # One full-precision network gives x, a copy for each of the schemes its x_q.
    reference, layers, levels = prepare_for_schemes(schemes, network, images)
    copies = [evaluation_copy(reference) for _ in schemes]
    adapt = adapt_of(reference)
    results = [QuantizedLayers() for _ in schemes]

    def visit(name: str, inputs: NetworkInputs) -> None:
        grids: list[Grid] = []
        for scheme, by_layer in zip(schemes, levels, strict=True):
            grids.append(grid_for(scheme, layers[name].weight.detach(), by_layer[name]))
        adapted = adapt(name, layers[name], grids, inputs)
        for result, copy, (codes, grid, facts) in zip(results, copies, adapted, strict=True):
            copy.get_parameter(f"{name}.weight").copy_(to_weights(codes, grid))
            result.add(name, codes, grid, facts)
            if on_layer is not None:
                on_layer(name, len(result.codes) - 1, len(layers))

    visit_in_order([reference, *copies], images, list(layers), visit, memory=memory)
    return [
        result.assembled(reference, scheme, images)
        for result, scheme in zip(results, schemes, strict=True)
    ]
