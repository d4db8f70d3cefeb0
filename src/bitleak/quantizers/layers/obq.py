"""OBQ: quantize one weight of a row at a time, the cheapest first; the rest makes up for it.

With a row w of weights, H = 2 / n sum x x^T of their inputs x, and H^-1 the inverse of H restricted
to the weights that are still free: quantize the free weight p with the smallest

    (q(w_p) - w_p)^2 / [H^-1]_pp,

then change the free weights and eliminate p from the inverse:

    w -= (w_p - q(w_p)) / [H^-1]_pp * [H^-1]_p,    H^-1 -= [H^-1]_p^T [H^-1]_p / [H^-1]_pp.

A weight that has left the grid's range (its error exceeds half a step) goes first; among several,
the one with the smallest score.
Source: Frantar and Alistarh 2022 (arXiv 2208.11580), sections 4 and 5.

Deviations, the first of which changes no code (but for ties, and near ties that rounding decides):
- The published loop rewrites a rows x columns x columns inverse in every step and is bound by
  memory. Here the rank-1 terms are kept in a panel: the pivot's row is the stored inverse's row
  minus the panel's part, the diagonal is always up to date, and one product per `PANEL` steps
  brings the inverse up to date. Before that product, the last columns move to the places of those
  that were quantized, so that the free weights are always the leading block: nothing is computed
  for quantized weights.
- Among several outliers, the published code takes the one with the largest error. Here the smallest
  score decides among them too, as among all other weights: one more pass over the weights would be
  needed for theirs.
- H is inverted as it is. Only where its Cholesky factorisation fails, or where a pivot is lost in
  the rounding of the sums (below `LOST` of its diagonal entry), a multiple of the mean diagonal is
  added: the first of `OBQ_DAMPINGS` that suffices, for each group by itself.

All groups of a layer, or layers of one shape, run together. Rows do not depend on each other; they
are taken in parts, so that their inverses stay within a budget of bytes.

Cost: about rows x columns^3 / 3 multiplications; the memory is about the budget, or one inverse.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from bitleak.core.errors import QuantizationError

PANEL = 48
BUDGET = {"cpu": 64 << 20, "cuda": 4 << 30}  # bytes of inverses and panels at a time
# Bytes of inverses between moving their columns and the product: this stays in a CPU's cache.
BLOCK_BYTES_CPU = 8 << 20
LOST = 1e-6
OBQ_DAMPINGS = (0.0, 1e-2, 1e-1, 1.0)  # less than 1e-2 lets weights run off if inputs are few
OUTLIER = 0.5 * (1 + 1e-5)
BITS = {torch.float32: torch.int32, torch.float64: torch.int64}


def invert(
    name: str, hessian: Float64[Tensor, "groups columns columns"]
) -> tuple[Float64[Tensor, "groups columns columns"], Float64[Tensor, "groups"]]:
    """Return the inverses of positive definite matrices, and the relative damping that each took.

    Raises:
        QuantizationError: A matrix is not finite, or no damping makes it positive definite.

    Example:
        >>> inverse, damping = invert("fc", torch.diag(torch.tensor([4.0, 16.0], dtype=torch.float64))[None])
        >>> inverse[0].diagonal().tolist(), damping.tolist()
        ([0.25, 0.0625], [0.0])
    """
    factor, damping = damped_factor(name, hessian, OBQ_DAMPINGS)
    return torch.cholesky_inverse(factor), damping


def damped_factor(
    name: str, hessian: Float64[Tensor, "groups columns columns"], ladder: tuple[float, ...]
) -> tuple[Float64[Tensor, "groups columns columns"], Float64[Tensor, "groups"]]:
    """Return the lower Cholesky factors, with the first relative damping that is enough for each.

    Only the matrices that have no good factor yet are tried with the next damping.

    Raises:
        QuantizationError: A matrix is not finite, or none of the dampings makes it positive
            definite.
    """
    factor, good = _factor(hessian, ladder[0])
    damping = hessian.new_full((len(hessian),), ladder[0])
    for larger in ladder[1:]:
        if bool(good.all()):
            break
        again = (~good).nonzero()[:, 0]
        factor[again], good[again] = _factor(hessian[again], larger)
        damping[again] = larger
    if not bool(good.all()):
        raise QuantizationError(
            f"layer {name!r}: the second moments of its inputs are not positive definite"
        )
    return factor, damping


def _factor(hessian: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """Return the factors with one relative damping, and which are good."""
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    damped = hessian
    if damping:
        ridge = damping * diagonal.contiguous().mean(1, keepdim=True)
        damped = hessian.clone()
        damped.diagonal(dim1=1, dim2=2).add_(ridge)
    factor, failed = torch.linalg.cholesky_ex(damped)
    # A pivot far below its diagonal entry is the rounding of the sums: its inverse would be noise.
    pivots = factor.diagonal(dim1=1, dim2=2).square()
    return factor, (failed == 0) & (pivots >= LOST * damped.diagonal(dim1=1, dim2=2)).all(1)


def eliminate(
    weight: Float[Tensor, "groups rows columns"],
    inverse: Float[Tensor, "groups columns columns"],
    scale: Float[Tensor, "groups rows"],
    zero_point: Float[Tensor, "groups rows"],
    levels: int | Int64[Tensor, "groups rows"],
    *,
    budget: int | None = None,
) -> UInt8[Tensor, "groups rows columns"]:
    """Return the codes of rows; the rows of a group share one Hessian.

    Args:
        weight: Rows to quantize.
        inverse: H^-1 of each group, float32 or float64, which is the type of the computation too.
        scale: Step of each row's grid.
        zero_point: Zero point of each row's grid.
        levels: Number of codes, of all rows or of each.
        budget: Bytes of inverses and panels at a time, by default those of `BUDGET`; one row is
            always taken.

    Example:
        >>> weight, inverse = torch.tensor([[[0.4, 0.6]]]), torch.tensor([[[1.0, -0.9], [-0.9, 1.0]]])
        >>> eliminate(weight, inverse, torch.ones(1, 1), torch.zeros(1, 1), 2).tolist()
        [[[0, 1]]]
    """
    groups, rows, columns = weight.shape
    budget = BUDGET[weight.device.type] if budget is None else budget
    # In steps of the grid, relative to zero.
    units = (weight / scale[:, :, None]).to(inverse).flatten(0, 1)
    low = -zero_point.to(inverse).reshape(-1, 1)
    counts = levels.to(inverse) if isinstance(levels, Tensor) else low.new_full((), levels)
    high = low + counts.expand(groups, rows).reshape(-1, 1) - 1
    group = torch.arange(groups, device=weight.device).repeat_interleave(rows)
    chunk = min(
        len(units), max(1, budget // (columns * (columns + PANEL) * inverse.element_size()))
    )
    room = inverse.new_empty(chunk, columns, columns)  # fresh memory is slow on its first use
    parts = []
    for part, first, last, part_groups in zip(
        units.split(chunk), low.split(chunk), high.split(chunk), group.split(chunk), strict=True
    ):
        stored = torch.index_select(inverse, 0, part_groups, out=room[: len(part)])
        parts.append((_eliminate(part, stored, first, last) - first).to(torch.uint8))
    return torch.cat(parts).reshape(weight.shape)


@dataclass(frozen=True)
class _State:
    """Rows on their way; the leading columns of each tensor hold the weights that are left.

    Attributes:
        free: Weights in grid units.
        diagonal: The diagonal of H^-1 as it is now; NaN where a weight of the pending panel has
            been quantized.
        column: The original column of each weight.
        stored: H^-1 as it was before the pending panel.
        panel: The pending rank-1 terms: H^-1 is now stored - panel^T panel.
    """

    free: Float[Tensor, "rows columns"]
    diagonal: Float[Tensor, "rows columns"]
    column: Int64[Tensor, "rows columns"]
    stored: Float[Tensor, "rows columns columns"]
    panel: Float[Tensor, "rows steps columns"]


def _eliminate(units: Tensor, stored: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Quantize rows in grid units in the greedy order; return integers from `low` to `high`."""
    rows, left = units.shape
    result = torch.empty_like(units)
    state = _State(
        units.clone(),
        stored.diagonal(dim1=1, dim2=2).clone(),
        torch.arange(left, device=units.device).repeat(rows, 1),
        stored,
        units.new_empty(rows, min(PANEL, left), left),
    )
    while left:
        steps = min(PANEL, left)
        pivots, values = _panel(state, left, steps, low, high)
        result.scatter_(1, state.column.gather(1, pivots), values)
        left -= steps
        if left:
            _close_ranks(state, pivots, left)
    return result


