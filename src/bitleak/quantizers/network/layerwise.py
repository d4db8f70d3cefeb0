"""The common part of the quantizers that go by a layer's output error: OBC, GPTQ, polished RTN.

With `inputs="full_precision"`, one pass over the images through the full-precision network gives
H = 2 / n sum x x^T for every layer (one per group of a convolution), n being the number of images;
then each layer is quantized to reproduce W x, and batch norm is re-estimated after the quantized
weights at the end (see `norm_statistics`).

With `inputs="quantized"`, one walk carries the activations of both networks: x as before, and x_q
after the layers that are quantized already. The layer should give W x when it is fed x_q, so
H = 2 / n sum x_q x_q^T, and instead of W, the weight that comes nearest to that before rounding is
quantized,

    W* = W C (A + mu I)^-1,    A = sum x_q x_q^T,    C = sum x x_q^T,
    mu = `TARGET_DAMPING` * mean of diag(A).

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
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from bitleak.core.errors import QuantizationError
from bitleak.core.types import QuantizedWeights
from bitleak.quantizers.assembly import assemble_weights
from bitleak.quantizers.grid import to_weights
from bitleak.quantizers.layers.gram import gram
from bitleak.quantizers.layers.layer_method import (
    LayerMethod,
    RoundedLayer,
    Weight,
    rounded,
    rounded_by_methods,
)
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
from bitleak.quantizers.scheme import Layer, Scheme

TARGET_DAMPING = 1e-3

_Norms = dict[int | None, dict[str, Moments]]
"""Moments of the batch norms at full precision, by the number of images that count."""


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
        method: Treatment of the layers.
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
            return plain.result(
                _after_quantized_layers(method, plain.network, plain.images, on_layer, memory)
            )
    return next(
        quantize_alike([method], [network], [calibration], on_layer=on_layer, memory=memory)
    )


def quantize_alike(
    methods: Sequence[LayerMethod],
    networks: Sequence[nn.Module],
    calibrations: Sequence[Float[Tensor, "_ *sample"]],
    *,
    on_layer: OnLayer | None = None,
    memory: int | None = None,
) -> Iterator[QuantizedWeights]:
    """Quantize several models of one architecture by several methods in one pass over their images.

    Args:
        methods: Each with full-precision inputs.
        networks: At least one; they are not changed.
        calibrations: The images of each network.
        on_layer: Called after each layer after each method; the index runs over methods and layers.
        memory: Bytes that the second moments may take at a time; None = those of one pass.

    Returns:
        Network after network, each by all methods; batch norms are re-estimated when the iterator
        reaches the result.

    Raises:
        QuantizationError: A layer cannot be quantized, or the networks differ in their layers.
    """
    with plain_arithmetic():
        schemes = [method.scheme for method in methods]
        copies = [plain_copy(schemes, *pair) for pair in zip(networks, calibrations, strict=True)]
    plain, images = [copied.network for copied in copies], [copied.images for copied in copies]
    results = _quantized(methods, plain, images, on_layer, memory)
    for copied in copies:
        for _ in methods:
            # Around each step, not the loop: the caller's code in between keeps its settings.
            with plain_arithmetic():
                result = next(results)
            yield copied.result(result)


def _quantized(
    methods: Sequence[LayerMethod],
    networks: Sequence[nn.Module],
    calibrations: Sequence[Tensor],
    on_layer: OnLayer | None,
    memory: int | None,
) -> Iterator[QuantizedWeights]:
    """Quantize networks that need no copy."""
    # Refusals first: all layers and batch norms are checked before the first pass over images.
    schemes = [method.scheme for method in methods]
    models: list[_Model] = []
    for network, images in zip(networks, calibrations, strict=True):
        copied, layers, levels = prepare_for_schemes(schemes, network, images)
        models.append(_Model(copied, layers, levels, images, results=[{} for _ in methods]))
    order, levels = _common_layers([model.layers for model in models]), models[0].levels
    for method in methods:
        if method.statistics != "none":
            for model in models:
                batch_norms(model.network, method.scheme)
        if method.statistics == "relative":
            for model in models:
                model.norms[method.statistics_images] = {}

    # Moments of batch norms depend on no code: the first pass takes them along.
    for number, part in enumerate(
        _passes(models[0].layers, None if memory is None else memory // len(models))
    ):
        seconds: list[dict[str, Tensor]] = []
        for model in models:
            watchers = (
                moment_watchers(model.network, model.images, model.norms) if number == 0 else {}
            )
            observed = {name: model.layers[name] for name in part}
            seconds.append(second_moments(model.network, observed, model.images, watchers))
        # The second moments of a layer are dropped once all methods have used them.
        for name in part:
            weights: list[Weight] = []
            for model, by_layer in zip(models, seconds, strict=True):
                weight = model.layers[name].weight.detach()
                loss = _symmetric(by_layer.pop(name), len(weight))
                weights.append(Weight(weight, weight, loss, len(model.images)))
            having = [index for index in range(len(methods)) if name in levels[index]]
            found = rounded_by_methods(
                [methods[index] for index in having],
                name,
                [levels[index][name] for index in having],
                weights,
            )
            for index, rounded_layers in zip(having, found, strict=True):
                for model, layer in zip(models, rounded_layers, strict=True):
                    model.results[index][name] = layer
                if on_layer is not None:
                    on_layer(
                        name, order.index(name) * len(methods) + index, len(order) * len(methods)
                    )
    for model in models:
        for method, results in zip(methods, model.results, strict=True):
            yield _finished(method, model, results, memory)


@dataclass(frozen=True)
class _Model:
    """One of several models of one architecture.

    Attributes:
        network: A copy in evaluation mode.
        layers: Its layers that a method quantizes, in the order of execution.
        levels: Levels of these layers, by method.
        images: Its calibration images.
        results: The layers that are quantized so far, by method.
        norms: Moments of its batch norms at full precision.
    """

    network: nn.Module
    layers: Mapping[str, Layer]
    levels: list[dict[str, int]]
    images: Tensor
    results: list[dict[str, RoundedLayer]]
    norms: _Norms = field(default_factory=dict)


def _common_layers(models: Sequence[Mapping[str, Layer]]) -> list[str]:
    """Return the names of the layers; all models must share them, and the weights' shapes."""
    first: dict[str, tuple[int, ...]] = {}
    for number, layers in enumerate(models):
        shapes = {name: tuple(layer.weight.shape) for name, layer in layers.items()}
        first = first or shapes
        if list(shapes.items()) != list(first.items()):
            raise QuantizationError(
                f"network {number} has other layers than network 0; only networks of one architecture are quantized "
                f"together: {_difference(first, shapes)}"
            )
    return list(first)


