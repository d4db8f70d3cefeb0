"""Inputs of layers on grids of 8 bits: the float simulation of quantized activations.

    code = clamp(round(x / scale) + zero_point, 0, levels - 1)
    x'   = scale * (code - zero_point)

in float32, with halves rounded to even numbers, as ONNX's QuantizeLinear and DequantizeLinear say.
The rounding is a hook before the layer, so that names, tensors and copies of a network stay as they
are.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class InputRounding:
    """A hook that rounds the input of a layer to its grid.

    Attributes:
        scale: Step of the grid, > 0.
        zero_point: The code of 0, from 0 to levels - 1.
        levels: Number of codes.

    Example:
        >>> InputRounding(0.5, 1, 4).rounded(torch.tensor([-2.0, -0.25, 0.2, 0.75, 9.0])).tolist()
        [-0.5, 0.0, 0.0, 1.0, 1.0]
    """

    scale: float
    zero_point: int
    levels: int

    def rounded(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the values on the grid."""
        codes = torch.round(values / self.scale) + self.zero_point
        return (codes.clamp(0, self.levels - 1) - self.zero_point) * self.scale

    def __call__(self, layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the inputs with the first one rounded, as PyTorch calls hooks."""
        return (self.rounded(inputs[0]), *inputs[1:])


def round_inputs(network: nn.Module, grids: Mapping[str, Mapping[str, Any]]) -> nn.Module:
    """Round the inputs of layers from now on, in place.

    Args:
        network: Any network.
        grids: Fields of `InputRounding` by name of the layer; empty changes nothing.

    Returns:
        The network.
    """
    for name, grid in grids.items():
        network.get_submodule(name).register_forward_pre_hook(InputRounding(**grid))
    return network


@contextmanager
def exact_inputs(network: nn.Module) -> Iterator[nn.Module]:
    """Leave the inputs of all layers as they are for a while."""
    taken: list[tuple[nn.Module, InputRounding]] = []
    for module in network.modules():
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, InputRounding):
                taken.append((module, hook))
                del module._forward_pre_hooks[key]
    try:
        yield network
    finally:
        for module, hook in taken:
            module.register_forward_pre_hook(hook)
