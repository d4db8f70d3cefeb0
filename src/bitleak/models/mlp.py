"""A fully connected network, for rows of a table and small images."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Literal

from torch import nn

from bitleak.core.checks import integer_in, one_of
from bitleak.core.types import input_shape

Activation = Literal["relu", "tanh"]
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


def mlp(
    classes: int,
    channels: int,
    size: int,
    *,
    hidden: Sequence[int] = (128,),
    activation: Activation = "relu",
) -> nn.Module:
    """Return linear layers with an activation after each but the last.

    Args:
        classes: Number of classes, at least 2.
        channels: Columns of a table, or channels of an image.
        size: 0 for a table; height and width of an image, whose pixels become one row.
        hidden: Units of each hidden layer; without any, the network is a logistic regression.
        activation: `relu` or `tanh`.

    Raises:
        ValueError: A number is out of range, or the activation is not known.

    Example:
        >>> sum(parameter.numel() for parameter in mlp(100, 600, 0, hidden=[256]).parameters())
        179556
    """
    integer_in("classes", classes, 2)
    if not isinstance(hidden, list | tuple):
        raise ValueError(f"hidden must be a list of units per layer, such as [128], got {hidden!r}")
    for units in hidden:
        integer_in("hidden", units, 1)
    one_of("activation", activation, ACTIVATIONS)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if size:
        layers["flatten"] = nn.Flatten()
    widths = [prod(input_shape(channels, size)), *hidden]
    for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        layers[f"linear{number}"] = nn.Linear(inputs, outputs)
        layers[f"{activation}{number}"] = ACTIVATIONS[activation]()
    layers["classifier"] = nn.Linear(widths[-1], classes)
    return nn.Sequential(layers)
