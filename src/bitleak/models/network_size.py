"""Size and cost of a network, by a forward pass of one image, and tensors with several names."""

from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_PROFILED = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class Profile:
    """Size and cost of a network.

    Attributes:
        parameters: Trainable numbers; running statistics are not counted.
        multiply_adds: Multiplications of convolutions and linear layers in the forward pass of one
            image.
        layers: Shape of the weight of each convolution and linear layer as a matrix, (output
            channels, input channels per group times kernel area), by module name, in the order of
            execution.
    """

    parameters: int
    multiply_adds: int
    layers: dict[str, tuple[int, int]]


def profile_of(network: nn.Module, images: Tensor) -> Profile:
    """Return the profile of a network, which is left in evaluation mode.

    Args:
        network: Any network; layers that the forward pass does not reach are left out of `layers`.
        images: Inputs, [records, channels, height, width], on the network's device.

    Example:
        >>> profile_of(nn.Conv2d(4, 6, 3, padding=1, groups=2), torch.zeros(1, 4, 5, 5))
        Profile(parameters=114, multiply_adds=2700, layers={'': (6, 18)})
    """
    layers: dict[str, tuple[int, int]] = {}
    counts: list[int] = []

    def watch(name: str, layer: nn.Conv2d | nn.Linear) -> Any:
        # Each output number of a layer takes as many multiplications as a row of its weight has.
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            layers[name] = (len(layer.weight), layer.weight[0].numel())
            counts.append(layer.weight[0].numel() * output.numel())

        return layer.register_forward_hook(hook)

    handles = []
    for name, layer in network.named_modules():
        if isinstance(layer, _PROFILED):
            handles.append(watch(name, layer))
    with torch.no_grad():
        network.eval()(images)
    for handle in handles:
        handle.remove()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Profile(parameters=parameters, multiply_adds=sum(counts) // len(images), layers=layers)


def reaches_all_layers(network: nn.Module, layers: Container[str]) -> bool:
    """Return whether `layers` has all convolutions and linear layers of a network."""
    return all(
        name in layers for name, layer in network.named_modules() if isinstance(layer, _PROFILED)
    )


def shared_names(network: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Return the names of the state dict that are one tensor, for each tensor that has several.

    Example:
        >>> first = nn.Linear(2, 2)
        >>> shared_names(nn.Sequential(first, nn.ReLU(), first))
        (('0.weight', '2.weight'), ('0.bias', '2.bias'))
    """
    names = defaultdict(list)
    for name, tensor in network.state_dict(keep_vars=True).items():
        # Empty tensors may all have the address 0.
        if tensor.numel():
            place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            names[place].append(name)
    return tuple(tuple(aliases) for aliases in names.values() if len(aliases) > 1)


def repeated_names(network: nn.Module) -> frozenset[str]:
    """Return the names of the state dict whose tensor has an earlier name too."""
    repeated: set[str] = set()
    for names in shared_names(network):
        repeated.update(names[1:])
    return frozenset(repeated)
