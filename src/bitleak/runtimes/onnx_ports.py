"""The input and the output of an ONNX file: layout, number type, scale, logits or probabilities.

| part of a file | read as |
|---|---|
| input `[N, C, H, W]` or `[N, H, W, C]` | by the place of the data's channels; `layout` decides if both fit |
| input of 8-bit integers | quantized by the scale of the DequantizeLinear that takes it, or by options |
| float input | standardised images, or pixels (option `pixels`) for files that standardise themselves |
| output of 8-bit integers | multiplied by the scale of the QuantizeLinear that makes it, or by options |
| output of a Softmax | probabilities, of which the logarithm is taken; else logits |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from bitleak.core.checks import unknown_name
from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec
from bitleak.runtimes.onnx_files import constant, graph_inputs

AxisOrder = Literal["NCHW", "NHWC"]
Pixels = Literal["standardised", "unit", "bytes"]
OutputKind = Literal["logits", "probabilities"]

FLOATS: dict[int, np.dtype] = {1: np.dtype(np.float32), 10: np.dtype(np.float16)}
BYTES: dict[int, np.dtype] = {2: np.dtype(np.uint8), 3: np.dtype(np.int8)}
"""Number types of inputs and outputs, by ONNX's numbers."""

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

ByteGrid = tuple[float, int]
"""Scale and zero point of 8-bit numbers."""


@dataclass(frozen=True)
class InputPort:
    """The input of a network.

    Attributes:
        name: Its name in the file.
        dtype: Type of its numbers.
        layout: Order of its axes.
        batch: Images per run that the file fixes; None if any number will do.
        pixels: Values that it takes: standardised images, pixels from 0 to 1, or from 0 to 255.
        grid: Scale and zero point of an input of 8-bit integers; None for floats and for pixels.
    """

    name: str
    dtype: np.dtype
    layout: AxisOrder
    batch: int | None
    pixels: Pixels
    grid: ByteGrid | None

    def values(
        self, images: Float32[np.ndarray, "records channels *size"], spec: ModelSpec
    ) -> np.ndarray:
        """Return standardised images, or rows of a table, as the file takes them."""
        if self.pixels != "standardised":
            shape = (1, -1, *[1] * (images.ndim - 2))
            mean, std = np.array(spec.mean).reshape(shape), np.array(spec.std).reshape(shape)
            unit = images * std + mean
            # Pixels were bytes before they were standardised; columns have units of their own.
            if spec.size:
                unit = np.rint(255 * unit) / (1 if self.pixels == "bytes" else 255)
            images = unit.astype(np.float32)
        if self.grid is not None:
            scale, zero_point = self.grid
            limits = np.iinfo(self.dtype)
            images = np.clip(
                np.rint(images / np.float32(scale)) + zero_point, limits.min, limits.max
            )
        if self.layout == "NHWC":
            images = images.transpose(0, 2, 3, 1)
        return np.ascontiguousarray(images, dtype=self.dtype)


@dataclass(frozen=True)
class OutputPort:
    """The output of a network.

    Attributes:
        name: Its name in the file.
        grid: Scale and zero point of an output of 8-bit integers, or None.
        answers: Whether it holds logits or probabilities.
    """

    name: str
    grid: ByteGrid | None
    answers: OutputKind

    def logits(self, values: np.ndarray) -> Float32[np.ndarray, "records classes"]:
        """Return an output as logits; of probabilities, their logarithms.

        Raises:
            ModelError: A value is not finite, or a probability is 0 or no probability.
        """
        numbers = values.reshape(len(values), -1).astype(np.float32)
        if self.grid is not None:
            numbers = (numbers - np.float32(self.grid[1])) * np.float32(self.grid[0])
        if not np.isfinite(numbers).all():
            bad = int((~np.isfinite(numbers)).any(axis=1).sum())
            raise ModelError(
                f"output {self.name!r} is not finite for {bad} of {len(numbers)} images"
            )
        if self.answers == "logits":
            return numbers
        if numbers.min() < 0 or numbers.max() > 1.001:
            raise ModelError(
                f"output {self.name!r} should hold probabilities, got values from {numbers.min():g} to "
                f"{numbers.max():g}; if they are logits, set the runtime's option answers: logits"
            )
        if numbers.min() == 0:
            raise ModelError(
                f"output {self.name!r} holds probabilities that are rounded to 0, from which no confidence "
                "can be computed; name the tensor before the Softmax by the runtime's option output"
            )
        return np.log(numbers)


def read_input(
    model: Any,
    spec: ModelSpec,
    path: str,
    *,
    layout: AxisOrder | None,
    pixels: Pixels,
    grid: ByteGrid | None,
) -> InputPort:
    """Return the input of a file.

    Args:
        model: Its `ModelProto`.
        spec: Shape of the images.
        path: Name of the file, for messages.
        layout: Order of the axes, or None to find it.
        pixels: Values that it takes.
        grid: Scale and zero point of an 8-bit input, or None to find them.

    Raises:
        ModelError: There are several inputs, or this one does not fit the images.
    """
    inputs = graph_inputs(model)
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs) or "none"
        raise ModelError(f"{path}: expected one input, the images; got {names}")
    name, kind = inputs[0].name, inputs[0].type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
    found_layout = _layout(dims, spec, layout, f"{path}: input {name!r}")
    batch = dims[0] or None
    dtype = {**FLOATS, **BYTES}.get(kind.elem_type)
    if dtype is None:
        raise ModelError(
            f"{path}: input {name!r}: expected float32, float16, uint8 or int8 numbers"
        )
    if kind.elem_type in FLOATS:
        return InputPort(name, dtype, found_layout, batch, pixels, None)
    if pixels == "bytes" and dtype == BYTES[2]:
        return InputPort(name, dtype, found_layout, batch, pixels, None)
    grid = grid or _grid_of(model, name, "DequantizeLinear")
    if grid is None:
        raise ModelError(
            f"{path}: input {name!r} is {dtype}, and no DequantizeLinear takes it: its numbers would be read "
            "wrongly. Set the runtime's options input_scale and input_zero_point or, if it takes pixels from 0 to "
            "255, pixels: bytes"
        )
    return InputPort(name, dtype, found_layout, batch, pixels, grid)


