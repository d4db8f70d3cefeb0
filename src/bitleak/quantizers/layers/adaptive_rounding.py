"""AdaRound's choice between the two nearest codes, by Adam on the quadratic of a layer's output.

`adaround` has the objective. Layers of one shape, such as one layer at several precisions, are
adapted together: their rounding variables are rows of one tensor, which saves the time around the
arithmetic, for a small layer most of it. Each row is stored as a tensor of its own would be (see
`in_rows`), and each gradient is a product of its own, so the codes are those of one layer after
the other, bit for bit.

Cost per iteration and layer: out x columns^2 multiplications and about 20 passes over the weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from bitleak.quantizers.grid import Grid, per_weight, to_codes, to_weights
from bitleak.quantizers.layers.output_grid import by_row
from bitleak.quantizers.layers.quadratic import SILENT, Quadratic
from bitleak.quantizers.network.rounding_relaxation import (
    RoundingRelaxation,
    RoundingSchedule,
    empty_like,
    in_rows,
)

UNIT = 100  # with it, lambda = 0.01 gives the least error, at 3 to 16 levels


@dataclass(frozen=True)
class RoundingProblem:
    """A layer on one grid.

    Attributes:
        weight: The full-precision weight.
        grid: Its grid.
        loss: The error of its output.
    """

    weight: Float[Tensor, "out *rest"]
    grid: Grid
    loss: Quadratic


def round_together(
    problems: Sequence[RoundingProblem],
    schedule: RoundingSchedule,
    *,
    scaling: Literal["row", "none"],
) -> list[tuple[UInt8[Tensor, "out *rest"], Bool[Tensor, "out"]]]:
    """Return the codes of each problem, and which of its rows keep round-to-nearest.

    Args:
        problems: Layers of one shape.
        schedule: Steps, rates and the regulariser.
        scaling: As in `AdaRound`.
    """
    choices = [_RoundingChoice(problem) for problem in problems]
    rounded: list[tuple[Tensor, Tensor]] = []
    for choice, up in zip(choices, _optimise(choices, schedule, scaling), strict=True):
        rounded.append(choice.decided(up))
    return rounded


class _RoundingChoice:
    """The two codes that each weight of a problem chooses between.

    W_q - W = offset + step * h(V)

    Attributes:
        problem: The problem.
        fraction: h(V) at the start.
        step: Factor of h(V); 0 for a weight without a choice.
        offset: The change of the weight if it is rounded down.
    """

    def __init__(self, problem: RoundingProblem) -> None:
        self.problem = problem
        weight, grid = problem.weight, problem.grid
        scale, zero_point = per_weight(grid, weight)
        below = (weight / scale).floor()
        self.fraction = (weight / scale - below).flatten()

        # A weight beyond the grid's end has no choice: the clip takes both of its codes to the end.
        below = below + zero_point
        self._free = (below >= 0) & (below < grid.levels - 1)
        self._below = below.clamp(0, grid.levels - 1)
        self.step = (scale * self._free).flatten()
        self.offset = (scale * (self._below - zero_point) - weight).flatten()

    def towards(self, scaling: Literal["row", "none"]) -> Float[Tensor, "weights"]:
        """Return the derivative of W_q by h(V), for `row` in units of each row's error."""
        if scaling == "none":
            return self.step
        loss, weight = self.problem.loss, self.problem.weight
        scale = by_row(self.problem.grid, len(weight)).scale
        rows = self.step.view(len(loss.gram), -1, loss.gram.shape[-1])
        return (rows / rounding_errors(scale, loss)).flatten()

    def decided(self, up: Bool[Tensor, "weights"]) -> tuple[Tensor, Tensor]:
        """Return the codes if these weights are rounded up, and which rows keep the nearest."""
        weight, grid, loss = self.problem.weight, self.problem.grid, self.problem.loss
        adapted = (self._below + (up.view(weight.shape) & self._free)).to(torch.uint8)
        # The relaxation may end above the nearest, after few steps or by a strong regulariser.
        nearest = to_codes(weight, grid)
        error = loss.error((to_weights(adapted, grid) - weight).flatten(1))
        worse = error > loss.error((to_weights(nearest, grid) - weight).flatten(1))
        adapted[worse] = nearest[worse]
        return adapted, worse


def rounding_errors(scale: Float[Tensor, "out"], loss: Quadratic) -> Float[Tensor, "groups rows 1"]:
    """Return the unit of each row's error: that of `UNIT` weights that are wrong by a step.

    It is UNIT * s^2 * m, with the step s, and m the mean square of an input, over positions and
    over the inputs that occur.

    Example:
        >>> zero = torch.zeros(1, 2, dtype=torch.float64)
        >>> loss = Quadratic(torch.diag(torch.tensor([8.0, 0.0])).double()[None], zero, zero[:, 0], positions=2)
        >>> rounding_errors(torch.tensor([0.5]), loss).tolist()
        [[[100.0]]]
    """
    squares = loss.gram.diagonal(dim1=1, dim2=2)
    occurring = (squares > 0).sum(1).clamp(min=1)
    mean = squares.sum(1) / occurring / loss.positions  # (groups,)
    steps = scale.double().square().unflatten(0, (len(mean), -1))
    return (UNIT * steps * mean[:, None]).clamp(min=SILENT).float()[..., None]


def _optimise(
    choices: Sequence[_RoundingChoice], schedule: RoundingSchedule, scaling: Literal["row", "none"]
) -> Bool[Tensor, "problems weights"]:
    """Return which weights to round up, by Adam on V: a row per problem, see `in_rows`."""
    step, offset = (
        in_rows([choice.step for choice in choices]),
        in_rows([choice.offset for choice in choices]),
    )
    towards = in_rows([choice.towards(scaling) for choice in choices])
    fraction = in_rows([choice.fraction for choice in choices])
    relaxation = RoundingRelaxation(fraction, schedule)
    change, gradient = empty_like(step), empty_like(step)

    # The gradient with respect to W_q is E second - first, E = W_q - W; a product per problem, as
    # its kernel may depend on the number of products.
    products: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for choice, moved, slope in zip(choices, change, gradient, strict=True):
        loss = choice.problem.loss
        second = (2 / loss.positions * loss.gram).float()
        shape = (len(second), -1, second.shape[-1])
        first = (2 / loss.positions * loss.moment).float().view(shape)
        products.append((first, moved.view(shape), second, slope.view(shape)))
    for iteration in range(schedule.iterations):
        torch.addcmul(offset, step, relaxation.up, out=change)
        for first, moved, second, slope in products:
            torch.baddbmm(first, moved, second, beta=-1, out=slope)
        relaxation.step(gradient.mul_(towards), iteration)
    return relaxation.variable >= 0
