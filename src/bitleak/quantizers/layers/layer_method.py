"""The treatment of one layer by a layer-wise quantizer, for one model or several of one make.

The layers of several models are stacked: each model brings its rows and its second moments as
groups of one larger layer, and the solver runs once for all. The rows of different groups do not
touch, so the codes are those of one model after the other. It saves the solver's many small
operations, and pays for layers that are so small that these take the time, not the arithmetic: see
`STACKED`.

Likewise, methods that differ in their grids alone, such as several precisions of `obc`, are solved
in one call: their rows have the same inputs, so that H is inverted once and the solver's small
operations are shared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.grid import Grid, grid_for, to_weights
from bitleak.quantizers.layers.descent import descend
from bitleak.quantizers.layers.output_grid import (
    GridAttempt,
    StackedRows,
    better_of,
    grids_to_try,
    stack,
)
from bitleak.quantizers.layers.quadratic import Quadratic
from bitleak.quantizers.scheme import NormStatistics, Scheme, check_finite

STACKED = 1 << 16
"""Weights of a layer, of all models together, that are stacked on a CPU; a GPU has no limit."""

LayerInputs = Literal["full_precision", "quantized"]

Quantize = Callable[[str, Tensor, Grid, Tensor], tuple[Tensor, dict[str, Any]]]
"""From name, weight, grid and H (groups, columns, columns) to codes and facts for the record."""

QuantizeAlike = Callable[
    [str, Sequence[Tensor], Sequence[Grid], Tensor], tuple[Sequence[Tensor], dict[str, Any]]
]
"""Like `Quantize`, for weights of one layer on several grids; the facts hold for all of them."""

Solve = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From rows (groups, rows, columns), H of each group, scales and zero points (groups, rows) to the
codes and the relative damping of each H."""


@dataclass(frozen=True, kw_only=True)
class LayerMethod:
    """How a layer-wise quantizer treats the layers.

    Attributes:
        scheme: Levels and grids.
        quantize: Quantizes one layer; each group of rows for itself.
        inputs: Whether a layer's inputs come from the full-precision network, or follow the layers
            that are quantized already.
        sweeps: Largest number of sweeps of `polish`.
        exchanges: Largest number of sweeps of paired moves after them.
        statistics: How batch norm is re-estimated.
        statistics_images: Number of images for it, see `layer_inputs.leading_images`; None = all.
        damping: The least that `quantize` records as the damping of H.
        quantize_alike: Quantizes the layer on several grids at once; each result equals that of
            `quantize`. Methods that have an equal one are solved together; None = alone.
    """

    scheme: Scheme
    quantize: Quantize
    inputs: LayerInputs = "full_precision"
    sweeps: int = 0
    exchanges: int = 0
    statistics: NormStatistics = "none"
    statistics_images: int | None = None
    damping: float = 0.0
    quantize_alike: QuantizeAlike | None = None


