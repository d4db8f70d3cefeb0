"""Quantized weights as a pair of files, and float weights as a state dict; never a pickle.

`NAME.safetensors` holds the tensors `codes/LAYER` (uint8), `scale/LAYER` and `zero_point/LAYER`
(float32), and `rest/TENSOR` for everything of the state dict that is not quantized. `NAME.json`
holds

| key | value |
|---|---|
| `format` | 1 |
| `sha256` | digest of the `.safetensors` file |
| `about` | levels per layer, order of the tensors, the network's spec, record per layer |
| `quantizer` | the caller's description of the quantizer; not read back |
| `fingerprint` | answers of a network from outside, see `bitleak.models.fingerprint`; null if there are none |

The bytes depend on the values alone.
"""

import hashlib
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bitleak.core.damage import reason
from bitleak.core.errors import StoreError
from bitleak.core.output_folder import as_one
from bitleak.core.types import QuantizedWeights, Weights
from bitleak.engine.artifacts import read_artifact, write_artifact
from bitleak.engine.codecs import decode, encode

QUANTIZED_FORMAT = 1
PARTS = ("codes", "scale", "zero_point", "rest")


def save_quantized(
    quantized: QuantizedWeights, path: str | Path, *, quantizer: Mapping[str, Any] | None = None
) -> tuple[Path, Path]:
    """Write `NAME.safetensors` and `NAME.json`: both or neither.

    Args:
        quantized: Result of a quantizer. Numbers of its record that are not finite are written as
            null.
        path: Path of the pair, with the suffix `.safetensors` or without.
        quantizer: Description of the quantizer, in JSON values, for readers of the file.

    Returns:
        The paths of the two files.

    Raises:
        StoreError: The files cannot be written.
        ValueError: The name holds more than letters, digits, `_` and `-`.
    """
    path = Path(path)
    name = path.name.removesuffix(".safetensors")
    artifacts = encode(replace(quantized, record=_finite(quantized.record)))
    tensors = {}
    for part in PARTS:
        for key, array in artifacts[part].items():
            tensors[f"{part}/{key}"] = array
    with as_one(path.parent) as folder:
        content = {
            "format": QUANTIZED_FORMAT,
            "sha256": _digest(write_artifact(folder, name, tensors)),
            "about": artifacts["about"],
            "quantizer": dict(quantizer or {}),
            "fingerprint": None
            if quantized.fingerprint is None
            else quantized.fingerprint.tolist(),
        }
        write_artifact(folder, name, content)
    return path.parent / f"{name}.safetensors", path.parent / f"{name}.json"


def load_quantized(path: str | Path) -> QuantizedWeights:
    """Read the pair that `save_quantized` wrote; every array is the same bit for bit.

    Args:
        path: Either file of the pair, or their common path without a suffix.

    Returns:
        Codes, grids and the other tensors, with the network's spec;
        `bitleak.models.load(quantized.dequantize())` is the network.

    Raises:
        StoreError: A file is missing, of a newer format, or not of the same pair.

    Example:
        >>> load_quantized("nowhere/obc-4.safetensors")
        Traceback (most recent call last):
        ...
        bitleak.core.errors.StoreError: nowhere/obc-4.json: cannot be read (No such file or directory); it ...
    """
    # The digest ties the arrays to their description.
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".safetensors", ".json") else path
    content = _described(stem.with_name(f"{stem.name}.json"))
    file = stem.with_name(f"{stem.name}.safetensors")
    try:
        digest = _digest(file)
        tensors = read_artifact(file)
    except (OSError, ValueError) as error:
        raise StoreError(f"{file}: cannot be read ({error}); quantize again") from error
    if digest != content["sha256"]:
        raise StoreError(
            f"{file}: not the file that {stem.name}.json was written with; quantize again"
        )
    # From `codes/LAYER` and the like to arrays by part and name.
    parts: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    for key, array in tensors.items():
        part, _, name = key.partition("/")
        if part not in parts:
            raise StoreError(
                f"{file}: tensor {key!r} is none of {', '.join(PARTS)}; quantize again"
            )
        parts[part][name] = array
    # The answers of an outside network, which `bitleak.models.load` compares with those it gives.
    artifacts: dict[str, Any] = {**parts, "about": content["about"]}
    try:
        if content.get("fingerprint") is not None:
            artifacts["fingerprint"] = _answers(content["fingerprint"])
        quantized: QuantizedWeights = decode("quantized_weights", artifacts)
    except StoreError as error:
        raise StoreError(f"{stem.name}.json: {error}; quantize again") from error
    spec = quantized.spec
    if quantized.fingerprint is None and spec is not None and spec.name == "external":
        warnings.warn(
            f"{stem.name}.json: written by an earlier bitleak, without answers of its network: a factory that was "
            "changed since will not be noticed; quantize again",
            stacklevel=2,
        )
    return quantized


def _answers(stored: Any) -> np.ndarray:
    """Return the answers of a `.json` file as an array.

    Raises:
        StoreError: They are no table of numbers.
    """
    try:
        return np.array(stored, np.float32)
    except (ValueError, TypeError, OverflowError) as error:
        raise StoreError(f"fingerprint is no table of numbers ({error})") from error


def save_weights(weights: Weights, path: str | Path) -> Path:
    """Write a state dict as `NAME.safetensors`, which `safetensors.torch.load_file` reads, and
    return its path.

    Args:
        weights: The tensors by name.
        path: Path of the file, with the suffix `.safetensors` or without.

    Raises:
        StoreError: The file cannot be written.
    """
    path = Path(path)
    name = path.name.removesuffix(".safetensors")
    with as_one(path.parent) as folder:
        write_artifact(folder, name, dict(weights.tensors))
    return path.parent / f"{name}.safetensors"


def _described(path: Path) -> dict[str, Any]:
    """Read the `.json` file."""
    try:
        content = json.loads(path.read_text(encoding="ascii"))
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be read ({error.strerror}); it belongs beside the .safetensors file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: not JSON ({reason(error)}); quantize again") from error
    if not isinstance(content, dict) or not {"format", "sha256", "about"} <= set(content):
        raise StoreError(
            f"{path}: does not describe quantized weights; give a file that `bitleak quantize` wrote"
        )
    if content["format"] != QUANTIZED_FORMAT:
        raise StoreError(
            f"{path}: format {content['format']}, this bitleak reads {QUANTIZED_FORMAT}: use a newer bitleak"
        )
    return content


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _finite(value: Any) -> Any:
    """Return a JSON value with null for numbers that are not finite (an error relative to an energy
    of 0).
    """
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
