"""Several precisions, methods or models at once, in less time than one after the other.

`quantize_together` quantizes one network by several quantizers. Those that look at the
full-precision network's inputs only (`gptq`, `obc`, polished `rtn`, unless `inputs="quantized"`)
share one pass over the images and one Gram matrix per layer; `obc` at several precisions also
eliminates the weights of all of them in one call per layer (see `layer_method`). The inputs of
`adaround` and `brecq` depend on their own codes, layer by layer; where they differ in their levels
only, one pass carries the activations of all of them, and the steps of learning are made together.
The others are called one after the other. The re-estimation of batch norm is one pass of the
quantized network per result; its statistics of the full-precision network come from the shared
pass.

`quantize_population` quantizes several networks of one architecture, each with its own images, by
one such quantizer: small layers are stacked, see `layer_method`.

Either way a result equals that of the quantizer on its own. Where rows are stacked (precisions of
`obc`, models), the solver's sums may round differently, which can decide a tie; the codes have been
equal, bit for bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bitleak.core.types import QuantizedWeights
from bitleak.quantizers.layers.layer_method import LayerMethod
from bitleak.quantizers.network.layer_inputs import OnLayer
from bitleak.quantizers.network.layerwise import quantize_alike
from bitleak.quantizers.outside_quantizer import call_quantizer, is_own
from bitleak.quantizers.scheme import Scheme, quantizable


@runtime_checkable
class Quantizer(Protocol):
    """Any entry of the registry's QUANTIZERS, with its fields.

    A quantizer whose codes do not depend on the calibration images has an attribute
    `looks_at_images` that is False.
    """

    def __call__(
        self,
        network: nn.Module,
        calibration: Float[Tensor, "records *sample"],
        generator: torch.Generator,
        *,
        on_layer: OnLayer | None = None,
    ) -> QuantizedWeights:
        """Quantize the network."""
        ...


@runtime_checkable
class AtLevels(Protocol):
    """A quantizer whose results at several levels cost less together."""

    def at_levels(
        self,
        levels: Sequence[int],
        network: nn.Module,
        calibration: Float[Tensor, "records *sample"],
        generators: Sequence[torch.Generator],
        *,
        on_layer: OnLayer | None = None,
        memory: int | None = None,
    ) -> list[QuantizedWeights]:
        """Quantize the network at several levels, each as if called with these."""
        ...


@runtime_checkable
class LayerWise(Protocol):
    """A quantizer that takes each layer for itself."""

    def method(self) -> LayerMethod | None:
        """Return the treatment of a layer; None if the fields leave nothing to share."""
        ...


def quantize_together(
    quantizers: Sequence[Quantizer],
    network: nn.Module,
    calibration: Float[Tensor, "records *sample"],
    generators: Sequence[torch.Generator],
    *,
    on_layer: OnLayer | None = None,
    memory: int | None = None,
) -> Iterator[QuantizedWeights]:
    """Quantize one network by several quantizers, from shared statistics where they can share them.

    Args:
        quantizers: At any levels; methods may be mixed.
        network: Any network; it is not changed.
        calibration: Normalised images, for all of them.
        generators: One per quantizer.
        on_layer: Called after each layer after each quantizer; the index runs over quantizers and
            layers.
        memory: Bytes that the shared statistics may take, see `layerwise.quantize_layers`.

    Returns:
        The result of each quantizer as if called alone, in order. Each is made when the iterator
        reaches it, or the first one that it shares a pass with.

    Raises:
        ValueError: There is not one generator per quantizer.
        QuantizationError: A layer cannot be quantized (raised when the iterator reaches it).

    Example:
        >>> from bitleak.quantizers.gptq import GPTQ
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> images, chance = torch.eye(4).reshape(4, 1, 2, 2), torch.Generator()
        >>> four, three = quantize_together([GPTQ(levels=4), GPTQ(levels=3)], network, images, [chance, chance])
        >>> four.layers["1"].levels, three.layers["1"].levels
        (4, 3)
    """
    if len(generators) != len(quantizers):
        raise ValueError(
            f"generators must be one per quantizer: {len(quantizers)} expected, got {len(generators)}"
        )
    counted = None
    if on_layer is not None:
        total = 0
        for quantizer in quantizers:
            total += len(quantizable(network, quantizer if isinstance(quantizer, Scheme) else None))
        counted = _counted(on_layer, total)
    return _results(quantizers, network, calibration, generators, counted, memory)


def quantize_population(
    quantizer: Quantizer,
    networks: Sequence[nn.Module],
    calibrations: Sequence[Float[Tensor, "_ *sample"]],
    generators: Sequence[torch.Generator],
    *,
    on_layer: OnLayer | None = None,
    memory: int | None = None,
) -> Iterator[QuantizedWeights]:
    """Quantize several networks of one architecture by one quantizer, each with images of its own.

    Quantizers that cannot be shared (see the module) are called for one network after the other.

    Args:
        quantizer: For all of them.
        networks: They are not changed.
        calibrations: Normalised images of each network.
        generators: One per network.
        on_layer: Called after each layer; without the networks' numbers, once for all that share.
        memory: Bytes that the second moments of all networks may take at a time; None = those of
            one pass.

    Returns:
        The quantizer's result for each network as if called alone, in order.

    Raises:
        ValueError: There are not as many calibrations and generators as networks.
        QuantizationError: A layer cannot be quantized, or the networks differ in their layers
            (raised when the iterator reaches it).

    Example:
        >>> from bitleak.quantizers.gptq import GPTQ
        >>> networks = [nn.Sequential(nn.Flatten(), nn.Linear(4, 2)) for _ in range(3)]
        >>> images, chance = torch.eye(4).reshape(4, 1, 2, 2), torch.Generator()
        >>> len(list(quantize_population(GPTQ(levels=3), networks, [images] * 3, [chance] * 3)))
        3
    """
    for name, values in (("calibrations", calibrations), ("generators", generators)):
        if len(values) != len(networks):
            raise ValueError(
                f"{name} must be one per network: {len(networks)} expected, got {len(values)}"
            )
    method = shared_method(quantizer)
    if method is not None and networks:
        return quantize_alike([method], networks, calibrations, on_layer=on_layer, memory=memory)
    calls = zip(networks, calibrations, generators, strict=True)
    return (call_quantizer(quantizer, *call, on_layer=on_layer) for call in calls)


def shared_method(quantizer: Quantizer) -> LayerMethod | None:
    """Return a quantizer's method if it uses full-precision inputs only; else None."""
    shares = is_own(quantizer) and isinstance(quantizer, LayerWise)
    method = quantizer.method() if shares else None  # type: ignore[attr-defined]
    return method if method is not None and method.inputs == "full_precision" else None


