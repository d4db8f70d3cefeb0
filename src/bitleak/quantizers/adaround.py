"""AdaRound: choose for every weight whether to round down or up, so that the layer's output stays.

Layer after layer, the inputs x_q come from the quantized prefix and the target W x from the
full-precision network. With V per weight, h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1) and

    W_q = scale * (clip(floor(W / scale) + zero_point + h(V), 0, levels - 1) - zero_point),

    minimise  mean over records and positions of |W x - W_q x_q|^2
              + lambda * sum(1 - |2 h(V) - 1|^beta).

V starts where h is the fractional part. The regulariser is off for the first part of the
iterations, then beta falls linearly and drives h to 0 or 1; at the end, h is rounded.
Source: Nagel et al. 2020 (arXiv 2004.10568), eqs. 21 to 25, with the squared error summed over
output channels and averaged over records and positions, as published implementations do it:
lambda = 0.001 is meant for the mean over positions, not for their sum.

With `objective="activation"` the error is taken after the batch norm and the activation that follow
the layer (eq. 25 of the paper has the activation), and `reconstruct` learns it on mini-batches.

Deviations:
- By default the objective is the layer's linear output (as in the paper's runs), so it is exactly
  quadratic in W_q: see `quadratic`. Its gradient, 2 (E A - D) / positions with E = W_q - W, needs
  no data. Every step is a full-batch step without sampling noise. With a rate 50 times that of
  preset `paper`, a shorter memory of Adam and lambda = 0.01, a twentieth of its steps gives the
  same error.
- With `scaling="row"`, the default, each row's error is divided by UNIT s^2 m, with the row's step
  s and the mean square m of an input, before it meets the regulariser. The published sum depends on
  the scale of weights that a batch norm takes out again: times 100, the regulariser hardly acts,
  and h is far from 0 and 1 when it is rounded.
- Rows (output channels) are independent. A row whose error ends up above that of round-to-nearest
  keeps round-to-nearest, and `record` counts such rows.
- With `grid="output"`, the default, all of this is done on two grids, that of the weights and one
  that suits the layer's output (see `output_grid`), and each row keeps the one that leaves it less
  error.
- Batch norm is not folded, and biases are not corrected.
- With `polish`, coordinate descent follows on the same quadratic, not bound to the two nearest
  levels.

Misleading where the calibration images are members, as `calibration: {source: members}`, the
default of an audit, makes them: the codes are then fitted to records whose leakage is measured.
`source: holdout` tells the two effects apart.

Cost per layer: three products with a weight and a Gram matrix over the images, then per iteration
out x columns^2 multiplications and about 20 passes over the weights. With `objective="activation"`:
iterations * (forward + backward of a batch), and the layer's inputs and outputs for all images (see
`activations`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, fx, nn

from bitleak.core.checks import one_of
from bitleak.core.errors import QuantizationError
from bitleak.core.types import QuantizedWeights
from bitleak.quantizers.assembly import assemble_weights
from bitleak.quantizers.grid import Grid, grid_for, per_weight, to_codes, to_weights
from bitleak.quantizers.layers.descent import check_polish, polish
from bitleak.quantizers.layers.output_grid import (
    GridAttempt,
    better_of,
    by_row,
    grids_to_try,
    stack,
)
from bitleak.quantizers.layers.quadratic import SILENT, Quadratic, quadratic
from bitleak.quantizers.network.activations import collect_together, map_budget
from bitleak.quantizers.network.layer_inputs import OnLayer, prepare_layers
from bitleak.quantizers.network.layer_pass import visit_in_order
from bitleak.quantizers.network.plain_copy import on_plain_copy
from bitleak.quantizers.network.reconstruction import (
    in_memory_order,
    output_energy,
    reconstruct,
)
from bitleak.quantizers.network.reconstruction_units import Unit, layer_units
from bitleak.quantizers.network.rounding_relaxation import RoundingRelaxation, RoundingSchedule
from bitleak.quantizers.scheme import Layer, Scheme, check_finite

_BY_OBJECTIVE: Any = "by objective"  # the default of `grid`, replaced when a quantizer is made
UNIT = 100  # with it, lambda = 0.01 gives the least error, at 3 to 16 levels
ACTIVATION_MAPS = 3  # of all records that `objective="activation"` holds at a time

Pairs = Iterable[tuple[Tensor, ...]]
"""A layer's inputs in the full-precision and in the quantized network, chunk by chunk."""