def _layout(
    dims: Sequence[int], spec: ModelSpec, layout: AxisOrder | None, where: str
) -> AxisOrder:
    """Return the order of the axes, in which 0 stands for any length."""
    channels, size = spec.channels, spec.size
    if not size:
        return _row_layout(dims, channels, where)
    shapes: Mapping[AxisOrder, tuple[int, ...]] = {
        "NCHW": (channels, size, size),
        "NHWC": (size, size, channels),
    }
    fitting: list[AxisOrder] = []
    for order, shape in shapes.items():
        if len(dims) == 4 and all(
            dim in (0, length) for dim, length in zip(dims[1:], shape, strict=True)
        ):
            fitting.append(order)
    given = "[" + ", ".join(str(dim or "any") for dim in dims) + "]"
    if not fitting or (layout is not None and layout not in fitting):
        expected = shapes[layout] if layout else shapes["NCHW"]
        other = "" if layout else f" or {list(shapes['NHWC'])}"
        raise ModelError(
            f"{where}: the data's images are [records] and {list(expected)}{other}, got {given}; is it a network for "
            "another data set?"
        )
    if layout is None and len(fitting) == 2 and channels != size:
        raise ModelError(
            f"{where} has the shape {given}, which does not say where the channels are; set the runtime's option "
            "layout to NCHW or NHWC"
        )
    return layout or fitting[0]


def _row_layout(dims: Sequence[int], columns: int, where: str) -> AxisOrder:
    """Return the order of the axes of rows of a table, which have no size to be in the wrong place."""
    if len(dims) != 2 or dims[1] not in (0, columns):
        given = "[" + ", ".join(str(dim or "any") for dim in dims) + "]"
        raise ModelError(
            f"{where}: the data's rows are [records] and [{columns}], got {given}; is it a network for another table?"
        )
    return "NCHW"


def read_output(
    model: Any,
    spec: ModelSpec,
    path: str,
    *,
    name: str,
    answers: OutputKind | None,
    grid: ByteGrid | None,
) -> OutputPort:
    """Return the output of a file that holds the answers.

    Args:
        model: Its `ModelProto`; shapes of its tensors are known if the file has them.
        spec: Number of classes.
        path: Name of the file, for messages.
        name: Name of an output, or of a tensor inside; empty for the only one.
        answers: Logits or probabilities, or None to find out.
        grid: Scale and zero point of an 8-bit output, or None to find them.

    Raises:
        ModelError: There are several outputs and none is named, or this one does not fit.
    """
    values = {value.name: value for value in model.graph.output}
    inside: dict[str, Any] = {}
    for node in model.graph.node:
        inside.update({tensor: None for tensor in node.output if tensor})
    if not name and len(values) != 1:
        listed = ", ".join(f"{key!r} {_shape(value)}" for key, value in values.items())
        raise ModelError(
            f"{path}: has {len(values)} outputs ({listed}); name one by the runtime's option output"
        )
    name = name or next(iter(values))
    if name not in values and name not in inside:
        raise ModelError(f"{path}: {unknown_name('output', name, values)}")
    value = values.get(name)
    kind = 1 if value is None else value.type.tensor_type.elem_type
    if value is not None:
        _check_classes(value, spec, path)
    if kind in BYTES:
        grid = grid or _grid_of(model, name, "QuantizeLinear")
        if grid is None:
            raise ModelError(
                f"{path}: output {name!r} is {BYTES[kind]}, and no QuantizeLinear makes it: set the runtime's options "
                "output_scale and output_zero_point"
            )
    elif kind not in FLOATS:
        raise ModelError(
            f"{path}: output {name!r}: expected float32, float16, uint8 or int8 numbers"
        )
    softmax = _maker(model, name, _PASSING) == "Softmax"
    return OutputPort(
        name,
        grid if kind in BYTES else None,
        answers or ("probabilities" if softmax else "logits"),
    )


def _check_classes(value: Any, spec: ModelSpec, path: str) -> None:
    dims = [
        dim.dim_value if dim.HasField("dim_value") else 0
        for dim in value.type.tensor_type.shape.dim
    ]
    if not dims[1:] or 0 in dims[1:]:
        return
    if int(np.prod(dims[1:])) != spec.classes:
        raise ModelError(
            f"{path}: output {value.name!r} has the shape {_shape(value)}, but the data has {spec.classes} classes; is "
            "it a network for another data set, or another output? (the runtime's option output names one)"
        )


def _shape(value: Any) -> str:
    dims = value.type.tensor_type.shape.dim
    return "[" + ", ".join(str(dim.dim_value or dim.dim_param or "any") for dim in dims) + "]"


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
