"""The layers of a network: their order, and their inputs during one pass over the images.

`stream` runs the network over the images once, with all inputs of all watched modules on the way,
for statistics that need no order. `layer_pass.visit_in_order` visits one module after the other,
each after the changes to those before it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.network.plain_copy import evaluation_copy, quantized_names
from bitleak.quantizers.scheme import Layer, Scheme, layer_levels, leave_out

# Of a chunk: sums over the images are made chunk by chunk, so it is part of the results.
POSITIONS = 1 << 16

OnLayer = Callable[[str, int, int], None]
"""Called with a layer's name, its index in the order of execution, and the number of layers."""


def chunks(calibration: Float[Tensor, "records *sample"]) -> tuple[Tensor, ...]:
    """Return the calibration images in float32, in parts of about 65,536 pixels.

    Raises:
        QuantizationError: There are no images.
    """
    if not len(calibration):
        raise QuantizationError("the calibration set is empty; at least one image is needed")
    records = max(1, POSITIONS // max(1, calibration[0, 0].numel()))
    return calibration.detach().float().split(records)


def leading_images(
    calibration: Float[Tensor, "records *sample"], records: int | None
) -> Float[Tensor, "some *sample"]:
    """Return the first `records` images, rounded up to whole chunks; None = all.

    Example:
        >>> images = torch.zeros(300, 3, 32, 32)
        >>> len(leading_images(images, 100)), len(leading_images(images, None))
        (128, 300)
    """
    size = len(chunks(calibration)[0])
    return calibration if records is None else calibration[: -(-records // size) * size]


def prepare_layers(
    scheme: Scheme, network: nn.Module, calibration: Float[Tensor, "records *sample"]
) -> tuple[nn.Module, dict[str, Layer], dict[str, int]]:
    """Copy a network and list its layers with their levels.

    Returns:
        A copy of the network in evaluation mode; its quantizable layers in the order of execution;
        their levels.

    Raises:
        QuantizationError: A layer cannot be quantized.
    """
    copied, layers, (levels,) = prepare_for_schemes([scheme], network, calibration)
    return copied, layers, levels


def prepare_for_schemes(
    schemes: Sequence[Scheme], network: nn.Module, calibration: Float[Tensor, "records *sample"]
) -> tuple[nn.Module, dict[str, Layer], list[dict[str, int]]]:
    """Return the same as `prepare_layers` for several schemes, with the levels by scheme.

    The layers are those that at least one of the schemes quantizes.
    """
    names = quantized_names(network, schemes)
    copied = evaluation_copy(network)
    order = layer_order(copied, names, calibration)
    layers: dict[str, Any] = {}
    for name in order:
        if name in names:
            layers[name] = copied.get_submodule(name)
    return copied, layers, [layer_levels(scheme, order) for scheme in schemes]


def layer_order(
    network: nn.Module, names: Sequence[str], calibration: Float[Tensor, "records *sample"]
) -> list[str]:
    """Return all layers that are run, in order of execution; each of `names` is called just once.

    Args:
        network: In evaluation mode.
        names: The layers that are quantized.
        calibration: At least one image.

    Raises:
        QuantizationError: A layer of `names` is called twice or never.
    """
    # Layers in full precision count too: `last` is the layer that is executed last in any case.
    unquantized: list[str] = []
    for name, module in network.named_modules():
        if isinstance(module, Layer) and name not in names:
            unquantized.append(name)
    return execution_order(network, names, calibration, optional=unquantized)


def execution_order(
    network: nn.Module,
    names: Iterable[str],
    calibration: Float[Tensor, "records *sample"],
    *,
    optional: Iterable[str] = (),
) -> list[str]:
    """Return the named modules in the order in which the network calls them.

    Args:
        network: In evaluation mode.
        names: Qualified names of modules.
        calibration: At least one image. The first two are used, as a loop over images calls a
            module once for one; the rest only if these two give a module no inputs.
        optional: More modules, which may be called never or several times (then the last call
            counts).

    Raises:
        QuantizationError: A module is called twice or never or given no records, or a convolution a
            single image.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2)).eval()
        >>> execution_order(network, ["2", "1"], torch.zeros(1, 1, 2, 2))
        ['1', '2']
    """
    called: list[str] = []
    served: set[str] = set()
    needed, free = list(names), set(optional)

    def note(name: str, inputs: Tensor) -> None:
        layer = network.get_submodule(name)
        if name not in free and isinstance(layer, Layer) and not isinstance(layer, nn.Linear):
            _check_records(name, inputs, 2 + len(layer.kernel_size))
        called.append(name)
        if inputs.numel():
            served.add(name)

    # Calls are counted in one run; an expert of a mixture may serve none of the first two images.
    watchers = dict.fromkeys([*needed, *free], note)
    stream(network, calibration[:2], watchers)
    calls = Counter(called)
    for images in chunks(calibration):
        if served.issuperset(needed):
            break
        stream(network, images, watchers)

    for name in needed:
        if calls[name] > 1:
            raise QuantizationError(
                f"layer {name!r} is used {calls[name]} times in one run; give each use a layer of its own, "
                f"or {leave_out(name)}"
            )
        if name not in called:
            raise QuantizationError(
                f"layer {name!r} is never called as a module (its weight may be used by a functional call), "
                f"so its inputs cannot be observed; {leave_out(name)}"
            )
        if name not in served:
            raise QuantizationError(
                f"layer {name!r} is given no inputs by any of the {len(calibration)} calibration images; "
                f"use more or other calibration images, or {leave_out(name)}"
            )
    # By the last call of each: the classifier may be a layer that is called before as well.
    return list(dict.fromkeys(reversed(called)))[::-1]


def _check_records(name: str, inputs: Tensor, axes: int) -> None:
    if inputs.ndim != axes:
        raise QuantizationError(
            f"layer {name!r} is given a tensor of {inputs.ndim} axes, a single image; it must be given all images of "
            f"a batch at once, {axes} axes, or {leave_out(name)}"
        )


def stream(
    network: nn.Module,
    calibration: Float[Tensor, "records *sample"],
    watch: Mapping[str, Callable[[str, Tensor], object]],
) -> None:
    """Run the network over the images once; watchers get their module's name and input by chunk."""
    handles: list[RemovableHandle] = []
    for name, watcher in watch.items():
        module = network.get_submodule(name)
        handles.append(
            module.register_forward_pre_hook(input_hook(name, watcher), with_kwargs=True)
        )
    try:
        with torch.no_grad():
            for images in chunks(calibration):
                network(images.clone())
    finally:
        for handle in handles:
            handle.remove()


def input_hook(name: str, watcher: Callable[[str, Tensor], object]) -> Callable[..., None]:
    """Return a forward pre-hook, with keyword arguments, that shows the first input as float32."""

    def show(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs = args[0] if args else next(iter(kwargs.values()))
        watcher(name, inputs.float() if inputs.dtype in (torch.float16, torch.bfloat16) else inputs)

    return show