@dataclass(frozen=True)
class Weight:
    """One layer of one model on its way.

    Attributes:
        original: Its full-precision weight W.
        target: Weight to round: W, or the weight that makes up for the layers before (see
            `layerwise`).
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


@dataclass(frozen=True)
class _Task:
    """One method's part in the quantization of a layer, all models stacked.

    Attributes:
        method: Treatment of the layer.
        levels: Number of codes.
        grids: The grids to try.
        stacked: The rows once for each of these grids.
    """

    method: LayerMethod
    levels: int
    grids: list[Grid]
    stacked: StackedRows


def rounded(
    method: LayerMethod, name: str, levels: int, weights: Sequence[Weight], **facts: Any
) -> list[RoundedLayer]:
    """Quantize the layer `name` of each model by one method.

    Args:
        method: Treatment of the layer.
        name: The layer's name, for messages.
        levels: Number of codes of this layer.
        weights: The layer in each model, all of one shape.
        facts: Facts to add to the record.

    Raises:
        QuantizationError: The layer cannot be quantized.
    """
    return _by_batches([method], name, [levels], weights, facts)[0]


def rounded_by_methods(
    methods: Sequence[LayerMethod], name: str, levels: Sequence[int], weights: Sequence[Weight]
) -> list[list[RoundedLayer]]:
    """Quantize the layer `name` of each model by each method, as `rounded` does.

    Args:
        methods: Treatments of the layer.
        name: The layer's name, for messages.
        levels: Number of codes of this layer by method.
        weights: The layer in each model, all of one shape.

    Returns:
        One list per method, with one result per model.

    Raises:
        QuantizationError: The layer cannot be quantized.
    """
    results: dict[int, list[RoundedLayer]] = {}
    for index, method in enumerate(methods):
        if index in results:
            continue
        solver = method.quantize_alike
        later = range(index + 1, len(methods))
        alike = [other for other in later if solver and methods[other].quantize_alike == solver]
        chosen = [index, *alike]
        found = _by_batches(
            [methods[number] for number in chosen],
            name,
            [levels[number] for number in chosen],
            weights,
            {},
        )
        results |= zip(chosen, found, strict=True)
    return [results[index] for index in range(len(methods))]


def stacked_models(weight: Tensor) -> int:
    """Return how many models' copies of a layer are stacked.

    Example:
        >>> stacked_models(torch.zeros(8, 1, 3, 3)), stacked_models(torch.zeros(512, 512, 3, 3))
        (910, 1)
    """
    return max(1, STACKED // weight.numel()) if weight.device.type == "cpu" else 1 << 30


def by_groups(
    name: str,
    weight: Float[Tensor, "out *rest"],
    grid: Grid,
    hessian: Float64[Tensor, "groups columns columns"],
    solve: Solve,
) -> tuple[UInt8[Tensor, "out *rest"], dict[str, Any]]:
    """Return the codes of a layer, all groups at once; dead inputs (H_jj = 0) get the weight 0.

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
    scale = grid.scale.expand(len(weight)).reshape(rows.shape[:2])
    zero_point = grid.zero_point.expand(len(weight)).reshape(rows.shape[:2])

    # A 1 on the diagonal keeps H invertible and touches no other column.
    dead = hessian.diagonal(dim1=1, dim2=2) == 0
    count = int(dead.sum())
    alive = rows if bool(dead.all()) else rows.masked_fill(dead[:, None], 0)
    second = hessian + torch.diag_embed(dead.to(hessian)) if count else hessian
    codes, damping = solve(alive, second, scale, zero_point)
    return codes.reshape(weight.shape), {"dead": count, "damping": float(damping.max())}


def _by_batches(
    methods: Sequence[LayerMethod],
    name: str,
    levels: Sequence[int],
    weights: Sequence[Weight],
    facts: dict[str, Any],
) -> list[list[RoundedLayer]]:
    """Quantize a layer by methods with an equal solver, as many models at a time as are stacked."""
    batch = stacked_models(weights[0].original)
    found: list[list[list[RoundedLayer]]] = []
    for start in range(0, len(weights), batch):
        batch_weights = weights[start : start + batch]
        if len(batch_weights) > 1:
            stacked = _rounded(methods, name, levels, batch_weights, facts)
            if stacked:
                found.append(stacked)
                continue
        # One by one: only the models that need it are damped, and an error names its model.
        for index in range(start, start + len(batch_weights)):
            found.append(_alone(methods, name, levels, weights, index, facts))
    return [[layer for part in found for layer in part[number]] for number in range(len(methods))]


def _alone(
    methods: Sequence[LayerMethod],
    name: str,
    levels: Sequence[int],
    weights: Sequence[Weight],
    index: int,
    facts: dict[str, Any],
) -> list[list[RoundedLayer]]:
    """Quantize the layer of one of the models; an error names its number."""
    try:
        return _rounded(methods, name, levels, weights[index : index + 1], facts)
    except QuantizationError as error:
        raise QuantizationError(
            f"network {index}: {error}" if len(weights) > 1 else str(error)
        ) from error


def _rounded(
    methods: Sequence[LayerMethod],
    name: str,
    levels: Sequence[int],
    weights: Sequence[Weight],
    facts: dict[str, Any],
) -> list[list[RoundedLayer]]:
    """Quantize the models' copies of a layer as one larger layer.

    Returns:
        One result per method and model; nothing if several models are stacked and one of them
        fails or is damped, as the solver does not report which.
    """
    # Rows of different models do not touch: one larger layer gives the codes of each.
    models, loss = len(weights), _joined_loss(weights)
    target = _joined([weight.target for weight in weights])
    original = _joined([weight.original for weight in weights])
    hessian = _joined([weight.loss.gram * (2 / weight.records) for weight in weights])
    tasks: list[_Task] = []
    for method, count in zip(methods, levels, strict=True):
        searched = [grid_for(method.scheme, weight.target, count) for weight in weights]
        grids = grids_to_try(method.scheme, _joined_grid(searched), original, target, loss)
        tasks.append(_Task(method, count, grids, stack(grids, original, target, loss)))

    try:
        codes, solver_facts = _solved(tasks, name, hessian)
    except QuantizationError:
        if models == 1:
            raise
        return []
    least = methods[0].damping
    if models > 1 and solver_facts.get("damping", least) > least:
        return []
    return [
        _finished(task, task_codes, weights, original, loss, solver_facts, facts)
        for task, task_codes in zip(tasks, codes, strict=True)
    ]


