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
  panel's part, the diagonal is always up to date, and one product per `PANEL` steps brings the inverse
  up to date. Columns that have been quantized are dropped on the way, when they are a tenth of all. On a
  CPU both are done for one row's inverse at a time, while it is in the cache.
- Rows of several groups (of a convolution, or of several networks) are taken together.
- H is inverted as it is. Only where its Cholesky factorisation fails, or where a pivot is lost in the
  rounding of the sums (below `LOST` of its diagonal entry), a multiple of the mean diagonal is added:
  the first of `LADDER` that suffices.

Cost: about rows x columns^3 / 3 multiplications; the memory is about the budget, as rows are taken in parts.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from bitleak.core.errors import QuantizationError

PANEL = 48
KEPT = 0.9  # of the columns: quantized ones are dropped when no more than this part is left
BAND = 192  # rows of one inverse that are brought up to date at a time, on a CPU
BUDGET = {"cpu": 128 << 20, "cuda": 4 << 30}  # bytes of inverses at a time
LOST = 1e-6
LADDER = (0.0, 1e-2, 1e-1, 1.0)  # less than 1e-2 lets weights run off where inputs are too few
OUTLIER = (0.5 * (1 + 1e-5)) ** 2  # of a squared error in steps


def invert(
    name: str, hessian: Float64[Tensor, "groups columns columns"]
) -> tuple[Float64[Tensor, "groups columns columns"], Float64[Tensor, "groups"]]:
    """The inverses of positive definite matrices, and the relative damping that each of them took.

    Raises:
        QuantizationError: A matrix is not finite, or no damping makes it positive definite.

    Example:
        >>> inverse, damping = invert("fc", torch.diag(torch.tensor([4.0, 16.0], dtype=torch.float64))[None])
        >>> inverse.diagonal(dim1=1, dim2=2).tolist(), damping.tolist()
        ([[0.25, 0.0625]], [0.0])
    """
    factor, damping = damped_factor(name, hessian, LADDER)
    return torch.cholesky_inverse(factor), damping


def damped_factor(
    name: str, hessian: Float64[Tensor, "groups columns columns"], ladder: tuple[float, ...]
) -> tuple[Float64[Tensor, "groups columns columns"], Float64[Tensor, "groups"]]:
    """The lower Cholesky factors, and for each the first relative damping of the ladder that makes a good one.

    Raises:
        QuantizationError: A matrix is not finite, or none of the dampings makes it positive definite.
    """
    factors, dampings = torch.empty_like(hessian), hessian.new_zeros(len(hessian))
    left = torch.arange(len(hessian), device=hessian.device)
    for damping in ladder:
        damped = hessian[left]
        diagonal = damped.diagonal(dim1=1, dim2=2)
        diagonal += damping * diagonal.mean(1, keepdim=True)
        factor, failed = torch.linalg.cholesky_ex(damped)
        kept = (factor.diagonal(dim1=1, dim2=2).square() >= LOST * diagonal).all(1)
        good = (failed == 0) & kept
        factors[left[good]], dampings[left[good]] = factor[good], damping
        left = left[~good]
        if not len(left):
            return factors, dampings
    raise QuantizationError(f"layer {name!r}: the second moments of its inputs are not positive definite")


