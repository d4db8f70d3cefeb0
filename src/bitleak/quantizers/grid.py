"""The grid that all quantizers share: weight = scale * (code - zero_point), code in 0 ... levels - 1.

Per channel (or tensor), with minimum a and maximum b of the weights and L levels,

    scale = (b - a) / (L - 1),    zero_point = round(-a / scale),

after both ends have been shrunk by one factor of 1.00, 0.99, ..., 0.21: the one with the smallest
sum |weight - dequantized weight|^2.4, the first one where several are equal. This is the grid of
the published OBQ (Frantar and Alistarh 2022, arXiv 2208.11580, `perchannel` and `mse` of its
quantizer).

Deviations: a channel whose weights are all equal, c, gets the scale |c| (1 if c is 0), so that it
is exact at any number of levels; the published grid divides by zero there, or rounds. (With
`style="paper"` that holds within 2**-15 of |c|: beyond it, the zero point would leave float32.) The
symmetric grid has a = -max|w|, b = max|w|, and zero_point = L // 2, which is exact at an odd L; at
an even L the positive side has one code less. At L = 2 the one code beside zero is on the side of
the larger extreme. With `style="paper"` zero need not be in range, and `zero_point` may lie outside
0 ... L - 1.

Cost: 80 candidates x weights; the memory is bounded by taking candidates and channels in chunks.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from bitleak.core.checks import integer_in
from bitleak.quantizers.scheme import Scheme

SHRINK_FACTORS = 80
NORM = 2.4
SEARCH_CHUNK = 1 << 16  # weights x candidates in one buffer, so that it stays in the cache
NEARLY_CONSTANT = 2.0**-15


@dataclass(frozen=True)
class Grid:
    """The grids of one weight tensor.

    Attributes:
        scale: Step, > 0; one per output channel, or one for the tensor.
        zero_point: The code of weight 0, a whole number; from 0 to levels - 1 if zero is in range.
        levels: Number of codes, 2 to 256.
    """

    scale: Float32[Tensor, "grids"]
    zero_point: Float32[Tensor, "grids"]
    levels: int


def search_grid(
    weight: Float[Tensor, "out *rest"],
    levels: int,
    *,
    granularity: Literal["channel", "tensor"] = "channel",
    symmetric: bool = False,
    style: Literal["zero", "paper"] = "zero",
) -> Grid:
    """Return the best grid for a weight tensor, by the search over shrink factors.

    Args:
        weight: The weights, finite; output channels first.
        levels: Number of codes, 2 to 256.
        granularity: One grid per output `channel`, or one for the `tensor`.
        symmetric: Centre the grid on zero; then `style` has no effect.
        style: `zero` forces zero into the range, `paper` does not.

    Raises:
        ValueError: The levels are out of range, or a weight is not finite.

    Example:
        >>> grid = search_grid(torch.tensor([[-1.0, 0.0, 1.0, 2.0]]), 4)
        >>> grid.scale.tolist(), grid.zero_point.tolist()
        ([1.0], [1.0])
    """
    integer_in("levels", levels, 2, 256)
    rows = weight.detach().float().reshape(len(weight) if granularity == "channel" else 1, -1)
    if not bool(torch.isfinite(rows).all()):
        raise ValueError("weight must be finite")

    # A row whose weights are all equal: its range is empty, and no search is needed.
    low, high = rows.amin(1), rows.amax(1)
    value = low + (high - low) / 2
    constant = (high - low) <= (value.abs() * NEARLY_CONSTANT if style == "paper" else 0)

    centre = _centre(low, high, levels) if symmetric else None
    ends = _ends(low, high, symmetric=symmetric, style=style)
    best = _best_factor(rows, torch.where(constant, 1, ends), levels, centre)
    scale, zero_point = _grid_of(best * ends, levels, centre)

    # c = |c| * (code - zero_point) is exact with the code one beside the zero point.
    if centre is None:
        centre = (value < 0).float()
    scale = torch.where(constant, torch.where(value == 0, 1, value.abs()), scale)
    return Grid(scale, torch.where(constant, centre, zero_point), levels)


def grid_for(scheme: Scheme, weight: Float[Tensor, "out *rest"], levels: int) -> Grid:
    """Return the scheme's grid for a weight; with `output`, where `output_grid` starts."""
    style: Literal["zero", "paper"] = "paper" if scheme.grid == "paper" else "zero"
    return search_grid(
        weight, levels, granularity=scheme.granularity, symmetric=scheme.symmetric, style=style
    )


