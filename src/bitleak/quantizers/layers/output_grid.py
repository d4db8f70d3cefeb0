"""The grid that suits a layer's output: steps and zero points by the error that descent leaves.

The search over the weights alone (see `grid`) takes each weight to its nearest point. But a
quantizer that looks at the layer's output does not round to the nearest: it lets weights make up
for each other, so that more is lost beyond the grid's ends, where nothing makes up for a weight,
and less between its points. So at few levels a wider grid is better. From the grid
that the weights alone give, per row:

1. the step times 1.0, 1.1, ..., 1.5, zero point as it is;
2. around the best of these: the step times 0.95 and 1.05; and the zero point one lower and one
   higher, with the step as it is and times 0.9. (On a symmetric grid, the step alone.)

Each candidate is judged by the error of the layer's output (see `quadratic`) after
`CANDIDATE_SWEEPS` sweeps of coordinate descent from the nearest points (see `descent`); where
candidates are equal, the first one wins, which is the grid of the weights. A row whose weights are
all equal keeps its grid, which is exact.

Another quantizer's error on that grid may rank differently. So the layer-wise ones quantize each
layer on both, the grid of the weights and this one, and each row keeps the one that leaves it less
error (`better_of`).

Source: none known; the criterion is that of Nagel et al. 2020 (arXiv 2004.10568, eq. 21), the
descent QuantEase's (Behdin et al. 2023, arXiv 2309.01885).

Cost: about 70 x rows x columns^2 multiplications, and twice the rows for the quantizer; the memory
of the search is bounded by taking candidates one after the other where there are many weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Float64, Shaped, UInt8
from torch import Tensor

from bitleak.quantizers.grid import Grid, to_codes, to_weights
from bitleak.quantizers.layers.descent import descend
from bitleak.quantizers.layers.quadratic import Quadratic
from bitleak.quantizers.scheme import Scheme

FACTORS = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
AROUND = ((0.95, 0), (1.05, 0))
SHIFTED = ((0.9, -1), (1.0, -1), (0.9, 1), (1.0, 1))
"""Factor of the step, and what is added to the zero point."""

CANDIDATE_SWEEPS = 4
TOGETHER = 1 << 18
"""Weights of several candidates that are tried at a time."""


@dataclass(frozen=True)
class GridAttempt:
    """Codes on one grid.

    Attributes:
        grid: One grid per row, or per block of rows of equal size.
        codes: Codes on it.
        facts: Facts per row, by name, which are chosen with the codes.
    """

    grid: Grid
    codes: UInt8[Tensor, "out *rest"]
    facts: Mapping[str, Shaped[Tensor, "out"]] = field(default_factory=dict)


def grids_to_try(
    scheme: Scheme,
    grid: Grid,
    weight: Float[Tensor, "out *rest"],
    target: Float[Tensor, "out *rest"],
    loss: Quadratic,
) -> list[Grid]:
    """Return the grids to quantize a layer on: its weights' and, if so set, its output's."""
    if scheme.grid != "output":
        return [grid]
    return [grid, output_grid(grid, weight, target, loss, symmetric=scheme.symmetric)]


def output_grid(
    grid: Grid,
    weight: Float[Tensor, "out *rest"],
    target: Float[Tensor, "out *rest"],
    loss: Quadratic,
    *,
    symmetric: bool = False,
) -> Grid:
    """Return the best of the grids that are tried.

    Args:
        grid: The grid of the weights, one per row or per block of rows of equal size.
        weight: The full-precision weight W, which `loss` is relative to.
        target: Weight to quantize.
        loss: The error of the layer's output.
        symmetric: Whether the zero point has to stay.

    Example:
        >>> weight, zero = torch.tensor([[-1.0, -0.5, 0.5, 2.0]]), torch.zeros(1, 4, dtype=torch.float64)
        >>> loss = Quadratic(torch.eye(4).double()[None], zero, zero[:, 0], 1)
        >>> best = output_grid(Grid(torch.tensor([1.0]), torch.ones(1), 4), weight, weight, loss)
        >>> round(best.scale.item(), 3), best.zero_point.item()
        (0.95, 1.0)
    """
    by_grid = weight.reshape(len(grid.scale), -1)
    search = _Search(weight, target, loss, fixed=(by_grid == by_grid[:, :1]).all(1))
    best = search.best([_changed(grid, factor, 0) for factor in FACTORS])
    tried = [best]
    for factor, shift in AROUND if symmetric else (*AROUND, *SHIFTED):
        tried.append(_changed(best, factor, shift))
    return search.best(tried)


def better_of(
    first: GridAttempt, second: GridAttempt, weight: Float[Tensor, "out *rest"], loss: Quadratic
) -> tuple[GridAttempt, Bool[Tensor, "out"]]:
    """Return the rows of the attempt with less error, grid by grid; of equal ones, the first.

    Args:
        first: An attempt.
        second: Another one, with as many grids.
        weight: The full-precision weight W.
        loss: The error of the layer's output.

    Returns:
        The chosen rows, and where they are the second attempt's.
    """
    out, count = len(weight), len(first.grid.scale)
    errors: list[Tensor] = []
    for attempt in (first, second):
        change = to_weights(attempt.codes, by_row(attempt.grid, out)) - weight
        errors.append(loss.error(change.flatten(1)).unflatten(0, (count, -1)).sum(1))  # (grids,)
    better = errors[1] < errors[0]

    # Rows that share a grid go together: their codes mean nothing on the other one.
    rows = better.repeat_interleave(out // count)
    grid = Grid(
        torch.where(better, second.grid.scale, first.grid.scale),
        torch.where(better, second.grid.zero_point, first.grid.zero_point),
        first.grid.levels,
    )
    codes = torch.where(rows.reshape(-1, *[1] * (weight.ndim - 1)), second.codes, first.codes)
    facts = {
        name: torch.where(rows, second.facts[name], fact) for name, fact in first.facts.items()
    }
    return GridAttempt(grid, codes, facts), rows


@dataclass(frozen=True)
class StackedRows:
    """A layer's rows once for each of several grids, as rows of one layer with the same inputs.

    Attributes:
        grid: One grid per row.
        weight: The full-precision weight.
        target: Weight to quantize.
        loss: The error of the output.
        count: Number of grids.
    """

    grid: Grid
    weight: Float[Tensor, "rows *rest"]
    target: Float[Tensor, "rows *rest"]
    loss: Quadratic
    count: int

    def split(self, rows: Shaped[Tensor, "rows *rest"]) -> tuple[Shaped[Tensor, "out *rest"], ...]:
        """Return the rows of each grid."""
        return (
            rows.unflatten(0, (len(self.loss.gram), self.count, -1))
            .transpose(0, 1)
            .flatten(1, 2)
            .unbind()
        )


def stack(
    grids: Sequence[Grid],
    weight: Float[Tensor, "out *rest"],
    target: Float[Tensor, "out *rest"],
    loss: Quadratic,
) -> StackedRows:
    """Return a layer's rows once for each grid, so that one call of a solver does all grids."""
    # Rows of a group share its second moments, so all copies of its rows come together.
    count, groups = len(grids), len(loss.gram)

    def repeated(rows: Tensor) -> Tensor:
        parts = rows.unflatten(0, (groups, -1))[:, None]
        return parts.expand(-1, count, *parts.shape[2:]).flatten(0, 2)

    def arranged(rows: list[Tensor]) -> Tensor:
        return torch.stack(rows).unflatten(1, (groups, -1)).transpose(0, 1).flatten()

    per_row = [by_row(grid, len(weight)) for grid in grids]
    scale = arranged([grid.scale for grid in per_row])
    zero_point = arranged([grid.zero_point for grid in per_row])
    return StackedRows(
        Grid(scale, zero_point, grids[0].levels),
        repeated(weight),
        repeated(target),
        Quadratic(loss.gram, repeated(loss.moment), repeated(loss.constant), loss.positions),
        count,
    )


