"""The common part of the quantizers that take each layer's output error for itself: OBC, GPTQ, polished rounding.

With `inputs="full_precision"`, one pass over the images through the full-precision network gives
H = 2 / n sum x x^T for every layer (one per group of a convolution), n being the number of images;
then each layer is quantized to reproduce W x, and batch norm is re-estimated after the quantized
weights at the end (see `norm_statistics`).

With `inputs="quantized"`, one walk carries the activations of both networks: x as before, and x_q
after the layers that are quantized already. The layer should give W x when it is fed x_q, so H = 2
/ n sum x_q x_q^T, and what is quantized is no longer W but the weight that comes nearest to that
before rounding,

    W* = W C (A + mu I)^-1,    A = sum x_q x_q^T,    C = sum x x_q^T,    mu = `TARGET_DAMPING` * mean of diag(A).

For mu = 0 the errors of W x - W_q x_q and of (W* - W_q) x_q differ by a constant, so the symmetric
algorithms need no change.
Source: Nagel et al. 2020 (arXiv 2004.10568, eq. 25) for the target; Li et al. 2025 (arXiv
2504.02692, GPTAQ) and Zhang et al. 2025 (arXiv 2505.11695, Qronos) correct the weight by it inside
of GPTQ's loop.

With `statistics`, the walk re-estimates each batch norm when it reaches it, so that the layers
after it see x_q as the deployed network will. On small residual networks this came closer to the
full-precision outputs (on held-out images) than re-estimation afterwards, which changes the x_q
that layers were fitted to, and than none. The grid is searched for W*, not for W.

A row whose weights are all equal keeps W: its grid holds it exactly, at any number of levels, which
W* is not. (AdaRound and `polish` may still move such a row where the layers before it have lost
something.)

In both cases `polish` lowers the error further, on the exact quadratic, with mu = 0 and the
original W.

Cost: a Gram matrix per layer over the images; with quantized inputs also two products with a
weight, and the activations of both networks in memory.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor, nn

from bitleak.core.errors import QuantizationError
from bitleak.core.types import QuantizedWeights
from bitleak.quantizers.assembly import assemble_weights
from bitleak.quantizers.grid import Grid, to_weights
from bitleak.quantizers.layers.gram import gram
from bitleak.quantizers.layers.layer_method import LayerMethod, RoundedLayer, Weight, rounded
from bitleak.quantizers.layers.quadratic import Quadratic, quadratic
from bitleak.quantizers.network.layer_inputs import (
    OnLayer,
    execution_order,
    prepare_for_schemes,
    prepare_layers,
    stream,
)
from bitleak.quantizers.network.layer_pass import visit_in_order
from bitleak.quantizers.network.norm_statistics import (
    Moments,
    batch_norms,
    execution_order_of_norms,
    moment_watchers,
    moments_of,
    reestimate,
    set_statistics,
)
from bitleak.quantizers.network.plain_copy import plain_arithmetic, plain_copy
from bitleak.quantizers.scheme import Layer, Scheme, check_finite

TARGET_DAMPING = 1e-3

_Norms = dict[int | None, dict[str, Moments]]
"""Of the batch norms at full precision, by how many images count."""

Solve = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From rows (groups, rows, columns), H of each group, scales and zero points (groups, rows) to the codes and the
relative damping of each H."""


def quantize_layers(
    method: LayerMethod,
    network: nn.Module,
    calibration: Float[Tensor, "records *sample"],
    *,
    on_layer: OnLayer | None = None,
    memory: int | None = None,
) -> QuantizedWeights:
    """Quantize every layer of a network for itself.

    Args:
        method: How.
        network: Any network; it is not changed.
        calibration: Normalised images.
        on_layer: Called after each layer.
        memory: Bytes that statistics and activations may take, see `layer_pass.activation_budget`;
            it changes the time only.

    Raises:
        QuantizationError: A layer cannot be quantized.
    """
    if method.inputs == "quantized":
        with plain_arithmetic():
            plain = plain_copy([method.scheme], network, calibration)
            return plain.result(_behind_the_quantized(method, plain.network, plain.images, on_layer, memory))
    return next(quantize_alike([method], [network], [calibration], on_layer=on_layer, memory=memory))


