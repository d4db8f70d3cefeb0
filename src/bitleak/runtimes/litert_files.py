"""The content of a LiteRT file (`.tflite`), read and checked without executing it.

The file is a FlatBuffer with everything inside. Custom operators need a library of their own,
delegates are code, and external buffers are other files: all three are refused.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bitleak.core.errors import ModelError
from bitleak.runtimes.packages import import_extra

PURPOSE = "answering a .tflite file"
IDENTIFIER = b"TFL3"
"""Bytes 4 to 8 of a file."""


def schema() -> Any:
    """Return the module of the format's tables."""
    return import_extra("ai_edge_litert.schema_py_generated", "litert", PURPOSE)


def read_tflite(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error


def parse_tflite(content: bytes, name: str) -> Any:
    """Return the tables of a file, its operators checked.

    Raises:
        ModelError: It is no LiteRT file, or an operator or a buffer needs code or another file.
    """
    tables = schema()
    if content[4:8] != IDENTIFIER:
        raise ModelError(f"{name}: not a LiteRT file")
    try:
        model = tables.ModelT.InitFromPackedBuf(content)
    except Exception as error:  # offsets that lead nowhere raise anything
        raise ModelError(f"{name}: not a LiteRT file, or a broken one ({error})") from error
    if not model.subgraphs or not model.subgraphs[0].operators:
        raise ModelError(f"{name}: not a LiteRT file, or one without a graph")
    for group in model.externalBufferGroups or ():
        raise ModelError(
            f"{name}: tensors are stored in another file, {text(group.name)!r}, which is refused: convert the network "
            "with its weights inside"
        )
    codes = tables.BuiltinOperator
    for code in model.operatorCodes:
        if operator_number(code) in (codes.CUSTOM, codes.DELEGATE):
            raise ModelError(
                f"{name}: operator {text(code.customCode) or 'DELEGATE'!r} is none of LiteRT: it needs a library of "
                "its own, which is not loaded. Convert the network with builtin operators"
            )
    return model


def packed_tflite(model: Any) -> bytes:
    """Return tables as the bytes of a file."""
    flatbuffers = import_extra("flatbuffers", "litert", PURPOSE)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def operator_number(code: Any) -> int:
    """Return the number of an operator, which older files store in a field of one byte."""
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))


def operators(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the operators of the main graph with their names, such as `CONV_2D`."""
    names = _names_of(schema().BuiltinOperator)
    for operator in model.subgraphs[0].operators:
        yield names.get(operator_number(model.operatorCodes[operator.opcodeIndex]), ""), operator


def tensor_type(tensor: Any) -> str:
    """Return the name of a tensor's number type, such as `int8`."""
    return _names_of(schema().TensorType)[tensor.type].lower()


def stored_bytes(model: Any, tensor: Any, content: bytes) -> np.ndarray | None:
    """Return the bytes of a constant; None of a tensor that is computed."""
    buffer = model.buffers[tensor.buffer]
    # Large files keep the bytes after the tables.
    if buffer.offset > 1:
        return np.frombuffer(content, np.uint8, count=buffer.size, offset=buffer.offset)
    if buffer.data is None or len(buffer.data) == 0:
        return None
    return np.asarray(buffer.data, np.uint8)


def text(value: bytes | str | None) -> str:
    """Return a name of the file, of which the tables give bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def _names_of(table: Any) -> dict[int, str]:
    return {value: name for name, value in vars(table).items() if isinstance(value, int)}