Adapt = Callable[[str, Layer, Grid, Pairs], tuple[Tensor, Grid, dict[str, Any]]]
"""From a layer, its grid so far and its inputs to codes, their grid, and facts for the record."""


@dataclass(frozen=True, kw_only=True)
class AdaRound(Scheme):
    """AdaRound, layer after layer.

    Attributes:
        iterations: Steps per layer.
        learning_rate: Adam's rate on V.
        decay: Adam's decay rates of the mean gradient and of the mean square, each in [0, 1).
        regularization: lambda.
        warmup: Part of the iterations without the regulariser, 0 to 1.
        beta_start: The regulariser's exponent after the warm-up.
        beta_end: The regulariser's exponent at the end.
        objective: Whether the error is that of the layer's `linear` output, or of the `activation`:
            the output of the batch norm and the activation that alone follow it, in a network that
            `torch.fx` traces; that goes with `grid` `zero` or `paper`.
        batch: Records per step with `objective="activation"`; the linear objective uses all in
            every step.
        polish: Sweeps of coordinate descent over all codes afterwards, at most; 0 = none. It lowers
            the linear objective, and goes with that only.
        exchange: Sweeps of paired moves of codes after `polish`, at most; 0 = none (see
            `exchange`).
        scaling: Scale of the linear objective relative to the regulariser. `row`: each row's error
            counts in units of its rounding errors (see `rounding_errors`), so that factors of
            weights, outputs and inputs do not matter; `none`: the squared error as it is, as in the
            paper.
        grid: As in `Scheme`; by default `output` for the linear objective and `zero` for the other.

    With the linear objective nothing is drawn: the result does not depend on the generator, and so
    not on a seed.

    Example:
        >>> AdaRound(warmup=2.0)
        Traceback (most recent call last):
        ...
        ValueError: warmup must be a number in [0.0, 1.0], got 2.0
    """

    iterations: int = 1000
    learning_rate: float = 0.05
    decay: tuple[float, float] = (0.5, 0.9)
    regularization: float = 0.01
    warmup: float = 0.2
    beta_start: float = 20.0
    beta_end: float = 2.0
    objective: Literal["linear", "activation"] = "linear"
    batch: int = 32
    polish: int = 0
    exchange: int = 0
    scaling: Literal["row", "none"] = "row"
    grid: Literal["zero", "paper", "output"] = _BY_OBJECTIVE

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            "iterations": 20000,
            "learning_rate": 1e-3,
            "decay": (0.9, 0.999),
            "regularization": 0.001,
            "scaling": "none",
            "grid": "paper",
        },
        "quick": {"iterations": 250, "learning_rate": 0.2, "grid": "zero"},
    }

    def __post_init__(self) -> None:
        if self.grid == _BY_OBJECTIVE:
            object.__setattr__(self, "grid", "zero" if self.objective == "activation" else "output")
        super().__post_init__()
        self._schedule()
        one_of("objective", self.objective, ("linear", "activation"))
        one_of("scaling", self.scaling, ("row", "none"))
        check_polish(self.polish, self.exchange)
        if self.polish and self.objective == "activation":
            raise ValueError(
                "polish lowers the error of the linear output; it must be 0 with objective 'activation'"
            )
        if self.grid == "output" and self.objective == "activation":
            raise ValueError(
                "grid 'output' suits the linear output; with objective 'activation', it must be 'zero' or 'paper'"
            )

    def _schedule(self) -> RoundingSchedule:
        shared = {field.name: getattr(self, field.name) for field in fields(RoundingSchedule)}
        return RoundingSchedule(**shared)

    @on_plain_copy
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
            generator: Draws the mini-batches; not used for the linear objective.
            on_layer: Called after each layer.
            memory: Bytes that activations may take, see `layer_pass.activation_budget`; it changes
                the time only.

        Raises:
            QuantizationError: A layer cannot be quantized, or the objective is `activation` and the
                network cannot be traced.
        """
        # Two copies: x comes from the full-precision one, x_q from the one that is quantized.
        reference, layers, levels = prepare_layers(self, network, calibration)
        pieces = _pieces(reference, self) if self.objective == "activation" else {}
        quantized, quantized_layers, _ = prepare_layers(self, network, calibration)
        room = (len(calibration), map_budget(calibration, memory, maps=ACTIVATION_MAPS))
        codes: dict[str, Tensor] = {}
        grids: dict[str, Grid] = {}
        record: dict[str, dict[str, Any]] = {}

        def visit(name: str, pairs: Pairs) -> None:
            grid = grid_for(self, layers[name].weight.detach(), levels[name])
            adapt = (
                self._adapt_activation(pieces[name], generator, *room)
                if pieces
                else self._adapt_linear
            )
            codes[name], grids[name], facts = adapt(name, layers[name], grid, pairs)
            quantized_layers[name].weight.copy_(to_weights(codes[name], grids[name]))
            record[name] = {"levels": levels[name], **facts}
            if on_layer is not None:
                on_layer(name, len(codes) - 1, len(levels))

        visit_in_order([reference, quantized], calibration, list(levels), visit, memory=memory)
        return assemble_weights(reference, codes, grids, record, scheme=self, images=calibration)

    def _adapt_linear(
        self, name: str, layer: Layer, grid: Grid, pairs: Pairs
    ) -> tuple[Tensor, Grid, dict[str, Any]]:
        """Return the codes of a layer by the quadratic, their grid, and facts for the record."""
        weight = layer.weight.detach()
        loss = quadratic(name, layer, pairs)
        codes, grid, facts = adapt_layer(self, weight, grid, loss)
        change = (to_weights(codes, grid) - weight).flatten(1)
        return codes, grid, {"relative_error": loss.relative(change, weight.flatten(1)), **facts}

    def _adapt_activation(
        self, unit: Unit, generator: torch.Generator, records: int, share: int | None
    ) -> Adapt:
        """Return `_adapt_linear`'s counterpart: mini-batches through the layer and its activation.

        Each of the maps that are held may take `share` bytes of memory.
        """

        def adapt(
            name: str, layer: Layer, grid: Grid, pairs: Pairs
        ) -> tuple[Tensor, Grid, dict[str, Any]]:
            inputs, targets = collect_together(
                _with_targets(name, unit.run, pairs), records, memory=share
            )
            with torch.enable_grad():
                result = reconstruct(
                    unit.run,
                    {name: grid},
                    inputs,
                    targets,
                    schedule=self._schedule(),
                    generator=generator,
                    memory=share,
                )
            error = result.loss / max(output_energy(targets), SILENT)
            return result.codes[name], grid, {"relative_error": error, "kept": result.choice}

        return adapt


def _with_targets(
    name: str, piece: fx.GraphModule, pairs: Pairs
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the inputs after the quantized layers, and the outputs for the full-precision ones."""
    for full, quantized in pairs:
        check_finite(name, full, "calibration input")
        yield quantized, piece(in_memory_order(piece, full.clone()))


