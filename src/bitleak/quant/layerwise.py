"""What the quantizers share that take each layer's output error for itself: OBC, GPTQ, polished rounding.

With `inputs="full_precision"`, one pass over the images through the full-precision network gives
H = 2 / n sum x x^T for every layer (one per group of a convolution), n being the number of images; then
each layer is quantized to reproduce W x, and batch norm is re-estimated behind the quantized weights at
the end (see `reestimate`).

With `inputs="quantized"`, one walk carries the activations of both networks: x as before, and x_q behind
the layers that are quantized already. The layer shall give W x when it is fed x_q, so H = 2 / n sum x_q x_q^T,
and what is quantized is no longer W but the weight that comes nearest to that before rounding,

    W* = W C (A + mu I)^-1,    A = sum x_q x_q^T,    C = sum x x_q^T,    mu = `TARGET_DAMPING` * mean of diag(A).

For mu = 0 the errors of W x - W_q x_q and of (W* - W_q) x_q differ by a constant, so the symmetric
algorithms need no change.
Source: Nagel et al. 2020 (arXiv 2004.10568, eq. 25) for the target; Li et al. 2025 (arXiv 2504.02692,
GPTAQ) and Zhang et al. 2025 (arXiv 2505.11695, Qronos) correct the weight by it inside of GPTQ's loop.

With `statistics`, the walk re-estimates each batch norm when it reaches it, so that the layers behind it
see x_q as the deployed network will. On small residual networks this came closer to the full-precision
outputs (on held-out images) than re-estimation afterwards, which changes the x_q that layers were fitted
to, and than none. The grid is searched for W*, not for W.

In both cases `polish` lowers the error further, on the exact quadratic, with mu = 0 and the original W.

Cost: a Gram matrix per layer over the images; with quantized inputs also two products with a weight, and
the activations of both networks in memory.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor, nn

from bitleak.core.types import QuantizedWeights
from bitleak.quant.capture import OnLayer, execution_order, prepare, stream
from bitleak.quant.gram import gram
from bitleak.quant.grid import Grid, decode, grid_for
from bitleak.quant.polish import polish
from bitleak.quant.quadratic import Quadratic, quadratic
from bitleak.quant.reestimate import batch_norms, reestimate, set_statistics
from bitleak.quant.result import assemble
from bitleak.quant.scheme import Layer, Scheme, check_finite
from bitleak.quant.walk import walk

TARGET_DAMPING = 1e-3

Inputs = Literal["full_precision", "quantized"]

Quantize = Callable[[str, Tensor, Grid, Tensor], tuple[Tensor, dict[str, Any]]]
"""From name, weight, grid and H (groups, columns, columns) to the codes and facts for the record."""

Solve = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, float]]
"""From rows, H of their inputs, scales and zero points to the codes and the relative damping of H."""


def quantize_layers(
    scheme: Scheme,
    network: nn.Module,
    calibration: Float[Tensor, "records *sample"],
    quantize: Quantize,
    *,
    inputs: Inputs = "full_precision",
    sweeps: int = 0,
    statistics: bool = False,
    on_layer: OnLayer | None = None,
) -> QuantizedWeights:
    """Quantize every layer of a network for itself.

    Args:
        scheme: Levels and grids.
        network: Any network; it is not changed.
        calibration: Normalised images.
        quantize: Quantizes one layer.
        inputs: Whether a layer's inputs are those of the full-precision network, or those behind the
            layers that are quantized already.
        sweeps: Of `polish`, at most.
        statistics: Whether to re-estimate batch norm.
        on_layer: Told of each layer.

    Raises:
        QuantizationError: A layer cannot be quantized.
    """
    copied, layers, levels = prepare(scheme, network, calibration)
    codes: dict[str, Tensor] = {}
    grids: dict[str, Grid] = {}
    record: dict[str, dict[str, Any]] = {}

    def take(name: str, weight: Tensor, target: Tensor, loss: Quadratic, **facts: Any) -> None:
        """Quantize one layer of the copy, where `target` is what its weight shall be before rounding."""
        grids[name] = grid_for(scheme, target, levels[name])
        rounded, found = quantize(name, target, grids[name], loss.gram * (2 / len(calibration)))
        if sweeps:
            rounded, facts["polish_sweeps"] = polish(rounded, weight, grids[name], loss, sweeps=sweeps)
        codes[name] = rounded
        change = (decode(rounded, grids[name]) - weight).flatten(1)
        error = loss.relative(change, weight.flatten(1))
        record[name] = {"levels": levels[name], "relative_error": error, **found, **facts}
        layers[name].weight.data.copy_(decode(rounded, grids[name]))
        if on_layer is not None:
            on_layer(name, len(codes) - 1, len(levels))

    if inputs == "quantized":
        _behind_the_quantized(copied, prepare(scheme, network, calibration), calibration, take, statistics)
    else:
        seconds = second_moments(copied, layers, calibration)
        for name in levels:
            weight = layers[name].weight.detach().clone()
            take(name, weight, weight, _symmetric(seconds.pop(name), len(weight)))
        if statistics:
            reestimate(copied, calibration)
    return assemble(copied, codes, grids, record)


def _behind_the_quantized(
    quantized: nn.Module,
    reference: tuple[nn.Module, dict[str, Layer], dict[str, int]],
    calibration: Tensor,
    take: Callable[..., None],
    statistics: bool,
) -> None:
    """The walk with both networks side by side."""
    full, layers, _ = reference
    watched = [*layers, *(batch_norms(quantized) if statistics else [])]

    def visit(name: str, pairs: Iterable[tuple[Tensor, ...]]) -> None:
        if name not in layers:
            set_statistics(name, quantized.get_submodule(name), ((behind,) for _, behind in pairs))
            return
        weight = layers[name].weight.detach()
        loss = quadratic(name, layers[name], pairs)
        target = best_weight(weight, loss, TARGET_DAMPING)
        take(name, weight, target, loss, target_damping=TARGET_DAMPING)

    walk([full, quantized], calibration, execution_order(quantized, watched, calibration), visit)


def second_moments(
    network: nn.Module, layers: Mapping[str, Layer], calibration: Float[Tensor, "records *sample"]
) -> dict[str, Float64[Tensor, "groups columns columns"]]:
    """Sum of x x^T over the inputs of each layer, all in one pass over the images."""
    totals: dict[str, Tensor] = {}

    def add(name: str, inputs: Tensor) -> None:
        part = gram(layers[name], inputs)
        totals[name] = totals[name].add_(part) if name in totals else part

    stream(network, calibration, dict.fromkeys(layers, add))
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
        >>> one = torch.ones(1, 1, dtype=torch.float64)
        >>> halved = Quadratic(gram=one[None], moment=one, constant=one[0], positions=1)  # x = 1.5, x_q = 1
        >>> float(best_weight(torch.tensor([[2.0]]), halved, 1e-9))
        3.0
    """
    groups = len(loss.gram)
    rows = weight.flatten(1).double().unflatten(0, (groups, -1))
    mean = loss.gram.diagonal(dim1=1, dim2=2).mean(1)
    ridge = (damping * mean).clamp_(min=torch.finfo(torch.float64).tiny)[:, None, None]  # positive where A is 0
    wanted = loss.moment.unflatten(0, (groups, -1)) - ridge * rows
    damped = loss.gram + ridge * torch.eye(rows.shape[2]).to(rows)
    step = torch.linalg.solve(damped, wanted, left=False)
    return (rows + step).reshape(weight.shape).to(weight.dtype)


