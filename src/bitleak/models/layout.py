"""The order of memory in which a network computes."""

import torch
from torch import nn

from bitleak.core.types import ModelSpec
from bitleak.models.network_trial import Shape
from bitleak.models.trial import check_answers
from bitleak.registry import MODELS

_VECTOR = 8
"""Channels that an AVX2 instruction takes at a time."""


def memory_format(
    network: nn.Module, device: torch.device | str, *, channels_last: bool = True
) -> torch.memory_format:
    """Return channels-last, which is faster, if all weight gradients are safe in it.

    Args:
        network: The network to train.
        device: Device of the training.
        channels_last: Whether it gives the same answers in that order, see `bitleak.models.trial`.

    On a CPU, oneDNN (seen in PyTorch 2.13 on AVX2) writes past its memory in the weight gradient of
    a strided 1x1 convolution whose input channels are no multiple of 8; such networks keep
    PyTorch's own order there.

    Example:
        >>> memory_format(nn.Conv2d(16, 32, 1, stride=2), "cpu")
        torch.channels_last
        >>> memory_format(nn.Conv2d(4, 8, 1, stride=2), "cpu")
        torch.contiguous_format
    """
    if not channels_last:
        return torch.contiguous_format
    if torch.device(device).type == "cpu" and any(_unsafe(module) for module in network.modules()):
        return torch.contiguous_format
    return torch.channels_last


def evaluation_format(
    network: nn.Module, spec: ModelSpec, device: torch.device | str
) -> torch.memory_format:
    """Return channels-last, unless a few images show that an outside network does not work in it.

    Args:
        network: In evaluation mode, on the device.
        spec: Its spec, for the name and the shape of the data.
        device: Device that holds it.

    Raises:
        ModelError: The network is from outside, and its answers are no logits, or not those of one
            image alone.
    """
    if spec.name in MODELS and spec.name != "external":
        return torch.channels_last
    is_same = check_answers(network, Shape(spec.classes, spec.channels, spec.size), device)
    return torch.channels_last if is_same else torch.contiguous_format


def _unsafe(module: nn.Module) -> bool:
    if not isinstance(module, nn.Conv2d):
        return False
    return (
        max(module.kernel_size) == 1 and max(module.stride) > 1 and module.in_channels % _VECTOR > 0
    )
