"""Checks of the tensors of a network under trial: plain, not shared between two, started anew.

A population is trained model by model. If a factory gives the same module twice (`functools.cache`,
a network or a backbone in a variable of its module), every model goes on from the weights of the
one before, was trained on its records too, and no figure shows it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bitleak.core.errors import ModelError
from bitleak.models.network_trial import NetworkTrial


def check_tensors_alone(tried: NetworkTrial) -> None:
    """Refuse a network whose state dict holds anything but tensors.

    Raises:
        ModelError: An entry is no tensor; it is named.
    """
    for name, value in tried.network.state_dict().items():
        if not isinstance(value, Tensor):
            raise ModelError(
                f"{tried.name}: {name!r} of the state dict is a {type(value).__name__} (`get_extra_state`, perhaps); "
                "models are stored as tensors alone: make it a buffer (`self.register_buffer(name, tensor)`), or an "
                "argument of the factory"
            )


def check_nothing_shared(tried: NetworkTrial, second: NetworkTrial, images: Tensor) -> None:
    """Refuse two networks of a factory that share tensors which training changes.

    Parameters that are trained are compared by their memory, and buffers if a pass in training mode
    changes them. A constant, or a frozen backbone, may be shared.

    Args:
        tried: The network under trial.
        second: Another network of the same factory.
        images: A few images for the pass.

    Raises:
        ModelError: A tensor is shared; the first one is named.
    """
    # Buffers that are the same tensor count only once a pass has shown that training changes them.
    first = {_memory(tensor) for _, tensor in _tensors(tried.network)}
    shared = [
        (name, tensor) for name, tensor in _tensors(second.network) if _memory(tensor) in first
    ]
    before = [tensor.detach().clone() for _, tensor in shared]
    if shared:
        second.network.train()
        second.output(images.clone(), "in training mode ")
        second.network.eval()
    for (name, tensor), old in zip(shared, before, strict=True):
        if (isinstance(tensor, nn.Parameter) and tensor.requires_grad) or not torch.equal(
            tensor, old
        ):
            raise ModelError(
                f"{tried.name} gives two networks the same tensor {name!r}: a model would go on from the weights of "
                "the one trained before it. Make new modules in every call (no `cache` on the factory, no network or "
                "layer in a variable of the module or class)"
            )


def sums_of(network: nn.Module) -> dict[str, float]:
    """Return the sum of each parameter whose values differ, by which two initialisations differ."""
    sums: dict[str, float] = {}
    for name, parameter in network.named_parameters():
        # Lazy parameters have no values yet; constants (gains of norms) are equal in all networks.
        if isinstance(parameter, nn.UninitializedParameter) or not parameter.is_floating_point():
            continue
        if parameter.numel() > 1 and bool((parameter != parameter.reshape(-1)[0]).any()):
            sums[name] = float(parameter.detach().double().sum())
    return sums


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()


def _memory(tensor: Tensor) -> int:
    """Return the address of the tensor's memory; that of its object if it has none."""
    return (tensor.untyped_storage().data_ptr() if tensor.numel() else 0) or id(tensor)
