"""Codes and grids at which `reconstruct` may begin: each layer fitted to its linear output.

Layer after layer within the piece, the inputs x of the full-precision network and x_q after the
layers that have codes already give the quadratic of the layer's error (see `quadratic`), which is
lowered

- by AdaRound's descent on the relaxed choice between the two nearest codes (see `adaround`), or
- by coordinate descent over all codes, from the nearest ones (see `descent`).

If the scheme's grid is `output`, it is settled by the same quadratic first (see `output_grid`).

This lowers the error of each layer only, not that of the piece's output as `reconstruct` does, but
it is exact and takes a few seconds where the loop takes a minute.

Cost per layer: two passes through the piece, the sums of `quadratic`, and the descent.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor, fx
from torch.func import functional_call

from bitleak.quantizers.adaround import AdaRound, round_adaptively
from bitleak.quantizers.grid import Grid, to_codes, to_weights
from bitleak.quantizers.layers.descent import polish
from bitleak.quantizers.layers.output_grid import grids_to_try
from bitleak.quantizers.layers.quadratic import quadratic
from bitleak.quantizers.network.activations import Activations
from bitleak.quantizers.network.layer_inputs import input_hook
from bitleak.quantizers.network.reconstruction import in_memory_order
from bitleak.quantizers.scheme import Layer, Scheme

START_SWEEPS = 20


@torch.no_grad()
def starting_codes(
    scheme: Scheme,
    piece: fx.GraphModule,
    grids: Mapping[str, Grid],
    full_inputs: Activations,
    inputs: Activations,
    *,
    by: Literal["adaround", "polish"],
) -> tuple[dict[str, UInt8[Tensor, "out *rest"]], dict[str, Grid]]:
    """Return codes for all layers of a piece, and their grids.

    Args:
        scheme: Grids are settled anew if its `grid` is `output`.
        piece: A module of one argument in evaluation mode, with full-precision weights; not
            changed.
        grids: The grid of each layer as the weights give it, by its name in the piece, in the order
            of execution.
        full_inputs: Inputs of the piece in the full-precision network.
        inputs: Its inputs in the quantized network.
        by: The descent.

    Returns:
        Codes and grids by layer. A layer whose weight is used without a call of the layer (as
        attention does) has the nearest codes on its grid.
    """
    # Each layer is fitted to the inputs after the rounded weights of the layers before it.
    weights = {name: piece.get_parameter(f"{name}.weight").detach() for name in grids}
    settled = dict(grids)
    codes = {name: to_codes(weights[name], grid) for name, grid in grids.items()}
    rounded: dict[str, Tensor] = {}
    for name, weight in weights.items():
        layer = piece.get_submodule(name)
        if isinstance(layer, Layer) and _called(piece, name):
            loss = quadratic(name, layer, _inputs_of(piece, name, full_inputs, inputs, rounded))
            grid = settled[name] = grids_to_try(scheme, grids[name], weight, weight, loss)[-1]
            if by == "polish":
                codes[name], _ = polish(
                    to_codes(weight, grid), weight, grid, loss, sweeps=START_SWEEPS
                )
            else:
                # Batch norm is folded in, so the scale of these layers' outputs has a meaning.
                codes[name], _ = round_adaptively(AdaRound(scaling="none"), weight, grid, loss)
        rounded[f"{name}.weight"] = to_weights(codes[name], settled[name])
    return codes, settled


def _called(piece: fx.GraphModule, name: str) -> bool:
    return any(node.op == "call_module" and node.target == name for node in piece.graph.nodes)


def _inputs_of(
    piece: fx.GraphModule,
    name: str,
    full_inputs: Activations,
    inputs: Activations,
    rounded: Mapping[str, Tensor],
) -> Iterator[tuple[Tensor, ...]]:
    """Yield a layer's inputs in the full-precision piece and after `rounded` weights, by chunk."""
    seen: list[Tensor] = []
    show = input_hook(name, lambda _, layer_inputs: seen.append(layer_inputs))
    handle = piece.get_submodule(name).register_forward_pre_hook(show, with_kwargs=True)
    try:
        for full, quantized in zip(full_inputs.chunks(), inputs.chunks(), strict=True):
            piece(in_memory_order(piece, full.clone()))
            functional_call(piece, dict(rounded), (in_memory_order(piece, quantized.clone()),))
            yield tuple(seen)
            seen.clear()
    finally:
        handle.remove()
