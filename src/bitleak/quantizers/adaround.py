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

Several precisions (`at_levels`) share a walk: the full-precision network runs once, and the steps
of all precisions are made together (see `adaptive_rounding`). The results are the same bits.

Cost per layer: three products with a weight and a Gram matrix over the images, then per iteration
out x columns^2 multiplications and about 20 passes over the weights. With `objective="activation"`:
iterations * (forward + backward of a batch), and the layer's inputs and outputs for all images (see
`activations`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, fx, nn

from bitleak.core.checks import one_of
from bitleak.core.errors import QuantizationError
from bitleak.core.types import QuantizedWeights
from bitleak.quantizers.grid import Grid, to_weights
from bitleak.quantizers.layers.adaptive_rounding import RoundingProblem, round_together
from bitleak.quantizers.layers.descent import check_polish, polish
from bitleak.quantizers.layers.output_grid import (
    GridAttempt,
    better_of,
    grids_to_try,
    stack,
)
from bitleak.quantizers.layers.quadratic import SILENT, Quadratic, quadratics
from bitleak.quantizers.network.activations import collect_together, map_budget
from bitleak.quantizers.network.layer_inputs import OnLayer
from bitleak.quantizers.network.levels_walk import Adapt, Adapted, NetworkInputs, quantize_at_levels
from bitleak.quantizers.network.plain_copy import plain_arithmetic, plain_copy
from bitleak.quantizers.network.reconstruction import (
    PieceCopy,
    in_memory_order,
    output_energy,
    reconstruct,
)
from bitleak.quantizers.network.reconstruction_units import Unit, layer_units
from bitleak.quantizers.network.rounding_relaxation import RoundingSchedule
from bitleak.quantizers.scheme import Layer, Scheme, check_finite

_BY_OBJECTIVE: Any = "by objective"  # the default of `grid`, replaced when a quantizer is made
ACTIVATION_MAPS = 3  # of all records that `objective="activation"` holds at a time


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
        options: dict[str, Any] = {"on_layer": on_layer, "memory": memory}
        (quantized,) = self.at_levels([self.levels], network, calibration, [generator], **options)
        return quantized

    def at_levels(
        self,
        levels: Sequence[int],
        network: nn.Module,
        calibration: Float[Tensor, "records *sample"],
        generators: Sequence[torch.Generator],
        *,
        on_layer: OnLayer | None = None,
        memory: int | None = None,
    ) -> list[QuantizedWeights]:
        """Quantize the network at several levels in one pass, each as `__call__` does, bit for bit.

        Args:
            levels: In the place of the field.
            network: As in `__call__`.
            calibration: As in `__call__`.
            generators: One for each of the levels.
            on_layer: Called after each layer at each of the levels.
            memory: As in `__call__`, for all of them.
        """
        schemes = [replace(self, levels=one) for one in levels]
        with plain_arithmetic():
            copied = plain_copy([self], network, calibration)
            adapt_of = partial(self._adapt_of, copied.images, generators, memory)
            results = quantize_at_levels(
                schemes, copied.network, copied.images, adapt_of, on_layer=on_layer, memory=memory
            )
            return [copied.result(result) for result in results]

    def _adapt_of(
        self,
        images: Tensor,
        generators: Sequence[torch.Generator],
        memory: int | None,
        reference: nn.Module,
    ) -> Adapt:
        """Return the treatment of the layers of a full-precision network."""
        if self.objective == "linear":
            return self._by_quadratic
        pieces = _pieces(reference, self)
        share = map_budget(images, memory, maps=ACTIVATION_MAPS)
        return partial(self._by_activation, pieces, generators, len(images), share)

    def _by_quadratic(
        self, name: str, layer: Layer, grids: Sequence[Grid], inputs: NetworkInputs
    ) -> list[Adapted]:
        """Adapt a layer by the quadratic of its linear output."""
        weight = layer.weight.detach()
        losses = quadratics(name, layer, inputs)
        adapted: list[Adapted] = []
        for loss, (codes, grid, facts) in zip(
            losses, adapt_layers(self, weight, grids, losses), strict=True
        ):
            change = (to_weights(codes, grid) - weight).flatten(1)
            error = loss.relative(change, weight.flatten(1))
            adapted.append((codes, grid, {"relative_error": error, **facts}))
        return adapted

    def _by_activation(
        self,
        pieces: Mapping[str, Unit],
        generators: Sequence[torch.Generator],
        records: int,
        share: int | None,
        name: str,
        layer: Layer,
        grids: Sequence[Grid],
        inputs: NetworkInputs,
    ) -> list[Adapted]:
        """Adapt a layer by mini-batches through it and its activation.

        Each of the maps that are held may take `share` bytes of memory.
        """
        piece = pieces[name].run
        chunks = _with_targets(name, piece, inputs)
        targets, *maps = collect_together(chunks, records, memory=share)
        copies: list[PieceCopy] = []
        for grid, map_inputs, generator in zip(grids, maps, generators, strict=True):
            copies.append(PieceCopy({name: grid}, map_inputs, generator))
        results = reconstruct(piece, copies, targets, schedule=self._schedule(), memory=share)
        energy = max(output_energy(targets), SILENT)
        adapted: list[Adapted] = []
        for grid, result in zip(grids, results, strict=True):
            facts = {"relative_error": result.loss / energy, "kept": result.choice}
            adapted.append((result.codes[name], grid, facts))
        return adapted


def _with_targets(
    name: str, piece: fx.GraphModule, inputs: NetworkInputs
) -> Iterator[tuple[Tensor, ...]]:
    """Yield the outputs for the full-precision inputs, then the inputs after quantized layers."""
    for full, *quantized in inputs:
        check_finite(name, full, "calibration input")
        yield piece(in_memory_order(piece, full.clone())), *quantized


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
) -> Adapted:
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
    (adapted,) = adapt_layers(settings, weight, [grid], [loss])
    return adapted


def adapt_layers(
    settings: AdaRound,
    weight: Float[Tensor, "out *rest"],
    grids: Sequence[Grid],
    losses: Sequence[Quadratic],
) -> list[Adapted]:
    """Return the same as `adapt_layer` for several grids of one weight, each with its error."""
    tried = [
        grids_to_try(settings, grid, weight, weight, loss)
        for grid, loss in zip(grids, losses, strict=True)
    ]
    stacked = [stack(some, weight, weight, loss) for some, loss in zip(tried, losses, strict=True)]
    problems = [RoundingProblem(rows.weight, rows.grid, rows.loss) for rows in stacked]
    rounded = round_together(problems, settings._schedule(), scaling=settings.scaling)
    adapted: list[Adapted] = []
    for some, rows, (codes, nearest), loss in zip(tried, stacked, rounded, losses, strict=True):
        attempts: list[GridAttempt] = []
        for grid, grid_codes, kept in zip(
            some, rows.split(codes), rows.split(nearest), strict=True
        ):
            attempts.append(GridAttempt(grid, grid_codes, {"nearest": kept}))
        adapted.append(_settled(settings, weight, attempts, loss))
    return adapted


def _settled(
    settings: AdaRound, weight: Tensor, attempts: Sequence[GridAttempt], loss: Quadratic
) -> Adapted:
    """Return the best grid of each row, polished if set."""
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
    problem = RoundingProblem(weight, grid, loss)
    (rounded,) = round_together([problem], settings._schedule(), scaling=settings.scaling)
    return rounded
