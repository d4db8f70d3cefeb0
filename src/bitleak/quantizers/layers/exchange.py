"""Exchange: two codes of a row moved at once, where no single one can be moved with profit.

Coordinate descent (see `descent`) ends where no weight of a row has a better level. There, moving
one code by a step costs something, but may let another code gain more. With G the gradient and A
the curvature in steps of the grid, moving code i by a = +-1 costs 2 a G_i + A_ii, after which the
gradient is G + a A_i, and the best move of another code j, to the level nearest to its minimum,
gains

    min over t of 2 t (G_j + a A_ij) + t^2 A_jj.

Column after column, for both signs, the best partner is found for all rows at once; the pair moves
where the sum is negative, so the error only falls. Rows in which nothing moved in a sweep have
arrived and drop out.

Cost per sweep: about 16 passes over rows x columns values for each column, that is 16 x rows x
columns^2.
"""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

# Of A_ii: a pair that gains less does not move, so that ties and rounding move nothing.
LEAST_GAIN = 1e-9


def exchange(
    codes: Float64[Tensor, "groups columns rows"],
    gradient: Float64[Tensor, "groups columns rows"],
    second: Float64[Tensor, "groups columns columns"],
    highest: int,
    *,
    sweeps: int,
) -> Int64[Tensor, "groups"]:
    """Move pairs of codes until none gains, in place.

    Args:
        codes: Whole numbers from 0 to `highest`; changed.
        gradient: Half the derivative of the error by the codes, over the square of the grid's
            scale; changed with them.
        second: Half the second derivative, over the square of the scale.
        highest: The highest code.
        sweeps: Largest number of sweeps.

    Returns:
        The number of sweeps in which a pair moved, of each group.

    Example:
        >>> second = torch.tensor([[[1.0, 0.9], [0.9, 1.0]]], dtype=torch.float64)
        >>> codes, target = torch.tensor([[[1.0], [1.0]]]).double(), torch.tensor([[[1.6], [0.4]]]).double()
        >>> made = exchange(codes, second @ (codes - target), second, 3, sweeps=9)
        >>> codes[0, :, 0].tolist(), made.tolist()  # either move alone costs 0.14 instead of 0.07
        ([2.0, 0.0], [1])
    """
    active = torch.arange(codes.shape[2], device=codes.device)
    made = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
    for _ in range(sweeps):
        active_codes, slope = codes[..., active], gradient[..., active]
        before = active_codes.clone()
        for column in range(codes.shape[1]):
            _move_pairs(active_codes, slope, second, column, highest)
        codes[..., active], gradient[..., active] = active_codes, slope
        moved = (active_codes != before).any(1)  # (groups, rows)
        made += moved.any(1)
        active = active[moved.any(0)]
        if not len(active):
            break
    return made


def _move_pairs(codes: Tensor, gradient: Tensor, second: Tensor, column: int, highest: int) -> None:
    """Move the best pair with a step of one column, in each row in which it gains."""
    # For each partner j, if column i moves by a = +-1: the step t to the level nearest to j's
    # minimum, and its gain 2 t (G_j + a A_ij) + t^2 A_jj.
    curvature = second.diagonal(dim1=1, dim2=2)[..., None]  # (groups, columns, 1)
    towards = torch.where(curvature > 0, -1 / curvature, 0)
    signs = gradient.new_tensor([1.0, -1.0])[:, None, None]
    column_curvature = second[:, :, column, None]  # (groups, columns, 1)
    slope = gradient + signs[..., None] * column_curvature  # (signs, groups, columns, rows)
    steps = torch.minimum((slope * towards).round_().maximum(-codes), highest - codes)
    steps[:, :, column] = 0
    gains, partner = slope.mul_(2).addcmul_(steps, curvature).mul_(steps).min(2)

    # The pair costs 2 a G_i + A_ii less that gain; column i may not leave the grid's range.
    total = gains + 2 * signs * gradient[:, column] + curvature[:, column]
    target = codes[:, column] + signs
    total.masked_fill_((target < 0) | (target > highest), torch.inf)
    total, sign = total.min(0)  # (groups, rows)
    gain = (total < -LEAST_GAIN * curvature[:, column]) & (curvature[:, column] > 0)
    # On a GPU, the test would wait for all kernels before.
    if codes.device.type == "cpu" and not bool(gain.any()):
        return

    # Both codes move, and the gradient by the two columns of A times their steps.
    partner = partner.gather(0, sign[None])[0]
    step = torch.where(gain, signs[:, 0, 0][sign], 0)
    partner_step = torch.where(
        gain,
        steps.gather(0, sign[None, :, None].expand(1, -1, codes.shape[1], -1))[0].gather(
            1, partner[:, None]
        )[:, 0],
        0,
    )
    codes[:, column] += step
    codes.scatter_add_(1, partner[:, None], partner_step[:, None])
    rows = second.gather(1, partner[..., None].expand(-1, -1, second.shape[2])).mT
    gradient.addcmul_(column_curvature, step[:, None]).addcmul_(rows, partner_step[:, None])
