"""Weights from a file in the network and the data that they are said to be for."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bitleak.core.errors import ConfigError, ModelError
from bitleak.core.types import Images, ModelSpec, Weights
from bitleak.data.augment import channel_statistics
from bitleak.models import build
from bitleak.models.external import factory_of
from bitleak.models.network_size import shared_names
from bitleak.models.tensor_names import common_prefix, fitted_names, with_shared_names
from bitleak.single_network.option_texts import text_of_model

Model = tuple[str, Mapping[str, Any]]
"""Name and options of a network."""

Standardisation = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation per channel."""


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


def spec_for_data(
    model: Model,
    standardisation: Standardisation | None,
    weights: Weights,
    images: Images,
    hint: str = "",
) -> ModelSpec:
    """Return the network's spec for the data.

    Args:
        model: Name and options.
        standardisation: Mean and deviation per channel; None for those of the weights or, if they
            have none, of the data's training part.
        weights: As they were read; a spec of theirs must fit the data.
        images: The data set.
        hint: Put after the message if it does not fit.

    Raises:
        ConfigError: The weights are for other data, or there are not as many numbers as channels.
    """
    channels = images.channels
    shape = (len(images.class_names), channels, images.size)
    stored = weights.spec
    if stored is not None and (stored.classes, stored.channels, stored.size) != shape:
        raise ConfigError(
            f"--data: the weights are for {_shape(stored.classes, stored.channels, stored.size)}, "
            f"got {_shape(*shape)}; give the data that the network was trained on{hint}"
        )
    mean, std = standardisation or _statistics(stored, images)
    for option, values in (("--mean", mean), ("--std", std)):
        if len(values) != channels:
            raise ConfigError(
                f"{option}: expected {channels} numbers, one per {'channel' if images.size else 'column'}, "
                f"got {len(values)}"
            )
    return ModelSpec(model[0], dict(model[1]), *shape, mean=mean, std=std)


def _statistics(
    stored: ModelSpec | None, images: Images
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel, of the weights or of the data's training
    part.
    """
    if stored is not None:
        return stored.mean, stored.std
    try:
        return channel_statistics(images, np.flatnonzero(~images.held_out))
    except ValueError as error:
        raise ConfigError(f"--data: {error}; give --mean and --std") from None


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
        shape = _shape(spec.classes, spec.channels, spec.size)
        prefix = common_prefix(weights.tensors)
        hint = (
            f"; the names of all tensors begin with {prefix!r}, without which they fit no better"
            if prefix
            else ""
        )
        return f"--weights {path}: {text} (the network was made for the data's {shape}{hint})"
    return f"--model: {text}"


def _shape(classes: int, channels: int, size: int) -> str:
    if not size:
        return f"{classes} classes, {channels} columns"
    return f"{classes} classes, {channels} channels, {size}x{size} pixels"