def _pieces(network: nn.Module, scheme: Scheme) -> dict[str, Unit]:
    """Return each layer with the batch norm and the activation that follow it."""
    try:
        return layer_units(network.requires_grad_(False), scheme)
    except QuantizationError as error:
        raise QuantizationError(
            f"objective 'activation' needs the graph of the network; objective 'linear' does not. {error}"
        ) from error


def adapt_layer(
    settings: AdaRound, weight: Float[Tensor, "out *rest"], grid: Grid, loss: Quadratic
) -> tuple[UInt8[Tensor, "out *rest"], Grid, dict[str, Any]]:
    """Return the codes of one layer by the linear objective, on its best grid, polished if set.

    Args:
        settings: All but the objective, which is taken to be linear.
        weight: The full-precision weight.
        grid: The grid of the weight.
        loss: The error of its output.

    Returns:
        Codes in the shape of the weight, their grid, and for the record: how many rows keep
        round-to-nearest, and where it applies how many lie on the output's grid, and the sweeps of
        polish.
    """
    grids = grids_to_try(settings, grid, weight, weight, loss)
    stacked = stack(grids, weight, weight, loss)
    codes, keeps_nearest = round_adaptively(settings, stacked.weight, stacked.grid, stacked.loss)
    attempts: list[GridAttempt] = []
    for tried, tried_codes, nearest in zip(
        grids, stacked.split(codes), stacked.split(keeps_nearest), strict=True
    ):
        attempts.append(GridAttempt(tried, tried_codes, {"nearest": nearest}))

    # Each row stays on the grid that leaves it less error.
    facts: dict[str, Any] = {}
    best = attempts[0]
    for attempt in attempts[1:]:
        best, chosen = better_of(best, attempt, weight, loss)
        facts["rows_on_output_grid"] = int(chosen.sum())
    facts["rows_kept_nearest"] = int(best.facts["nearest"].sum())

    codes = best.codes
    if settings.polish:
        codes, facts["polish_sweeps"] = polish(
            codes, weight, best.grid, loss, sweeps=settings.polish, exchanges=settings.exchange
        )
    return codes, best.grid, facts


