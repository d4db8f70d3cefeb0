"""The content of an ONNX file, read and checked without executing it.

A file may name other files that hold its tensors. They are read if they lie in the folder of the
file or below it; anything else is refused, since a file from elsewhere could name any file of this
machine. Operators of other domains than ONNX's and ONNX Runtime's own need a library that would be
loaded, and are refused too.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bitleak.core.errors import ModelError
from bitleak.runtimes.packages import import_extra

PURPOSE = "opening an .onnx file"
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Domains of operators that ONNX Runtime has itself."""

LOADERS = ("EPContext",)
"""Operators that make ONNX Runtime read files of its own."""

LARGEST = 2**31 - 1
"""Largest content that the format can hold, in bytes."""


@dataclass(frozen=True)
class OnnxContent:
    """A file's content.

    Attributes:
        model: The `ModelProto`, with all tensors inside.
        size: Bytes of the file and of its tensors' files.
        digest: SHA-256 over the file, then the tensors' files in the order of their names.
    """

    model: Any
    size: int
    digest: str


def read_content(path: Path) -> OnnxContent:
    """Read a file, with the tensors that it keeps in other files.

    Raises:
        ModelError: It cannot be read, is no ONNX, names a file outside its folder, or uses an
            operator that would load code or other files.
    """
    onnx = import_extra("onnx", "onnx", PURPOSE)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error
    model = parse_content(content, str(path))
    digest, size = hashlib.sha256(content), len(content)
    files: dict[str, bytes] = {}
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _load_external(tensor, path, files)
    for name in sorted(files):
        digest.update(hashlib.sha256(files[name]).digest())
        size += len(files[name])
    if size > LARGEST:
        raise ModelError(f"{path}: holds {size} bytes; at most {LARGEST} can be read")
    return OnnxContent(model, size, digest.hexdigest())


def parse_content(content: bytes, name: str) -> Any:
    """Return the `ModelProto` of a file's bytes, its operators checked.

    Raises:
        ModelError: They are no ONNX, or an operator is refused.
    """
    onnx = import_extra("onnx", "onnx", PURPOSE)
    message = import_extra("google.protobuf.message", "onnx", PURPOSE)
    try:
        model = onnx.ModelProto.FromString(content)
    except message.DecodeError as error:
        raise ModelError(f"{name}: not an ONNX file ({error})") from error
    if not model.graph.node or not model.opset_import:
        raise ModelError(f"{name}: not an ONNX file, or one without a graph")
    _check_operators(model, name)
    return model


def stated_standardisation(model: Any) -> dict[str, list[float]] | None:
    """Return mean and standard deviation per channel that bitleak wrote into a file, or None."""
    stated = {entry.key: entry.value for entry in model.metadata_props}
    try:
        return {
            name: list(map(float, json.loads(stated[f"bitleak.{name}"])))
            for name in ("mean", "std")
        }
    except (KeyError, ValueError, TypeError):
        return None


def graph_inputs(model: Any) -> list[Any]:
    """Return the inputs that have no value in the file."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def all_nodes(model: Any) -> Iterator[Any]:
    """Yield all operators, also those of branches, loops and functions."""
    graphs = [model.graph, *model.functions]
    while graphs:
        for node in graphs.pop().node:
            yield node
            for attribute in node.attribute:
                graphs += [attribute.g] if attribute.HasField("g") else []
                graphs += list(attribute.graphs)


def _check_operators(model: Any, name: str) -> None:
    own = {function.domain for function in model.functions}
    for node in all_nodes(model):
        if node.domain not in DOMAINS and node.domain not in own:
            raise ModelError(
                f"{name}: operator {node.domain}.{node.op_type} (node {node.name!r}) is none of ONNX "
                "or ONNX Runtime: it needs a library of its own, which is not loaded. Export the "
                "network with standard operators"
            )
        if node.op_type in LOADERS:
            raise ModelError(
                f"{name}: operator {node.op_type} (node {node.name!r}) reads other files or code, "
                "which is refused"
            )


def _tensors(model: Any) -> Iterator[Any]:
    """Yield all tensors with values: initializers of all graphs, and constants."""
    graphs = [model.graph]
    for node in all_nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            for tensor in (*sparse, *attribute.sparse_tensors):
                yield tensor.values
                yield tensor.indices
            graphs += [attribute.g] if attribute.HasField("g") else []
            graphs += list(attribute.graphs)
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield sparse.values
            yield sparse.indices


def _load_external(tensor: Any, path: Path, files: dict[str, bytes]) -> None:
    """Move the values of a tensor from the file that holds them into the tensor."""
    onnx = import_extra("onnx", "onnx", PURPOSE)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if location not in files:
        files[location] = _external_bytes(path, location, tensor.name)
    content = files[location]
    try:
        start = int(entries.get("offset", 0))
        length = int(entries.get("length", len(content) - start))
    except ValueError as error:
        raise ModelError(
            f"{path}: tensor {tensor.name!r} has no readable place: {error}"
        ) from error
    if start < 0 or length < 0 or start + length > len(content):
        raise ModelError(
            f"{path}: tensor {tensor.name!r} ends after the end of {location} ({len(content)} bytes); "
            "the two files are not of the same export"
        )
    tensor.raw_data = content[start : start + length]
    tensor.ClearField("external_data")
    tensor.data_location = onnx.TensorProto.DEFAULT


def _external_bytes(path: Path, location: str, tensor: str) -> bytes:
    folder = path.resolve().parent
    place = (folder / location).resolve()
    if not location or not place.is_relative_to(folder) or place == folder:
        raise ModelError(
            f"{path}: tensor {tensor!r} is stored in {location!r}, outside the folder of the file, "
            "which is refused: save the network with its data in the same folder"
        )
    try:
        return place.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path}: the file {location!r} with its tensors cannot be read "
            f"({error.strerror or error}); keep both files in one folder"
        ) from error


def constant(model: Any, name: str) -> np.ndarray | None:
    """Return the value of a tensor that the file holds, or None."""
    helper = import_extra("onnx.numpy_helper", "onnx", PURPOSE)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return np.asarray(helper.to_array(tensor))
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] == name:
            for attribute in node.attribute:
                if attribute.name == "value":
                    return np.asarray(helper.to_array(attribute.t))
    return None
