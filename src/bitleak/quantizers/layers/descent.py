"""Polish: cyclic coordinate descent over the codes of a layer, on its output error's quadratic.

With E = W_q - W and the error E A E^T - 2 E D^T + c per row (see `quadratic`), the error as a
function of one weight w_j of a row, the others fixed, is a parabola with its minimum at

    w_j - G_j / A_jj,    G = E A - D.

On a uniform grid the best level is the one nearest to that minimum. Column after column, all rows
at once, each weight moves there; a sweep goes over all columns, and sweeps are made until no weight
moves. A weight that is as near to the minimum as another level stays, so every move lowers the
error, and the result is an optimum in every single weight. It depends on where the descent begins;
it is no global optimum.
Source: Behdin et al. 2023 (arXiv 2309.01885, QuantEase), on the quadratic of Nagel et al. 2020
(arXiv 2004.10568, section 3.2).

Deviations: QuantEase starts from the full-precision weight, visits points off the grid on the way
and makes a fixed number of sweeps. Here each point is on the grid, and rows that did not move in a
sweep have arrived and drop out. A column whose inputs never occur (A_jj = 0) is left alone.

With `exchanges`, sweeps of paired moves follow (see `exchange`), which leave such an optimum for a
lower one.

Cost per sweep: about 1.5 x rows x columns^2 multiplications, as the rank-1 terms E_j A_j of
`DESCENT_BLOCK` columns are applied to the later columns by one product, and half a dozen small
operations per column.
"""

import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from bitleak.core.checks import integer_in
from bitleak.quantizers.grid import Grid, to_weights
from bitleak.quantizers.layers.exchange import exchange
from bitleak.quantizers.layers.quadratic import Quadratic

DESCENT_BLOCK = 64
# Minima are taken to be nearer by this part, so that a weight between two levels stays.
TIE_MARGIN = 1e-9


def polish(
    codes: UInt8[Tensor, "out *rest"],
    weight: Float[Tensor, "out *rest"],
    grid: Grid,
    loss: Quadratic,
    *,
    sweeps: int,
    exchanges: int = 0,
) -> tuple[UInt8[Tensor, "out *rest"], int]:
    """Return codes whose error is at most that of the given ones.

    Args:
        codes: Where to begin; not changed.
        weight: The full-precision weight W.
        grid: The grid of the codes.
        loss: The error of the layer's output.
        sweeps: At most this many sweeps, at least 0.
        exchanges: At most this many sweeps of paired moves after them, at least 0.

    Returns:
        The codes, and the number of sweeps of either kind in which a weight moved.

    Example:
        >>> second = torch.tensor([[[1.0, 0.9], [0.9, 1.0]]], dtype=torch.float64)
        >>> zero = torch.zeros(1, 2, dtype=torch.float64)
        >>> loss = Quadratic(gram=second, moment=zero, constant=zero[:, 0], positions=1)
        >>> grid, weight = Grid(torch.ones(1), torch.zeros(1), 3), torch.tensor([[0.6, 0.6]])
        >>> polish(torch.ones(1, 2, dtype=torch.uint8), weight, grid, loss, sweeps=9)
        (tensor([[0, 1]], dtype=torch.uint8), 1)
    """
    descended, made = descend(codes, weight, grid, loss, sweeps=sweeps, exchanges=exchanges)
    return descended, int(made.max())


def descend(
    codes: UInt8[Tensor, "out *rest"],
    weight: Float[Tensor, "out *rest"],
    grid: Grid,
    loss: Quadratic,
    *,
    sweeps: int,
    exchanges: int = 0,
) -> tuple[UInt8[Tensor, "out *rest"], Int64[Tensor, "groups"]]:
    """Polish as `polish` does; return the number of sweeps of each group too."""
    # All in steps of the grid: codes, the moment D / scale, and with them the gradient G.
    groups, shape = len(loss.gram), weight.shape
    scale = grid.scale.double().expand(shape[0]).reshape(groups, 1, -1)
    target = _columns_first(weight.flatten(1).double(), groups)
    moment = _columns_first(loss.moment, groups) / scale
    current = _columns_first(codes.flatten(1).double(), groups)
    active = torch.arange(current.shape[2], device=weight.device)
    made = torch.zeros(groups, dtype=torch.int64, device=weight.device)

    def slope(rows: Tensor) -> Tensor:
        change = (
            _columns_first(to_weights(_codes(current, shape), grid).flatten(1).double(), groups)
            - target
        ) / scale
        return torch.baddbmm(moment[..., rows], loss.gram, change[..., rows], beta=-1)

    # Rows are independent, so one that did not move in a sweep has arrived and drops out.
    for _ in range(sweeps):
        gradient = slope(active)
        before = current[..., active]
        after = _sweep(before.clone(), gradient, loss.gram, grid.levels - 1)
        current[..., active] = after
        moved = (after != before).any(1)  # (groups, rows)
        made += moved.any(1)
        active = active[moved.any(0)]
        if not len(active):
            break
    if exchanges:
        all_rows = torch.arange(current.shape[2], device=weight.device)
        made += exchange(current, slope(all_rows), loss.gram, grid.levels - 1, sweeps=exchanges)
    return _codes(current, shape), made


def _columns_first(rows: Tensor, groups: int) -> Float64[Tensor, "groups columns rows"]:
    return rows.unflatten(0, (groups, -1)).mT.contiguous()


def _codes(columns: Tensor, shape: torch.Size) -> UInt8[Tensor, "out *rest"]:
    return columns.mT.to(torch.uint8).reshape(shape)


def _sweep(codes: Tensor, gradient: Tensor, second: Tensor, highest: int) -> Tensor:
    """Make a sweep in steps of the grid; `codes` and `gradient` (groups, columns, rows) change."""
    for start in range(0, codes.shape[1], DESCENT_BLOCK):
        block = slice(start, min(start + DESCENT_BLOCK, codes.shape[1]))
        steps = _sweep_block(codes[:, block], gradient[:, block], second[:, block, block], highest)
        rest = slice(block.stop, None)
        gradient[:, rest].baddbmm_(second[:, rest, block], steps)
    return codes


def _sweep_block(codes: Tensor, gradient: Tensor, second: Tensor, highest: int) -> Tensor:
    """Sweep over some columns, in place; return how far the codes moved."""
    steps = torch.empty_like(codes)
    # -1 / A_jj, which times the gradient is the way to the minimum
    curvature = second.diagonal(dim1=1, dim2=2)[..., None]
    towards = torch.where(curvature > 0, (TIE_MARGIN - 1) / curvature, 0)
    for column in range(codes.shape[1]):
        nearest = (
            torch.addcmul(codes[:, column], gradient[:, column], towards[:, column])
            .round_()
            .clamp_(0, highest)
        )
        step = torch.sub(nearest, codes[:, column], out=steps[:, column])
        codes[:, column] = nearest
        gradient[:, column:].baddbmm_(second[:, column:, column, None], step[:, None])
    return steps


def check_polish(polish: int, exchange: int) -> None:
    """Refuse numbers of sweeps that make no sense.

    Example:
        >>> check_polish(0, 3)
        Traceback (most recent call last):
        ...
        ValueError: exchange follows polish, which must be at least 1 for it, got 0
    """
    integer_in("polish", polish, 0)
    integer_in("exchange", exchange, 0)
    if exchange and not polish:
        raise ValueError("exchange follows polish, which must be at least 1 for it, got 0")
