"""torchao: weights of linear layers in 8 bits, one scale per row; it leaves convolutions as they are."""

from pathlib import Path

from torch import Tensor, nn

from bitleak.runtimes.packages import import_extra

PACKAGES = {"torchao.quantization": "torchao"}
"""Modules that the tool needs, with the extra that installs each."""


def quantize_weights(network: nn.Module, images: Tensor, folder: Path) -> nn.Module:
    """Quantize the linear layers of a network by torchao, weights only, one scale per row.

    Args:
        network: The trained network, which is changed.
        images: Calibration images, which are not used.
        folder: Folder for files, which is not used.

    Returns:
        The network.
    """
    kit = import_extra("torchao.quantization", "torchao", "the tool torchao")
    kit.quantize_(network, kit.Int8WeightOnlyConfig())
    return network
