"""The input and the output of an ONNX file, as its graph states them."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec
from bitleak.runtimes.network_ports import (
    ByteGrid,
    InputPort,
    OutputPort,
    PortOptions,
    StoredInput,
    StoredOutput,
    chosen_name,
    input_port,
    output_port,
    shape_text,
)
from bitleak.runtimes.onnx_files import constant, graph_inputs

_NUMBER_TYPES = {1: "float32", 2: "uint8", 3: "int8", 10: "float16"}
"""Names of number types, by ONNX's numbers."""

_PASSING = (
    "Identity",
    "Cast",
    "Flatten",
    "Reshape",
    "Squeeze",
    "QuantizeLinear",
    "DequantizeLinear",
)
"""Operators that keep the order and, up to rounding, the values of a vector."""


def read_input(model: Any, spec: ModelSpec, path: str, options: PortOptions) -> InputPort:
    """Return the input of a file.

    Args:
        model: Its `ModelProto`.
        spec: Shape of the images.
        path: Name of the file, for messages.
        options: Options for the cases in which the file does not say.

    Raises:
        ModelError: There are several inputs, or this one does not fit the images.
    """
    inputs = graph_inputs(model)
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs) or "none"
        raise ModelError(f"{path}: expected one input, the images; got {names}")
    name, kind = inputs[0].name, inputs[0].type.tensor_type
    stored = StoredInput(
        name,
        _dims(inputs[0]),
        _NUMBER_TYPES.get(kind.elem_type, "another type"),
        _grid_of(model, name, "DequantizeLinear"),
        grid_reason="no DequantizeLinear takes it",
    )
    return input_port(stored, spec, path, options)


def read_output(model: Any, spec: ModelSpec, path: str, options: PortOptions) -> OutputPort:
    """Return the output of a file that holds the answers.

    Args:
        model: Its `ModelProto`; shapes of its tensors are known if the file has them.
        spec: Number of classes.
        path: Name of the file, for messages.
        options: Options for the cases in which the file does not say.

    Raises:
        ModelError: There are several outputs and none is named, or this one does not fit.
    """
    values = {value.name: value for value in model.graph.output}
    inside = set(chain.from_iterable(node.output for node in model.graph.node)) - {""}
    shapes = {key: _shape(value) for key, value in values.items()}
    name = chosen_name(options.output, shapes, inside, path)
    value = values.get(name)
    kind = 1 if value is None else value.type.tensor_type.elem_type
    stored = StoredOutput(
        name,
        () if value is None else _dims(value),
        _NUMBER_TYPES.get(kind, "another type"),
        _grid_of(model, name, "QuantizeLinear"),
        softmax=_maker(model, name, _PASSING) == "Softmax",
        grid_reason="no QuantizeLinear makes it",
        shown=shapes.get(name, ""),
    )
    return output_port(stored, spec, path, options)


def _dims(value: Any) -> tuple[int, ...]:
    """Return the lengths of a tensor's axes; 0 for any length."""
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else 0 for dim in dims)


def _shape(value: Any) -> str:
    dims = value.type.tensor_type.shape.dim
    return shape_text([dim.dim_value or dim.dim_param for dim in dims])


def _maker(model: Any, name: str, passing: Sequence[str]) -> str:
    """Return the operator that makes a tensor, looking through operators that pass it on."""
    makers = {}
    for node in model.graph.node:
        makers.update(dict.fromkeys(node.output, node))
    node = makers.get(name)
    while node is not None and node.op_type in passing:
        node = makers.get(node.input[0])
    return "" if node is None else str(node.op_type)


def _grid_of(model: Any, name: str, operator: str) -> ByteGrid | None:
    """Return scale and zero point by which the file itself reads or writes an 8-bit tensor."""
    for node in model.graph.node:
        tensor = node.input[0] if operator == "DequantizeLinear" and node.input else ""
        tensor = node.output[0] if operator == "QuantizeLinear" else tensor
        if node.op_type != operator or tensor != name:
            continue
        scale = constant(model, node.input[1])
        zero_point = constant(model, node.input[2]) if len(node.input) > 2 else np.zeros(())
        if scale is not None and zero_point is not None and scale.size == 1:
            return float(scale.reshape(())), int(zero_point.reshape(()))
    return None
