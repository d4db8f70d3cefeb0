"""The rounding variables of some weights, and the schedule by which Adam learns them.

With V per weight, h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1) is the share of a step that the weight is
rounded up by; lambda * sum over weights (1 - |2 h(V) - 1|^beta) pushes it to 0 or 1.

Source: Nagel et al. 2020 (arXiv 2004.10568), equations 23 and 24.

Deviations: the slope of the regulariser and Adam are written out, see `RoundingRelaxation`; Adam's
decay rates are fields, see `reconstruction`.

Cost: about 20 passes over the weights per step.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bitleak.core.checks import integer_in, number_in

STRETCH, SHIFT = 1.2, 0.1  # h = clip(STRETCH * sigmoid(V) - SHIFT, 0, 1)
EDGE = 1e-6  # a weight on the grid, whose h is 0 or 1 but for rounding, is free to move
ADAM_EPSILON = 1e-8
# Tensors, since a Python number in most operations is made one, and converted, in every call.
MINUS_ONE, MINUS_SHIFT, STRETCHED = (torch.tensor(value) for value in (-1.0, -SHIFT, STRETCH))
TINY = 1e-30  # the least |2h - 1|, so that its logarithm is finite
ROW_STEP = 64  # elements; a multiple of what any processor's instructions take at a time


def in_rows(rows: Sequence[Float[Tensor, "weights"]]) -> Float[Tensor, "rows weights"]:
    """Return vectors as the rows of one tensor, each computed with as if it were alone.

    The last elements of a tensor, which fill no vector instruction, are computed by other code,
    which may round otherwise. So if there are several rows, they lie `ROW_STEP` apart, or a
    multiple of it: then a row's elements are dealt with as those of a tensor of its own.

    Example:
        >>> rows = in_rows([torch.ones(3), torch.zeros(3)])
        >>> rows.tolist(), rows.stride()
        ([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], (64, 1))
    """
    length = len(rows[0])
    width = length if len(rows) == 1 else -(-length // ROW_STEP) * ROW_STEP
    joined = rows[0].new_zeros(len(rows), width)[:, :length]
    for row, values in zip(joined, rows, strict=True):
        row.copy_(values)
    return joined


def empty_like(rows: Float[Tensor, "*weights"]) -> Float[Tensor, "*weights"]:
    """Return a new tensor with the same distance between rows, which `torch.empty_like` drops."""
    return torch.empty_strided(rows.shape, rows.stride(), dtype=rows.dtype, device=rows.device)


@dataclass(frozen=True, kw_only=True)
class RoundingSchedule:
    """How the rounding variables are learnt.

    Attributes:
        iterations: Steps of Adam; 0 keeps the starting point.
        batch: Records per step.
        learning_rate: Adam's rate.
        decay: Adam's decay rates of the mean gradient and of the mean square, each in [0, 1).
        regularization: lambda.
        warmup: Share of the iterations without the regulariser.
        beta_start: beta after the warm-up.
        beta_end: beta at the end.
    """

    iterations: int
    batch: int
    learning_rate: float
    decay: tuple[float, float] = (0.9, 0.999)
    regularization: float
    warmup: float = 0.2
    beta_start: float = 20.0
    beta_end: float = 2.0

    def __post_init__(self) -> None:
        integer_in("iterations", self.iterations, 0)
        integer_in("batch", self.batch, 1)
        number_in("learning_rate", self.learning_rate, 0.0, float("inf"), ends="(]")
        for rate in self.decay:
            number_in("decay", rate, 0.0, 1.0, ends="[)")
        number_in("regularization", self.regularization, 0.0, float("inf"))
        number_in("warmup", self.warmup, 0.0, 1.0)
        number_in("beta_start", self.beta_start, 1.0, float("inf"))
        number_in("beta_end", self.beta_end, 1.0, float("inf"))

    def beta(self, step: int) -> float | None:
        """Return the exponent at a step from 0 to iterations - 1; None in the warm-up."""
        start = self.warmup * self.iterations
        if step < start:
            return None
        left = 1 - (step - start) / (self.iterations - start)
        return self.beta_end + (self.beta_start - self.beta_end) * left


class RoundingRelaxation:
    """V and h(V) of some weights, or of several sets in rows, and the steps of Adam.

    Source: Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1.

    All in buffers, since a new tensor in each step costs more than the arithmetic on it. For the
    same reason the clipped h have their slope masked by the backward pass of the clip, not by a
    comparison, and Adam is written out: the code of `torch.optim` around its arithmetic takes
    longer than a small layer's step.

    Attributes:
        variable: V.
        up: h(V).
    """

    def __init__(self, up: Float[Tensor, "*weights"], schedule: RoundingSchedule) -> None:
        self.schedule = schedule
        self.variable, self.up, self.slope, self.spare = (empty_like(up) for _ in range(4))
        self._mean, self._square = (empty_like(up).zero_() for _ in range(2))
        # V = -log(STRETCH / (h + SHIFT) - 1), in place, so that rows stay apart
        ratio = torch.add(up, SHIFT, out=self.variable).reciprocal_().mul_(STRETCH)
        ratio.sub_(1).log_().neg_()
        self._refresh()

    def step(self, gradient: Float[Tensor, "*weights"], iteration: int) -> None:
        """Make a step, given the derivative of the loss by h, which is overwritten."""
        # d/dh of lambda (1 - |2h - 1|^beta) = -2 lambda beta |2h - 1|^(beta - 1) sign(2h - 1)
        beta = self.schedule.beta(iteration)
        if beta is not None:
            torch.add(MINUS_ONE, self.up, alpha=2, out=self.spare)
            power = torch.abs(self.spare, out=self.up).clamp_(min=TINY).log_().mul_(beta - 1).exp_()
            gradient.add_(
                power.copysign_(self.spare), alpha=-2 * beta * self.schedule.regularization
            )
        self._descend(gradient.mul_(self.slope), iteration + 1)
        self._refresh()

    def _descend(self, gradient: Float[Tensor, "*weights"], step: int) -> None:
        """Make Adam's step number `step`, from 1 on."""
        mean_decay, square_decay = self.schedule.decay
        self._mean.lerp_(gradient, 1 - mean_decay)
        self._square.mul_(square_decay).addcmul_(gradient, gradient, value=1 - square_decay)
        # Both bias corrections go into rate and epsilon, which saves two passes over the weights.
        root = math.sqrt(1 - square_decay**step)
        torch.sqrt(self._square, out=self.spare).add_(ADAM_EPSILON * root)
        rate = self.schedule.learning_rate * root / (1 - mean_decay**step)
        self.variable.addcdiv_(self._mean, self.spare, value=-rate)

    def _refresh(self) -> None:
        """Compute h and its derivative from V: 1.2 sigmoid (1 - sigmoid), or 0 if h is clipped."""
        torch.sigmoid(self.variable, out=self.slope)
        torch.add(MINUS_SHIFT, self.slope, alpha=STRETCH, out=self.up)
        self.slope.addcmul_(self.slope, self.slope, value=-1).mul_(STRETCHED)
        torch.ops.aten.hardtanh_backward.grad_input(
            self.slope, self.up, -EDGE, 1 + EDGE, grad_input=self.slope
        )
        self.up.clamp_(0, 1)