def _difference(first: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]) -> str:
    for name in {**first, **shapes}:
        if first.get(name) != shapes.get(name):
            return (
                f"layer {name!r} has weights of shape {first.get(name)} in network 0, "
                f"{shapes.get(name)} in the other"
            )
    return "they are called in another order"


def _passes(layers: Mapping[str, Layer], memory: int | None) -> list[list[str]]:
    """Return the layers in parts whose second moments fit into the memory, one layer at least."""
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
    method: LayerMethod, model: _Model, layers: Mapping[str, RoundedLayer], memory: int | None
) -> QuantizedWeights:
    """Return the result of one method, with the batch norms re-estimated after its weights."""
    if method.statistics == "none":
        return _assembled(model.network, layers, method.scheme, model.images)
    changed = copy.deepcopy(model.network)
    for name, layer in layers.items():
        changed.get_parameter(f"{name}.weight").data.copy_(to_weights(layer.codes, layer.grid))
    records = method.statistics_images
    reference = model.norms[records] if method.statistics == "relative" else None
    norms = batch_norms(changed, method.scheme)
    reestimate(
        changed, model.images, norms=norms, reference=reference, records=records, memory=memory
    )
    return _assembled(changed, layers, method.scheme, model.images)


def _assembled(
    network: nn.Module, layers: Mapping[str, RoundedLayer], scheme: Scheme, calibration: Tensor
) -> QuantizedWeights:
    codes = {name: layer.codes for name, layer in layers.items()}
    grids = {name: layer.grid for name, layer in layers.items()}
    record = {name: layer.record for name, layer in layers.items()}
    return assemble_weights(network, codes, grids, record, scheme=scheme, images=calibration)


