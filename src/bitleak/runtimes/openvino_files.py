"""The content of an OpenVINO file: a graph in `.xml` and its constants in the `.bin` next to it.

Both are read here, checked and handed to OpenVINO as bytes, so that it opens no file itself. In a
store they are one array of bytes: the length of the graph (8 bytes, little-endian), the graph, the
constants.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from jaxtyping import UInt8

from bitleak.core.errors import ModelError
from bitleak.runtimes.packages import import_extra

PURPOSE = "answering an OpenVINO file (.xml)"
LENGTH = 8
"""Bytes of the graph's length."""

OWN_OPERATORS = re.compile(r"opset\d+")
"""Versions of operators that OpenVINO has itself."""


@dataclass(frozen=True)
class IrContent:
    """A file's content.

    Attributes:
        graph: Bytes of the `.xml`.
        constants: Bytes of the `.bin`.
    """

    graph: bytes
    constants: bytes

    @property
    def size(self) -> int:
        """Bytes of both files."""
        return len(self.graph) + len(self.constants)

    @property
    def digest(self) -> str:
        """SHA-256 over both files."""
        return hashlib.sha256(self.packed()).hexdigest()

    def packed(self) -> bytes:
        """Return both files as one."""
        return len(self.graph).to_bytes(LENGTH, "little") + self.graph + self.constants

    @classmethod
    def unpacked(cls, content: UInt8[np.ndarray, "bytes"]) -> "IrContent":
        """Return the content that `packed` was called on."""
        data = content.tobytes()
        end = LENGTH + int.from_bytes(data[:LENGTH], "little")
        return cls(data[LENGTH:end], data[end:])


def read_ir(path: Path) -> IrContent:
    """Read a graph and its constants.

    Raises:
        ModelError: They cannot be read, are no files of OpenVINO or not of the same export, or an
            operator needs code of its own.
    """
    try:
        graph = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error
    layers = _layers(graph, str(path))
    ends = [0]
    for layer in layers:
        data = layer.find("data")
        if layer.get("type") == "Const" and data is not None:
            ends.append(_number(data, "offset", path) + _number(data, "size", path))
    constants = _constants(path) if max(ends) else b""
    if max(ends) > len(constants):
        raise ModelError(
            f"{path}: its constants end at byte {max(ends)}, but {path.stem}.bin has {len(constants)} bytes; the two "
            "files are not of the same export"
        )
    return IrContent(graph, constants)


def parse_ir(content: IrContent, name: str) -> Any:
    """Return the graph as an `openvino.Model`.

    Raises:
        ModelError: OpenVINO cannot read it.
    """
    kit = import_extra("openvino", "openvino", PURPOSE)
    # A tensor must not be empty.
    constants = np.frombuffer(content.constants or b"\0", np.uint8)
    try:
        return core().read_model(model=content.graph, weights=kit.Tensor(constants))
    except RuntimeError as error:
        raise ModelError(
            f"{name}: OpenVINO {kit.__version__.split('-')[0]} cannot read the file: {last_line(error)} (an operator "
            "or a type that it does not have; convert the network again, or use a newer release)"
        ) from error


def core() -> Any:
    """Return OpenVINO's entry point, made once per process."""
    if not _CORES:
        _CORES.append(import_extra("openvino", "openvino", PURPOSE).Core())
    return _CORES[0]


_CORES: list[Any] = []


def last_line(error: Exception) -> str:
    """Return the last line of an error's text, after the places in OpenVINO's own source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:400]


def _layers(graph: bytes, name: str) -> list[ElementTree.Element]:
    """Return the layers of a graph, their operators checked."""
    try:
        root = ElementTree.fromstring(graph, ElementTree.XMLParser(target=_PlainTree(name)))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ModelError(f"{name}: not an OpenVINO file ({error})") from error
    if root.tag != "net" or not root.findall("./layers/layer"):
        raise ModelError(f"{name}: not an OpenVINO file, or one without a graph")
    layers = list(root.iter("layer"))
    for layer in layers:
        if not OWN_OPERATORS.fullmatch(layer.get("version", "")):
            raise ModelError(
                f"{name}: operator {layer.get('version')}.{layer.get('type')} (layer {layer.get('name')!r}) is none of "
                "OpenVINO's opsets: it needs a library of its own, which is not loaded. Convert the network with "
                "standard operators"
            )
    return layers


class _PlainTree(ElementTree.TreeBuilder):
    """Builds the tree of a graph, and refuses entities before they are declared.

    They could make a small file large, or name other files; OpenVINO writes none.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ModelError(f"{self._name}: not an OpenVINO file: its XML declares entities")


def _number(data: ElementTree.Element, name: str, path: Path) -> int:
    text = data.get(name, "")
    if not text.isdigit():
        raise ModelError(f"{path}: a constant has no readable place: {name}={text!r}")
    return int(text)


def _constants(path: Path) -> bytes:
    """Return the bytes of the `.bin` next to a graph."""
    place = path.with_suffix(".bin")
    folders = {path.resolve().parent, path.parent.resolve()}
    if place.resolve().parent not in folders:
        raise ModelError(
            f"{path}: {place.name} with its constants is a link to another folder, which is refused: keep both files "
            "in one folder"
        )
    try:
        return place.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path}: {place.name} with its constants cannot be read ({error.strerror or error}); keep both files in "
            "one folder"
        ) from error
