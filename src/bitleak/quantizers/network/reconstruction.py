"""The shared mini-batch loop: learn which way to round the weights of a piece, jointly.

Given the piece's inputs x in the quantized network and its outputs t in the full-precision one,
minimise

    mean over records and positions of sum over channels (run(x; W(V)) - t)^2
        + lambda * sum over weights (1 - |2 h(V) - 1|^beta),

    W(V) = scale * (floor(w / scale) + h(V)),    h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1),

over the rounding variables V of all its layers, with Adam; V starts where h is the fractional part
of w / scale. The regulariser is off during the warm-up, then beta falls linearly and pushes every h
to 0 or 1; at the end every weight is rounded to the side that its h is on. This is AdaRound's
relaxation (Nagel et al. 2020, arXiv 2004.10568, equations 21 to 25) with the reconstruction of a
block as its loss (Li et al. 2021, arXiv 2102.05426, equation 10). The channel axis is axis 1 of the
output. The sum over channels and mean over the rest is the normalisation of the published code of
both, so lambda means the same here.

Deviations: a weight outside its grid's range has no rounding variable, it is fixed at the grid's
end (the published code keeps an idle one, whose regulariser has no effect either). The gradient
from the weights to V is written out. Adam's decay rates are fields: a shorter memory than (0.9,
0.999) stands rates tens of times larger than the published one, and needs tens of times fewer
iterations for the same loss. Mini-batches are consecutive pieces of random permutations, drawn
before the loop, so that all records are seen equally often. If the result has a larger loss on all
calibration records than rounding to the nearest, rounding to the nearest is returned. Maps
are kept in channels-last order, which is faster on a CPU, unless the piece has functions that look
at the order (`view`, `as_strided`) or that are not PyTorch's. Batch norms in the loop are written
out (see `norm_folding`). The maps of all records may lie in scratch files, see `activations`; the
result is the same, bit for bit.

Optionally each element of the squared error has a weight (`importance`), and V starts at given
codes instead of at w: the two choices of a weight are then its code and the next one towards w, and
h starts at `START_CONFIDENCE` for the code, so that the loss can still change it.

Cost: iterations * (forward + backward of a batch), and two forward passes over the calibration set.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, fx, nn
from torch.func import functional_call

from bitleak.models.layout import memory_format
from bitleak.quantizers.grid import Grid, per_weight, to_codes, to_weights
from bitleak.quantizers.network.activations import (
    Activations,
    InMemoryActivations,
    SpilledActivations,
    collect,
)
from bitleak.quantizers.network.norm_folding import with_affine_norms
from bitleak.quantizers.network.rounding_relaxation import RoundingRelaxation, RoundingSchedule

ORDERED = {
    "view",
    "view_as",
    "as_strided",
    "stride",
    "is_contiguous",
    "storage_offset",
    "untyped_storage",
    "data_ptr",
}
"""Functions and methods of tensors that look at their order of memory."""
START_CONFIDENCE = 0.8  # h of a weight that starts at the upper of its two codes; else 1 - this


@dataclass(frozen=True)
class ReconstructedPiece:
    """The result of one piece.

    Attributes:
        codes: The codes of each layer.
        outputs: The piece's outputs with these codes.
        loss: Reconstruction loss over all calibration records, without the regulariser.
        nearest: This loss for rounding to the nearest.
        choice: Which of the two the codes are.
    """

    codes: Mapping[str, UInt8[Tensor, "out *rest"]]
    outputs: Activations
    loss: float
    nearest: float
    choice: Literal["learned", "nearest"]


def loss_of(
    outputs: Float[Tensor, "records *shape"],
    targets: Float[Tensor, "records *shape"],
    importance: Float[Tensor, "records *shape"] | None = None,
) -> Float[Tensor, ""]:
    """Return the squared error, times any importance: sum over channels (axis 1), then the mean.

    Example:
        >>> float(loss_of(torch.ones(4, 3, 2, 2), torch.zeros(4, 3, 2, 2)))
        3.0
    """
    squares = (outputs - targets).square()
    return (squares if importance is None else squares * importance).sum(1).mean()


def mean_loss(
    outputs: Iterator[Float[Tensor, "_ *shape"]],
    targets: Activations,
    importance: Activations | None = None,
) -> float:
    """Return `loss_of` over all records, from outputs that come chunk by chunk.

    Example:
        >>> mean_loss(iter([torch.ones(128, 3), torch.ones(2, 3)]), InMemoryActivations(torch.zeros(130, 3)))
        3.0
    """
    weights = iter(importance.chunks()) if importance is not None else None
    total = 0.0
    for chunk, target in zip(outputs, targets.chunks(), strict=True):
        total += len(chunk) * float(
            loss_of(chunk, target, None if weights is None else next(weights))
        )
    return total / len(targets)


def output_energy(outputs: Activations) -> float:
    """Return the unit of relative losses: squared values, summed over channels, then averaged.

    Example:
        >>> output_energy(InMemoryActivations(torch.full((4, 3), 2.0)))
        12.0
    """
    sums = [len(chunk) * float(chunk.square().sum(1).mean()) for chunk in outputs.chunks()]
    return math.fsum(sums) / len(outputs)


def reconstruct(
    piece: fx.GraphModule,
    grids: Mapping[str, Grid],
    inputs: Activations,
    targets: Activations,
    *,
    schedule: RoundingSchedule,
    generator: torch.Generator,
    importance: Activations | None = None,
    start: Mapping[str, UInt8[Tensor, "out *rest"]] | None = None,
    memory: int | None = None,
) -> ReconstructedPiece:
    """Learn the rounding of a piece's layers.

    Args:
        piece: A module of one argument in evaluation mode, with full-precision weights; not
            changed.
        grids: The grid of each layer to quantize, by its name in the piece.
        inputs: Inputs of the piece in the quantized network.
        targets: Its outputs in the full-precision network.
        schedule: Steps, rates and regulariser.
        generator: Draws the mini-batches.
        importance: Weight of each element of the output in the squared error, at least 0, on
            average 1; None: all 1.
        start: Codes of each layer to begin at; None begins at the weights themselves.
        memory: Bytes that the outputs may take in memory; None = no limit. It changes no value.

    Returns:
        Codes that are on the calibration records at least as good as rounding to the nearest.
    """
    weights = {name: piece.get_parameter(f"{name}.weight").detach() for name in grids}
    codes = {name: to_codes(weights[name], grids[name]) for name in grids}
    nearest = mean_loss(run(piece, inputs, codes, grids), targets, importance)
    # Where rounding to the nearest loses nothing, no rounding is better.
    if schedule.iterations and nearest:
        rounding = _Rounding(weights, grids, start)
        data = (inputs, targets) if importance is None else (inputs, targets, importance)
        learned = _learn(with_affine_norms(piece), rounding, data, schedule, generator)
        outputs = outputs_of(piece, inputs, learned, grids, memory=memory)
        loss = mean_loss(outputs.chunks(), targets, importance)
        if loss <= nearest:
            return ReconstructedPiece(learned, outputs, loss, nearest, "learned")
    outputs = outputs_of(piece, inputs, codes, grids, memory=memory)
    return ReconstructedPiece(codes, outputs, nearest, nearest, "nearest")


def outputs_of(
    piece: fx.GraphModule,
    inputs: Activations,
    codes: Mapping[str, Tensor] | None = None,
    grids: Mapping[str, Grid] | None = None,
    *,
    memory: int | None = None,
) -> InMemoryActivations | SpilledActivations:
    """Return all outputs, by the codes' weights or the piece's own; `memory` as in `collect`."""
    return collect(run(piece, inputs, codes, grids), len(inputs), memory=memory, chunk=inputs.chunk)


def run(
    piece: fx.GraphModule,
    inputs: Activations,
    codes: Mapping[str, Tensor] | None = None,
    grids: Mapping[str, Grid] | None = None,
) -> Iterator[Tensor]:
    """Yield the outputs chunk by chunk; the inputs are not changed."""
    weights: dict[str, Tensor] = {}
    if codes and grids:
        for name in codes:
            weights[f"{name}.weight"] = to_weights(codes[name], grids[name])
    for chunk in inputs.chunks():
        with torch.no_grad():
            outputs = functional_call(piece, weights, (in_memory_order(piece, chunk.clone()),))
        yield outputs


def in_memory_order(piece: fx.GraphModule, inputs: Tensor) -> Tensor:
    """Return the values in the memory order that suits the piece."""
    if inputs.ndim != 4 or any(_depends_on_order(node) for node in piece.graph.nodes):
        return inputs.contiguous()
    return inputs.contiguous(memory_format=memory_format(piece, inputs.device))


def _depends_on_order(node: fx.Node) -> bool:
    """Return whether the node may depend on the order of memory, by name or as foreign code."""
    if node.op == "call_method":
        return node.target in ORDERED
    if node.op != "call_function" or not callable(node.target):
        return False
    module = getattr(node.target, "__module__", None) or ""
    known = module.split(".")[0] in ("torch", "_operator", "operator", "builtins", "math", "")
    return not known or getattr(node.target, "__name__", "") in ORDERED


class _Rounding:
    """The weights of several layers as one flat vector, with their lower code in `below`."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        grids: Mapping[str, Grid],
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.shapes = {name: weight.shape for name, weight in weights.items()}
        scales: list[Tensor] = []
        zero_points: list[Tensor] = []
        tops: list[Tensor] = []
        for name, weight in weights.items():
            scale, zero_point = per_weight(grids[name], weight)
            scales.append(scale.expand_as(weight).flatten())
            zero_points.append(zero_point.expand_as(weight).flatten())
            tops.append(torch.full_like(weight.flatten(), grids[name].levels - 1))
        self.scale, zero_point, top = torch.cat(scales), torch.cat(zero_points), torch.cat(tops)

        # h starts at the fractional part, or near the code that the weight starts at.
        position = torch.cat([weight.flatten() for weight in weights.values()]) / self.scale
        below = position.floor()
        up = position - below
        if start is not None:
            start_units = torch.cat([start[name].flatten() for name in weights]) - zero_point
            below = torch.where(start_units > position, start_units - 1, start_units)
            up = torch.where(start_units > position, START_CONFIDENCE, 1 - START_CONFIDENCE)

        # A weight beyond its grid's end is fixed there.
        below = below + zero_point
        self.free = (below >= 0) & (below < top)
        self.below = below.clamp(torch.zeros_like(top), top)
        self.start = self.scale * (self.below - zero_point)
        self.step = self.scale * self.free
        self.up = up

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Return the layers' tensors in a flat vector, as views."""
        parts = flat.split([shape.numel() for shape in self.shapes.values()])
        return {
            name: part.view(shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def codes(self, up: Tensor) -> dict[str, Tensor]:
        """Return the codes if the weights marked in `up` are rounded up."""
        return self.split((self.below + (up & self.free)).to(torch.uint8))


def _learn(
    piece: fx.GraphModule,
    rounding: _Rounding,
    data: Sequence[Activations],
    schedule: RoundingSchedule,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Learn the codes by mini-batches of inputs, targets and, if given, importance."""
    relaxation = RoundingRelaxation(rounding.up, schedule)
    weights = torch.empty_like(rounding.start)
    # The layers' weights are views of one buffer, which every step fills anew.
    leaves = {
        name: part.detach().requires_grad_() for name, part in rounding.split(weights).items()
    }
    order = _batches(len(data[0]), schedule, generator)
    places = [order.to(values.index_device) for values in data]
    with _with_weights(piece, leaves):
        for step in range(schedule.iterations):
            torch.addcmul(rounding.start, rounding.step, relaxation.up, out=weights)
            inputs, *targets = (
                values.batch(place[step]) for values, place in zip(data, places, strict=True)
            )
            # Both ends of the chain rule are written out: the graph holds no loss and no rounding.
            outputs = piece.forward(inputs)
            slope = _loss_gradient(outputs.detach(), *targets)
            gradients = torch.autograd.grad(
                _Slope.apply(outputs, slope), list(leaves.values()), materialize_grads=True
            )
            gradient = torch.cat([part.flatten() for part in gradients])
            relaxation.step(gradient.mul_(rounding.step), step)
    return rounding.codes(relaxation.variable >= 0)


@contextmanager
def _with_weights(piece: fx.GraphModule, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the layers compute with other tensors as their weights, as `functional_call` does.

    A weight that several modules share is replaced in all of them. Once for all steps, since
    `functional_call` looks at every parameter of the piece in each call.
    """
    replaced: list[tuple[dict[str, nn.Parameter | None], str, nn.Parameter]] = []
    tensors = {id(piece.get_parameter(f"{name}.weight")): part for name, part in weights.items()}
    for module in piece.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and id(parameter) in tensors:
                replaced.append((module._parameters, name, parameter))
    try:
        for parameters, name, parameter in replaced:
            parameters[name] = cast(nn.Parameter, tensors[id(parameter)])
        yield
    finally:
        for parameters, name, parameter in replaced:
            parameters[name] = parameter


class _Slope(torch.autograd.Function):
    """A loss without a value, whose derivative by the outputs is given.

    `torch.autograd.grad` with `grad_outputs` would load PyTorch's symbolic shapes, a second of a
    core in every process.
    """

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, slope: Tensor) -> Tensor:
        ctx.slope = slope
        return outputs.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, None]:
        return ctx.slope, None


def _loss_gradient(outputs: Tensor, targets: Tensor, importance: Tensor | None = None) -> Tensor:
    """Return the derivative of `loss_of` by the outputs."""
    slope = (outputs - targets).mul_(2 * outputs.shape[1] / outputs.numel())
    return slope if importance is None else slope.mul_(importance)


def _batches(
    records: int, schedule: RoundingSchedule, generator: torch.Generator
) -> Int64[Tensor, "iterations batch"]:
    """Draw the record numbers of every mini-batch."""
    batch = min(schedule.batch, records)
    rounds = math.ceil(schedule.iterations * batch / records)
    order = [
        torch.randperm(records, generator=generator, device=generator.device) for _ in range(rounds)
    ]
    return torch.cat(order)[: schedule.iterations * batch].view(schedule.iterations, batch)
