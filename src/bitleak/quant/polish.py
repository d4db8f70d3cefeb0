"""Polish: cyclic coordinate descent over the codes of a layer, on the quadratic of its output's error.

With E = W_q - W and the error E A E^T - 2 E D^T + c per row (see `quadratic`), the error as a function
of one weight w_j of a row, the others fixed, is a parabola with its minimum at

    w_j - G_j / A_jj,    G = E A - D.

On a uniform grid the best level is the one nearest to that minimum. Column after column, all rows at
once, each weight moves there; a sweep goes over all columns, and sweeps are made until no weight moves.
A weight moves only if the error falls by more than rounding, so the error never rises, and the result
is an optimum in every single weight. It depends on where the descent begins; it is no global optimum.
Source: coordinate descent is folklore; for rounding, Nagel et al. 2020 (arXiv 2004.10568, eq. 20) and
Behdin et al. 2023 (arXiv 2309.01885, QuantEase) descend on the same quadratic.

Deviations: QuantEase starts from the full-precision weight, visits points off the grid on the way and makes
a fixed number of sweeps. Here each point is on the grid, and rows that did not move in a sweep have
arrived and drop out. A column whose inputs never occur (A_jj = 0) is left alone.

Cost per sweep: about 1.5 x rows x columns^2 multiplications, as the rank-1 terms E_j A_j of `BLOCK`
columns are applied to the later columns by one product, and a dozen small operations per column.
"""

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from bitleak.quant.grid import Grid, decode
from bitleak.quant.quadratic import Quadratic

BLOCK = 48
LEAST = 1e-9  # relative to the parabola's own change: less is rounding


def polish(
    codes: UInt8[Tensor, "out *rest"], weight: Float[Tensor, "out *rest"], grid: Grid, loss: Quadratic, *, sweeps: int
) -> tuple[UInt8[Tensor, "out *rest"], int]:
    """Codes whose error is at most that of the given ones.

    Args:
        codes: Where to begin; not changed.
        weight: The full-precision weight W.
        grid: The grid of the codes.
        loss: The error of the layer's output.
        sweeps: At most so many sweeps, at least 0.

    Returns:
        The codes, and the number of sweeps in which a weight moved.

    Example:
        >>> second = torch.tensor([[[1.0, 0.9], [0.9, 1.0]]], dtype=torch.float64)
        >>> zero = torch.zeros(1, 2, dtype=torch.float64)
        >>> loss = Quadratic(gram=second, moment=zero, constant=zero[:, 0], positions=1)
        >>> grid, weight = Grid(torch.ones(1), torch.zeros(1), 3), torch.tensor([[0.6, 0.6]])
        >>> polish(torch.ones(1, 2, dtype=torch.uint8), weight, grid, loss, sweeps=9)
        (tensor([[0, 1]], dtype=torch.uint8), 1)
    """
    groups, shape = len(loss.gram), weight.shape
    moment = _columns_first(loss.moment, groups)
    target = _columns_first(weight.flatten(1).double(), groups)
    scale = grid.scale.double().expand(shape[0]).reshape(groups, -1)
    current = _columns_first(codes.flatten(1).double(), groups)
    active = torch.arange(scale.shape[1], device=weight.device)
    for sweep in range(sweeps):
        rows = _rows_first(current).to(torch.uint8).reshape(shape)
        change = _columns_first(decode(rows, grid).flatten(1).double(), groups) - target
        gradient = torch.baddbmm(moment[..., active], loss.gram, change[..., active], beta=-1)
        before = current[..., active]
        after = _sweep(before.clone(), gradient, loss.gram, scale[:, active], grid.levels - 1)
        current[..., active] = after
        active = active[(after != before).any(1).any(0)]
        if not len(active):
            return _rows_first(current).to(torch.uint8).reshape(shape), sweep
    return _rows_first(current).to(torch.uint8).reshape(shape), sweeps


def _columns_first(rows: Tensor, groups: int) -> Float64[Tensor, "groups columns rows"]:
    return rows.unflatten(0, (groups, -1)).mT.contiguous()


def _rows_first(columns: Tensor) -> Float64[Tensor, "out columns"]:
    return columns.mT.flatten(0, 1)


def _sweep(codes: Tensor, gradient: Tensor, second: Tensor, scale: Tensor, highest: int) -> Tensor:
    """One sweep; both `codes` and `gradient`, (groups, columns, rows), are changed in place."""
    for start in range(0, codes.shape[1], BLOCK):
        block = slice(start, min(start + BLOCK, codes.shape[1]))
        moves = _sweep_block(codes[:, block], gradient[:, block], second[:, block, block], scale, highest)
        rest = slice(block.stop, None)
        gradient[:, rest].baddbmm_(second[:, rest, block], moves)
    return codes


def _sweep_block(codes: Tensor, gradient: Tensor, second: Tensor, scale: Tensor, highest: int) -> Tensor:
    """The same for some columns, in place; returns how far their weights moved."""
    moves = torch.zeros_like(gradient)
    curvature = second.diagonal(dim1=1, dim2=2)
    inverse = torch.where(curvature > 0, 1 / curvature, 0)
    for column in range(codes.shape[1]):
        towards = gradient[:, column] * -inverse[:, column, None]  # from here to the parabola's minimum
        steps = (codes[:, column] + towards / scale).round_().clamp_(0, highest) - codes[:, column]
        move = steps * scale
        gain = move * (2 * towards - move)  # the fall of the error, divided by the curvature
        steps *= gain > LEAST * move.square()
        torch.mul(steps, scale, out=moves[:, column])
        codes[:, column] += steps
        gradient[:, column:].baddbmm_(second[:, column:, column, None], moves[:, None, column])
    return moves
