"""Factories that a caller handed over as Python functions, as networks of this process.

A plan names a factory by the weights and the structure that it makes from a fixed seed, as an
attribute of this module, which the model `external` imports like any other. Only this process knows
the function, so its tasks run in the executor `serial`.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from bitleak.models.global_state import seeded_draws

_GIVEN: dict[str, Callable[[], nn.Module]] = {}


def hold_network(make: Callable[[], nn.Module]) -> str:
    """Keep a factory for this process, and return its name as `package.module:factory`.

    Args:
        make: Returns an untrained network; draws from PyTorch's global generator.
    """
    with seeded_draws(0):
        network = make()
    content = hashlib.sha256(str(network).encode())
    for name, tensor in network.state_dict().items():
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        content.update(tensor.detach().cpu().reshape(-1).double().numpy().tobytes())
    name = f"network_{content.hexdigest()[:16]}"
    _GIVEN[name] = make
    return f"{__name__}:{name}"


def __getattr__(name: str) -> Callable[[], nn.Module]:
    """Return the factory with this name."""
    if name not in _GIVEN:
        raise AttributeError(f"module {__name__} has no factory {name!r} in this process")
    return _GIVEN[name]


def taking_rows(network: nn.Module, shape: Sequence[int]) -> nn.Module:
    """Return the network as one that takes its inputs as rows; names of modules and tensors stay.

    Args:
        network: Takes inputs of this shape.
        shape: Shape of one input.
    """
    kind, inner = type(network), tuple(shape)

    def forward(self: Any, rows: Tensor) -> Any:  # a proxy while torch.fx traces
        return kind.forward(self, rows.view(-1, *inner))

    network.__class__ = type(
        kind.__name__,
        (kind,),
        {"forward": forward, "__module__": kind.__module__, "__doc__": kind.__doc__},
    )
    return network


def evaluation_mode(network: nn.Module) -> nn.Module:
    """Return a network in evaluation mode.

    A module of `torch.export` has the mode that it was exported in, and none to change to.

    Example:
        >>> evaluation_mode(nn.Dropout()).training
        False
    """
    try:
        return network.eval()
    except NotImplementedError:
        return network
