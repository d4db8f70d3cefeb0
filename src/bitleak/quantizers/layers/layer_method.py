"""The treatment of one layer by a layer-wise quantizer, for one model or for several of one architecture.

The layers of several models are stacked: each model brings its rows and its second moments as
groups of one larger layer, and the solver runs once for all. The rows of different groups do not
touch, so the codes are those of one model after the other. It saves the solver's many small
operations, and pays where a layer is so small that these, not the arithmetic, are what takes the
time: see `STACKED`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.grid import Grid, grid_for, to_weights
from bitleak.quantizers.layers.descent import descend
from bitleak.quantizers.layers.output_grid import GridAttempt, better_of, grids_to_try, stack
from bitleak.quantizers.layers.quadratic import Quadratic
from bitleak.quantizers.network.norm_statistics import Statistics
from bitleak.quantizers.scheme import Scheme

STACKED = 1 << 16
"""Weights of one layer, of all models together, that are stacked on a CPU; on a GPU there is no limit."""

LayerInputs = Literal["full_precision", "quantized"]

Quantize = Callable[[str, Tensor, Grid, Tensor], tuple[Tensor, dict[str, Any]]]
"""From name, weight, grid and H (groups, columns, columns) to the codes and facts for the record."""


@dataclass(frozen=True, kw_only=True)
class LayerMethod:
    """How a layer-wise quantizer treats the layers.

    Attributes:
        scheme: Levels and grids.
        quantize: Quantizes one layer; each group of rows for itself.
        inputs: Whether a layer's inputs are those of the full-precision network, or those after the
            layers that are quantized already.
        sweeps: Largest number of sweeps of `polish`.
        exchanges: Sweeps of paired moves after them, at most.
        statistics: How batch norm is re-estimated.
        statistics_images: On how many of the images, see `layer_inputs.leading_images`; None = all.
        damping: The least that `quantize` records as the damping of H.
    """

    scheme: Scheme
    quantize: Quantize
    inputs: LayerInputs = "full_precision"
    sweeps: int = 0
    exchanges: int = 0
    statistics: Statistics = "none"
    statistics_images: int | None = None
    damping: float = 0.0


@dataclass(frozen=True)
class Weight:
    """One layer of one model on its way.

    Attributes:
        original: Its full-precision weight W.
        target: What its weight should be before rounding: W, or what makes up for other layers.
        loss: The error of its output as a function of the weight.
        records: Number of calibration images that `loss` sums over.
    """

    original: Tensor
    target: Tensor
    loss: Quadratic
    records: int


@dataclass(frozen=True)
class RoundedLayer:
    """One layer of one model, quantized.

    Attributes:
        codes: In the shape of the weight.
        grid: Their grid.
        record: Facts of the quantization, by name.
    """

    codes: Tensor
    grid: Grid
    record: dict[str, Any]


def rounded(method: LayerMethod, name: str, levels: int, weights: Sequence[Weight], **facts: Any) -> list[RoundedLayer]:
    """The layer `name` of each model, by one method.

    Args:
        method: Treatment of the layer.
        name: For messages.
        levels: Number of codes of this layer.
        weights: The layer in each model, all of one shape.
        facts: Facts to add to the record.

    Raises:
        QuantizationError: The layer cannot be quantized.
    """
    batch = stacked_models(weights[0].original)
    found: list[RoundedLayer] = []
    for start in range(0, len(weights), batch):
        batch_weights = weights[start : start + batch]
        stacked = _rounded(method, name, levels, batch_weights, facts) if len(batch_weights) > 1 else None
        found += stacked or [
            _alone(method, name, levels, weights, start + index, facts) for index in range(len(batch_weights))
        ]
    return found


def stacked_models(weight: Tensor) -> int:
    """How many models' copies of a layer are stacked.

    Example:
        >>> stacked_models(torch.zeros(8, 1, 3, 3)), stacked_models(torch.zeros(512, 512, 3, 3))
        (910, 1)
    """
    return max(1, STACKED // weight.numel()) if weight.device.type == "cpu" else 1 << 30


def _alone(
    method: LayerMethod, name: str, levels: int, weights: Sequence[Weight], index: int, facts: dict[str, Any]
) -> RoundedLayer:
    """One of the models; its number is told where it fails."""
    try:
        return _rounded(method, name, levels, weights[index : index + 1], facts)[0]
    except QuantizationError as error:
        raise QuantizationError(f"network {index}: {error}" if len(weights) > 1 else str(error)) from error


def _rounded(
    method: LayerMethod, name: str, levels: int, weights: Sequence[Weight], facts: dict[str, Any]
) -> list[RoundedLayer]:
    """The models' copies of a layer as one; nothing where one of them fails or is damped, as it is not known which."""
    # Rows of different models do not touch: one larger layer gives the codes of each.
    target, original = (_joined([getattr(weight, field) for weight in weights]) for field in ("target", "original"))
    hessian = _joined([weight.loss.gram * (2 / weight.records) for weight in weights])
    loss, alone = _joined_loss(weights), len(weights) == 1
    searched = _joined_grid([grid_for(method.scheme, weight.target, levels) for weight in weights])
    grids = grids_to_try(method.scheme, searched, original, target, loss)
    every = stack(grids, original, target, loss)
    try:
        codes, found = method.quantize(name, every.target, every.grid, hessian)
    except QuantizationError:
        if alone:
            raise
        return []
    if not alone and found.get("damping", method.damping) > method.damping:
        return []
    # The descent is bound to no order of columns, so it also lowers what the solver left.
    facts_by_model: list[dict[str, Any]] = [{} for _ in weights]
    if method.sweeps:
        codes, sweeps = descend(
            codes, every.weight, every.grid, every.loss, sweeps=method.sweeps, exchanges=method.exchanges
        )
        facts_by_model = [{"polish_sweeps": int(part.max())} for part in sweeps.chunk(len(weights))]
    # Each row stays on the grid that leaves it less error.
    kept, *others = (
        GridAttempt(grid, layer_codes) for grid, layer_codes in zip(grids, every.split(codes), strict=True)
    )
    for other in others:
        kept, chosen = better_of(kept, other, original, loss)
        facts_by_model = [
            {**facts, "rows_on_output_grid": int(part.sum())}
            for facts, part in zip(facts_by_model, chosen.chunk(len(weights)), strict=True)
        ]
    # Back to one result per model.
    parts = (each.chunk(len(weights)) for each in (kept.codes, kept.grid.scale, kept.grid.zero_point))
    rounded = []
    for weight, model_facts, layer_codes, scale, zero_point in zip(weights, facts_by_model, *parts, strict=True):
        grid = Grid(scale, zero_point, levels)
        rounded.append(
            RoundedLayer(layer_codes, grid, _record(levels, layer_codes, grid, weight, found) | facts | model_facts)
        )
    return rounded


def _record(levels: int, codes: Tensor, grid: Grid, weight: Weight, found: dict[str, Any]) -> dict[str, Any]:
    change = (to_weights(codes, grid) - weight.original).flatten(1)
    error = weight.loss.relative(change, weight.original.flatten(1))
    dead = {"dead": int((weight.loss.gram.diagonal(dim1=1, dim2=2) == 0).sum())} if "dead" in found else {}
    return {"levels": levels, "relative_error": error, **found, **dead}


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """One after the other along the first axis; a single one is not copied."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _joined_grid(grids: Sequence[Grid]) -> Grid:
    scale, zero_point = (_joined([getattr(grid, field) for grid in grids]) for field in ("scale", "zero_point"))
    return Grid(scale, zero_point, grids[0].levels)


def _joined_loss(weights: Sequence[Weight]) -> Quadratic:
    losses = [weight.loss for weight in weights]
    gram, moment, constant = (
        _joined([getattr(loss, field) for loss in losses]) for field in ("gram", "moment", "constant")
    )
    return Quadratic(gram, moment, constant, sum(loss.positions for loss in losses))