def _results(
    quantizers: Sequence[Quantizer],
    network: nn.Module,
    calibration: Tensor,
    generators: Sequence[torch.Generator],
    on_layer: OnLayer | None,
    memory: int | None,
) -> Iterator[QuantizedWeights]:
    methods = [shared_method(quantizer) for quantizer in quantizers]
    shared = [method for method in methods if method is not None]
    results = quantize_alike(shared, [network], [calibration], on_layer=on_layer, memory=memory)
    made: dict[int, QuantizedWeights] = {}
    for number, method in enumerate(methods):
        if method is not None:
            yield next(results)
            continue
        if number not in made:
            numbers = _alike(quantizers, number)
            some = [generators[index] for index in numbers]
            alike = [quantizers[index] for index in numbers]
            found = _at_levels(alike, network, calibration, some, on_layer)
            made.update(zip(numbers, found, strict=True))
        yield made.pop(number)


def _alike(quantizers: Sequence[Quantizer], number: int) -> list[int]:
    """Return the quantizers from one on that differ from it in their levels only."""
    first: Any = quantizers[number]
    if not is_own(first) or not isinstance(first, AtLevels) or not isinstance(first, Scheme):
        return [number]
    numbers: list[int] = []
    for index in range(number, len(quantizers)):
        other: Any = quantizers[index]
        if type(other) is type(first) and replace(other, levels=first.levels) == first:
            numbers.append(index)
    return numbers


def _at_levels(
    quantizers: Sequence[Any],
    network: nn.Module,
    calibration: Tensor,
    generators: Sequence[torch.Generator],
    on_layer: OnLayer | None,
) -> list[QuantizedWeights]:
    """Quantize by a single quantizer, or by several that differ in their levels."""
    first = quantizers[0]
    if len(quantizers) == 1:
        return [call_quantizer(first, network, calibration, generators[0], on_layer=on_layer)]
    levels = [quantizer.levels for quantizer in quantizers]
    found: list[QuantizedWeights] = first.at_levels(
        levels, network, calibration, generators, on_layer=on_layer
    )
    return found


def _counted(on_layer: OnLayer, total: int) -> OnLayer:
    """Return a callback that counts the layers of all quantizers by one index."""
    index = count()
    return lambda name, _, of: on_layer(name, next(index), total)
