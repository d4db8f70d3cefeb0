"""One file per artifact: an array is `.npy`, named arrays are `.safetensors`, all else is `.json`.

Files are never pickled and never unpickled. The bytes depend on the values alone, not on the
memory layout of the arrays. Large `.npy` files come back as read-only memory maps, which the
processes of a machine share; `.safetensors` files are read into memory.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from bitleak.core.damage import DAMAGE, reason
from bitleak.core.disk import flush
from bitleak.core.errors import DataError
from bitleak.core.npy import read_array, read_header
from bitleak.engine.keys import plain

Artifact = Any
"""An array, a mapping of arrays by name, or a JSON value."""

MAPPED = 1 << 17
"""Arrays of at least this many bytes are mapped, smaller ones are read."""

_FORMATS = {".npy": "an array", ".safetensors": "arrays by name"}
_DAMAGE: tuple[type[Exception], ...] = (*DAMAGE, DataError, safetensors.SafetensorError)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


def write_artifact(folder: Path, name: str, value: Artifact) -> Path:
    """Write one artifact, to the disk and not only to its cache, and return the path of its file.

    Args:
        folder: An existing folder.
        name: Letters, digits, `_` and `-`; not `manifest`.
        value: Value to write. A mapping is a set of arrays if it holds some and nothing but arrays.

    Raises:
        ValueError: The name cannot be used, or a number in a JSON value is not finite.
        TypeError: The value cannot be stored.
    """
    if not _NAME.fullmatch(name) or name == "manifest":
        raise ValueError(
            f"an artifact's name must be letters, digits, '_' and '-', not 'manifest', got {name!r}"
        )
    if isinstance(value, np.ndarray):
        path = folder / f"{name}.npy"
        with path.open("wb") as file:
            np.save(file, _storable(name, value), allow_pickle=False)
    elif (
        isinstance(value, Mapping)
        and value
        and all(isinstance(item, np.ndarray) for item in value.values())
    ):
        path = folder / f"{name}.safetensors"
        path.write_bytes(
            safetensors.numpy.save(
                {key: _storable(f"{name}.{key}", item) for key, item in value.items()}
            )
        )
    else:
        path = folder / f"{name}.json"
        path.write_text(json.dumps(plain(value, name), separators=(",", ":")), encoding="ascii")
    flush(path)
    return path


def read_artifact(path: Path) -> Artifact:
    """Read a file of `write_artifact`.

    Raises:
        OSError: The file cannot be read.
        ValueError: Its content is not of the kind that its name states.
    """
    if not path.is_file():
        raise ValueError("missing, or not a regular file")
    try:
        if path.suffix == ".npy":
            return _array(path)
        if path.suffix == ".safetensors":
            return safetensors.numpy.load_file(path)
        return json.loads(path.read_text(encoding="ascii"))
    except OSError:
        raise
    except _DAMAGE as error:
        raise ValueError(reason(error)) from error


def _array(path: Path) -> np.ndarray:
    size = path.stat().st_size
    with path.open("rb") as stream:
        if size < MAPPED:
            return read_array(stream, path.name, size)
        header = read_header(stream, path.name, size)
    mapped = np.memmap(path, header.dtype, "r", header.start, header.shape, header.order)  # type: ignore[call-overload]
    # As a plain array, since every slice of a `memmap` runs Python code of its own.
    return np.asarray(mapped)


def why_unreadable(path: Path) -> str:
    """Return why a file of a result is not of the type of its name; empty if it is."""
    try:
        read_artifact(path)
    except ValueError as error:
        return f"not {_FORMATS.get(path.suffix, 'JSON')} ({error})"
    return ""


def _storable(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.hasobject:
        raise TypeError(f"artifact {name} must be an array of numbers, got dtype {array.dtype}")
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
