"""Tensors that a network has under several names: a file needs to hold them once."""

from collections import defaultdict

from torch import nn


def repeated_names(network: nn.Module) -> frozenset[str]:
    """Return the names of the state dict whose tensor stands under an earlier name too.

    Example:
        >>> first = nn.Linear(2, 2)
        >>> sorted(repeated_names(nn.Sequential(first, nn.ReLU(), first)))
        ['2.bias', '2.weight']
    """
    names = defaultdict(list)
    for name, tensor in network.state_dict(keep_vars=True).items():
        if tensor.numel():
            place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            names[place].append(name)
    return frozenset(name for listed in names.values() for name in listed[1:])
