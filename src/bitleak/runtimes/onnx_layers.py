"""The layers of an ONNX file, and the values that their weights take.

A layer is a product (Conv, Gemm, MatMul and their integer forms) with a constant weight. Its weight
is looked up through the operators that make it, never by name: an exporter that folds a batch norm
keeps the name of the weight. Values are counted per grid, that is per scale: a block, a channel or
a tensor.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitleak.runtimes.file_layers import LayerCount, facts_of_layers
from bitleak.runtimes.onnx_files import PURPOSE
from bitleak.runtimes.packages import import_extra

PRODUCTS = {
    "Conv": 1,
    "ConvTranspose": 1,
    "Gemm": 1,
    "MatMul": 1,
    "ConvInteger": 1,
    "MatMulInteger": 1,
    "QLinearConv": 3,
    "QLinearMatMul": 3,
    "MatMulNBits": 1,
    "DynamicQuantizeMatMul": 1,
    "MatMulIntegerToFloat": 1,
    "QGemm": 3,
}
"""Operators of layers, and the position of the weight among their inputs."""

PASSING = ("Transpose", "Reshape", "Identity", "Mul", "Sub", "Cast", "Squeeze", "Unsqueeze")
"""Operators between the codes and the weight, whose first input is followed."""


def file_layers(model: Any) -> list[LayerCount]:
    """Return the layers of a file, in the order of the graph."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    makers: dict[str, Any] = {}
    for node in model.graph.node:
        makers.update(dict.fromkeys(node.output, node))
    layers = []
    for node in model.graph.node:
        position = PRODUCTS.get(node.op_type)
        if position is None or len(node.input) <= position:
            continue
        count = _count(node, node.input[position], constants, makers)
        if count is not None:
            layers.append(count)
    return layers


def layer_facts(model: Any) -> dict[str, Any]:
    """Return levels counted, layers in full precision and bits per weight, as JSON values."""
    return {
        **facts_of_layers(file_layers(model)),
        "folded_batch_norms": not any(
            node.op_type == "BatchNormalization" for node in model.graph.node
        ),
    }


def _count(
    product: Any, name: str, constants: Mapping[str, Any], makers: Mapping[str, Any]
) -> LayerCount | None:
    """Return a product's layer; None if its second factor is computed from the images."""
    helper = import_extra("onnx.numpy_helper", "onnx", PURPOSE)
    label = product.name or product.output[0]
    dequantizing = product if product.op_type not in ("Conv", "Gemm", "MatMul") else None
    while name not in constants:
        node = makers.get(name)
        if node is None or node.op_type not in (*PASSING, "DequantizeLinear"):
            return None
        if node.op_type == "DequantizeLinear":
            dequantizing = node
        name = node.input[0]
    values = np.asarray(helper.to_array(constants[name]))
    if dequantizing is None or values.dtype in (np.float32, np.float16, np.float64):
        return LayerCount(label, None, 8 * values.itemsize, values.size, values.nbytes)
    bits = _bits(constants[name].data_type)
    if product.op_type == "MatMulNBits":
        bits = next(item.i for item in product.attribute if item.name == "bits")
        values = _nibbles(values, bits)
    levels = max(len(np.unique(grid)) for grid in _grids(values, dequantizing, constants))
    scales = sum(_stored_bytes(constants.get(key)) for key in dequantizing.input[1:3])
    return LayerCount(label, levels, bits, values.size, values.size * bits // 8 + scales)


def _grids(values: np.ndarray, node: Any, constants: Mapping[str, Any]) -> list[np.ndarray]:
    """Return the codes of each grid; a channel's for blocks of a channel, which are finer."""
    attributes = {item.name: item.i for item in node.attribute}
    scale = constants.get(node.input[1]) if len(node.input) > 1 else None
    if node.op_type != "DequantizeLinear" or scale is None or values.ndim == 0:
        return [values]
    block, axis = attributes.get("block_size", 0), attributes.get("axis", 1) % max(values.ndim, 1)
    moved = np.moveaxis(values, axis, 0)
    if block:
        blocks = [moved[start : start + block] for start in range(0, len(moved), block)]
        return [part for piece in blocks for part in piece.reshape(len(piece), -1).T]
    if int(np.prod(scale.dims)) == 1:
        # Grids without a scale of their own here have one per channel in the operator after it.
        return [values]
    return list(moved.reshape(len(moved), -1))


def _bits(kind: int) -> int:
    types = import_extra("onnx", "onnx", PURPOSE).TensorProto
    narrow = {types.UINT4: 4, types.INT4: 4, types.UINT2: 2, types.INT2: 2}
    return narrow.get(kind, 16 if kind in (types.UINT16, types.INT16) else 8)


def _nibbles(values: np.ndarray, bits: int) -> np.ndarray:
    shifts = np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits)
    return (values.astype(np.uint8)[..., None] >> shifts) & np.uint8(2**bits - 1)


def _stored_bytes(tensor: Any) -> int:
    if tensor is None:
        return 0
    count = int(np.prod(tensor.dims))
    return count * (4 if tensor.data_type == 1 else 1)