def to_codes(weight: Float[Tensor, "out *rest"], grid: Grid) -> UInt8[Tensor, "out *rest"]:
    """Return the codes of the nearest grid points, halves to even, clipped to the grid's range.

    Example:
        >>> to_codes(torch.tensor([[-1.0, 0.2, 9.0]]), Grid(torch.ones(1), torch.ones(1), 4)).tolist()
        [[0, 1, 3]]
    """
    scale, zero_point = per_weight(grid, weight)
    return (
        ((weight.detach().float() / scale).round_() + zero_point)
        .clamp_(0, grid.levels - 1)
        .to(torch.uint8)
    )


def to_weights(codes: UInt8[Tensor, "out *rest"], grid: Grid) -> Float32[Tensor, "out *rest"]:
    """Return the weights that the codes stand for; bit for bit `QuantizedLayer.dequantize`.

    Example:
        >>> to_weights(torch.tensor([[0, 1, 3]], dtype=torch.uint8), Grid(torch.ones(1), torch.ones(1), 4)).tolist()
        [[-1.0, 0.0, 2.0]]
    """
    scale, zero_point = per_weight(grid, codes)
    return scale * (codes.float() - zero_point)


def per_weight(grid: Grid, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return scale and zero point in the shape that broadcasts against a weight tensor."""
    shape = (-1, *[1] * (weight.ndim - 1))
    return grid.scale.reshape(shape), grid.zero_point.reshape(shape)


def _ends(low: Tensor, high: Tensor, *, symmetric: bool, style: str) -> Tensor:
    """Return the unshrunk ends of the grid's range, shape (2, grids)."""
    if symmetric:
        largest = torch.maximum(-low, high)
        return torch.stack((-largest, largest))
    if style == "zero":
        return torch.stack((low.clamp(max=0), high.clamp(min=0)))
    return torch.stack((low, high))


def _centre(low: Tensor, high: Tensor, levels: int) -> Tensor:
    """Return the zero point of a symmetric grid."""
    # With two levels one of them is zero; the other has to reach the larger extreme.
    if levels == 2:
        return (-low >= high).float()
    return torch.full_like(low, levels // 2)


def _grid_of(ends: Tensor, levels: int, centre: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return scale and zero point of ranges; the last axis but one of `ends` holds both ends."""
    low, high = ends.unbind(-2)
    # A range of subnormal width would give the scale 0, and codes of NaN.
    scale = ((high - low) / (levels - 1)).clamp_(min=torch.finfo(torch.float32).tiny)
    return scale, torch.round(-low / scale) if centre is None else centre.expand_as(scale)


def _best_factor(rows: Tensor, ends: Tensor, levels: int, centre: Tensor | None) -> Tensor:
    """Return the shrink factor of each grid with the least error; of equal ones, the first."""
    factors = torch.tensor([1 - step / 100 for step in range(SHRINK_FACTORS)], device=rows.device)
    errors = []
    for candidates in factors.split(max(1, SEARCH_CHUNK // rows.numel())):
        # Both (candidates, grids)
        scale, zero_point = _grid_of(candidates[:, None, None] * ends, levels, centre)
        errors.append(_error(rows, scale[..., None], zero_point[..., None], levels))
    return factors[torch.cat(errors).argmin(0)]


def _error(rows: Tensor, scale: Tensor, zero_point: Tensor, levels: int) -> Tensor:
    """Return the sum of |error|^2.4 per grid for several candidates."""
    # `to_codes` and `to_weights` in one buffer: 80 candidates are as many passes over the weights.
    weight = rows / scale  # (candidates, grids, weights)
    weight.round_().add_(zero_point).clamp_(0, levels - 1)
    weight.sub_(zero_point).mul_(scale).sub_(rows).abs_().pow_(NORM)
    return weight.sum(-1)