def _solved(
    tasks: Sequence[_Task], name: str, hessian: Tensor
) -> tuple[Sequence[Tensor], dict[str, Any]]:
    """Return the solver's codes for each task, and its facts."""
    method, rows = tasks[0].method, [task.stacked for task in tasks]
    if method.quantize_alike is None or len(tasks) == 1:
        codes, facts = method.quantize(name, rows[0].target, rows[0].grid, hessian)
        return [codes], facts
    targets, grids = [part.target for part in rows], [part.grid for part in rows]
    return method.quantize_alike(name, targets, grids, hessian)


def _finished(
    task: _Task,
    codes: Tensor,
    weights: Sequence[Weight],
    original: Tensor,
    loss: Quadratic,
    solver_facts: dict[str, Any],
    facts: dict[str, Any],
) -> list[RoundedLayer]:
    """Return one result per model: after the descent, on the better grid of each row."""
    method, stacked, models = task.method, task.stacked, len(weights)

    # The descent is bound to no order of columns, so it lowers the error after the solver too.
    facts_by_model: list[dict[str, Any]] = [{} for _ in weights]
    if method.sweeps:
        codes, sweeps = descend(
            codes,
            stacked.weight,
            stacked.grid,
            stacked.loss,
            sweeps=method.sweeps,
            exchanges=method.exchanges,
        )
        for model_facts, model_sweeps in zip(facts_by_model, sweeps.chunk(models), strict=True):
            model_facts["polish_sweeps"] = int(model_sweeps.max())

    # Each row stays on the grid that leaves it less error.
    attempts = list(map(GridAttempt, task.grids, stacked.split(codes)))
    best = attempts[0]
    for attempt in attempts[1:]:
        best, chosen = better_of(best, attempt, original, loss)
        for model_facts, model_chosen in zip(facts_by_model, chosen.chunk(models), strict=True):
            model_facts["rows_on_output_grid"] = int(model_chosen.sum())

    # Back to one result per model.
    model_codes = best.codes.chunk(models)
    scales, zero_points = best.grid.scale.chunk(models), best.grid.zero_point.chunk(models)
    results: list[RoundedLayer] = []
    for index, weight in enumerate(weights):
        grid = Grid(scales[index], zero_points[index], task.levels)
        record = _record(task.levels, model_codes[index], grid, weight, solver_facts)
        results.append(
            RoundedLayer(model_codes[index], grid, record | facts | facts_by_model[index])
        )
    return results


def _record(
    levels: int, codes: Tensor, grid: Grid, weight: Weight, solver_facts: dict[str, Any]
) -> dict[str, Any]:
    change = (to_weights(codes, grid) - weight.original).flatten(1)
    record = {
        "levels": levels,
        "relative_error": weight.loss.relative(change, weight.original.flatten(1)),
    }
    record |= solver_facts
    if "dead" in record:  # the solver counts those of all stacked models
        record["dead"] = int((weight.loss.gram.diagonal(dim1=1, dim2=2) == 0).sum())
    return record


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """Join tensors along the first axis; a single one is not copied."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _joined_grid(grids: Sequence[Grid]) -> Grid:
    scale = _joined([grid.scale for grid in grids])
    zero_point = _joined([grid.zero_point for grid in grids])
    return Grid(scale, zero_point, grids[0].levels)


def _joined_loss(weights: Sequence[Weight]) -> Quadratic:
    return Quadratic(
        gram=_joined([weight.loss.gram for weight in weights]),
        moment=_joined([weight.loss.moment for weight in weights]),
        constant=_joined([weight.loss.constant for weight in weights]),
        positions=sum(weight.loss.positions for weight in weights),
    )
