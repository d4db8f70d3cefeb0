"""OBC's quantizer OBQ: one weight at a time, the cheapest first, the rest of the row makes up for it.

Each output channel (row) w is treated alone. With H = 2 / n sum x x^T over the inputs of the
full-precision network and the inverse of H restricted to the weights that are still free, H^-1:
quantize the free weight p with the smallest

    (q(w_p) - w_p)^2 / [H^-1]_pp,

then change the free weights and eliminate p from the inverse:

    w -= (w_p - q(w_p)) / [H^-1]_pp * [H^-1]_p,    H^-1 -= [H^-1]_p^T [H^-1]_p / [H^-1]_pp.

A weight that has left the grid's range (its error exceeds half a step) goes first; among several, the
one with the smallest score. Inputs that never occur (H_jj = 0) get the weight 0.
Source: Frantar and Alistarh 2022 (arXiv 2208.11580), sections 4 and 5. Batch norm is not folded; its
statistics are re-estimated afterwards, see `reestimate`.

Deviations, none of which changes a code (but for rounding in the last bits):
- The published loop rewrites a rows x columns x columns inverse in every step and is bound by memory.
  Here the rank-1 terms are kept in a panel: the pivot's row is the stored inverse's row minus the
  panel's part, the diagonal is always up to date, and one batched product per `PANEL` steps brings the
  inverse up to date, without the columns that have been quantized.
- H is inverted as it is. Only where its Cholesky factorisation fails, or where a pivot is lost in the
  rounding of the sums (below `LOST` of its diagonal entry), a multiple of the mean diagonal is added, the
  first of `LADDER` that suffices; `record` says which. Float32 would lose pivots much earlier.

Cost per layer: a Gram matrix over the images, and about rows x columns^3 / 3 multiplications. The memory
is bounded by `MEMORY` bytes: rows are taken in chunks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from bitleak.core.errors import QuantizationError
from bitleak.core.types import QuantizedWeights
from bitleak.quant.capture import OnLayer, prepare, stream
from bitleak.quant.gram import gram
from bitleak.quant.grid import Grid, decode, grid_for
from bitleak.quant.reestimate import reestimate
from bitleak.quant.result import assemble
from bitleak.quant.scheme import Scheme, check_finite

PANEL = 32
MEMORY = 128 << 20
LOST = 1e-6
LADDER = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
OUTLIER = 0.5 * (1 + 1e-5)


def invert(name: str, hessian: Float64[Tensor, "columns columns"]) -> tuple[Float64[Tensor, "columns columns"], float]:
    """The inverse of a positive definite matrix, and the relative damping that it took.

    Raises:
        QuantizationError: The matrix is not finite, or no damping makes it positive definite.

    Example:
        >>> invert("fc", torch.tensor([[2.0, 0.0], [0.0, 4.0]], dtype=torch.float64))[0].tolist()
        [[0.5, 0.0], [0.0, 0.25]]
    """
    diagonal = hessian.diagonal()
    for damping in LADDER:
        damped = hessian + torch.diag(torch.full_like(diagonal, damping * float(diagonal.mean())))
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not failed and bool((factor.diagonal().square() >= LOST * damped.diagonal()).all()):
            return torch.cholesky_inverse(factor), damping
    raise QuantizationError(f"layer {name!r}: the second moments of its inputs are not positive definite")


def quantize_rows(
    weight: Float[Tensor, "rows columns"],
    inverse: Float64[Tensor, "columns columns"],
    scale: Float[Tensor, "rows"],
    zero_point: Float[Tensor, "rows"],
    levels: int,
    *,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """The codes of rows that share one Hessian.

    Args:
        weight: Rows to quantize.
        inverse: H^-1.
        scale: Step of each row's grid.
        zero_point: Zero point of each row's grid.
        levels: Number of codes.
        dtype: What to compute in.

    Returns:
        uint8 codes, `rows columns`.
    """
    units = (weight.float() / scale[:, None]).to(dtype)  # weights in steps of the grid, zero at 0
    bounds = torch.stack((-zero_point, levels - 1 - zero_point))[:, :, None].to(dtype)
    chunk = max(1, MEMORY // (2 * inverse.numel() * dtype.itemsize))
    parts = [
        _eliminate(rows, inverse.to(dtype), low, high)
        for rows, low, high in zip(units.split(chunk), bounds[0].split(chunk), bounds[1].split(chunk), strict=True)
    ]
    return (torch.cat(parts) + zero_point[:, None]).to(torch.uint8)


def _eliminate(free: Tensor, inverse: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The greedy order over all columns, for rows in grid units; integers in [low, high]."""
    rows, columns = free.shape
    result = torch.empty_like(free)
    stored = inverse.expand(rows, columns, columns)
    where = torch.arange(columns, device=free.device).expand(rows, columns)  # the column of each free weight
    for start in range(0, columns, PANEL):
        free, stored, where = _panel(free, stored, where, (low, high), min(PANEL, columns - start), result)
    return result
