"""The layers of an ONNX file, and the values that their weights take.

A layer is a product (Conv, Gemm, MatMul and their integer forms) with a constant weight. Its weight
is looked up through the operators that make it, never by name: an exporter that folds a batch norm
keeps the name of the weight. Values are counted per grid, that is per scale: a block, a channel or
a tensor.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bitleak.runtimes.file_layers import LayerCount, facts_of_layers
from bitleak.runtimes.onnx_files import PURPOSE
from bitleak.runtimes.packages import import_extra


class WeightInputs(NamedTuple):
    """Positions among a product's inputs.

    Attributes:
        weight: The weight.
        scale: Its scale; None if the product has none.
        zero_point: Its zero point, likewise.
    """

    weight: int
    scale: int | None = None
    zero_point: int | None = None


FLOAT_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators of layers whose weight is a second input of floats."""

INTEGER_PRODUCTS = {
    "ConvInteger": WeightInputs(1, zero_point=3),
    "MatMulInteger": WeightInputs(1, zero_point=3),
    "QLinearConv": WeightInputs(3, 4, 5),
    "QLinearMatMul": WeightInputs(3, 4, 5),
    "DynamicQuantizeMatMul": WeightInputs(1, 2, 3),
    "MatMulIntegerToFloat": WeightInputs(1, 3, 5),
    "QGemm": WeightInputs(3, 4, 5),
}
"""Operators of layers that multiply 8-bit integers."""

_PRODUCTS = {
    **dict.fromkeys(FLOAT_PRODUCTS, WeightInputs(1)),
    **INTEGER_PRODUCTS,
    "MatMulNBits": WeightInputs(1, 2, 3),
}
"""Operators of layers."""

DEQUANTIZE = WeightInputs(0, 1, 2)
"""Inputs of DequantizeLinear."""

DEFAULT_BITS = 4
"""Width of the codes of a MatMulNBits that states none."""

_PASSING = ("Transpose", "Reshape", "Identity", "Mul", "Sub", "Cast", "Squeeze", "Unsqueeze")
"""Operators between the codes and the weight, whose first input is followed."""


def file_layers(model: Any) -> list[LayerCount]:
    """Return the layers of a file, in the order of the graph."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    makers: dict[str, Any] = {}
    for node in model.graph.node:
        makers.update(dict.fromkeys(node.output, node))
    layers = []
    for node in model.graph.node:
        places = _PRODUCTS.get(node.op_type)
        if places is None or len(node.input) <= places.weight:
            continue
        count = _count(node, node.input[places.weight], constants, makers)
        if count is not None:
            layers.append(count)
    return layers


def largest_code(model: Any) -> int:
    """Return the largest absolute value of a file's constants of signed 8-bit integers; 0 if it has none."""
    onnx = import_extra("onnx", "onnx", PURPOSE)
    return max(
        (
            int(np.abs(onnx.numpy_helper.to_array(tensor).astype(np.int16)).max(initial=0))
            for tensor in model.graph.initializer
            if tensor.data_type == onnx.TensorProto.INT8
        ),
        default=0,
    )


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
    # The operator that has the grids: the product itself, or one between the codes and it.
    owner = None if product.op_type in FLOAT_PRODUCTS else product
    while name not in constants:
        node = makers.get(name)
        if node is None or node.op_type not in (*_PASSING, "DequantizeLinear"):
            return None
        if node.op_type == "DequantizeLinear":
            owner = node
        name = node.input[0]
    values = np.asarray(helper.to_array(constants[name]))
    if owner is None or values.dtype in (np.float32, np.float16, np.float64):
        return LayerCount(label, None, 8 * values.itemsize, values.size, values.nbytes)

    places = DEQUANTIZE if owner.op_type == "DequantizeLinear" else _PRODUCTS[owner.op_type]
    scale, zero_point = (
        _constant(owner, places.scale, constants),
        _constant(owner, places.zero_point, constants),
    )
    grid_bytes = _stored_bytes(scale) + _stored_bytes(zero_point)
    attributes = {item.name: item.i for item in owner.attribute}
    if owner.op_type == "MatMulNBits":
        bits = attributes.get("bits", DEFAULT_BITS)
        grids = list(_unpacked(values, bits).reshape(-1, attributes["block_size"]))
        weights = attributes["K"] * attributes["N"]
    else:
        bits, weights = _bits(constants[name].data_type), values.size
        grids = _grids(values, owner, scale, attributes)
    levels = max(len(np.unique(grid)) for grid in grids)
    return LayerCount(label, levels, bits, weights, -(-weights * bits // 8) + grid_bytes)


def _constant(node: Any, position: int | None, constants: Mapping[str, Any]) -> Any:
    """Return an input's tensor; None if it is absent or computed."""
    if position is None or len(node.input) <= position:
        return None
    return constants.get(node.input[position])


def _grids(
    values: np.ndarray, node: Any, scale: Any, attributes: Mapping[str, int]
) -> list[np.ndarray]:
    """Return the codes of each grid; a channel's for blocks of a channel, which are finer."""
    # Without a scale here, there may be one per channel in an operator after it.
    if scale is None or values.ndim == 0 or int(np.prod(scale.dims)) == 1:
        return [values]
    if node.op_type == "DequantizeLinear":
        axis = attributes.get("axis", 1) % values.ndim
    else:
        # Convolutions have their output channels first, matrices last unless they are transposed.
        axis = 0 if node.op_type == "QLinearConv" or attributes.get("transB") else values.ndim - 1
    moved = np.moveaxis(values, axis, 0)
    block = attributes.get("block_size", 0)
    if not block:
        return list(moved.reshape(len(moved), -1))
    grids: list[np.ndarray] = []
    for start in range(0, len(moved), block):
        piece = moved[start : start + block]
        grids += list(piece.reshape(len(piece), -1).T)
    return grids


def _bits(kind: int) -> int:
    types = import_extra("onnx", "onnx", PURPOSE).TensorProto
    narrow = {types.UINT4: 4, types.INT4: 4, types.UINT2: 2, types.INT2: 2}
    return narrow.get(kind, 16 if kind in (types.UINT16, types.INT16) else 8)


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """Return the codes of each row of bytes, the first code in the lowest bits."""
    stream = np.unpackbits(packed.astype(np.uint8), axis=-1, bitorder="little")
    whole = stream[..., : stream.shape[-1] // bits * bits]
    digits = whole.reshape(*whole.shape[:-1], -1, bits)
    return digits @ (1 << np.arange(bits))


def _stored_bytes(tensor: Any) -> int:
    """Return the bytes of scales or zero points; codes below 8 bits count as a byte each."""
    if tensor is None:
        return 0
    wide = {"FLOAT": 4, "FLOAT16": 2, "BFLOAT16": 2, "INT32": 4}
    kind = import_extra("onnx", "onnx", PURPOSE).TensorProto.DataType.Name(tensor.data_type)
    return int(np.prod(tensor.dims)) * wide.get(kind, 1)
