"""The input and the output of a network's file: layout, number type, scale, logits or probabilities.

| part of a file | read as |
|---|---|
| input `[N, C, H, W]` or `[N, H, W, C]` | by the place of the data's channels; `layout` decides if both fit |
| input of 8-bit integers | quantized by the scale that the file states for it, or by options |
| float input | standardised images, or pixels (option `pixels`) for files that standardise themselves |
| output of 8-bit integers | multiplied by the scale that the file states for it, or by options |
| output of a Softmax | probabilities, of which the logarithm is taken; else logits |

A runtime's own modules find `StoredInput` and `StoredOutput` in a file; everything after that is the
same for all runtimes.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float32

from bitleak.core.checks import integer_in, one_of, unknown_name
from bitleak.core.errors import ModelError, NotFinite
from bitleak.core.types import ModelSpec

AxisOrder = Literal["NCHW", "NHWC"]
Pixels = Literal["standardised", "unit", "bytes"]
OutputKind = Literal["logits", "probabilities"]

ByteGrid = tuple[float, int]
"""Scale and zero point of 8-bit numbers."""

FLOAT_TYPES = ("float32", "float16")
BYTE_TYPES = ("uint8", "int8")


@dataclass(frozen=True, kw_only=True)
class PortOptions:
    """Options of a runtime on a file's input and output, which all runtimes have.

    Attributes:
        batch: Images per run, if the file leaves it open.
        layout: Order of the input's axes; None finds it.
        pixels: Values that the input takes: `standardised` images, pixels from 0 to 1 (`unit`) or from
            0 to 255 (`bytes`).
        output: Name of the output, or of a tensor inside the graph; empty for the only output.
        answers: Whether it holds `logits` or `probabilities`; None finds out.
        input_scale: Scale of an 8-bit input; None finds it.
        input_zero_point: Zero point of an 8-bit input.
        output_scale: Scale of an 8-bit output; None finds it.
        output_zero_point: Zero point of an 8-bit output.
    """

    batch: int = 64
    layout: AxisOrder | None = None
    pixels: Pixels = "standardised"
    output: str = ""
    answers: OutputKind | None = None
    input_scale: float | None = None
    input_zero_point: int = 0
    output_scale: float | None = None
    output_zero_point: int = 0

    def __post_init__(self) -> None:
        integer_in("batch", self.batch, 1, 4096)
        one_of("pixels", self.pixels, get_args(Pixels))
        if self.layout is not None:
            one_of("layout", self.layout, get_args(AxisOrder))
        if self.answers is not None:
            one_of("answers", self.answers, get_args(OutputKind))

    @property
    def input_grid(self) -> ByteGrid | None:
        """Scale and zero point that are stated for the input, or None."""
        return None if self.input_scale is None else (self.input_scale, self.input_zero_point)

    @property
    def output_grid(self) -> ByteGrid | None:
        """Scale and zero point that are stated for the output, or None."""
        return None if self.output_scale is None else (self.output_scale, self.output_zero_point)


def changed_options(runtime: PortOptions) -> dict[str, Any]:
    """Return the fields of a runtime that are not at their defaults."""
    default, values = type(runtime)(), {}
    for field in fields(runtime):
        value = getattr(runtime, field.name)
        if value != getattr(default, field.name):
            values[field.name] = value
    return values


@dataclass(frozen=True)
class StoredInput:
    """The input of a network as its file has it.

    Attributes:
        name: Its name in the file.
        dims: Lengths of its axes; 0 for any length.
        dtype: Name of its number type.
        grid: Scale and zero point of 8-bit integers, if the file states them.
        layout: Order of the axes, if the file states it.
        grid_reason: Words for a file that states none, such as `no DequantizeLinear takes it`.
    """

    name: str
    dims: tuple[int, ...]
    dtype: str
    grid: ByteGrid | None
    layout: AxisOrder | None = None
    grid_reason: str = "the file states no scale for it"


@dataclass(frozen=True)
class StoredOutput:
    """The output of a network as its file has it.

    Attributes:
        name: Its name in the file.
        dims: Lengths of its axes; 0 for any length, empty if nothing is known.
        dtype: Name of its number type.
        grid: Scale and zero point of 8-bit integers, if the file states them.
        softmax: Whether a Softmax makes it.
        grid_reason: Words for a file that states no scale.
        shown: Text of its shape, for messages.
    """

    name: str
    dims: tuple[int, ...]
    dtype: str
    grid: ByteGrid | None
    softmax: bool
    grid_reason: str = "the file states no scale for it"
    shown: str = ""


@dataclass(frozen=True)
class InputPort:
    """The input of a network.

    Attributes:
        name: Its name in the file.
        dtype: Type of its numbers.
        layout: Order of its axes.
        batch: Images per run: the file's number if it fixes one, else the option's.
        pixels: Values that it takes: standardised images, pixels from 0 to 1, or from 0 to 255.
        grid: Scale and zero point of an input of 8-bit integers; None for floats and for pixels.
    """

    name: str
    dtype: np.dtype
    layout: AxisOrder
    batch: int
    pixels: Pixels
    grid: ByteGrid | None

    def shape(self, spec: ModelSpec) -> tuple[int, ...]:
        """Return the lengths of an image's axes in the file's order."""
        lengths = spec.input_shape
        return (*lengths[1:], lengths[0]) if self.layout == "NHWC" else lengths

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
            raise NotFinite(
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


def input_port(stored: StoredInput, spec: ModelSpec, path: str, options: PortOptions) -> InputPort:
    """Return the input as images are handed to it.

    Raises:
        ModelError: It does not fit the images, or its numbers cannot be read.
    """
    where = f"{path}: input {stored.name!r}"
    layout = axis_order(stored.dims, spec, options.layout or stored.layout, where)
    batch = stored.dims[0] or options.batch
    if stored.dtype not in (*FLOAT_TYPES, *BYTE_TYPES):
        raise ModelError(
            f"{where}: expected float32, float16, uint8 or int8 numbers, got {stored.dtype or 'another type'}; export "
            "the network with float32"
        )
    dtype = np.dtype(stored.dtype)
    if stored.dtype in FLOAT_TYPES or (options.pixels == "bytes" and stored.dtype == "uint8"):
        return InputPort(stored.name, dtype, layout, batch, options.pixels, None)
    grid = options.input_grid or stored.grid
    if grid is None:
        raise ModelError(
            f"{where} is {dtype}, and {stored.grid_reason}: its numbers would be read wrongly. Set the runtime's "
            "options input_scale and input_zero_point or, if it takes pixels from 0 to 255, pixels: bytes"
        )
    return InputPort(stored.name, dtype, layout, batch, options.pixels, grid)


def output_port(
    stored: StoredOutput, spec: ModelSpec, path: str, options: PortOptions
) -> OutputPort:
    """Return the output as logits are read from it.

    Raises:
        ModelError: It has another number of classes, or its numbers cannot be read.
    """
    where = f"{path}: output {stored.name!r}"
    shown = stored.shown or shape_text(stored.dims)
    known = stored.dims[1:] and 0 not in stored.dims[1:]
    if known and int(np.prod(stored.dims[1:])) != spec.classes:
        raise ModelError(
            f"{where} has the shape {shown}, but the data has {spec.classes} classes; is it a network for another "
            "data set, or another output? (the runtime's option output names one)"
        )
    if stored.dtype not in (*FLOAT_TYPES, *BYTE_TYPES):
        raise ModelError(
            f"{where}: expected float32, float16, uint8 or int8 numbers, got {stored.dtype or 'another type'}; export "
            "the network with float32"
        )
    grid = None
    if stored.dtype in BYTE_TYPES:
        grid = options.output_grid or stored.grid
        if grid is None:
            raise ModelError(
                f"{where} is {stored.dtype}, and {stored.grid_reason}: set the runtime's options output_scale and "
                "output_zero_point"
            )
    found: OutputKind = "probabilities" if stored.softmax else "logits"
    return OutputPort(stored.name, grid, options.answers or found)


def chosen_name(name: str, outputs: Mapping[str, str], inside: Container[str], path: str) -> str:
    """Return the name of the output that holds the answers.

    Args:
        name: The name that was given; empty for the only output.
        outputs: Shapes of the outputs as texts, by name.
        inside: Names of other tensors that can be answered.
        path: Name of the file, for messages.

    Raises:
        ModelError: There are several outputs and none is named, or there is none of this name.
    """
    if not name and len(outputs) != 1:
        listed = ", ".join(f"{key!r} {shape}" for key, shape in outputs.items())
        raise ModelError(
            f"{path}: has {len(outputs)} outputs ({listed}); name one by the runtime's option output"
        )
    name = name or next(iter(outputs))
    if name not in outputs and name not in inside:
        raise ModelError(f"{path}: {unknown_name('output', name, outputs)}")
    return name


def shape_text(dims: Sequence[int | str]) -> str:
    """Return lengths of axes for a message.

    Example:
        >>> shape_text([0, 10])
        '[any, 10]'
    """
    return "[" + ", ".join(str(dim or "any") for dim in dims) + "]"


def axis_order(
    dims: Sequence[int], spec: ModelSpec, layout: AxisOrder | None, where: str
) -> AxisOrder:
    """Return the order of an input's axes.

    Args:
        dims: Lengths of the axes, in which 0 stands for any length.
        spec: Shape of the images.
        layout: The order, or None to find it.
        where: Names the file and its input in messages.

    Raises:
        ModelError: The images do not fit, or both orders do.
    """
    # Rows of a table have no size; images may have their channels first or last.
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
    # No order fits, or not the given one: other images.
    given = shape_text(dims)
    if not fitting or (layout is not None and layout not in fitting):
        expected = shapes[layout] if layout else shapes["NCHW"]
        other = "" if layout else f" or {list(shapes['NHWC'])}"
        raise ModelError(
            f"{where}: the data's images are [records] and {list(expected)}{other}, got {given}; is it a network for "
            "another data set?"
        )
    # Both fit, and the images' shape does not decide.
    if layout is None and len(fitting) == 2 and channels != size:
        raise ModelError(
            f"{where} has the shape {given}, which does not say where the channels are; set the runtime's option "
            "layout to NCHW or NHWC"
        )
    return layout or fitting[0]


def _row_layout(dims: Sequence[int], columns: int, where: str) -> AxisOrder:
    """Return the order of the axes of rows of a table, which have no size to be in the wrong place."""
    if len(dims) != 2 or dims[1] not in (0, columns):
        given = shape_text(dims)
        raise ModelError(
            f"{where}: the data's rows are [records] and [{columns}], got {given}; is it a network for another table?"
        )
    return "NCHW"