def by_groups(
    name: str,
    weight: Float[Tensor, "out *rest"],
    grid: Grid,
    hessian: Float64[Tensor, "groups columns columns"],
    solve: Solve,
) -> tuple[UInt8[Tensor, "out *rest"], dict[str, Any]]:
    """The codes of one layer, group by group; weights of inputs that never occur (H_jj = 0) become 0.

    Returns:
        The codes, and for the record: the number of dead columns, the largest relative damping of a group.

    Raises:
        QuantizationError: H is not finite.
    """
    check_finite(name, hessian, "calibration input")
    rows = weight.flatten(1).unflatten(0, (len(hessian), -1))  # (groups, out / groups, columns)
    scale, zero_point = (part.expand(len(weight)).reshape(rows.shape[:2]) for part in (grid.scale, grid.zero_point))
    parts = []
    for group, second in enumerate(hessian):
        dead = second.diagonal() == 0
        alive = rows[group].masked_fill(dead, 0)
        codes, damping = solve(alive, second + torch.diag(dead.to(second)), scale[group], zero_point[group])
        parts.append((codes, int(dead.sum()), damping))
    codes = torch.cat([codes for codes, _, _ in parts]).reshape(weight.shape)
    return codes, {"dead": sum(dead for _, dead, _ in parts), "damping": max(damping for _, _, damping in parts)}
