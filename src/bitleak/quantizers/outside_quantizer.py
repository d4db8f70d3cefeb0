"""A quantizer from outside, called so that it changes nothing that others are given.

Quantizers share a network and its images: other precisions, other methods and other models come after.
Code from outside gets copies, and global generators seeded as its own generator is, so that a result
depends neither on what ran before nor on the number of workers. A subclass with a `__call__` of its own
is from outside too, whatever it inherits: no shared pass may go past that call.
"""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bitleak.core.errors import QuantizationError
from bitleak.core.types import QuantizedWeights
from bitleak.models.global_state import seeded_draws
from bitleak.quantizers.network.layer_inputs import OnLayer

ARGUMENTS = ("network", "calibration", "generator")


def is_own(quantizer: object) -> bool:
    """Return whether a quantizer is called by this package's code.

    Example:
        >>> from bitleak.quantizers.rtn import RoundToNearest
        >>> is_own(RoundToNearest(levels=4)), is_own(lambda network, images, generator: None)
        (True, False)
    """
    call = getattr(type(quantizer), "__call__", None)  # noqa: B004
    return getattr(call, "__module__", "").partition(".")[0] == "bitleak"


def call_quantizer(
    quantizer: Callable[..., Any],
    network: nn.Module,
    calibration: Tensor,
    generator: torch.Generator,
    *,
    on_layer: OnLayer | None = None,
) -> QuantizedWeights:
    """Return a quantizer's result.

    Args:
        quantizer: Of this package or from outside; a call without the keyword `on_layer` does as well.
        network: It is not changed.
        calibration: Normalised images, which are not changed either.
        generator: Source of its draws.
        on_layer: See `quantize_together`.

    Raises:
        QuantizationError: A quantizer from outside returns something else than `QuantizedWeights`.
    """
    if is_own(quantizer):
        own: QuantizedWeights = quantizer(network, calibration, generator, on_layer=on_layer)
        return own
    told = {"on_layer": on_layer} if takes_on_layer(quantizer) else {}
    with seeded_draws(generator.initial_seed(), calibration.device):
        found = quantizer(copy.deepcopy(network), calibration.clone(), generator, **told)
    if not isinstance(found, QuantizedWeights):
        raise QuantizationError(
            f"quantizer {type(quantizer).__name__} must return bitleak.QuantizedWeights, got {type(found).__name__}"
        )
    return found


def takes_on_layer(quantizer: Callable[..., Any]) -> bool:
    """Return whether a quantizer's call takes the keyword `on_layer`.

    Example:
        >>> takes_on_layer(lambda network, calibration, generator, **more: None)
        True
    """
    parameters = inspect.signature(quantizer).parameters.values()
    return any(
        parameter.name == "on_layer" or parameter.kind is inspect.Parameter.VAR_KEYWORD
        for parameter in parameters
    )


def why_not_called(quantizer: object) -> str:
    """Return why a quantizer cannot be called with network, images and generator; empty if it can.

    Example:
        >>> why_not_called(lambda network, calibration: None)
        'its call must take (network, calibration, generator), and may take the keyword on_layer; got (network, ...'
    """
    if not callable(quantizer):
        return f"it cannot be called; it must have __call__(self, {', '.join(ARGUMENTS)})"
    try:
        signature = inspect.signature(quantizer)
    except (TypeError, ValueError):  # of compiled code
        return ""
    told = {"on_layer": None} if takes_on_layer(quantizer) else {}
    try:
        signature.bind(*ARGUMENTS, **told)
    except TypeError:
        return f"its call must take ({', '.join(ARGUMENTS)}), and may take the keyword on_layer; got {signature}"
    return ""
