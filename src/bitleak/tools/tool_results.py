"""A tool's result, looked at before it is audited: is it quantized, where, and does it answer?

A result that is no file and no network, and one that changed nothing, is refused. Layers that
stayed in full precision and the values of each grid are counted, never read from a name.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitleak import registry
from bitleak.core.errors import BitleakError, ModelError, QuantizationError
from bitleak.core.types import ModelSpec, NetworkFile, Weights
from bitleak.models import state
from bitleak.models.global_state import seeded_draws
from bitleak.models.precision import exact_float32
from bitleak.runtimes.file_agreement import (
    NEAR,
    NEARER,
    PREPARATIONS,
    logit_error,
    share_by_chance,
)
from bitleak.runtimes.runtime import OpenNetwork, open_network, runtime_for
from bitleak.runtimes.session_comparison import check_sessions
from bitleak.tools.weight_counts import weight_facts

_TOLERANCE = 1e-3
"""Largest difference of a logit between a network and its weights, relative to the largest one."""

_COMPARED = 32
"""Calibration images on which results are compared."""

_AGREEING = 128
"""Calibration images on which a file is compared with its network."""

_FEW_BITS = 6.0
"""Bits per weight up to which rounding may leave nothing of a network's predictions."""


def apply_tool(
    function: Callable[..., Any],
    network: nn.Module,
    images: Tensor,
    folder: Path,
    *,
    spec: ModelSpec,
    options: Mapping[str, Any],
    runtime: Mapping[str, Any],
    name: str,
    seed: int,
    fresh: Callable[[Weights], nn.Module],
) -> NetworkFile | Weights:
    """Quantize a network by a tool, and check the result.

    Args:
        function: The tool.
        network: In evaluation mode, on the CPU; a copy of it is handed over.
        images: Standardised calibration images.
        folder: An empty folder for the tool's files.
        spec: The network's spec.
        options: Options of the tool.
        runtime: Options of the runtime that answers a file.
        name: Name of the tool, for messages.
        seed: Seed of all random draws.
        fresh: Makes a network of weights.

    Returns:
        A file with facts on its layers, or float weights.

    Raises:
        QuantizationError: The tool fails, returns something else, changes nothing, leaves all layers
            in full precision, or returns the file of another network or for other inputs.
        ModelError: The file is refused by its runtime.
    """
    given = copy.deepcopy(network)
    known = dict(options)
    if "spec" in _parameters(function):
        known["spec"] = spec
    try:
        with seeded_draws(seed):
            result = function(given, images.clone(), folder, **known)
    except BitleakError:
        raise
    except Exception as error:  # outside code may raise anything
        raise QuantizationError(f"tool {name!r} failed: {type(error).__name__}: {error}") from error
    if isinstance(result, str | Path):
        return _checked_file(folder / result, network, spec, runtime, images, name)
    if isinstance(result, nn.Module):
        return _checked_network(result, network, images, spec, name, fresh)
    kind = "nothing" if result is None else f"a {type(result).__name__}"
    suffixes = ", ".join(registry.RUNTIME_OF_SUFFIX)
    raise QuantizationError(
        f"tool {name!r} returned {kind}; expected the path of a file ({suffixes}) or a network"
    )


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (ValueError, TypeError):  # a builtin, which has none
        return {}


def _checked_file(
    path: Path,
    network: nn.Module,
    spec: ModelSpec,
    options: Mapping[str, Any],
    images: Tensor,
    name: str,
) -> NetworkFile:
    """Return the content of a file with the facts of its layers."""
    if not path.is_file():
        raise QuantizationError(f"tool {name!r} returned the path {path.name!r}, where no file is")
    _, runtime = runtime_for(path, options)
    file = runtime.read(path, spec)
    if not file.record.get("levels_counted"):
        left = ", ".join(file.record.get("float_layers", ())) or "none was found"
        raise QuantizationError(
            f"tool {name!r} left all layers in full precision ({left}): nothing in {path.name} is quantized"
        )
    opened = open_network(file)
    _check_agreement(path, file, opened, network, images, options, name)
    check_sessions(file, images[:_COMPARED].numpy())
    return replace(file, record={**file.record, "runtime": dict(opened.facts)})


