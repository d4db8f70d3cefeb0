"""torchao: weights of linear layers, one scale per row; it leaves convolutions as they are."""

from pathlib import Path

import torch
from torch import Tensor, nn

from bitleak.core.checks import integer_in
from bitleak.runtimes.packages import import_extra, quiet_packages

PACKAGES = {"torchao.quantization": "torchao"}
"""Modules that the tool needs, with the extra that installs each."""


def quantize_weights(
    network: nn.Module, images: Tensor, folder: Path, *, bits: int = 8
) -> nn.Module:
    """Quantize the linear layers of a network by torchao, weights only, one scale per row.

    Args:
        network: The trained network, which is changed.
        images: Calibration images, which are not used.
        folder: Folder for files, which is not used.
        bits: Width of the codes, 2 to 8; symmetric, so that 2 bits are the codes -2 to 1.

    Returns:
        The network.

    Raises:
        ValueError: `bits` is out of range.
    """
    integer_in("bits", bits, 2, 8)
    with quiet_packages():
        kit = import_extra("torchao.quantization", "torchao", "the tool torchao")
        if bits == 8:
            config = kit.Int8WeightOnlyConfig()
        else:
            config = kit.IntxWeightOnlyConfig(
                weight_dtype=getattr(torch, f"int{bits}"), granularity=kit.PerAxis(0)
            )
        kit.quantize_(network, config)
    return network
