"""The input and the output of an OpenVINO graph, as it states them.

| stated by the graph | read as |
|---|---|
| layout of the input, such as `[N,H,W,C]` | order of its axes |
| 8-bit input, then Convert, Subtract and Multiply | its zero point and scale |
| FakeQuantize and Convert before an 8-bit output | its zero point and scale |
"""

from dataclasses import dataclass
from typing import Any, cast

from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec
from bitleak.runtimes.network_ports import (
    AxisOrder,
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
from bitleak.runtimes.openvino_layers import constant_value, source, type_name

_NUMBER_TYPES = {"f32": "float32", "f16": "float16", "u8": "uint8", "i8": "int8"}
"""Names of number types, by OpenVINO's."""

_PASSING = ("Convert", "Reshape", "Squeeze", "FakeQuantize")
"""Operators that keep the order and, up to rounding, the values of a vector."""


@dataclass(frozen=True)
class StoredPlace:
    """An output with its place among the outputs of the graph.

    Attributes:
        port: The output.
        index: Its place.
    """

    port: OutputPort
    index: int


def read_ir_input(model: Any, spec: ModelSpec, path: str, options: PortOptions) -> InputPort:
    """Return the input of a graph.

    Args:
        model: The `openvino.Model`.
        spec: Shape of the images.
        path: Name of the file, for messages.
        options: Options for the cases in which the file does not say.

    Raises:
        ModelError: There are several inputs, or this one does not fit the images.
    """
    if len(model.inputs) != 1:
        names = ", ".join(repr(_names(port)[0]) for port in model.inputs) or "none"
        raise ModelError(f"{path}: expected one input, the images; got {names}")
    port = model.inputs[0]
    operator = port.get_node()
    stated = str(operator.get_layout().to_string()).strip("[]").replace(",", "")
    stored = StoredInput(
        _names(port)[0],
        _dims(port),
        _NUMBER_TYPES.get(type_name(port), "another type"),
        _input_grid(port),
        layout=cast(AxisOrder, stated) if stated in ("NCHW", "NHWC") else None,
        grid_reason="no Subtract and Multiply take it",
    )
    return input_port(stored, spec, path, options)


def read_ir_output(model: Any, spec: ModelSpec, path: str, options: PortOptions) -> StoredPlace:
    """Return the output of a graph that holds the answers; a tensor inside becomes an output.

    Args:
        model: The `openvino.Model`, which may be changed.
        spec: Number of classes.
        path: Name of the file, for messages.
        options: Options for the cases in which the file does not say.

    Raises:
        ModelError: There are several outputs and none is named, or this one does not fit.
    """
    tensors: dict[str, Any] = {}
    for operator in model.get_ordered_ops():
        if operator.get_type_name() not in ("Result", "Constant", "Parameter"):
            for port in operator.outputs():
                tensors.update(dict.fromkeys(_names(port), port))
    shapes = {_names(port)[0]: shape_text(_dims(port)) for port in model.outputs}
    name = chosen_name(options.output, shapes, tensors, path)
    port = tensors[name]
    makers = [result.get_node().input(0).get_source_output() for result in model.outputs]
    if port not in makers:
        model.add_outputs(port)
        makers.append(port)
    stored = StoredOutput(
        name,
        _dims(port),
        _NUMBER_TYPES.get(type_name(port), "another type"),
        _output_grid(port.get_node()),
        softmax=_is_softmax(port.get_node()),
        grid_reason="no FakeQuantize makes it",
    )
    return StoredPlace(output_port(stored, spec, path, options), makers.index(port))


def _names(port: Any) -> list[str]:
    """Return the names of a tensor, the first in the order of the alphabet before the operator's."""
    operator = port.get_node()
    if operator.get_type_name() == "Result":
        operator = source(operator, 0)
    return [*sorted(port.get_names()), str(operator.get_friendly_name())]


def _dims(port: Any) -> tuple[int, ...]:
    """Return the lengths of a tensor's axes; 0 for any length."""
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return ()
    return tuple(dim.get_length() if dim.is_static else 0 for dim in shape)


def _input_grid(port: Any) -> ByteGrid | None:
    """Return scale and zero point by which the graph itself reads its input."""
    scale, zero_point = None, 0
    while scale is None:
        targets = list(port.get_target_inputs())
        operator = targets[0].get_node() if len(targets) == 1 else None
        kind = "" if operator is None else operator.get_type_name()
        if operator is None or kind not in ("Convert", "Subtract", "Multiply"):
            return None
        if kind != "Convert":
            value = constant_value(source(operator, 1))
            if value is None or value.size != 1:
                return None
            number = float(value.reshape(()))
            if kind == "Subtract":
                zero_point = round(number)
            else:
                scale = number
        port = operator.output(0)
    return scale, zero_point


def _output_grid(operator: Any) -> ByteGrid | None:
    """Return scale and zero point of 8-bit integers that a FakeQuantize and a Convert make."""
    rounding = source(operator, 0) if operator.get_type_name() == "Convert" else operator
    if rounding.get_type_name() != "FakeQuantize":
        return None
    ends = [constant_value(source(rounding, place)) for place in (1, 2, 3, 4)]
    values = [float(end.reshape(())) for end in ends if end is not None and end.size == 1]
    if len(values) < 4 or values[2] >= values[3]:
        return None
    low, high, first, last = values
    scale = (high - low) / (last - first)
    return scale, round(first - low / scale)


def _is_softmax(operator: Any) -> bool:
    """Return whether a Softmax makes a tensor, looking through operators that pass it on."""
    while operator.get_type_name() in _PASSING:
        operator = source(operator, 0)
    return operator.get_type_name() == "Softmax"
