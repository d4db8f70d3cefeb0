"""A quantizer of this package, with its codes in an ONNX file that ONNX Runtime answers.

The float simulation and the file can so be compared as two variants of one audit.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitleak import registry
from bitleak.core.types import ModelSpec
from bitleak.quantizers.assembly import deployed
from bitleak.runtimes.onnx_export import export_network

PACKAGES = {"onnxruntime": "onnx", "onnxscript": "onnx"}
"""Modules that the tool needs, with the extra that installs each."""


def export_codes(
    network: nn.Module,
    images: Tensor,
    folder: Path,
    *,
    spec: ModelSpec,
    quantizer: str,
    levels: int,
    opset: int | None = None,
    **fields: Any,
) -> Path:
    """Quantize by a quantizer of this package, and write its codes as ONNX.

    Args:
        network: The trained network.
        images: Calibration images.
        folder: Folder for the file.
        spec: The network's spec.
        quantizer: A name of the registry's `QUANTIZERS`.
        levels: Grid points per weight.
        opset: See `export_network`.
        **fields: Fields of the quantizer.

    Returns:
        The file's path.
    """
    kind = registry.find(registry.QUANTIZERS, quantizer, kind="quantizer")
    # Draws follow the seed of the tool, which the global generator was given.
    generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    codes = replace(kind(levels=levels, **fields)(network, images, generator), spec=spec)
    path = folder / "codes.onnx"
    path.write_bytes(export_network(deployed(network, codes), codes, opset=opset).content)
    return path
