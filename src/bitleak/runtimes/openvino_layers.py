"""The layers of an OpenVINO graph, and the values that their weights take.

A layer is a product with a constant weight, which is looked up through the operators that make it.
Values are counted per grid, that is per scale: a group, a channel or a tensor. A weight is on a
grid if it is stored as codes, or if a FakeQuantize rounds it.
"""

from typing import Any

import numpy as np

from bitleak.runtimes.file_layers import LayerCount, facts_of_layers
from bitleak.runtimes.openvino_files import PURPOSE, core
from bitleak.runtimes.packages import import_extra

PRODUCTS = (
    "Convolution",
    "GroupConvolution",
    "ConvolutionBackpropData",
    "GroupConvolutionBackpropData",
    "MatMul",
)
_PASSING = ("Convert", "Multiply", "Subtract", "Reshape", "Transpose", "FakeQuantize")
"""Operators between the codes and the weight, whose first input is followed."""

_FLOATS = {"f64": 64, "f32": 32, "f16": 16, "bf16": 16}
NARROW = {"u1": 1, "u2": 2, "u3": 3, "u4": 4, "i4": 4, "u6": 6, "nf4": 4, "f4e2m1": 4}
"""Widths of number types below 8 bits."""


def ir_facts(model: Any) -> dict[str, Any]:
    """Return levels counted, layers in full precision, bits per weight and activations, as JSON values."""
    operators = model.get_ordered_ops()
    layers = []
    for operator in operators:
        if operator.get_type_name() in PRODUCTS:
            layer = _count(operator)
            layers += [] if layer is None else [layer]
    rounding = [op for op in operators if op.get_type_name() == "FakeQuantize"]
    return {
        "quantized_activations": any(_constant_path(op) is None for op in rounding),
        **facts_of_layers(layers),
        "folded_batch_norms": not any(
            op.get_type_name() == "BatchNormInference" for op in operators
        ),
    }


def constant_value(operator: Any) -> np.ndarray | None:
    """Return the value of a constant, or of one that is only converted; None of anything else."""
    while operator.get_type_name() == "Convert":
        operator = source(operator, 0)
    if operator.get_type_name() != "Constant":
        return None
    name = type_name(operator.output(0))
    if name in NARROW or name in ("f8e4m3", "f8e5m2", "f8e8m0"):
        return None
    return np.asarray(operator.get_data())


def source(operator: Any, position: int) -> Any:
    """Return the operator that makes an input."""
    return operator.input(position).get_source_output().get_node()


def type_name(port: Any) -> str:
    """Return the name of a tensor's number type, such as `f32`."""
    return str(port.get_element_type().get_type_name())


def _constant_path(operator: Any) -> list[Any] | None:
    """Return the operators from a weight down to its constant; None if it is computed from the images."""
    path = [operator]
    while path[-1].get_type_name() in _PASSING:
        path.append(source(path[-1], 0))
    return path if path[-1].get_type_name() == "Constant" else None


def _count(product: Any) -> LayerCount | None:
    """Return a product's layer; None if both factors are computed from the images."""
    # A weight is the second factor; of a MatMul it may be the first.
    path = _constant_path(source(product, 1)) or _constant_path(source(product, 0))
    if path is None:
        return None
    constant, label = path[-1], product.get_friendly_name()
    kind, shape = type_name(constant.output(0)), tuple(constant.get_output_shape(0))
    size = int(np.prod(shape))
    roundings = [op for op in path if op.get_type_name() == "FakeQuantize"]
    if kind in _FLOATS and not roundings:
        return LayerCount(label, None, _FLOATS[kind], size, size * _FLOATS[kind] // 8)

    # Scales, and the zero points of weights that are stored as codes.
    grids = [op for op in path if op.get_type_name() in ("Multiply", "Subtract")]
    values = [value for op in grids if (value := constant_value(source(op, 1))) is not None]
    if kind in _FLOATS:
        codes = _rounded(np.asarray(constant.get_data()), roundings[0])
        values = [np.asarray(constant_value(source(roundings[0], 3)))]
        bits = _FLOATS[kind]
    else:
        codes, bits = _codes(constant, kind, shape), NARROW.get(kind, 8)
    scale = max(values, key=np.size, default=np.ones(1))
    levels = max(len(np.unique(grid)) for grid in _grids(codes, scale))
    stored = sum(value.nbytes for value in values)
    return LayerCount(label, levels, bits, size, -(-size * bits // 8) + stored)


def _codes(constant: Any, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the codes of a constant; narrow ones are packed with the first in the lowest bits."""
    data = np.asarray(constant.data)
    if kind not in NARROW:
        # 8-bit floats are told apart by their bits.
        return data.view(np.uint8).reshape(shape)
    bits = NARROW[kind]
    if 8 % bits:
        return _converted(constant)
    shifts = np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits)
    codes = (data.view(np.uint8).reshape(-1)[:, None] >> shifts) & np.uint8(2**bits - 1)
    return codes.reshape(-1)[: int(np.prod(shape))].reshape(shape)


def _converted(constant: Any) -> np.ndarray:
    """Return the values of codes that share bytes, as OpenVINO unpacks them."""
    kit = import_extra("openvino", "openvino", PURPOSE)
    operators = import_extra("openvino.opset13", "openvino", PURPOSE)
    floats = operators.convert(constant, kit.Type.f32)
    compiled = core().compile_model(kit.Model([operators.result(floats)], [], "codes"), "CPU")
    return np.asarray(compiled([])[0])


def _rounded(weight: np.ndarray, rounding: Any) -> np.ndarray:
    """Return the codes to which a FakeQuantize rounds a weight."""
    low, high = (np.asarray(constant_value(source(rounding, place))) for place in (1, 2))
    steps = int(rounding.get_attributes()["levels"]) - 1
    return np.rint((np.clip(weight, low, high) - low) / (high - low) * steps)


def _grids(codes: np.ndarray, scale: np.ndarray) -> list[np.ndarray]:
    """Return the codes of each scale."""
    shape = (1,) * (codes.ndim - scale.ndim) + scale.shape
    axes = [axis for axis, length in enumerate(shape) if length > 1]
    moved = np.moveaxis(codes, axes, range(len(axes)))
    return list(moved.reshape(int(np.prod(moved.shape[: len(axes)])), -1))
