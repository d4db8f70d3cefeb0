"""Releases of a target as models that answer: other weights, other networks, or quantizers.

| given | release |
|---|---|
| a network, or anything with `predict_proba` | as it is |
| a state dict, or a file of weights | the target's network with these weights |
| a quantizer, such as `AdaRound(levels=4)` | the target, quantized on some of its members |
| a file of a runtime, or a tool | see `file_releases` |
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from bitleak import registry
from bitleak.audit.target.file_releases import (
    ReleaseFile,
    ReleaseTool,
    is_runtime_file,
    opened_release,
    tool_release,
)
from bitleak.audit.target.network_answers import Records
from bitleak.audit.target.tabular_model import StoredProbabilities
from bitleak.core.checks import label_text
from bitleak.core.errors import ConfigError, ModelError
from bitleak.core.seeds import seed_for
from bitleak.core.types import QuantizedWeights, Weights
from bitleak.core.variants import BLIND, CONTROLS, FULL, SIGNS
from bitleak.models.checkpoint import check_fit, read_checkpoint
from bitleak.models.given_network import evaluation_mode
from bitleak.models.input_rounding import round_inputs
from bitleak.models.logit_output import Choices, answering, chosen_output
from bitleak.models.precision import exact_float32
from bitleak.models.tensor_names import fitted_names
from bitleak.runtimes.file_network import FileNetwork


@dataclass(frozen=True)
class ReleaseModel:
    """A release that can be asked.

    Attributes:
        name: Variant in tables.
        model: A network, or anything with `predict_proba`.
        quantizer: Label of its quantizer; the release's own name if not known.
        levels: Grid points; None if not known.
        source: The quantizer or tool that made it, for references that are quantized alike, or None.
        facts: Facts on a file's layers, and its `bytes`; empty for other releases.
        lacks_tool: Whether references cannot be quantized alike, since a file's tool is not known.
    """

    name: str
    model: Any
    quantizer: str = ""
    levels: int | None = None
    source: Any = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    lacks_tool: bool = False


def checked_name(name: Any, where: str) -> str:
    """Return the name of a release that tables can show.

    Raises:
        ConfigError: It cannot be one.
    """
    if not isinstance(name, str) or not name or name in (FULL, *CONTROLS, BLIND):
        raise ConfigError(
            f"{where}: a release needs a name besides fp32, control and blind, got {name!r}"
        )
    if any(sign in name for sign in SIGNS):
        raise ConfigError(f"{where}: {name!r}: a name must not hold any of {' '.join(SIGNS)}")
    try:
        return label_text(where, name)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def is_quantizer(value: Any) -> bool:
    """Return whether a value is a quantizer: called with a network, at a number of levels."""
    return callable(value) and hasattr(value, "levels") and not isinstance(value, nn.Module | type)


def release_model(
    name: str,
    value: Any,
    target: Any,
    records: Records,
    calibration: Int64[np.ndarray, "calibration"],
    *,
    seed: int,
    where: str,
) -> ReleaseModel:
    """Return a release that can be asked.

    Args:
        name: Its name.
        value: In one of the forms of this module.
        target: The target at full precision; it is not changed.
        records: All records.
        calibration: Members that a quantizer may look at, and that a file is tried on.
        seed: Seed of a quantizer.
        where: Name of the field, for messages.

    Raises:
        ConfigError: The value is none of these.
        ModelError: Weights do not fit the target's network.
    """
    if is_runtime_file(value):
        value = ReleaseFile(value)
    if isinstance(value, ReleaseFile):
        network, file = opened_release(value, target, records, calibration, where)
        source = value.source
        label = name if source is None else source.name
        facts: Mapping[str, Any] = {**file.record, "bytes": file.size}
        return ReleaseModel(name, network, label, None, source, facts, lacks_tool=source is None)
    if isinstance(value, ReleaseTool):
        copied, facts = quantized_copy(target, value, records, calibration, seed)
        return ReleaseModel(name, copied, value.name, None, value, facts)
    # Suffixes of runtimes were taken above; any other path holds weights.
    if isinstance(value, str | Path):
        checkpoint = read_checkpoint(Path(value), where)
        return ReleaseModel(name, with_tensors(target, checkpoint.tensors, where), name)
    if isinstance(value, Weights | QuantizedWeights):
        return ReleaseModel(name, _with_weights(target, value, where), name)
    # Networks may also be mappings or callable, so they come before these forms.
    if isinstance(value, nn.Module | StoredProbabilities) or hasattr(value, "predict_proba"):
        return ReleaseModel(name, value, name)
    if isinstance(value, Mapping):
        return ReleaseModel(name, with_tensors(target, value, where), name)
    if is_quantizer(value):
        quantized, _ = quantized_copy(target, value, records, calibration, seed)
        return ReleaseModel(name, quantized, quantizer_label(value), int(value.levels), value)
    raise ConfigError(
        f"{where}: expected a network, weights, a file (weights, or one that a runtime executes), a tool or a "
        f"quantizer such as AdaRound(levels=4), got {type(value).__name__}"
    )


def quantized_copy(
    target: Any,
    quantizer: Any,
    records: Records,
    calibration: Int64[np.ndarray, "calibration"],
    seed: int,
) -> tuple[nn.Module, Mapping[str, Any]]:
    """Return the target as a quantizer or a tool quantizes it, and the facts of a tool's result.

    Raises:
        ConfigError: The target is no network.
    """
    if not isinstance(target, nn.Module) or isinstance(target, FileNetwork):
        raise ConfigError(
            f"releases: only networks can be quantized here, and the target is a {type(target).__name__}; "
            "give the quantized model itself"
        )
    # The target itself stays as it is: a copy is quantized.
    network = _answering_logits(evaluation_mode(copy.deepcopy(target)), records)
    if isinstance(quantizer, ReleaseTool):
        floats = copy.deepcopy(network)
        return tool_release(
            network,
            quantizer,
            records,
            calibration,
            seed=seed,
            fresh=lambda weights: with_tensors(floats, weights.tensors, "releases"),
        )
    # A quantizer of this package takes images as the network does, and a seeded generator.
    images = records.inputs(calibration, "identity")
    device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed_for(seed, "quantize", 0))
    with exact_float32():
        result = quantizer(network, images.to(device), generator)
    return _with_weights(network, result, "releases"), {}


def _with_weights(network: Any, weights: Weights | QuantizedWeights, where: str) -> nn.Module:
    """Return a copy of the network with these weights, and with the inputs of layers on their grids."""
    plain = weights.dequantize() if isinstance(weights, QuantizedWeights) else weights
    copied = with_tensors(network, plain.tensors, where)
    return round_inputs(copied, plain.record.get("activations", {}))


def quantizer_label(quantizer: Any) -> str:
    """Return the name of a quantizer in tables: the registry's, or that of its class."""
    place = quantizer_place(quantizer)
    if place in registry.QUANTIZERS:
        return place
    return str(getattr(quantizer, "name", type(quantizer).__name__.lower()))