def eliminate(
    weight: Float[Tensor, "groups rows columns"],
    inverse: Float[Tensor, "groups columns columns"],
    scale: Float[Tensor, "groups rows"],
    zero_point: Float[Tensor, "groups rows"],
    levels: int,
    *,
    budget: int | None = None,
) -> UInt8[Tensor, "groups rows columns"]:
    """The codes of rows that share one Hessian per group.

    Args:
        weight: Rows to quantize.
        inverse: H^-1 of each group; its dtype is what is computed in.
        scale: Step of each row's grid.
        zero_point: Zero point of each row's grid.
        levels: Number of codes.
        budget: Bytes of inverses at a time (at least one row's); None takes `BUDGET` of the device. It
            does not change the codes.
    """
    inverse = inverse.contiguous()
    units = (weight / scale[..., None]).to(inverse).flatten(0, 1)  # weights in steps of the grid, relative to zero
    low = -zero_point.to(inverse).reshape(-1, 1)
    group = torch.arange(len(weight), device=weight.device).repeat_interleave(weight.shape[1])
    allowed = BUDGET.get(weight.device.type, BUDGET["cpu"]) if budget is None else budget
    chunk = max(1, allowed // (2 * inverse[0].nbytes))  # each row's inverse, before and after a change
    parts = zip(units.split(chunk), low.split(chunk), group.split(chunk), strict=True)
    left = max(0, units.shape[1] - PANEL)
    first_room, second_room = inverse.new_empty(2, min(chunk, len(units)) * left**2)  # used in turns by all parts
    rooms = (first_room, second_room)
    whole = [_eliminate(rows, inverse, of, first, first + levels - 1, rooms) for rows, first, of in parts]
    return (torch.cat(whole) - low).round_().to(torch.uint8).reshape(weight.shape)


@dataclass(frozen=True)
class _State:
    """Rows on their way. Columns that were dropped are in none of the tensors.

    Attributes:
        inverse: H^-1 of the free weights as it was before the pending panel: at first of each group, then of each row.
        index: Which of them belongs to a row.
        free: Weights in grid units; where a weight has been quantized, its value.
        diagonal: That of H^-1 as it is now; 1 where a weight has been quantized.
        blocked: Infinite where a weight has been quantized, else 0.
        column: The original column of each weight.
    """

    inverse: Float[Tensor, "some columns columns"]
    index: Int64[Tensor, "rows"]
    free: Float[Tensor, "rows columns"]
    diagonal: Float[Tensor, "rows columns"]
    blocked: Float[Tensor, "rows columns"]
    column: Int64[Tensor, "rows columns"]


def _eliminate(
    units: Tensor, inverse: Tensor, group: Tensor, low: Tensor, high: Tensor, rooms: tuple[Tensor, Tensor]
) -> Tensor:
    """The greedy order for rows in grid units; the result is, up to rounding, whole numbers from `low` to `high`."""
    rows, columns = units.shape
    result = torch.empty_like(units)
    state = _State(
        inverse,
        group,
        units.clone(),
        inverse.diagonal(dim1=1, dim2=2)[group],
        torch.zeros_like(units),
        torch.arange(columns, device=units.device).repeat(rows, 1),
    )
    for left in range(columns - PANEL, -PANEL, -PANEL):
        panel = _panel(state, low, high, min(PANEL, PANEL + left))
        result.scatter_(1, state.column, state.free)
        if left == columns - PANEL or left <= KEPT * state.free.shape[1]:  # at first, to have an inverse per row
            state = _dropped(state, panel, left, rooms[0]) if left > 0 else state
            rooms = rooms[::-1]
        elif left > 0:
            state.inverse.baddbmm_(panel.mT, panel, alpha=-1)
    return result


def _panel(state: _State, low: Tensor, high: Tensor, steps: int) -> Tensor:
    """Quantize `steps` weights of each row; returns their rank-1 terms: H^-1 is now stored - panel^T panel."""
    rows, columns = state.free.shape
    number = torch.arange(rows, device=low.device)
    start, stored = number * columns, state.index * columns  # of each row in what is flattened
    lines, free, diagonal, blocked = (
        part.view(-1) for part in (state.inverse, state.free, state.diagonal, state.blocked)
    )
    lines = lines.view(-1, columns)
    panel = state.free.new_empty(rows, steps, columns)
    nearest, move, squared = (torch.empty_like(state.free) for _ in range(3))
    for step in range(steps):
        torch.clamp(torch.round(state.free, out=nearest), low, high, out=nearest)
        torch.sub(nearest, state.free, out=move)
        pivot = _cheapest(torch.mul(move, move, out=squared), state)
        at = start + pivot
        line = lines.index_select(0, stored + pivot)
        if step:
            pending = panel[:, :step]
            line = torch.baddbmm(line[:, None], pending[number, :, pivot][:, None], pending, alpha=-1)[:, 0]
        corner, chosen = line.view(-1)[at], nearest.view(-1)[at]
        state.free.addcmul_((move.view(-1)[at] / corner)[:, None], line)
        rank_one = torch.mul(line, corner.rsqrt()[:, None], out=panel[:, step])
        state.diagonal.addcmul_(rank_one, rank_one, value=-1)
        free[at], diagonal[at], blocked[at] = chosen, 1, float("inf")
    return panel


def _cheapest(squared: Tensor, state: _State) -> Int64[Tensor, "rows"]:
    """The weight to quantize next in each row: outliers first, then the smallest score."""
    on_cpu = squared.device.type == "cpu"  # elsewhere a look at a value would stop the queue
    if on_cpu and squared.max() <= OUTLIER:
        return torch.addcdiv(state.blocked, squared, state.diagonal).argmin(1)
    score = squared / state.diagonal
    score = torch.where(squared > OUTLIER, -1 / score, score)  # negative, and in the same order
    return score.add_(state.blocked).argmin(1)


def _dropped(state: _State, panel: Tensor, left: int, room: Tensor) -> _State:
    """The rows without the columns that have been quantized, and with an inverse of their own that is up to date."""
    rows = len(panel)
    kept = state.blocked.argsort(dim=1, stable=True)[:, :left]
    inverse = room[: rows * left**2].view(rows, left, left)
    if panel.device.type == "cpu":
        for row, which in enumerate(kept):
            _renew(state.inverse[state.index[row]], panel[row].index_select(1, which), which, out=inverse[row])
    else:
        old = state.inverse[state.index].gather(1, kept[:, :, None].expand(-1, -1, panel.shape[2]))
        terms = panel.gather(2, kept[:, None].expand(-1, panel.shape[1], -1))
        inverse.copy_(old.gather(2, kept[:, None].expand(-1, left, -1)).baddbmm_(terms.mT, terms, alpha=-1))
    parts = (part.gather(1, kept) for part in (state.free, state.diagonal, state.blocked, state.column))
    return _State(inverse, torch.arange(rows, device=panel.device), *parts)


def _renew(old: Tensor, terms: Float[Tensor, "steps left"], kept: Int64[Tensor, "left"], out: Tensor) -> None:
    """One row's inverse without the dropped columns, up to date: bands of its upper triangle, mirrored."""
    for start in range(0, len(kept), BAND):
        stop = start + BAND
        band = old.index_select(0, kept[start:stop]).index_select(1, kept[start:])
        torch.addmm(band, terms[:, start:stop].T, terms[:, start:], alpha=-1, out=out[start:stop, start:])
        out[stop:, start:stop] = out[start:stop, stop:].T