def round_adaptively(
    settings: AdaRound,
    weight: Float[Tensor, "out *rest"],
    grid: Grid,
    loss: Quadratic,
) -> tuple[UInt8[Tensor, "out *rest"], Bool[Tensor, "out"]]:
    """Return the codes of one layer on one grid.

    Args:
        settings: Iterations, rates and the regulariser.
        weight: The full-precision weight.
        grid: Its grid.
        loss: The error of its output.

    Returns:
        Codes in the shape of the weight, and which rows keep round-to-nearest.
    """
    scale, zero_point = per_weight(grid, weight)
    below = (weight / scale).floor()
    fraction = weight / scale - below

    # A weight beyond the grid's end has no choice: the clip takes both of its codes to the end.
    below = below + zero_point
    free = (below >= 0) & (below < grid.levels - 1)
    below = below.clamp(0, grid.levels - 1)

    # W_q - W = offset + step * h(V)
    step = (scale * free).flatten(1)
    offset = (scale * (below - zero_point) - weight).flatten(1)
    row_scale = by_row(grid, len(weight)).scale
    up = _optimise(settings, fraction.flatten(1), step, offset, loss, row_scale).reshape(
        weight.shape
    )

    # The relaxation may end above rounding to nearest, after few steps or by a strong regulariser.
    adapted, nearest = (below + (up & free)).to(torch.uint8), to_codes(weight, grid)
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
    settings: AdaRound,
    fraction: Tensor,
    step: Tensor,
    offset: Tensor,
    loss: Quadratic,
    scale: Tensor,
) -> Bool[Tensor, "out columns"]:
    """Return which weights to round up, by Adam on V.

    W_q - W = offset + step * h(V); `scale` holds the step of each row's grid.
    """
    shape = (len(loss.gram), -1)
    step, offset = step.unflatten(0, shape), offset.unflatten(0, shape)

    # The gradient with respect to W_q is E second - first, E = W_q - W.
    second = (2 / loss.positions * loss.gram).float()
    first = (2 / loss.positions * loss.moment).float().unflatten(0, shape)
    relaxation = RoundingRelaxation(fraction.unflatten(0, shape), settings._schedule())
    towards = step if settings.scaling == "none" else step / rounding_errors(scale, loss)
    change, gradient = torch.empty_like(step), torch.empty_like(step)
    for iteration in range(settings.iterations):
        torch.addcmul(offset, step, relaxation.up, out=change)
        torch.baddbmm(first, change, second, beta=-1, out=gradient)
        relaxation.step(gradient.mul_(towards), iteration)
    return (relaxation.variable >= 0).flatten(0, 1)
