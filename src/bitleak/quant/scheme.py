"""What every quantizer is told: how many levels each layer gets, and on which kind of grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import nn

from bitleak.core.checks import integer_in, one_of
from bitleak.core.errors import QuantizationError

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
"""The kinds of module whose weight becomes codes; biases and everything else stay float."""


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """The fields that all quantizers share; each quantizer is a dataclass that adds its own.

    Attributes:
        levels: Grid points per weight, 2 to 256; b bits are 2**b levels, "1.58 bits" are 3.
        last: Levels of the layer that is executed last (the classifier); None = as the rest.
        layers: Levels by layer name pattern (`*` and `?` as in a shell). The first pattern that
            matches wins, and it wins over `last`.
        granularity: One grid per output `channel`, or one per weight `tensor`.
        symmetric: Whether the grid is centred on zero.
        grid: `zero`: searched for the weights (see `grid`), with zero in its range, so that a weight of 0 is exact;
            `paper`: the same, but zero need not be in range; `output`: also a grid that suits the layer's output (see
            `output_grid`), refused where a quantizer does not look at that.

    Example:
        >>> Scheme(levels=300)
        Traceback (most recent call last):
        ...
        ValueError: levels must be an integer from 2 to 256, got 300
    """

    levels: int = 16
    last: int | None = None
    layers: Mapping[str, int] = field(default_factory=dict)
    granularity: Literal["channel", "tensor"] = "channel"
    symmetric: bool = False
    grid: Literal["zero", "paper", "output"] = "zero"

    def __post_init__(self) -> None:
        integer_in("levels", self.levels, 2, 256)
        if self.last is not None:
            integer_in("last", self.last, 2, 256)
        for pattern, levels in self.layers.items():
            integer_in(f"layers[{pattern!r}]", levels, 2, 256)
        one_of("granularity", self.granularity, ("channel", "tensor"))
        one_of("grid", self.grid, ("zero", "paper", "output"))


def quantizable(network: nn.Module) -> dict[str, Layer]:
    """The convolution and linear layers of a network, by qualified name, in the order of definition.

    Raises:
        QuantizationError: There is none, two names share one module or one weight, a weight is not
            finite, or it is not a parameter of its layer; or there is an `nn.MultiheadAttention`, most
            of whose weights belong to no layer and whose output layer is never called.

    Example:
        >>> list(quantizable(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))))
        ['0', '3']
    """
    modules = list(network.named_modules(remove_duplicate=False))
    for name, module in modules:
        if isinstance(module, nn.MultiheadAttention):
            raise QuantizationError(
                f"{name!r} is an nn.MultiheadAttention, which reads its weights without calling a layer, so that they "
                "cannot be quantized: write the attention with nn.Linear layers for queries, keys, values and output"
            )
    layers = {name: module for name, module in modules if isinstance(module, Layer)}
    if not layers:
        raise QuantizationError("the network has no convolution or linear layer to quantize")
    owners: dict[int, str] = {}
    for name, module in layers.items():
        if "weight" not in module._parameters:
            raise QuantizationError(f"layer {name!r}: its weight is computed from others; remove its parametrization")
        check_finite(name, module.weight, "weight")
        first = owners.setdefault(id(module.weight), name)
        if first != name:
            raise QuantizationError(
                f"layers {first!r} and {name!r} share one weight; it can have only one grid: give each layer its own"
            )
    return layers


def layer_levels(scheme: Scheme, names: Sequence[str]) -> dict[str, int]:
    """The levels of each layer.

    Args:
        scheme: Holds `levels`, `last` and `layers`.
        names: All quantizable layers in the order of execution.

    Raises:
        QuantizationError: A pattern of `layers` matches no name.

    Example:
        >>> layer_levels(Scheme(levels=3, last=256, layers={"stem*": 16}), ["stem", "body", "head"])
        {'stem': 16, 'body': 3, 'head': 256}
    """
    for pattern in scheme.layers:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise QuantizationError(f"layers[{pattern!r}] matches no layer; the layers are {', '.join(names)}")
    levels = dict.fromkeys(names, scheme.levels)
    if scheme.last is not None:
        levels[names[-1]] = scheme.last
    for name in names:
        matches = (value for pattern, value in scheme.layers.items() if fnmatchcase(name, pattern))
        levels[name] = next(matches, levels[name])
    return levels


def check_finite(name: str, values: torch.Tensor, what: str) -> None:
    """Refuse NaN and infinity; `what` is what the layer `name` has too much of."""
    if not bool(torch.isfinite(values).all()):
        raise QuantizationError(f"layer {name!r}: the {what} holds NaN or infinite values")
