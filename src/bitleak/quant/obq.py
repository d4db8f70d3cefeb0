"""OBQ: quantize one weight of a row at a time, the cheapest first; the rest of the row makes up for it.

With a row w of weights, H = 2 / n sum x x^T of their inputs x, and H^-1 the inverse of H restricted to
the weights that are still free: quantize the free weight p with the smallest

    (q(w_p) - w_p)^2 / [H^-1]_pp,

then change the free weights and eliminate p from the inverse:

    w -= (w_p - q(w_p)) / [H^-1]_pp * [H^-1]_p,    H^-1 -= [H^-1]_p^T [H^-1]_p / [H^-1]_pp.

A weight that has left the grid's range (its error exceeds half a step) goes first; among several, the
one with the smallest score.
Source: Frantar and Alistarh 2022 (arXiv 2208.11580), sections 4 and 5.

Deviations, the first of which changes no code (but for ties that rounding decides):
- The published loop rewrites a rows x columns x columns inverse in every step and is bound by memory.
  Here the rank-1 terms are kept in a panel: the pivot's row is the stored inverse's row minus the
  panel's part, the diagonal is always up to date, and one batched product per `PANEL` steps brings the
  inverse up to date. Columns that have been quantized are dropped when they are a fifth of all.
- H is inverted as it is. Only where its Cholesky factorisation fails, or where a pivot is lost in the
  rounding of the sums (below `LOST` of its diagonal entry), a multiple of the mean diagonal is added:
  the first of `LADDER` that suffices.

Cost: about rows x columns^3 / 3 multiplications; the memory is a few times `CHUNK` bytes, as rows are
taken in parts.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from bitleak.core.errors import QuantizationError

PANEL = 32
KEPT = 0.8  # of the columns: quantized ones are dropped when no more than this part is left
CHUNK = 48 << 20  # bytes of inverses at a time
LOST = 1e-6
LADDER = (0.0, 1e-2, 1e-1, 1.0)  # less than 1e-2 lets weights run off where inputs are too few
OUTLIER = 0.5 * (1 + 1e-5)


def invert(name: str, hessian: Float64[Tensor, "columns columns"]) -> tuple[Float64[Tensor, "columns columns"], float]:
    """The inverse of a positive definite matrix, and the relative damping that it took.

    Raises:
        QuantizationError: The matrix is not finite, or no damping makes it positive definite.

    Example:
        >>> inverse, damping = invert("fc", torch.diag(torch.tensor([4.0, 16.0], dtype=torch.float64)))
        >>> inverse.diagonal().tolist(), damping
        ([0.25, 0.0625], 0.0)
    """
    factor, damping = damped_factor(name, hessian, LADDER)
    return torch.cholesky_inverse(factor), damping


def damped_factor(
    name: str, hessian: Float64[Tensor, "columns columns"], ladder: tuple[float, ...]
) -> tuple[Float64[Tensor, "columns columns"], float]:
    """The lower Cholesky factor, and the first relative damping of the ladder for which there is a good one.

    Raises:
        QuantizationError: The matrix is not finite, or none of the dampings makes it positive definite.
    """
    diagonal = hessian.diagonal()
    for damping in ladder:
        damped = hessian + torch.diag(torch.full_like(diagonal, damping * float(diagonal.mean())))
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not failed and bool((factor.diagonal().square() >= LOST * damped.diagonal()).all()):
            return factor, damping
    raise QuantizationError(f"layer {name!r}: the second moments of its inputs are not positive definite")


def eliminate(
    weight: Float[Tensor, "rows columns"],
    inverse: Float[Tensor, "columns columns"],
    scale: Float[Tensor, "rows"],
    zero_point: Float[Tensor, "rows"],
    levels: int,
) -> UInt8[Tensor, "rows columns"]:
    """The codes of rows that share one Hessian.

    Args:
        weight: Rows to quantize.
        inverse: H^-1; its dtype is what is computed in.
        scale: Step of each row's grid.
        zero_point: Zero point of each row's grid.
        levels: Number of codes.
    """
    units = (weight / scale[:, None]).to(inverse)  # weights in steps of the grid, relative to zero
    low = -zero_point[:, None].to(inverse)
    chunk = max(1, CHUNK // inverse.nbytes)
    parts = zip(units.split(chunk), low.split(chunk), strict=True)
    whole = torch.cat([_eliminate(rows, inverse, first, first + levels - 1) for rows, first in parts])
    return (whole - low).to(torch.uint8)


def _eliminate(free: Tensor, inverse: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The greedy order for rows in grid units; the result is whole numbers from `low` to `high`."""
    rows, columns = free.shape
    result = torch.empty_like(free)
    state = _State(
        free.clone(),
        inverse.expand(rows, -1, -1),
        inverse.diagonal().repeat(rows, 1),
        torch.zeros_like(free),
        torch.arange(columns, device=free.device).repeat(rows, 1),
    )
    for done in range(0, columns, PANEL):
        panel = _panel(state, low, high, min(PANEL, columns - done), result)
        if done + PANEL < columns:
            left = columns - done - PANEL
            drop = done == 0 or left <= KEPT * state.free.shape[1]  # at first, also to own the inverse
            state = _dropped(state, panel, left) if drop else _update(state, panel)
    return result