def by_row(grid: Grid, rows: int) -> Grid:
    """Return the same grids, one per row.

    Example:
        >>> by_row(Grid(torch.tensor([0.5, 1.0]), torch.zeros(2), 3), 4).scale.tolist()
        [0.5, 0.5, 1.0, 1.0]
    """
    times = rows // len(grid.scale)
    return Grid(
        grid.scale.repeat_interleave(times), grid.zero_point.repeat_interleave(times), grid.levels
    )


def _changed(grid: Grid, factor: float, shift: int) -> Grid:
    return Grid(
        grid.scale * factor, (grid.zero_point + shift).clamp(0, grid.levels - 1), grid.levels
    )


@dataclass(frozen=True)
class _Search:
    """Search over grids of a layer; a `fixed` grid stays the first that is tried.

    Each grid serves a block of rows; all blocks have the same size.
    """

    weight: Tensor
    target: Tensor
    loss: Quadratic
    fixed: Bool[Tensor, "grids"]

    def best(self, tried: Sequence[Grid]) -> Grid:
        """Return the grids with the least error, block by block; of equal ones, the first."""
        together = max(1, TOGETHER // self.weight.numel())
        parts = [
            self._errors(tried[start : start + together])
            for start in range(0, len(tried), together)
        ]
        errors = torch.cat(parts)  # (tried, grids)
        least, scale, zero_point = errors[0], tried[0].scale, tried[0].zero_point
        for grid, error in zip(tried[1:], errors[1:], strict=True):
            better = (error < least) & ~self.fixed
            least = torch.where(better, error, least)
            scale = torch.where(better, grid.scale, scale)
            zero_point = torch.where(better, grid.zero_point, zero_point)
        return Grid(scale, zero_point, tried[0].levels)

    def _errors(self, tried: Sequence[Grid]) -> Float64[Tensor, "tried grids"]:
        """Return the error after a short descent, per grid."""
        stacked = stack(tried, self.weight, self.target, self.loss)
        nearest = to_codes(stacked.target, stacked.grid)
        codes, _ = descend(
            nearest, stacked.weight, stacked.grid, stacked.loss, sweeps=CANDIDATE_SWEEPS
        )
        error = stacked.loss.error((to_weights(codes, stacked.grid) - stacked.weight).flatten(1))
        return torch.stack(stacked.split(error)).unflatten(1, (len(self.fixed), -1)).sum(2)
