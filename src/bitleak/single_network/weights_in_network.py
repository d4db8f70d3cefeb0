"""Weights from a file in the network and the data that they are said to be for."""

from dataclasses import replace
from pathlib import Path

from bitleak.core.errors import ConfigError, ModelError
from bitleak.core.types import ModelSpec, Weights
from bitleak.models import build
from bitleak.models.external import factory_of
from bitleak.models.network_size import shared_names
from bitleak.models.tensor_names import common_prefix, fitted_names, with_shared_names
from bitleak.single_network.option_texts import text_of_model
from bitleak.single_network.spec_of_data import Model, shape_of_data


def model_of_weights(model: Model | None, weights: Weights) -> Model:
    """Return name and options of the model, as they were given or as the weights have them.

    Raises:
        ConfigError: Neither has them, they differ, or the weights name outside code that was not
            given.
    """
    spec = weights.spec
    if spec is None and model is None:
        raise ConfigError(
            "--model: missing; a .safetensors file does not say which network it is for"
        )
    if spec is None:
        return model or ("", {})
    stored = (spec.name, dict(spec.options))
    if model is None and factory_of(spec) is not None:
        raise ConfigError(
            f"--model: missing; the weights name outside code, which is imported and called only if you name it too: "
            f"if you trust it, add --model {text_of_model(*stored)}"
        )
    if model is not None and model != stored:
        raise ConfigError(
            f"--model: the weights are those of {text_of_model(*stored)}, got {text_of_model(*model)}; leave it out"
        )
    return stored


def fitted_weights(weights: Weights, spec: ModelSpec) -> tuple[Weights, str]:
    """Return the weights with their spec and the network's names of tensors, and how these differed."""
    if weights.spec is not None:
        return replace(weights, spec=spec), ""
    fresh = build(spec, seed=0)
    completed = with_shared_names(weights.tensors, shared_names(fresh))
    tensors, renamed = fitted_names(completed, fresh.state_dict())
    return replace(weights, tensors=tensors, spec=spec), renamed


def placed(error: ModelError, path: Path, weights: Weights, spec: ModelSpec) -> str:
    """Return the message, led by the option that it is about."""
    text = str(error)
    if text.startswith("tensor "):
        shape = shape_of_data(spec.classes, spec.channels, spec.size)
        prefix = common_prefix(weights.tensors)
        hint = (
            f"; the names of all tensors begin with {prefix!r}, without which they fit no better"
            if prefix
            else ""
        )
        return f"--weights {path}: {text} (the network was made for the data's {shape}{hint})"
    return f"--model: {text}"
