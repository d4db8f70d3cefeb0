"""The spec of a network for a data set: shape, classes and standardisation."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitleak.core.errors import ConfigError
from bitleak.core.types import Images, ModelSpec, Weights
from bitleak.data.array_images import channel_statistics

Model = tuple[str, Mapping[str, Any]]
"""Name and options of a network."""

Standardisation = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation per channel."""


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
        standardisation: Mean and deviation, one number or one per channel; None for those of the
            weights or, if they have none, of the data's training part.
        weights: As they were read; a spec of theirs must fit the data.
        images: The data set.
        hint: Put after the message if it does not fit.

    Raises:
        ConfigError: The weights are for other data, or there are neither 1 nor as many numbers as
            channels.
    """
    channels = images.channels
    shape = (len(images.class_names), channels, images.size)
    stored = weights.spec
    if stored is not None and (stored.classes, stored.channels, stored.size) != shape:
        raise ConfigError(
            f"--data: the weights are for {shape_of_data(stored.classes, stored.channels, stored.size)}, "
            f"got {shape_of_data(*shape)}; give the data that the network was trained on{hint}"
        )
    mean, std = standardisation or _statistics(stored, images)
    for option, values in (("--mean", mean), ("--std", std)):
        if len(values) not in (1, channels):
            raise ConfigError(
                f"{option}: expected 1 number or one per {'channel' if images.size else 'column'} ({channels}), "
                f"got {len(values)}"
            )
    # A single number stands for all channels.
    mean, std = (values * (channels // len(values)) for values in (mean, std))
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


def shape_of_data(classes: int, channels: int, size: int) -> str:
    """Return classes and shape of a record in words."""
    if not size:
        return f"{classes} classes, {channels} columns"
    return f"{classes} classes, {channels} channels, {size}x{size} pixels"