def _after_quantized_layers(
    method: LayerMethod,
    network: nn.Module,
    calibration: Tensor,
    on_layer: OnLayer | None,
    memory: int | None,
) -> QuantizedWeights:
    """Quantize one layer after the other, each on its inputs after the quantized layers."""
    quantized, _, levels = prepare_layers(method.scheme, network, calibration)
    full, layers, _ = prepare_layers(method.scheme, network, calibration)
    results: dict[str, RoundedLayer] = {}

    def visit(name: str, pairs: Iterable[tuple[Tensor, ...]]) -> None:
        if name in norms:
            set_statistics(name, quantized.get_submodule(name), pairs, moments.get(name))
            return
        weight = layers[name].weight.detach()
        loss = quadratic(name, layers[name], pairs)
        task = Weight(weight, best_weight(weight, loss, TARGET_DAMPING), loss, len(calibration))
        (layer,) = rounded(method, name, levels[name], [task], target_damping=TARGET_DAMPING)
        results[name] = layer
        quantized.get_parameter(f"{name}.weight").copy_(to_weights(layer.codes, layer.grid))
        if on_layer is not None:
            on_layer(name, len(results) - 1, len(levels))

    names = batch_norms(quantized, method.scheme) if method.statistics != "none" else []
    norms = execution_order_of_norms(quantized, names, calibration)
    order = execution_order(quantized, [*layers, *norms], calibration)
    # Beforehand: in the walk, the full-precision network would have to stop at each norm too.
    images = method.statistics_images
    moments = moments_of(full, calibration, images) if method.statistics == "relative" else {}
    visit_in_order(
        [full, quantized], calibration, order, visit, alone=norms, records=images, memory=memory
    )
    return _assembled(quantized, results, method.scheme, calibration)


def second_moments(
    network: nn.Module,
    layers: Mapping[str, Layer],
    calibration: Float[Tensor, "records *sample"],
    watchers: Mapping[str, Callable[[str, Tensor], object]] | None = None,
) -> dict[str, Float64[Tensor, "groups columns columns"]]:
    """Return the sum of x x^T over the inputs of each layer, all in one pass over the images.

    Args:
        network: In evaluation mode.
        layers: Some of its layers.
        calibration: Normalised images.
        watchers: Callbacks for the inputs of further modules in this pass, by the module's name.
    """
    totals: dict[str, Tensor] = {}

    def add(name: str, inputs: Tensor) -> None:
        part = gram(layers[name], inputs)
        totals[name] = totals[name].add_(part) if name in totals else part

    stream(network, calibration, {**(watchers or {}), **dict.fromkeys(layers, add)})
    return totals


def _symmetric(second: Tensor, out: int) -> Quadratic:
    """Return the error if both networks give the layer the same inputs, with `positions` 1."""
    zeros = second.new_zeros(out, second.shape[-1])
    return Quadratic(second, zeros, zeros[:, 0], 1)


def best_weight(
    weight: Float[Tensor, "out *rest"], loss: Quadratic, damping: float
) -> Float[Tensor, "out *rest"]:
    """Return the weight W* that best reproduces the full-precision output from x_q.

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
    # positive even if A is 0
    ridge = (damping * mean).clamp_(min=torch.finfo(torch.float64).tiny)[:, None, None]

    # W* = (W A + D) (A + mu I)^-1 = W + (D - mu W) (A + mu I)^-1, without the small difference
    products = loss.moment.unflatten(0, (groups, -1)) - ridge * rows
    damped = loss.gram.clone()
    damped.diagonal(dim1=1, dim2=2).add_(ridge[:, :, 0])
    step = torch.linalg.solve(damped, products, left=False)
    # A row whose weights are all equal keeps W, which its grid holds exactly.
    step.masked_fill_((rows == rows[..., :1]).all(2, keepdim=True), 0)
    return (rows + step).reshape(weight.shape).to(weight.dtype)