def _panel(
    state: _State, left: int, steps: int, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """Quantize `steps` of the `left` weights of each row; return their columns and values."""
    free, diagonal, panel = (
        state.free[:, :left],
        state.diagonal[:, :left],
        state.panel[:, :steps, :left],
    )
    lines = state.stored.flatten(0, 1)[:, :left]
    first = torch.arange(0, len(lines), state.free.shape[1], device=free.device)
    # Buffers: a step is a few passes over the rows, and new tensors would take as long again.
    nearest, move, score, inside = (torch.empty_like(free) for _ in range(4))
    limit = free.new_full((), OUTLIER**2)
    pivots, values = [], []
    for step in range(steps):
        # (q(w_p) - w_p)^2 / [H^-1]_pp of every free weight
        torch.maximum(torch.round(free, out=nearest), low, out=nearest)
        torch.sub(torch.minimum(nearest, high, out=nearest), free, out=move)
        torch.mul(move, move, out=score)
        torch.sub(limit, score, out=inside)  # negative: an outlier
        # As integers, negative floats come before the positive ones, both by ascending magnitude;
        # NaN is last.
        pivot = (
            score.div_(diagonal).copysign_(inside).view(BITS[score.dtype]).argmin(1, keepdim=True)
        )

        # [H^-1]_p now: the stored row minus the pending panel's part
        line = lines.index_select(0, first + pivot[:, 0])
        if step:
            pending = panel[:, :step]
            at_pivot = pending.gather(2, pivot[:, None].expand(-1, step, -1)).mT
            line = torch.baddbmm(line[:, None], at_pivot, pending, alpha=-1)[:, 0]

        # w -= (w_p - q(w_p)) / [H^-1]_pp * [H^-1]_p, and the term of H^-1 joins the panel
        corner = line.gather(1, pivot)
        free.addcmul_(move.gather(1, pivot) / corner, line)
        term = torch.mul(line, corner.rsqrt_(), out=panel[:, step])
        diagonal.addcmul_(term, term, value=-1)

        # NaN is last in the order of scores, so a quantized weight is not chosen again.
        pivots.append(pivot)
        values.append(nearest.gather(1, pivot))
        free.scatter_(1, pivot, values[-1])
        diagonal.scatter_(1, pivot, float("nan"))
    return torch.cat(pivots, 1), torch.cat(values, 1)


def _close_ranks(state: _State, pivots: Tensor, left: int) -> None:
    """Move the last columns to the quantized weights' places; subtract the panel from the inverse.

    The last columns hold as many free weights as the leading block has places to fill; quantized
    weights that lie in the last columns already are moved within them.
    """
    steps = pivots.shape[1]
    before = left + steps
    places = pivots.sort(1).values  # places in the leading block first
    gone = state.diagonal[:, left:before].isnan().to(torch.uint8)
    origins = left + gone.argsort(dim=1, stable=True)  # free weights first
    for part in (state.free, state.diagonal, state.column):
        part.scatter_(1, places, part.gather(1, origins))
    panel = state.panel[:, :steps, :before]
    _move_columns(panel, places, origins)

    # Block by block of rows, so that a CPU finds the moved lines in its cache when it multiplies.
    on_cpu = state.stored.device.type == "cpu"
    size = (
        max(1, BLOCK_BYTES_CPU // (before**2 * state.stored.element_size()))
        if on_cpu
        else len(pivots)
    )
    width = state.stored.shape[1]
    parts = (state.stored.split(size), panel.split(size), places.split(size), origins.split(size))
    for stored, terms, to, origin in zip(*parts, strict=True):
        stored_lines = stored.flatten(0, 1)
        first = torch.arange(0, len(stored) * width, width, device=stored.device)[:, None]
        # Rows of the inverse as whole lines: one copy each; gather and scatter look every entry up.
        lines = stored_lines.index_select(0, (first + origin).flatten()).reshape(
            len(stored), steps, width
        )
        _move_columns(lines[:, :, :before], to, origin)
        stored_lines.index_copy_(0, (first + to).flatten(), lines.flatten(0, 1))
        stored[:, :left].scatter_(2, to[:, None].expand(-1, left, -1), lines[:, :, :left].mT)
        terms = terms[:, :, :left]
        stored[:, :left, :left].baddbmm_(terms.mT, terms, alpha=-1)


def _move_columns(matrices: Tensor, places: Tensor, origins: Tensor) -> None:
    """Write the columns at `origins` over those at `places`."""
    shape = (-1, matrices.shape[1], -1)
    matrices.scatter_(
        2, places[:, None].expand(shape), matrices.gather(2, origins[:, None].expand(shape))
    )
