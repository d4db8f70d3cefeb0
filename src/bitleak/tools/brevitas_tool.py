"""Brevitas: weights by greedy path following, GPFQ or Qronos, as packed codes in an ONNX file.

Convolutions and linear layers get codes on grids per channel, activations stay float. Brevitas'
symmetric grid is narrow: 2 bits are the three codes -1, 0 and 1, and four on the other one. Weights whose input is
always zero become zero. The codes are written by `bitleak.runtimes.onnx_export`, with batch norms
as they are, so that the file's weights are Brevitas' own, bit for bit.

GPFQ: Lybrand and Saab 2021 (arXiv 2010.15990). Qronos: arXiv 2505.11695.
"""

import copy
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bitleak.core.checks import integer_in, one_of
from bitleak.core.errors import QuantizationError
from bitleak.core.types import ModelSpec, QuantizedLayer, QuantizedWeights
from bitleak.models import state
from bitleak.quantizers.assembly import deployed
from bitleak.runtimes.onnx_export import export_network
from bitleak.runtimes.packages import import_extra, quiet_packages

PACKAGES = {
    "brevitas.graph.gpfq": "brevitas",
    "brevitas.graph.qronos": "brevitas",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
}
"""Modules that the tool needs, with the extra that installs each."""

_BATCH = 32
"""Images per forward pass."""

Method = Literal["gpfq", "qronos"]


def quantize_with_brevitas(
    network: nn.Module,
    images: Tensor,
    folder: Path,
    *,
    spec: ModelSpec,
    bits: int = 4,
    method: Method = "gpfq",
    symmetric: bool = True,
) -> Path:
    """Quantize the weights of a network by Brevitas.

    Args:
        network: The trained network, which is not changed.
        images: Calibration images.
        folder: Folder for the file.
        spec: The network's spec.
        bits: Width of the codes, 2 to 8, as Brevitas counts it.
        method: `gpfq` or `qronos`.
        symmetric: Brevitas' signed grid, or its shifted one from the smallest to the largest weight.

    Returns:
        The file's path.

    Raises:
        ValueError: An option is out of range.
        QuantizationError: There is nothing to quantize, or a grid is not per channel.
    """
    integer_in("bits", bits, 2, 8)
    one_of("method", method, ("gpfq", "qronos"))
    quantized = _quantized_network(network, images, bits, method, symmetric)
    codes = {}
    layers = import_extra("brevitas.nn", "brevitas", "the tool brevitas")
    kinds = (layers.QuantConv1d, layers.QuantConv2d, layers.QuantLinear)
    for name, module in quantized.named_modules():
        if isinstance(module, kinds):
            codes[name] = _codes(name, module.quant_weight())
    if not codes:
        raise QuantizationError("Brevitas finds no convolution or linear layer in the network")
    # Batch norms are exported as they are, so every other tensor stays.
    rest = {
        key: array
        for key, array in state(network).items()
        if key.removesuffix(".weight") not in codes
    }
    weights = QuantizedWeights(codes, rest, spec)
    path = folder / f"{method}-{bits}.onnx"
    path.write_bytes(export_network(deployed(network, weights), weights).content)
    return path


def _quantized_network(
    network: nn.Module, images: Tensor, bits: int, method: Method, symmetric: bool
) -> nn.Module:
    """Return a copy whose layers are Brevitas' own, after the calibration."""
    kits = {}
    for name in ("nn", "graph.quantize", "graph.gpfq", "graph.qronos", "quant"):
        kits[name] = import_extra(f"brevitas.{name}", "brevitas", "the tool brevitas")
    layers, grids = kits["nn"], kits["quant"]
    options: dict[str, Any] = {
        "weight_quant": grids.Int8WeightPerChannelFloat
        if symmetric
        else grids.ShiftedUint8WeightPerChannelFloat,
        "weight_bit_width": bits,
        "return_quant_tensor": False,
    }
    with quiet_packages(), torch.no_grad():
        quantized: nn.Module = kits["graph.quantize"].layerwise_quantize(
            copy.deepcopy(network),
            compute_layer_map={
                nn.Conv1d: (layers.QuantConv1d, options),
                nn.Conv2d: (layers.QuantConv2d, options),
                nn.Linear: (layers.QuantLinear, options),
            },
        )
        quantized.eval()
        algorithm = kits["graph.qronos"].Qronos if method == "qronos" else kits["graph.gpfq"].GPFQ
        mode = kits["graph.gpfq"].gpfq_mode(
            quantized,
            create_weight_orig=True,
            use_quant_activations=False,
            act_order=True,
            algorithm_impl=algorithm,
        )
        # One pass per layer: each corrects the error of the layers before it.
        with mode:
            for _ in range(mode.num_layers):
                for batch in images.split(_BATCH):
                    mode.model(batch)
                mode.update()
    return quantized


@torch.no_grad()
def _codes(name: str, weight: Any) -> QuantizedLayer:
    """Return the codes of a weight: 0 is the smallest code that the grid of a layer uses."""
    whole = torch.round(weight.value / weight.scale + weight.zero_point)
    scale = weight.scale.reshape(-1)
    if len(scale) not in (1, len(whole)):
        raise QuantizationError(
            f"layer {name!r}: Brevitas has {len(scale)} grids for {len(whole)} output channels; expected one each"
        )
    lowest = whole.min()
    codes = (whole - lowest).to(torch.uint8).numpy()
    zero_point = (weight.zero_point - lowest).reshape(-1).expand(len(scale))
    return QuantizedLayer(
        codes,
        scale.float().numpy().copy(),
        zero_point.float().numpy().copy(),
        max(2, int(codes.max()) + 1),
    )