@dataclass(frozen=True)
class _State:
    """Rows on their way. Columns that were dropped are in none of the tensors.

    Attributes:
        free: Weights in grid units; where a weight has been quantized, its value.
        inverse: H^-1 of the free weights as it was before the pending panel.
        diagonal: Its diagonal as it is now; 1 where a weight has been quantized.
        blocked: Infinite where a weight has been quantized, else 0.
        column: The original column of each weight.
    """

    free: Float[Tensor, "rows columns"]
    inverse: Float[Tensor, "rows columns columns"]
    diagonal: Float[Tensor, "rows columns"]
    blocked: Float[Tensor, "rows columns"]
    column: Int64[Tensor, "rows columns"]


def _panel(state: _State, low: Tensor, high: Tensor, steps: int, result: Tensor) -> Tensor:
    """Quantize `steps` weights of each row; returns their rank-1 terms: H^-1 is now stored - panel^T panel."""
    rows = torch.arange(len(state.free), device=low.device)
    panel = state.free.new_empty(len(rows), steps, state.free.shape[1])
    for step in range(steps):
        nearest = state.free.round().clamp_(low, high)
        move = nearest - state.free
        pivot = _cheapest(move, state)  # (rows, 1)
        line = state.inverse[rows, pivot[:, 0]]
        if step:
            pending = panel[:, :step]
            at_pivot = pending.gather(2, pivot[:, None].expand(-1, step, -1)).mT
            line = torch.baddbmm(line[:, None], at_pivot, pending, alpha=-1)[:, 0]
        corner = line.gather(1, pivot)
        state.free.addcmul_(move.gather(1, pivot) / corner, line)
        torch.mul(line, corner.rsqrt(), out=panel[:, step])
        state.diagonal.addcmul_(panel[:, step], panel[:, step], value=-1)
        chosen = nearest.gather(1, pivot)
        state.free.scatter_(1, pivot, chosen)
        state.diagonal.scatter_(1, pivot, 1)
        state.blocked.scatter_(1, pivot, float("inf"))
        result.scatter_(1, state.column.gather(1, pivot), chosen)
    return panel


def _cheapest(move: Tensor, state: _State) -> Tensor:
    """The weight to quantize next in each row: outliers first, then the smallest score."""
    squared = move.square()
    score = squared / state.diagonal
    outlier = squared > OUTLIER**2
    if bool(outlier.any()):
        score = torch.where(outlier, -1 / score, score)  # negative, and in the same order
    return score.add_(state.blocked).argmin(1, keepdim=True)


def _update(state: _State, panel: Tensor) -> _State:
    """Bring the stored inverse up to date."""
    state.inverse.baddbmm_(panel.mT, panel, alpha=-1)
    return state


def _dropped(state: _State, panel: Tensor, left: int) -> _State:
    """The same without the columns that have been quantized."""
    rows, columns = state.free.shape
    kept = (state.blocked == 0).nonzero()[:, 1].reshape(rows, left)
    inverse = state.inverse.gather(1, kept[:, :, None].expand(-1, -1, columns))
    inverse = inverse.gather(2, kept[:, None].expand(-1, left, -1))
    panel = panel.gather(2, kept[:, None].expand(-1, panel.shape[1], -1))
    free, diagonal, blocked, column = (
        part.gather(1, kept) for part in (state.free, state.diagonal, state.blocked, state.column)
    )
    return _update(_State(free, inverse, diagonal, blocked, column), panel)
