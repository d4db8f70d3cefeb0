"""The common fields of all quantizers: levels of each layer, and the kind of grid."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, get_args

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bitleak.core.checks import integer_in, one_of
from bitleak.core.errors import QuantizationError
from bitleak.core.params import later
from bitleak.models.layer_kinds import deviation
from bitleak.quantizers.network.shared_memory import shared_weights

FULL_PRECISION: Literal["fp32"] = "fp32"
"""In `Scheme.layers`, in the place of a number of levels: the layer is not quantized."""

ACTIVATION_BITS = 8
"""Width of quantized activations."""

NormStatistics = Literal["relative", "absolute", "none"]
"""How batch norm is re-estimated after quantized weights (see `norm_statistics`)."""

NAMES_LISTED = 3
"""Names that a message lists before it looks for patterns."""

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
"""The kinds of module whose weight becomes codes; biases and everything else stay float."""


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """The fields that all quantizers share; each quantizer is a dataclass that adds its own.

    Attributes:
        levels: Grid points per weight, 2 to 256; b bits are 2**b levels, "1.58 bits" are 3.
        last: Levels of the layer that is executed last (the classifier); None = as the rest.
        layers: Levels by layer name pattern (`*` and `?` as in a shell), or `fp32` for a layer that
            keeps full precision; `fp32` also takes the name of a module that holds layers, and that
            of a batch norm, which is then neither folded nor re-estimated. The first pattern that
            matches wins, and it wins over `last`.
        granularity: One grid per output `channel`, or one per weight `tensor`.
        symmetric: Whether the grid is centred on zero.
        grid: `zero`: searched for the weights (see `grid`), with zero in its range, so that a
            weight of 0 is exact; `paper`: the same, but zero need not be in range; `output`: also a
            grid that suits the layer's output (see `output_grid`), refused where a quantizer does
            not look at that.
        activations: Width in bits of the inputs of quantized layers, 8; None leaves them float (see
            `network.input_grids`).

    Example:
        >>> Scheme(levels=300)
        Traceback (most recent call last):
        ...
        ValueError: levels must be an integer from 2 to 256, got 300
    """

    levels: int = 16
    last: int | None = None
    layers: Mapping[str, int | Literal["fp32"]] = field(default_factory=dict)
    granularity: Literal["channel", "tensor"] = "channel"
    symmetric: bool = False
    grid: Literal["zero", "paper", "output"] = "zero"
    activations: int | None = later(None)

    def __post_init__(self) -> None:
        integer_in("levels", self.levels, 2, 256)
        if self.last is not None:
            integer_in("last", self.last, 2, 256)
        for pattern, levels in self.layers.items():
            if isinstance(levels, str) and levels != FULL_PRECISION:
                raise ValueError(
                    f"layers[{pattern!r}] must be an integer from 2 to 256, or 'fp32', got {levels!r}"
                )
            if levels != FULL_PRECISION:
                integer_in(f"layers[{pattern!r}]", levels, 2, 256)
        one_of("granularity", self.granularity, ("channel", "tensor"))
        one_of("grid", self.grid, ("zero", "paper", "output"))
        if self.activations is not None and self.activations != ACTIVATION_BITS:
            raise ValueError(
                f"activations must be {ACTIVATION_BITS} bits, or null, got {self.activations!r}"
            )


def quantizable(network: nn.Module, scheme: Scheme | None = None) -> dict[str, Layer]:
    """Return the layers that are quantized, by qualified name, in the order of definition.

    Args:
        network: As it is used: a copy no longer shows which weights share memory.
        scheme: Its `layers` may leave some in full precision; None leaves none.

    Raises:
        QuantizationError: There is none; a layer has a forward pass of its own or hooks; two names
            share one module or one weight; the memory of a weight is also that of another tensor; a
            weight is not finite, or it is not a parameter of its layer; there is an
            `nn.MultiheadAttention`, most of whose weights belong to no layer and whose output layer
            is never called; or a pattern that leaves layers out matches nothing.

    Example:
        >>> list(quantizable(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))))
        ['0', '3']
    """
    scheme = Scheme() if scheme is None else scheme
    named = dict(network.named_modules(remove_duplicate=False))
    _check_left_out(scheme, named)

    # A module that holds layers is left out with them, so names decide before kinds.
    layers: dict[str, Layer] = {}
    for name, module in named.items():
        if left_out(scheme, name):
            continue
        if isinstance(module, Layer):
            layers[name] = module
        if isinstance(module, nn.MultiheadAttention):
            raise QuantizationError(
                f"{name!r} is an nn.MultiheadAttention, which reads its weights without calling a layer, so that they "
                "cannot be quantized: write the attention with nn.Linear layers for queries, keys, values and output, "
                f"or {leave_out(name)}"
            )
    if not layers:
        scripted = any(isinstance(module, torch.jit.ScriptModule) for module in network.modules())
        hint = (
            ": a scripted module hides its layers; give the module that it was made of"
            if scripted
            else ""
        )
        raise QuantizationError(f"the network has no convolution or linear layer to quantize{hint}")

    # Codes replace a parameter of a layer whose output is W x; anything else is refused.
    owners: dict[int, str] = {}
    for name, module in layers.items():
        if "weight" not in module._parameters:
            raise QuantizationError(
                f"layer {name!r}: its weight is computed from others; remove its parametrization "
                f"(torch.nn.utils.parametrize.remove_parametrizations), or {leave_out(name)}"
            )
        reason = deviation(module)
        if reason is not None:
            deviating = [
                layer_name for layer_name, layer in layers.items() if deviation(layer) is not None
            ]
            way_out = leave_out(*deviating, of=_all_names(network))
            raise QuantizationError(
                f"layer {name!r} cannot be taken for a {_kind(module)}: {reason}. Make it one (what is done to the "
                f"input or to the weight in the call belongs outside of the layer), or {way_out}"
            )
        check_finite(name, module.weight, "weight")
        first = owners.setdefault(id(module.weight), name)
        if first != name:
            raise QuantizationError(
                f"layers {first!r} and {name!r} share one weight; it can have only one grid: give each layer its own"
            )

    # One weight of two modules is caught above; views and slices are found by their memory only.
    for name, tensor_name in shared_weights(network, list(layers)):
        raise QuantizationError(
            f"layer {name!r} shares the memory of its weight with {tensor_name!r}: loading would put one over "
            "the other, and the layer would not lie on its grid. Give each a tensor of its own (clone it), or "
            f"{leave_out(name)}"
        )
    return layers


def left_out(scheme: Scheme, name: str) -> bool:
    """Return whether the scheme leaves a module, or one that holds it, in full precision.

    Example:
        >>> scheme = Scheme(layers={"aux": "fp32", "stem*": "fp32", "*": 4})
        >>> [left_out(scheme, name) for name in ("aux.0.conv", "stem1", "auxiliary", "head")]
        [True, True, False, False]
    """
    holders = [name]  # the module, and the modules that hold it
    while "." in holders[-1]:
        holders.append(holders[-1].rpartition(".")[0])
    for pattern, levels in scheme.layers.items():
        if levels == FULL_PRECISION and any(fnmatchcase(holder, pattern) for holder in holders):
            return True
        if fnmatchcase(name, pattern):
            return False
    return False


def leave_out(*names: str, of: Iterable[str] = ()) -> str:
    """Return the advice to leave layers in full precision, for messages; `of` as in `spelling`.

    Example:
        >>> print(leave_out("stem"))
        leave it in full precision by the quantizer's option layers: {"stem": fp32}
    """
    subject = "it" if len(names) == 1 else "all of its kind"
    return f"leave {subject} in full precision by the quantizer's option {spelling(*names, of=of)}"


def spelling(*names: str, of: Iterable[str] = ()) -> str:
    """Return the option that leaves layers in full precision, or batch norms as they are.

    Args:
        names: Names of these layers or batch norms.
        of: Names of all layers and batch norms. A long list of names is written as patterns if the
            patterns match nothing else in `of`.

    Example:
        >>> print(spelling("stem.bn1", "body.0.bn1", "body.0.bn2", "body.1.bn1", of=["stem.bn1", "stem.conv1"]))
        layers: {"*bn*": fp32}
    """
    patterns = list(names)
    if len(names) > NAMES_LISTED:
        short = dict.fromkeys("*" + re.sub(r"\d+", "*", name.rpartition(".")[2]) for name in names)
        scheme = Scheme(layers=dict.fromkeys(short, FULL_PRECISION))
        if not any(left_out(scheme, name) for name in of if name not in names):
            patterns = list(short)
    return "layers: {" + ", ".join(f'"{pattern}": {FULL_PRECISION}' for pattern in patterns) + "}"


def norms_left(network: nn.Module, names: Iterable[str]) -> str:
    """Return the option that leaves these batch norms of a network as they are."""
    return spelling(*names, of=_all_names(network))


def _all_names(network: nn.Module) -> list[str]:
    """Return the names of the layers and batch norms."""
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, (*get_args(Layer), _BatchNorm))
    ]


def _check_left_out(scheme: Scheme, modules: Mapping[str, nn.Module]) -> None:
    """Refuse patterns for full precision that match no layer and no batch norm."""
    kinds = (*get_args(Layer), _BatchNorm, nn.MultiheadAttention)
    names = [name for name, module in modules.items() if isinstance(module, kinds)]
    for pattern, levels in scheme.layers.items():
        alone = Scheme(layers={pattern: FULL_PRECISION})
        if levels == FULL_PRECISION and not any(left_out(alone, name) for name in names):
            raise QuantizationError(
                f"layers[{pattern!r}] matches no layer and no batch norm; there are {', '.join(names)}"
            )


def _kind(module: Layer) -> str:
    return next(kind.__name__ for kind in get_args(Layer) if isinstance(module, kind))


def layer_levels(scheme: Scheme, names: Sequence[str]) -> dict[str, int]:
    """Return the levels of each layer that is quantized.

    Args:
        scheme: Holds `levels`, `last` and `layers`.
        names: All layers in the order of execution, those that keep full precision too.

    Raises:
        QuantizationError: A pattern of `layers` with levels matches no name.

    Example:
        >>> layer_levels(Scheme(levels=3, last=256, layers={"stem*": 16}), ["stem", "body", "head"])
        {'stem': 16, 'body': 3, 'head': 256}
        >>> layer_levels(Scheme(levels=3, last=256, layers={"head": "fp32"}), ["stem", "body", "head"])
        {'stem': 3, 'body': 3}
    """
    levels = dict.fromkeys(names, scheme.levels)
    if scheme.last is not None:
        levels[names[-1]] = scheme.last

    by_pattern: dict[str, int] = {}
    for pattern, value in scheme.layers.items():
        if value == FULL_PRECISION:
            continue
        matching = [name for name in names if fnmatchcase(name, pattern)]
        if not matching:
            raise QuantizationError(
                f"layers[{pattern!r}] matches no layer; the layers are {', '.join(names)}"
            )
        for name in matching:
            by_pattern.setdefault(name, int(value))  # the first pattern that matches wins
    levels.update(by_pattern)
    return {name: value for name, value in levels.items() if not left_out(scheme, name)}


def check_finite(name: str, values: torch.Tensor, subject: str) -> None:
    """Refuse NaN and infinity in the `subject` (weight, input, ...) of the layer `name`."""
    if not bool(torch.isfinite(values).all()):
        raise QuantizationError(f"layer {name!r}: the {subject} holds NaN or infinite values")