def quantizer_place(value: Any) -> str | None:
    """Return the name under which a config finds a quantizer: the registry's, or `package.module:Name`.

    None if it is no quantizer, or one that is not in a module, or without fields.
    """
    kind = type(value)
    place = f"{kind.__module__}:{kind.__qualname__}"
    if not is_quantizer(value) or not is_dataclass(value):
        return None
    for name, known in registry.QUANTIZERS.items():
        if known == place:
            return name
    if kind.__module__ == "__main__" or "<locals>" in place:
        return None
    return place


def with_tensors(network: Any, tensors: Mapping[str, Any], where: str) -> nn.Module:
    """Return a copy of the network with these weights.

    Raises:
        ModelError: They do not fit, or the target is no network.
    """
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"{where}: weights need a network, and the target is a {type(network).__name__}"
        )
    copied = copy.deepcopy(network)
    expected = copied.state_dict()
    packed = [name for name, value in tensors.items() if _is_packed(name, value)]
    if packed:
        raise ModelError(
            f"{where}: {packed[0]!r} holds packed codes of a quantized module, which only such a module reads; give "
            "the quantized network itself"
        )
    plain = {name: value for name, value in tensors.items() if hasattr(value, "shape")}
    fitted, _ = fitted_names(plain, expected)
    check_fit(fitted, expected, where)
    copied.load_state_dict({name: _tensor(value) for name, value in fitted.items()})
    return evaluation_mode(copied)


def _is_packed(name: str, value: Any) -> bool:
    return "_packed_params" in name or bool(getattr(value, "is_quantized", False))


def _tensor(value: Any) -> Tensor:
    """Return a tensor of its own; NumPy has no bfloat16."""
    return value.detach().clone() if isinstance(value, Tensor) else torch.as_tensor(np.array(value))


def _answering_logits(network: nn.Module, records: Records) -> nn.Module:
    """Return the network with logits as its output, which quantizers need."""
    few = np.arange(min(3, len(records.labels)))
    device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    with torch.no_grad():
        output = network(records.inputs(few, "identity").to(device))
    choice = chosen_output(output, type(network).__name__, len(few), records.classes)
    return answering(network, Choices(choice, choice))
