"""The layers of a LiteRT file, and the values that their weights take.

A layer is a product with a constant weight. Values are counted per scale: a channel or a tensor.
LiteRT rounds the activations of a product whose images are floats and whose weight is integers
("dynamic range"), as if the file said so; after a DEQUANTIZE it does not.
"""

from typing import Any

import numpy as np

from bitleak.core.errors import ModelError
from bitleak.runtimes.file_layers import LayerCount, facts_of_layers
from bitleak.runtimes.litert_files import operators, stored_bytes, tensor_type, text

PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL")
"""Operators of layers, whose second input is the weight."""

_PASSING = ("DEQUANTIZE", "RESHAPE", "TRANSPOSE")
"""Operators between the codes and the weight, whose first input is followed."""

_FLOATS = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16}
WIDTHS = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "int16": 16, "uint16": 16}
"""Widths of integers that are not 8 bits wide."""


def check_products(model: Any, path: str) -> None:
    """Refuse a product that LiteRT is known to answer wrongly, by all of its kernels alike.

    Raises:
        ModelError: A convolution of floats has 2-bit weights (`findings/litert-two-bit-convolution.sh`).
    """
    tensors = model.subgraphs[0].tensors
    for name, operator in operators(model):
        kinds = [tensor_type(tensors[index]) for index in operator.inputs[:2]]
        if name == "CONV_2D" and kinds[0] in _FLOATS and WIDTHS.get(kinds[1]) == 2:
            label = text(tensors[operator.outputs[0]].name)
            raise ModelError(
                f"{path}: CONV_2D {label!r} has 2-bit weights and float images, which LiteRT answers wrongly and with "
                "NaN; convert the network with a DEQUANTIZE before it, or with 4 bits"
            )


def tflite_facts(model: Any, content: bytes) -> dict[str, Any]:
    """Return levels counted, layers in full precision, bits per weight and activations, as JSON values."""
    tensors = model.subgraphs[0].tensors
    makers: dict[int, tuple[str, Any]] = {}
    for name, operator in operators(model):
        makers.update({int(index): (name, operator) for index in operator.outputs})
    layers, rounded = [], False
    for name, operator in operators(model):
        # Integers that are computed from the images, or that a product rounds its images to.
        made = [tensors[index] for index in operator.outputs]
        rounded |= name != "DEQUANTIZE" and any(
            tensor_type(tensor) in ("int8", "uint8", "int16") and _scales(tensor) is not None
            for tensor in made
        )
        if name not in PRODUCTS:
            continue
        tensor = _weight(int(operator.inputs[1]), tensors, makers)
        layer = _count(model, tensor, text(made[0].name), content)
        layers += [] if layer is None else [layer]
        given = tensor_type(tensors[operator.inputs[0]])
        direct = tensor_type(tensors[operator.inputs[1]])
        rounded |= layer is not None and given in _FLOATS and direct not in _FLOATS
    return {
        "quantized_activations": bool(rounded),
        **facts_of_layers(layers),
        "folded_batch_norms": True,
    }


def _weight(index: int, tensors: Any, makers: dict[int, tuple[str, Any]]) -> Any:
    """Return the tensor of the codes, or of the floats, that a weight is made from."""
    while index in makers and makers[index][0] in _PASSING:
        index = int(makers[index][1].inputs[0])
    return tensors[index]


def _count(model: Any, tensor: Any, label: str, content: bytes) -> LayerCount | None:
    """Return a product's layer; None if its second factor is computed from the images."""
    data = stored_bytes(model, tensor, content)
    if data is None:
        return None
    kind, shape = tensor_type(tensor), tuple(int(length) for length in tensor.shape)
    size = int(np.prod(shape))
    if kind in _FLOATS:
        return LayerCount(label, None, _FLOATS[kind], size, len(data))
    bits, scales = WIDTHS.get(kind, 8), _scales(tensor)
    if bits < 8:
        # The first code is in the lowest bits.
        shifts = np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits)
        data = ((data[:, None] >> shifts) & np.uint8(2**bits - 1)).reshape(-1)[:size]
    codes = data.view(np.uint16) if bits == 16 else data
    grids = codes.reshape(1, -1)
    if scales is not None and len(scales) > 1:
        moved = np.moveaxis(codes.reshape(shape), tensor.quantization.quantizedDimension, 0)
        grids = moved.reshape(len(moved), -1)
    levels = max(len(np.unique(grid)) for grid in grids)
    stored = -(-size * bits // 8) + (0 if scales is None else 12 * len(scales))
    return LayerCount(label, levels, bits, size, stored)


def _scales(tensor: Any) -> np.ndarray | None:
    """Return the scales of a tensor, each stored with a zero point of 8 bytes; None without any."""
    grid = tensor.quantization
    if grid is None or grid.scale is None or len(grid.scale) == 0:
        return None
    return np.asarray(grid.scale)
