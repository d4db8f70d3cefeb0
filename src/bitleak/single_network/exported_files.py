"""A trained or quantized network as a file for a runtime, compared with the network itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bitleak.core.errors import ConfigError, ModelError
from bitleak.core.output_folder import write_atomically
from bitleak.core.types import ModelSpec, NetworkFile, QuantizedWeights, Weights
from bitleak.metrics.accuracy_and_size import weights_size
from bitleak.models import load
from bitleak.models.external import factory_of
from bitleak.models.fingerprint import random_images
from bitleak.models.network_size import repeated_names
from bitleak.models.precision import exact_float32
from bitleak.runtimes.onnx_export import ExportedNetwork, check_opset, export_network
from bitleak.runtimes.packages import import_extra
from bitleak.runtimes.runtime import open_network, runtime_for
from bitleak.runtimes.session_comparison import STEP_TOLERANCE, check_sessions
from bitleak.single_network.option_texts import model_from_text, text_of_model
from bitleak.single_network.quantized_files import load_quantized
from bitleak.single_network.weights_files import read_result

_COMPARED = 64
"""Random images that the file and the network are compared on."""

_TOLERANCE = 1e-4
"""Largest difference of a logit, relative to the largest one (1 if that is smaller)."""


@dataclass(frozen=True)
class ExportedFile:
    """An exported network.

    Attributes:
        path: The file.
        exported: Its content.
        claimed: Bytes of the weights as the tables of an audit count them.
        difference: Largest difference of a logit between file and network on `_COMPARED` random
            images; None if ONNX Runtime is not installed.
        changed: How many of them are predicted otherwise.
        facts: Runtime, version and arithmetic of the comparison.
    """

    path: Path
    exported: ExportedNetwork
    claimed: int
    difference: float | None
    changed: int
    facts: Mapping[str, Any]


def check_export(out: Path, opset: int | None) -> None:
    """Refuse a name or an opset that cannot be written.

    Raises:
        ConfigError: The suffix is not `.onnx`, or the opset is not known.
    """
    if out.suffix != ".onnx":
        raise ConfigError(f"--out {out}: expected the name of a file that ends in .onnx")
    try:
        check_opset(opset)
    except ValueError as error:
        raise ConfigError(f"--{error}") from error


def check_format(name: str, opset: int | None) -> None:
    """Refuse a format that cannot be written, or whose packages are not installed.

    Raises:
        ConfigError: The format or the opset is not known, or an opset is given without a format.
        ModelError: A package is missing.
    """
    if name not in ("", "onnx"):
        raise ConfigError(f"--format: expected onnx, got {name!r}")
    if not name and opset is not None:
        raise ConfigError("--opset: goes with --format onnx, which is missing")
    if name:
        check_export(Path("network.onnx"), opset)
        import_extra("onnxscript", "onnx", "--format onnx")


def read_exportable(path: Path, model: str | None) -> Weights | QuantizedWeights:
    """Read weights or codes that name their network.

    Args:
        path: A file of the pair that `bitleak quantize` writes, or the folder of a store's result.
        model: The network from outside code that the weights name, which is imported only if it is
            named here too; None for others.

    Raises:
        InputError: There is no such file, it has no spec, or it names other outside code.
    """
    weights = read_result(path) if path.is_dir() else load_quantized(path)
    spec = weights.spec
    if spec is None:
        raise ModelError(f"--weights {path}: does not say which network it is for")
    named = None if model is None else model_from_text(model)
    stored = (spec.name, dict(spec.options))
    if named is None and factory_of(spec) is not None:
        raise ConfigError(
            "--model: missing; the weights name outside code, which is imported and called only if you name it too: "
            f"if you trust it, add --model {text_of_model(*stored)}"
        )
    if named is not None and named != stored:
        raise ConfigError(
            f"--model: the weights are those of {text_of_model(*stored)}, got {text_of_model(*named)}"
        )
    return weights


def write_exported(
    weights: Weights | QuantizedWeights, path: Path, *, opset: int | None = None
) -> ExportedFile:
    """Write a network as an ONNX file, and compare the file's answers with the network's.

    Args:
        weights: Weights or codes with their spec; outside code that it names is called.
        path: The file, which is written whole or not at all.
        opset: See `export_network`.

    Raises:
        ModelError: The network cannot be exported, or the file answers otherwise than the network.
        StoreError: The file cannot be written.
    """
    floats = weights.dequantize() if isinstance(weights, QuantizedWeights) else weights
    network = load(floats, allow_external=True)
    exported = export_network(network, weights, opset=opset)
    is_rounded = isinstance(weights, QuantizedWeights) and bool(weights.activations)
    difference, changed, facts = _comparison(network, exported, weights.spec, is_rounded)
    write_atomically(path, exported.content)
    sizes = weights_size(weights, repeated=repeated_names(network))
    return ExportedFile(path, exported, int(sizes["bytes"]), difference, changed, facts)


def _comparison(
    network: torch.nn.Module,
    exported: ExportedNetwork,
    spec: ModelSpec | None,
    is_rounded: bool,
) -> tuple[float | None, int, Mapping[str, Any]]:
    """Return the largest difference of a logit, changed predictions, and facts on the runtime.

    Raises:
        ModelError: They differ by more than rounding.
    """
    name, runtime = runtime_for(Path("network.onnx"))
    if spec is None or not _is_installed(runtime):
        return None, 0, {}
    file = NetworkFile(
        np.frombuffer(exported.content, np.uint8),
        name,
        {},
        len(exported.content),
        "",
        spec,
        {"quantized_activations": is_rounded},
    )
    images = random_images(spec, _COMPARED)
    with torch.no_grad(), exact_float32():
        expected = network(images).float().numpy()
    opened = open_network(file)
    answers = opened(images.numpy())
    check_sessions(file, images.numpy())
    difference = float(np.abs(answers - expected).max())
    changed = int((answers.argmax(axis=1) != expected.argmax(axis=1)).sum())
    # A rounding that falls to the other side moves an answer by a whole step of its grid.
    allowed = _TOLERANCE * max(1.0, float(np.abs(expected).max()))
    error = difference
    if is_rounded:
        error = float(np.sqrt(np.mean((answers - expected) ** 2)))
        allowed = STEP_TOLERANCE * float(np.sqrt(np.mean(expected**2)))
    if error > allowed:
        raise ModelError(
            f"the exported file answers otherwise than the network in {opened.facts['runtime']}: by {difference:.3g}, "
            f"{changed} of {len(images)} predictions change; nothing was written"
        )
    return difference, changed, opened.facts


def _is_installed(runtime: Any) -> bool:
    try:
        runtime.version()
    except ModelError:
        return False
    return True