def _check_agreement(
    path: Path,
    file: NetworkFile,
    opened: OpenNetwork,
    network: nn.Module,
    images: Tensor,
    options: Mapping[str, Any],
    name: str,
) -> None:
    """Refuse a file that would answer more like the network under other inputs, or answers as another one.

    Few levels may leave a network that guesses, so that agreement by chance is refused in files of
    more than `_FEW_BITS` bits per weight alone.
    """
    with torch.no_grad(), exact_float32():
        expected = network(images[:_AGREEING]).numpy()
    shown = images[:_AGREEING].numpy()
    answers = opened(shown)
    error, stated = logit_error(answers, expected), options.get("pixels", PREPARATIONS[0])
    if error <= NEAR:
        return
    for pixels in PREPARATIONS:
        if pixels == stated:
            continue
        try:
            other = runtime_for(path, {**options, "pixels": pixels})[1].read(path, file.spec)
            changed = logit_error(open_network(other)(shown), expected)
        except ModelError:
            continue  # not an option of this file
        if changed < NEARER * error:
            raise QuantizationError(
                f"tool {name!r}: {path.name} answers otherwise than the network it was given, by {100 * error:.3g} % "
                f"of its logits, but by {100 * changed:.3g} % as a file that takes {pixels} pixels: write "
                f"runtime: {{pixels: {pixels}}}"
            )
    share = share_by_chance(answers, expected)
    if share is not None and file.record["bits_per_weight"] > _FEW_BITS:
        raise QuantizationError(
            f"tool {name!r}: {path.name} agrees with the network it was given on {100 * share:.1f} % of {len(shown)} "
            "images, no more than chance: it is a file of another network, or its input is prepared otherwise"
        )


def _checked_network(
    result: nn.Module,
    network: nn.Module,
    images: Tensor,
    spec: ModelSpec,
    name: str,
    fresh: Callable[[Weights], nn.Module],
) -> Weights:
    """Return the float weights of a network, if they are all that it computes with."""
    expected, tensors = state(network), _float_state(result, name)
    missing = sorted(set(expected) - set(tensors))
    if missing or any(tensors[key].shape != expected[key].shape for key in expected):
        detail = missing[0] if missing else "a tensor of another shape"
        raise QuantizationError(
            f"tool {name!r} returned a network whose state dict does not fit the one it was given ({detail}): return "
            "the path of a file that a runtime executes"
        )
    tensors = {key: tensors[key].astype(expected[key].dtype) for key in expected}
    if all(np.array_equal(tensors[key], expected[key]) for key in expected):
        raise QuantizationError(
            f"tool {name!r} changed nothing: all weights are those it was given"
        )
    record = weight_facts(network, expected, tensors)
    if not record["levels_counted"]:
        left = ", ".join(record["float_layers"]) or "none was found"
        raise QuantizationError(
            f"tool {name!r} left all layers in full precision ({left}): their values lie on no grid of up to 256 levels"
        )
    # Attacks would see another network if this one computes with more than its state dict.
    weights = Weights(tensors, spec, record=record)
    anew = fresh(weights)
    with torch.no_grad(), exact_float32():
        answers, plain = result.eval()(images[:_COMPARED]), anew(images[:_COMPARED])
    if not isinstance(answers, Tensor) or answers.shape != plain.shape:
        raise QuantizationError(f"tool {name!r} returned a network that answers with other shapes")
    difference = float((answers.float() - plain).abs().max())
    if not difference <= _TOLERANCE * max(1.0, float(plain.abs().max())):
        raise QuantizationError(
            f"tool {name!r} returned a network that computes otherwise than its weights do, by {difference:.3g} "
            "(quantized activations, perhaps): return the path of a file that a runtime executes"
        )
    return weights


def _float_state(result: nn.Module, name: str) -> dict[str, np.ndarray]:
    """Return a state dict as plain arrays; packed tensors as the floats that they stand for."""
    arrays: dict[str, np.ndarray] = {}
    for key, value in result.state_dict().items():
        if not isinstance(value, Tensor):
            continue
        plain = value.detach()
        # Kits hold codes in subclasses of Tensor, or in PyTorch's own quantized types.
        if type(plain) is not Tensor or plain.is_quantized:
            if not hasattr(plain, "dequantize"):
                raise QuantizationError(
                    f"tool {name!r}: tensor {key!r} is a {type(plain).__name__} that cannot be dequantized"
                )
            plain = plain.dequantize()
        arrays[key] = np.array(
            plain.float().numpy() if plain.is_floating_point() else plain.numpy()
        )
    return arrays
