"""The baselines: the published algorithms' loops, written from the papers' descriptions.

Nothing here is part of the package. Each function follows the paper (and the default settings of
the code that was published with it) step by step, with PyTorch's own operations and automatic
derivatives.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from bitleak.quantizers.grid import Grid, per_weight

Call = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""From the weights by layer and a batch of inputs to the outputs."""


def rank_one(weight: Tensor, inverse: Tensor, grid: Grid) -> Tensor:
    """Return OBQ's codes for some rows, (rows, columns), all rows in parallel.

    Frantar and Alistarh 2022 (arXiv 2208.11580), algorithm 3: in every step, the cheapest weight of
    each row is quantized, and its rank-1 term is subtracted from the row's own copy of the inverse.
    Weights that are more than half a step off go first.
    """
    rows = torch.arange(len(weight))
    scale, zero = (part[:, None].to(inverse) for part in (grid.scale, grid.zero_point))
    weight = weight.to(inverse)
    inverse = inverse.repeat(len(weight), 1, 1)
    codes = torch.empty(weight.shape, dtype=torch.uint8)
    done = torch.zeros(weight.shape, dtype=torch.bool)
    for _ in range(weight.shape[1]):
        code = (torch.round(weight / scale) + zero).clamp(0, grid.levels - 1)
        error = scale * (code - zero) - weight
        score = error.square() / inverse.diagonal(dim1=1, dim2=2)
        outlier = (error.abs() > 0.5 * (1 + 1e-5) * scale) & ~done
        score[done | (outlier.any(1, keepdim=True) & ~outlier)] = float("inf")
        pivot = score.argmin(1)
        line = inverse[rows, pivot]
        corner = line[rows, pivot][:, None]
        codes[rows, pivot] = code[rows, pivot].to(torch.uint8)
        weight = weight + error[rows, pivot][:, None] / corner * line
        weight[rows, pivot] = (scale * (code - zero))[rows, pivot]
        inverse -= torch.bmm(line[:, :, None], (line / corner)[:, None])
        done[rows, pivot] = True
    return codes


def searched_by_channel(weight: Tensor, levels: int) -> Grid:
    """Search the grid of each channel by a loop over channels and shrink factors, zero in range,
    2.4-norm.
    """
    grids = [_searched(row, levels) for row in weight.flatten(1)]
    scale, zero_point = (torch.stack(parts) for parts in zip(*grids, strict=True))
    return Grid(scale, zero_point, levels)


def _searched(row: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    low, high = row.min().clamp(max=0), row.max().clamp(min=0)
    least, best = float("inf"), (torch.ones(()), torch.zeros(()))
    for step in range(80):
        factor = 1 - step / 100
        scale = (factor * high - factor * low) / (levels - 1)
        zero = torch.round(-(factor * low) / scale)
        rounded = scale * ((torch.round(row / scale) + zero).clamp(0, levels - 1) - zero)
        error = float((rounded - row).abs().pow(2.4).sum())
        if error < least:
            least, best = error, (scale, zero)
    return best


def min_max(weight: Tensor, levels: int) -> Grid:
    """Return the grid from the smallest to the largest weight of each channel, zero in range."""
    rows = weight.flatten(1)
    low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
    scale = (high - low) / (levels - 1)
    return Grid(scale, torch.round(-low / scale), levels)


def rounded_by_batches(
    call: Call,
    weights: Mapping[str, Tensor],
    grids: Mapping[str, Grid],
    inputs: Tensor,
    targets: Tensor,
    *,
    iterations: int,
    regularization: float,
    generator: torch.Generator,
    batch: int = 32,
    rate: float = 1e-3,
) -> dict[str, Tensor]:
    """Learn AdaRound's and BRECQ's codes: the rectified sigmoid by mini-batches.

    Nagel et al. 2020 (arXiv 2004.10568), equations 21 to 25, and Li et al. 2021 (arXiv 2102.05426),
    algorithm 1. Each step draws a batch, and Adam follows the derivative of the squared error
    (summed over channels, mean over records and positions) plus the regulariser, which is off for a
    fifth of the steps; its exponent then falls linearly from 20 to 2.
    """
    below, variables = {}, {}
    for name, weight in weights.items():
        scale, _ = per_weight(grids[name], weight)
        below[name] = torch.floor(weight / scale)
        fraction = weight / scale - below[name]
        variables[name] = (-torch.log(1.2 / (fraction + 0.1) - 1)).requires_grad_()
    optimizer = torch.optim.Adam(list(variables.values()), lr=rate)
    warmup = 0.2 * iterations
    for step in range(iterations):
        chosen = torch.randperm(len(inputs), generator=generator)[:batch]
        up = {name: _rectified(variable) for name, variable in variables.items()}
        soft = {name: _on_grid(below[name] + up[name], grids[name]) for name in up}
        loss = (call(soft, inputs[chosen]) - targets[chosen]).square().sum(1).mean()
        if step >= warmup:
            beta = 2 + 18 * (1 - (step - warmup) / (iterations - warmup))
            for part in up.values():
                loss = loss + regularization * (1 - (2 * part - 1).abs().pow(beta)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {
        name: _codes(below[name] + (variable >= 0), grids[name]).to(torch.uint8)
        for name, variable in variables.items()
    }


def _rectified(variable: Tensor) -> Tensor:
    return (1.2 * torch.sigmoid(variable) - 0.1).clamp(0, 1)


def _codes(position: Tensor, grid: Grid) -> Tensor:
    _, zero = per_weight(grid, position)
    return (position + zero).clamp(0, grid.levels - 1)


def _on_grid(position: Tensor, grid: Grid) -> Tensor:
    scale, zero = per_weight(grid, position)
    return scale * (_codes(position, grid) - zero)
