"""In which order of memory a network computes."""

import torch
from torch import nn

_VECTOR = 8
"""Channels that an AVX2 instruction takes at a time."""


def memory_format(network: nn.Module, device: torch.device | str) -> torch.memory_format:
    """Channels-last, which is faster, wherever the weight gradients of all convolutions are safe in it.

    On a CPU, oneDNN (seen in PyTorch 2.13 on AVX2) writes past its memory in the weight gradient of a strided 1x1
    convolution whose input channels are no multiple of 8; such networks keep PyTorch's own order there.

    Example:
        >>> memory_format(nn.Conv2d(16, 32, 1, stride=2), "cpu")
        torch.channels_last
        >>> memory_format(nn.Conv2d(4, 8, 1, stride=2), "cpu")
        torch.contiguous_format
    """
    if torch.device(device).type == "cpu" and any(_unsafe(module) for module in network.modules()):
        return torch.contiguous_format
    return torch.channels_last


def _unsafe(module: nn.Module) -> bool:
    if not isinstance(module, nn.Conv2d):
        return False
    return max(module.kernel_size) == 1 and max(module.stride) > 1 and module.in_channels % _VECTOR > 0
