"""NNCF, OpenVINO's quantizer: integer weights and activations, or weights alone.

The network is exported as it is by `bitleak.runtimes.onnx_export` and read by OpenVINO. NNCF's post-training
quantization puts a FakeQuantize around each product, with ranges of the activations from the
calibration images; its weight compression stores the codes of weights alone. In the latter, 4 bits
and less are for linear layers only: convolutions get 8 bits, and so does the last layer unless the
option `all_layers` is set. The counts in the table show it.
"""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bitleak.core.checks import one_of
from bitleak.core.types import ModelSpec, Weights
from bitleak.models import state
from bitleak.runtimes.onnx_export import export_network
from bitleak.runtimes.openvino_files import core
from bitleak.runtimes.packages import import_extra, quiet_packages

PACKAGES = {"nncf": "nncf", "openvino": "openvino", "onnxscript": "onnx"}
"""Modules that the tool needs, with the extra that installs each."""

RUNTIME = "openvino"
"""Runtime of its files."""

PURPOSE = "the tool openvino"
_BATCH = 32
"""Images per run of the calibration."""


def quantize_nncf(
    network: nn.Module,
    images: Tensor,
    folder: Path,
    *,
    spec: ModelSpec,
    weights: str = "",
    all_layers: bool = False,
    group_size: int = -1,
    preset: str = "performance",
) -> Path:
    """Quantize a network by NNCF, by default to int8 weights and activations.

    Args:
        network: The trained network.
        images: Calibration images.
        folder: Folder for the files.
        spec: The network's spec.
        weights: A mode of NNCF's weight compression, such as `int8_sym` or `int4_sym`; activations
            stay as they are.
        all_layers: Whether the compression to 4 bits and less takes the last layer too.
        group_size: Weights per scale of the compression to 4 bits and less; -1 for a channel.
        preset: `performance` for symmetric activations, `mixed` for asymmetric ones.

    Returns:
        The path of the `.xml`.

    Raises:
        ValueError: An option is not known.
    """
    kit = import_nncf()
    modes = [mode.value for mode in kit.CompressWeightsMode]
    one_of("weights", weights, ("", *modes))
    one_of("preset", preset, ("performance", "mixed"))
    plain, quantized = folder / "plain.onnx", folder / "int8.xml"
    plain.write_bytes(export_network(network, Weights(state(network), spec)).content)
    with quiet_packages(), contextlib.redirect_stdout(io.StringIO()):
        # Not by openvino.convert_model, which reports its use to its makers.
        model = core().read_model(str(plain))
        if weights:
            mode = kit.CompressWeightsMode(weights)
            narrow: dict[str, Any] = {"all_layers": all_layers, "group_size": group_size}
            eight = mode.value.startswith("int8")
            result = kit.compress_weights(model, mode=mode, **({} if eight else narrow))
        else:
            batches = [part.numpy() for part in images.split(_BATCH)]
            result = kit.quantize(
                model,
                kit.Dataset(batches),
                preset=kit.QuantizationPreset(preset),
                subset_size=len(batches),
            )
        _save(result, quantized)
    return quantized


def import_nncf() -> Any:
    """Import NNCF without its telemetry.

    Raises:
        ModelError: It is not installed.
    """
    with _without_telemetry():
        return import_extra("nncf", "nncf", PURPOSE)


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """Set the variable by which NNCF reports nothing, which it reads when it is imported."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before


def _save(model: Any, path: Path) -> None:
    """Save a graph with floats as they are; OpenVINO's default stores them in 16 bits."""
    kit = import_extra("openvino", "openvino", PURPOSE)
    # OpenVINO numbers the operators that a process makes one after the other: the second file of a
    # process would have other names than the first, and another digest.
    numbered: dict[str, str] = {}
    for operator in model.get_ordered_ops():
        name = _NUMBERED.sub(
            lambda match: _renumbered(match, numbered), operator.get_friendly_name()
        )
        operator.set_friendly_name(name)
    kit.save_model(model, str(path), compress_to_fp16=False)


_NUMBERED = re.compile(r"\b([A-Z][A-Za-z]+)_\d+")
"""Names that OpenVINO makes of an operator's kind and a number."""


def _renumbered(match: re.Match[str], numbered: dict[str, str]) -> str:
    """Return a name with its place among the names of this file."""
    return numbered.setdefault(match[0], f"{match[1]}_{len(numbered)}")
