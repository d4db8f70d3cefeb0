"""The steps of `reconstruct`: V of all layers of a unit, for one or several copies of the unit.

Copies of a unit differ in their grids and inputs, as the same network does at several precisions.
Their steps are made together: the rounding variables are rows of one tensor, and the unit is one
program for all of them (see `unit_program`). This saves the time around the arithmetic, which on
small maps is most of it. Each row is stored as a tensor of its own would be (see `in_rows`), and
layers are computed copy by copy, so that a copy's codes are those of a loop of its own, bit for
bit.

Copies are learnt one after the other if the unit has no program, or if their batches are so large
(`JOINT_BATCH`) that the arithmetic takes the time.

Cost: iterations * (forward + backward of a batch), for each copy.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, fx, nn

from bitleak.quantizers.grid import Grid, per_weight
from bitleak.quantizers.network.activations import Activations
from bitleak.quantizers.network.joined_convolution import join_copies
from bitleak.quantizers.network.rounding_relaxation import (
    RoundingRelaxation,
    RoundingSchedule,
    empty_like,
    in_rows,
)
from bitleak.quantizers.network.unit_program import UnitProgram, program_of

START_CONFIDENCE = 0.8  # h of a weight that starts at the upper of its two codes; else 1 - this
JOINT_BATCH = 1 << 17
"""Largest batch of a copy's inputs, in elements, with which copies are learnt together."""

Differentiate = Callable[[Tensor, Callable[[Tensor], Tensor]], Mapping[str, Sequence[Tensor]]]
"""From inputs, and from outputs to slopes, to the derivatives by each copy's weights by layer."""


@dataclass(frozen=True)
class RoundingData:
    """The records of one copy of a unit.

    Attributes:
        maps: Its inputs, its targets and, if given, the weights of the squared error.
        generator: Draws the mini-batches.
    """

    maps: Sequence[Activations]
    generator: torch.Generator


class Rounding:
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


def learn(
    piece: fx.GraphModule,
    roundings: Sequence[Rounding],
    data: Sequence[RoundingData],
    schedule: RoundingSchedule,
) -> list[dict[str, UInt8[Tensor, "out *rest"]]]:
    """Learn the codes of each copy's layers on mini-batches.

    Args:
        piece: The unit, with batch norms written out.
        roundings: The weights of each copy's layers.
        data: The records of each copy, of one number.
        schedule: Steps, rates and the regulariser.
    """
    inputs = data[0].maps[0]
    few = torch.arange(min(schedule.batch, len(inputs)), device=inputs.index_device)
    sample = inputs.batch(few)
    if len(data) > 1 and sample.numel() <= JOINT_BATCH:
        learnt = _learn(piece, roundings, data, schedule, sample)
        if learnt is not None:
            return learnt
    codes: list[dict[str, Tensor]] = []
    for rounding, part in zip(roundings, data, strict=True):
        codes += _learn(piece, [rounding], [part], schedule, sample) or []
    return codes


@torch.no_grad()
def _learn(
    piece: fx.GraphModule,
    roundings: Sequence[Rounding],
    data: Sequence[RoundingData],
    schedule: RoundingSchedule,
    sample: Tensor,
) -> list[dict[str, Tensor]] | None:
    """Learn the codes of copies together; return None if there are several, and no program."""
    start = in_rows([rounding.start for rounding in roundings])
    step_sizes = in_rows([rounding.step for rounding in roundings])
    relaxation = RoundingRelaxation(in_rows([rounding.up for rounding in roundings]), schedule)
    # The layers' weights are views of one buffer, which every step fills anew.
    weights, gradient = empty_like(start).copy_(start), empty_like(start)
    layers: dict[str, list[Tensor]] = {name: [] for name in roundings[0].shapes}
    for rounding, row in zip(roundings, weights, strict=True):
        for name, part in rounding.split(row).items():
            layers[name].append(part)

    program = program_of(piece, layers, sample)
    if program is None and len(data) > 1:
        return None

    # Record numbers of every mini-batch, by kind of map and copy.
    places: list[list[Tensor]] = []
    orders = [_batches(len(part.maps[0]), schedule, part.generator) for part in data]
    maps = list(zip(*[part.maps for part in data], strict=True))
    for kind in maps:
        places.append([order.to(one.index_device) for order, one in zip(orders, kind, strict=True)])

    with _gradients_of(piece, layers, program) as gradients_of:
        for step in range(schedule.iterations):
            torch.addcmul(start, step_sizes, relaxation.up, out=weights)
            inputs, *targets = (
                _batch(kind, numbers, step) for kind, numbers in zip(maps, places, strict=True)
            )
            gradients = gradients_of(inputs, partial(loss_gradient, others=targets))
            for number, row in enumerate(gradient):
                parts = [gradients[name][number].flatten() for name in layers]
                torch.cat(parts, out=row)
            relaxation.step(gradient.mul_(step_sizes), step)
    up = relaxation.variable >= 0
    return [rounding.codes(row) for rounding, row in zip(roundings, up, strict=True)]


def _batch(maps: Sequence[Activations], places: Sequence[Tensor], step: int) -> Tensor:
    """Return the mini-batches of the copies, joined."""
    return join_copies([one.batch(place[step]) for one, place in zip(maps, places, strict=True)])


def loss_gradient(
    outputs: Float[Tensor, "records *shape"], others: Sequence[Float[Tensor, "records *shape"]]
) -> Float[Tensor, "records *shape"]:
    """Return the derivative of each copy's `reconstruction.loss_of` by its outputs.

    Args:
        outputs: Outputs of the copies, joined along axis 1.
        others: Their targets and, if given, the weights of the squared error.
    """
    targets, *importance = others
    slope = (outputs - targets).mul_(2 * outputs.shape[1] / outputs.numel())
    return slope.mul_(importance[0]) if importance else slope


@contextmanager
def _gradients_of(
    piece: fx.GraphModule, layers: Mapping[str, Sequence[Tensor]], program: UnitProgram | None
) -> Iterator[Differentiate]:
    """Differentiate by the unit's program or, if it has none, by autograd, for a single copy."""
    if program is not None:
        yield program.gradients
        return
    leaves = {name: part.detach().requires_grad_() for name, (part,) in layers.items()}

    # Both ends of the chain rule are written out: the graph holds no loss and no rounding.
    def by_autograd(inputs: Tensor, slope_of: Callable[[Tensor], Tensor]) -> Any:
        with torch.enable_grad():
            outputs = piece.forward(inputs)
            slope = slope_of(outputs.detach())
            gradients = torch.autograd.grad(
                _Slope.apply(outputs, slope), list(leaves.values()), materialize_grads=True
            )
        return {name: [part] for name, part in zip(leaves, gradients, strict=True)}

    with _with_weights(piece, leaves):
        yield by_autograd


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
