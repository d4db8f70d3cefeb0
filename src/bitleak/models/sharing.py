"""Tensors that a network has under several names: a file needs to hold them once."""

from collections import defaultdict

from torch import nn


def shared_names(network: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Return the names of the state dict that are one tensor, for each tensor that has several.

    Example:
        >>> first = nn.Linear(2, 2)
        >>> shared_names(nn.Sequential(first, nn.ReLU(), first))
        (('0.weight', '2.weight'), ('0.bias', '2.bias'))
    """
    names = defaultdict(list)
    for name, tensor in network.state_dict(keep_vars=True).items():
        if tensor.numel():
            place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            names[place].append(name)
    return tuple(tuple(listed) for listed in names.values() if len(listed) > 1)


def repeated_names(network: nn.Module) -> frozenset[str]:
    """Return the names of the state dict whose tensor stands under an earlier name too."""
    return frozenset(name for names in shared_names(network) for name in names[1:])
