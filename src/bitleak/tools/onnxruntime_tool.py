"""ONNX Runtime's own quantizer: integer weights and integer activations.

The network is exported as it is by `bitleak.runtimes.onnx_export`; ONNX Runtime folds constants and
batch norms (`quant_pre_process`), then writes QuantizeLinear and DequantizeLinear around each
operator, with ranges of the activations from the calibration images (smallest and largest value).
The logits are quantized too.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from bitleak.core.types import ModelSpec, Weights
from bitleak.models import state
from bitleak.runtimes.onnx_export import export_network
from bitleak.runtimes.packages import import_extra, quiet_packages
from bitleak.runtimes.traced_graphs import INPUT

PACKAGES = {"onnxruntime.quantization": "onnx", "onnxscript": "onnx"}
"""Modules that the tool needs, with the extra that installs each."""

_BATCH = 32
"""Images per run of the calibration."""


def quantize_static(
    network: nn.Module,
    images: Tensor,
    folder: Path,
    *,
    spec: ModelSpec,
    per_channel: bool = True,
    reduce_range: bool = False,
) -> Path:
    """Quantize a network by ONNX Runtime, int8 weights and activations.

    Args:
        network: The trained network.
        images: Calibration images.
        folder: Folder for the file.
        spec: The network's spec.
        per_channel: One scale per output channel, or one per tensor.
        reduce_range: Weights of 7 bits, for processors on which products of 8 bits saturate (see
            `bitleak.runtimes.integer_products`).

    Returns:
        The file's path.
    """
    kit = import_extra("onnxruntime.quantization", "onnx", "the tool onnxruntime")
    shapes = import_extra(
        "onnxruntime.quantization.shape_inference", "onnx", "the tool onnxruntime"
    )
    plain, prepared, quantized = (folder / f"{name}.onnx" for name in ("plain", "prepared", "int8"))
    plain.write_bytes(export_network(network, Weights(state(network), spec)).content)
    with quiet_packages():
        shapes.quant_pre_process(str(plain), str(prepared))
        kit.quantize_static(
            str(prepared),
            str(quantized),
            _Reader(images.numpy()),
            quant_format=kit.QuantFormat.QDQ,
            per_channel=per_channel,
            reduce_range=reduce_range,
            activation_type=kit.QuantType.QUInt8,
            weight_type=kit.QuantType.QInt8,
        )
    return quantized


class _Reader:
    """Calibration images as ONNX Runtime asks for them."""

    def __init__(self, images: np.ndarray) -> None:
        self._batches: Iterator[np.ndarray] = iter(
            [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
        )

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}

    def set_range(self, start_index: int, end_index: int) -> None:
        """Not used by the calibration with smallest and largest values."""
