"""AdaRound: choose for every weight whether to round it down or up, so that the layer's output stays.

Layer after layer, the inputs x_q come from the quantized prefix and the target W x from the
full-precision network. With V per weight, h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1) and

    W_q = scale * (clip(floor(W / scale) + zero_point + h(V), 0, levels - 1) - zero_point),

    minimise  mean over records and positions of |W x - W_q x_q|^2  +  lambda * sum(1 - |2 h(V) - 1|^beta).

V starts where h is the fractional part. The regulariser is off for the first part of the iterations,
then beta falls linearly and drives h to 0 or 1; at the end, h is rounded.
Source: Nagel et al. 2020 (arXiv 2004.10568), eqs. 21 to 25, with the squared error summed over output
channels and averaged over records and positions, as published implementations do it: the mean over
positions, not their sum, is what gives lambda = 0.001 its meaning.

Deviations:
- The objective is the layer's linear output (as in the paper's runs), so it is exactly quadratic in
  W_q: see `quadratic`. Its gradient, 2 (E A - D) / positions with E = W_q - W, needs no data. Every
  step is a full-batch step without sampling noise, so that fewer steps at a higher rate suffice.
- Rows (output channels) are independent. A row whose error ends up above that of round-to-nearest
  keeps round-to-nearest, and `record` counts such rows.
- Batch norm is not folded, and biases are not corrected.
- With `polish`, coordinate descent follows on the same quadratic, not bound to the two nearest levels.

Cost per layer: three products with a weight and a Gram matrix over the images, then per iteration
out x columns^2 multiplications and about 20 passes over the weights.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from bitleak.core.checks import integer_in, number_in
from bitleak.core.types import QuantizedWeights
from bitleak.quant.capture import OnLayer, prepare
from bitleak.quant.grid import Grid, decode, encode, grid_for, per_weight
from bitleak.quant.polish import polish
from bitleak.quant.quadratic import Quadratic, quadratic
from bitleak.quant.result import assemble
from bitleak.quant.scheme import Scheme
from bitleak.quant.walk import walk

STRETCH, SHIFT = 1.2, 0.1  # h = clip(STRETCH * sigmoid(V) - SHIFT, 0, 1)
MOMENTS, EPSILON = (0.9, 0.999), 1e-8  # of Adam


@dataclass(frozen=True, kw_only=True)
class AdaRound(Scheme):
    """AdaRound on each layer's linear output.

    Attributes:
        iterations: Steps per layer.
        learning_rate: Of Adam, on V.
        regularization: lambda.
        warmup: Part of the iterations without the regulariser, 0 to 1.
        beta_start: Its exponent at first.
        beta_end: Its exponent at last.
        polish: Sweeps of coordinate descent over all codes afterwards, at most; 0 = none.

    Example:
        >>> AdaRound(warmup=2.0)
        Traceback (most recent call last):
        ...
        ValueError: warmup must be a number in [0.0, 1.0], got 2.0
    """

    iterations: int = 2000
    learning_rate: float = 1e-2
    regularization: float = 0.001
    warmup: float = 0.2
    beta_start: float = 20.0
    beta_end: float = 2.0
    polish: int = 0

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"iterations": 20000, "learning_rate": 1e-3, "grid": "paper"},
        "quick": {"iterations": 250, "learning_rate": 0.15},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        integer_in("iterations", self.iterations, 0)
        number_in("learning_rate", self.learning_rate, 0.0, float("inf"), ends="(]")
        number_in("regularization", self.regularization, 0.0, float("inf"))
        number_in("warmup", self.warmup, 0.0, 1.0)
        number_in("beta_start", self.beta_start, 1.0, float("inf"))
        number_in("beta_end", self.beta_end, 1.0, float("inf"))
        integer_in("polish", self.polish, 0)

    def __call__(
        self,
        network: nn.Module,
        calibration: Float[Tensor, "records *sample"],
        generator: torch.Generator,
        *,
        on_layer: OnLayer | None = None,
        memory: int | None = None,
    ) -> QuantizedWeights:
        """Quantize the network.

        Args:
            network: Any network; it is not changed.
            calibration: Normalised images.
            generator: Not used: nothing is drawn.
            on_layer: Told of each layer.
            memory: Bytes that activations may take, see `walk.granted`; it changes the time only.

        Raises:
            QuantizationError: A layer cannot be quantized.
        """
        reference, layers, levels = prepare(self, network, calibration)
        quantized, quantized_layers, _ = prepare(self, network, calibration)
        codes: dict[str, Tensor] = {}
        grids: dict[str, Grid] = {}
        record: dict[str, dict[str, Any]] = {}

        def visit(name: str, pairs: Iterable[tuple[Tensor, ...]]) -> None:
            weight = layers[name].weight.detach()
            grids[name] = grid_for(self, weight, levels[name])
            loss = quadratic(name, layers[name], pairs)
            codes[name], kept = round_adaptively(self, weight, grids[name], loss)
            facts = {"rows_kept_nearest": kept}
            if self.polish:
                found = polish(codes[name], weight, grids[name], loss, sweeps=self.polish)
                codes[name], facts["polish_sweeps"] = found
            rounded = decode(codes[name], grids[name])
            quantized_layers[name].weight.copy_(rounded)
            error = loss.relative((rounded - weight).flatten(1), weight.flatten(1))
            record[name] = {"levels": levels[name], "relative_error": error, **facts}
            if on_layer is not None:
                on_layer(name, len(codes) - 1, len(levels))

        walk([reference, quantized], calibration, list(levels), visit, memory=memory)
        return assemble(reference, codes, grids, record)


def round_adaptively(
    settings: AdaRound, weight: Float[Tensor, "out *rest"], grid: Grid, loss: Quadratic
) -> tuple[Tensor, int]:
    """The codes of one layer.

    Args:
        settings: Iterations, rates and the regulariser.
        weight: The full-precision weight.
        grid: Its grid.
        loss: The error of its output.

    Returns:
        uint8 codes in the shape of the weight, and the number of rows that keep round-to-nearest.
    """
    scale, zero_point = per_weight(grid, weight)
    below = (weight / scale).floor()
    fraction = weight / scale - below
    below = below + zero_point
    free = (below >= 0) & (below < grid.levels - 1)
    below = below.clamp(0, grid.levels - 1)
    step = (scale * free).flatten(1)
    offset = (scale * (below - zero_point) - weight).flatten(1)
    up = _optimise(settings, fraction.flatten(1), step, offset, loss).reshape(weight.shape)
    adapted, nearest = (below + (up & free)).to(torch.uint8), encode(weight, grid)
    errors = [loss.error((decode(codes, grid) - weight).flatten(1)) for codes in (adapted, nearest)]
    worse = errors[0] > errors[1]
    adapted[worse] = nearest[worse]
    return adapted, int(worse.sum())


def _optimise(
    settings: AdaRound, fraction: Tensor, step: Tensor, offset: Tensor, loss: Quadratic
) -> Bool[Tensor, "out columns"]:
    """Which weights to round up: Adam on V, where W_q - W = offset + step * h(V)."""
    groups = len(loss.gram)
    fraction, step, offset = (rows.unflatten(0, (groups, -1)) for rows in (fraction, step, offset))
    second = (2 / loss.positions * loss.gram).float()  # the gradient with respect to W_q is E second - first
    first = (2 / loss.positions * loss.moment).float().unflatten(0, (groups, -1))
    slope, strength = step * STRETCH, settings.regularization * STRETCH  # STRETCH is a factor of dh / dV
    variable = -torch.log(STRETCH / (fraction + SHIFT) - 1)
    mean, square = torch.zeros_like(variable), torch.zeros_like(variable)
    for iteration in range(settings.iterations):
        sigmoid = torch.sigmoid(variable)
        stretched = sigmoid * STRETCH - SHIFT
        up = stretched.clamp(0, 1)
        gradient = torch.baddbmm(first, torch.addcmul(offset, step, up), second, beta=-1).mul_(slope)
        beta = _beta(settings, iteration)
        if beta is not None:
            gradient.add_(_regularizer_slope(up, beta), alpha=strength)
        gradient.mul_(up == stretched).mul_(sigmoid).mul_(1 - sigmoid)
        _adam(variable, gradient, mean, square, iteration + 1, settings.learning_rate)
    return (torch.sigmoid(variable) >= 0.5).flatten(0, 1)


def _beta(settings: AdaRound, iteration: int) -> float | None:
    """The regulariser's exponent; None while it is off."""
    start = settings.warmup * settings.iterations
    if iteration < start:
        return None
    part = (iteration - start) / max(1.0, settings.iterations - start)
    return settings.beta_end + (settings.beta_start - settings.beta_end) * (1 - part)


def _regularizer_slope(up: Tensor, beta: float) -> Tensor:
    """The derivative of 1 - |2 h - 1|^beta with respect to h."""
    centred = 2 * up - 1
    return centred.abs().pow_(beta - 1).copysign_(centred).mul_(-2 * beta)


def _adam(variable: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, time: int, rate: float) -> None:
    """One step of Adam (Kingma and Ba 2015, arXiv 1412.6980), in place."""
    mean.lerp_(gradient, 1 - MOMENTS[0])
    square.mul_(MOMENTS[1]).addcmul_(gradient, gradient, value=1 - MOMENTS[1])
    size = (square / (1 - MOMENTS[1] ** time)).sqrt_().add_(EPSILON)
    variable.addcdiv_(mean, size, value=-rate / (1 - MOMENTS[0] ** time))