def quantize_alike(
    methods: Sequence[LayerMethod],
    networks: Sequence[nn.Module],
    calibrations: Sequence[Float[Tensor, "_ *sample"]],
    *,
    on_layer: OnLayer | None = None,
    memory: int | None = None,
) -> Iterator[QuantizedWeights]:
    """Quantize several models of one architecture by several methods, from one pass over each model's images.

    Args:
        methods: Each with full-precision inputs.
        networks: At least one; they are not changed.
        calibrations: The images of each network.
        on_layer: Called after each layer after each method; the index runs over methods and layers.
        memory: Bytes that the second moments may take at a time; None = those of one pass.

    Returns:
        Network after network, each by all methods; batch norms are re-estimated when the result is
        asked for.

    Raises:
        QuantizationError: A layer cannot be quantized, or the networks differ in their layers.
    """
    with plain_arithmetic():
        schemes = [method.scheme for method in methods]
        copies = [plain_copy(schemes, *pair) for pair in zip(networks, calibrations, strict=True)]
    plain, images = [each.network for each in copies], [each.images for each in copies]
    results = _alike(methods, plain, images, on_layer, memory)
    for each in copies:
        for _ in methods:
            with plain_arithmetic():
                result = next(results)
            yield each.result(result)


def _alike(
    methods: Sequence[LayerMethod],
    networks: Sequence[nn.Module],
    calibrations: Sequence[Tensor],
    on_layer: OnLayer | None,
    memory: int | None,
) -> Iterator[QuantizedWeights]:
    """Quantize networks that need no copy."""
    schemes = [method.scheme for method in methods]
    # Refusals first: all layers and batch norms are looked at before the first pass over images.
    models = [prepare_for_schemes(schemes, *pair) for pair in zip(networks, calibrations, strict=True)]
    order, levels = _common_layers([layers for _, layers, _ in models]), models[0][2]
    for method in methods:
        if method.statistics != "none":
            for copied, _, _ in models:
                batch_norms(copied, method.scheme)
    found: list[list[dict[str, RoundedLayer]]] = [[{} for _ in methods] for _ in models]
    relative = [method.statistics_images for method in methods if method.statistics == "relative"]
    full: list[_Norms] = [{images: {} for images in relative} for _ in models]
    for number, some in enumerate(_passes(models[0][1], None if memory is None else memory // len(models))):
        seconds = [
            second_moments(
                copied,
                {name: layers[name] for name in some},
                images,
                moment_watchers(copied, images, norms) if number == 0 else {},
            )
            for (copied, layers, _), images, norms in zip(models, calibrations, full, strict=True)
        ]
        # The moments of a layer are dropped once all methods have used them.
        for name in some:
            originals = [layers[name].weight.detach() for _, layers, _ in models]
            losses = [_symmetric(each.pop(name), len(weight)) for each, weight in zip(seconds, originals, strict=True)]
            weights = [
                Weight(weight, weight, loss, len(images))
                for weight, loss, images in zip(originals, losses, calibrations, strict=True)
            ]
            for index, method in enumerate(methods):
                if name not in levels[index]:
                    continue
                results = rounded(method, name, levels[index][name], weights)
                for own, result in zip(found, results, strict=True):
                    own[index][name] = result
                if on_layer is not None:
                    on_layer(name, order.index(name) * len(methods) + index, len(order) * len(methods))
    for (copied, _, _), own, images, norms in zip(models, found, calibrations, full, strict=True):
        for method, layers in zip(methods, own, strict=True):
            yield _finished(method, copied, layers, images, norms, memory)


def _common_layers(models: Sequence[Mapping[str, Layer]]) -> list[str]:
    """The names of the layers, which all models must share, with the shapes of the weights."""
    shapes = [{name: tuple(layer.weight.shape) for name, layer in layers.items()} for layers in models]
    for number, other in enumerate(shapes):
        if list(other.items()) != list(shapes[0].items()):
            raise QuantizationError(
                f"network {number} has other layers than network 0; only networks of one architecture are quantized "
                f"together: {_difference(shapes[0], other)}"
            )
    return list(shapes[0])


def _difference(one: Mapping[str, tuple[int, ...]], other: Mapping[str, tuple[int, ...]]) -> str:
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    if not names:
        return "they are called in another order"
    return (
        f"layer {names[0]!r} has weights of shape {one.get(names[0])} in network 0, {other.get(names[0])} in the other"
    )


def _passes(layers: Mapping[str, Layer], memory: int | None) -> list[list[str]]:
    """The layers in parts whose second moments fit into the memory, at least one layer each."""
    parts: list[list[str]] = [[]]
    used = 0
    for name, layer in layers.items():
        columns = layer.weight[0].numel()
        size = 8 * columns**2 * (layer.groups if not isinstance(layer, nn.Linear) else 1)
        if memory is not None and parts[-1] and used + size > memory:
            parts.append([])
            used = 0
        parts[-1].append(name)
        used += size
    return parts


def _finished(
    method: LayerMethod,
    network: nn.Module,
    layers: Mapping[str, RoundedLayer],
    calibration: Tensor,
    norms: _Norms,
    memory: int | None,
) -> QuantizedWeights:
    """The result of one method, with the batch norms re-estimated after its weights."""
    if method.statistics == "none":
        return _assembled(network, layers, method.scheme, calibration)
    changed = copy.deepcopy(network)
    for name, layer in layers.items():
        changed.get_parameter(f"{name}.weight").data.copy_(to_weights(layer.codes, layer.grid))
    images = method.statistics_images
    reference = norms[images] if method.statistics == "relative" else None
    norms_set = batch_norms(changed, method.scheme)
    reestimate(changed, calibration, norms=norms_set, reference=reference, records=images, memory=memory)
    return _assembled(changed, layers, method.scheme, calibration)


def _assembled(
    network: nn.Module, layers: Mapping[str, RoundedLayer], scheme: Scheme, calibration: Tensor
) -> QuantizedWeights:
    codes = {name: layer.codes for name, layer in layers.items()}
    grids = {name: layer.grid for name, layer in layers.items()}
    record = {name: layer.record for name, layer in layers.items()}
    return assemble_weights(network, codes, grids, record, scheme=scheme, images=calibration)


def _behind_the_quantized(
    method: LayerMethod, network: nn.Module, calibration: Tensor, on_layer: OnLayer | None, memory: int | None
) -> QuantizedWeights:
    """The walk with both networks side by side."""
    quantized, _, levels = prepare_layers(method.scheme, network, calibration)
    full, layers, _ = prepare_layers(method.scheme, network, calibration)
    found: dict[str, RoundedLayer] = {}

    def visit(name: str, pairs: Iterable[tuple[Tensor, ...]]) -> None:
        if name in norms:
            set_statistics(name, quantized.get_submodule(name), pairs, moments.get(name))
            return
        weight = layers[name].weight.detach()
        loss = quadratic(name, layers[name], pairs)
        task = Weight(weight, best_weight(weight, loss, TARGET_DAMPING), loss, len(calibration))
        (found[name],) = rounded(method, name, levels[name], [task], target_damping=TARGET_DAMPING)
        quantized.get_parameter(f"{name}.weight").copy_(to_weights(found[name].codes, found[name].grid))
        if on_layer is not None:
            on_layer(name, len(found) - 1, len(levels))

    names = batch_norms(quantized, method.scheme) if method.statistics != "none" else []
    norms = execution_order_of_norms(quantized, names, calibration)
    order = execution_order(quantized, [*layers, *norms], calibration)
    # Beforehand: in the walk, the full-precision network would have to stop at each norm too.
    images = method.statistics_images
    moments = moments_of(full, calibration, images) if method.statistics == "relative" else {}
    visit_in_order([full, quantized], calibration, order, visit, alone=norms, records=images, memory=memory)
    return _assembled(quantized, found, method.scheme, calibration)


def second_moments(
    network: nn.Module,
    layers: Mapping[str, Layer],
    calibration: Float[Tensor, "records *sample"],
    beside: Mapping[str, Callable[[str, Tensor], object]] | None = None,
) -> dict[str, Float64[Tensor, "groups columns columns"]]:
    """Sum of x x^T over the inputs of each layer, all in one pass over the images.

    Args:
        network: In evaluation mode.
        layers: Some of its layers.
        calibration: Normalised images.
        beside: What else is to see inputs in this pass, by the name of the module.
    """
    totals: dict[str, Tensor] = {}

    def add(name: str, inputs: Tensor) -> None:
        part = gram(layers[name], inputs)
        totals[name] = totals[name].add_(part) if name in totals else part

    stream(network, calibration, {**(beside or {}), **dict.fromkeys(layers, add)})
    return totals


def _symmetric(second: Tensor, out: int) -> Quadratic:
    """The error where both networks give the layer the same inputs; positions are not counted."""
    zeros = second.new_zeros(out, second.shape[-1])
    return Quadratic(second, zeros, zeros[:, 0], 1)


def best_weight(weight: Float[Tensor, "out *rest"], loss: Quadratic, damping: float) -> Float[Tensor, "out *rest"]:
    """The weight W* that best reproduces the full-precision output from x_q.

    Args:
        weight: The full-precision weight W.
        loss: A and D = W (C - A), so that W C = W A + D.
        damping: mu relative to the mean of A's diagonal, > 0.

    Example:
        >>> second, moment = torch.eye(2, dtype=torch.float64), torch.tensor([[1.0, 0.5]], dtype=torch.float64)
        >>> less = Quadratic(gram=second[None], moment=moment, constant=moment[:, 0], positions=2)  # x = 1.5 x_q
        >>> best_weight(torch.tensor([[2.0, 1.0]]), less, 1e-9).tolist()
        [[3.0, 1.5]]
    """
    groups = len(loss.gram)
    rows = weight.flatten(1).double().unflatten(0, (groups, -1))
    mean = loss.gram.diagonal(dim1=1, dim2=2).mean(1)
    ridge = (damping * mean).clamp_(min=torch.finfo(torch.float64).tiny)[:, None, None]  # positive where A is 0
    products = loss.moment.unflatten(0, (groups, -1)) - ridge * rows
    damped = loss.gram.clone()
    damped.diagonal(dim1=1, dim2=2).add_(ridge[:, :, 0])
    step = torch.linalg.solve(damped, products, left=False)
    step.masked_fill_((rows == rows[..., :1]).all(2, keepdim=True), 0)
    return (rows + step).reshape(weight.shape).to(weight.dtype)


def by_groups(
    name: str,
    weight: Float[Tensor, "out *rest"],
    grid: Grid,
    hessian: Float64[Tensor, "groups columns columns"],
    solve: Solve,
) -> tuple[UInt8[Tensor, "out *rest"], dict[str, Any]]:
    """The codes of one layer, all groups at once; weights of inputs that never occur (H_jj = 0) become 0.

    If no input of the layer occurs at all (a dead layer comes before it), nothing is known of it,
    and its weights are rounded to nearest: zeros would silence it for every other image.

    Returns:
        The codes, and for the record: the number of dead columns, the largest relative damping of a
        group.

    Raises:
        QuantizationError: H is not finite.
    """
    check_finite(name, hessian, "calibration input")
    rows = weight.flatten(1).unflatten(0, (len(hessian), -1))  # (groups, out / groups, columns)
    scale, zero_point = (part.expand(len(weight)).reshape(rows.shape[:2]) for part in (grid.scale, grid.zero_point))
    dead = hessian.diagonal(dim1=1, dim2=2) == 0
    count = int(dead.sum())
    alive = rows if bool(dead.all()) else rows.masked_fill(dead[:, None], 0)
    second = hessian + torch.diag_embed(dead.to(hessian)) if count else hessian
    codes, damping = solve(alive, second, scale, zero_point)
    return codes.reshape(weight.shape), {"dead": count, "damping": float(damping.max())}
