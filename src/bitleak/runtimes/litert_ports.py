"""The input and the output of a LiteRT file, whose tensors state scale and zero point themselves."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec
from bitleak.runtimes.litert_files import operators, tensor_type, text
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

_PASSING = ("RESHAPE", "SQUEEZE", "QUANTIZE", "DEQUANTIZE", "CAST")
"""Operators that keep the order and, up to rounding, the values of a vector."""


@dataclass(frozen=True)
class TensorPlace:
    """An output with the number of its tensor.

    Attributes:
        port: The output.
        index: Its tensor.
    """

    port: OutputPort
    index: int


def read_tflite_input(model: Any, spec: ModelSpec, path: str, options: PortOptions) -> InputPort:
    """Return the input of a file.

    Args:
        model: Its tables.
        spec: Shape of the images.
        path: Name of the file, for messages.
        options: Options for the cases in which the file does not say.

    Raises:
        ModelError: There are several inputs, or this one does not fit the images.
    """
    graph = model.subgraphs[0]
    tensors = [graph.tensors[index] for index in graph.inputs]
    if len(tensors) != 1:
        names = ", ".join(repr(text(tensor.name)) for tensor in tensors) or "none"
        raise ModelError(f"{path}: expected one input, the images; got {names}")
    tensor = tensors[0]
    stored = StoredInput(text(tensor.name), _dims(tensor), tensor_type(tensor), _grid(tensor))
    return input_port(stored, spec, path, options)


def read_tflite_output(model: Any, spec: ModelSpec, path: str, options: PortOptions) -> TensorPlace:
    """Return the output of a file that holds the answers; it may be any tensor inside.

    Args:
        model: Its tables.
        spec: Number of classes.
        path: Name of the file, for messages.
        options: Options for the cases in which the file does not say.

    Raises:
        ModelError: There are several outputs and none is named, or this one does not fit.
    """
    graph, makers = model.subgraphs[0], {}
    for kind, operator in operators(model):
        makers.update({int(index): (kind, operator) for index in operator.outputs})
    indices = {text(graph.tensors[index].name): index for index in makers}
    # Signatures give outputs the names that a converter's caller chose.
    for signature in model.signatureDefs or ():
        if signature.subgraphIndex == 0:
            indices.update({text(entry.name): entry.tensorIndex for entry in signature.outputs})
    shapes = {}
    for index in graph.outputs:
        tensor = graph.tensors[index]
        shapes[text(tensor.name)] = shape_text(_dims(tensor))
    name = chosen_name(options.output, shapes, indices, path)
    index = int(indices.get(name, graph.outputs[0]))
    tensor = graph.tensors[index]
    kind, place = "", index
    while place in makers:
        kind, operator = makers[place]
        if kind not in _PASSING:
            break
        place = int(operator.inputs[0])
    stored = StoredOutput(
        name, _dims(tensor), tensor_type(tensor), _grid(tensor), softmax=kind == "SOFTMAX"
    )
    return TensorPlace(output_port(stored, spec, path, options), index)


def _dims(tensor: Any) -> tuple[int, ...]:
    """Return the lengths of a tensor's axes; 0 for any length, which the signature says."""
    lengths = tensor.shapeSignature
    lengths = tensor.shape if lengths is None or len(lengths) == 0 else lengths
    return tuple(max(int(length), 0) for length in (() if lengths is None else lengths))


def _grid(tensor: Any) -> ByteGrid | None:
    """Return scale and zero point of a tensor, or None without a single scale."""
    grid = tensor.quantization
    if grid is None or grid.scale is None or np.size(grid.scale) != 1:
        return None
    points = grid.zeroPoint
    return float(grid.scale[0]), 0 if points is None or len(points) == 0 else int(points[0])
