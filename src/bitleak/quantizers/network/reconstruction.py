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
are computed in channels-last order where no gradient is needed, which is faster on a CPU, unless
the piece has functions that look at the order (`view`, `as_strided`) or that are not PyTorch's.
Batch norms in the loop are written out (see `norm_folding`), and so is the backward pass of a piece
of known operations (see `unit_program`). The maps of all records may lie in scratch files, see `activations`; the
result is the same, bit for bit.

Optionally each element of the squared error has a weight (`importance`), and V starts at given
codes instead of at w: the two choices of a weight are then its code and the next one towards w, and
h starts at `START_CONFIDENCE` for the code, so that the loss can still change it.

Several copies of a piece, as a network has them at several precisions, are learnt together (see
`rounding_loop`).

Cost: iterations * (forward + backward of a batch), and two forward passes over the calibration set.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, fx
from torch.func import functional_call

from bitleak.models.layout import memory_format
from bitleak.quantizers.grid import Grid, to_codes, to_weights
from bitleak.quantizers.network.activations import (
    Activations,
    InMemoryActivations,
    SpilledActivations,
    collect,
)
from bitleak.quantizers.network.norm_folding import with_affine_norms
from bitleak.quantizers.network.rounding_loop import Rounding, RoundingData, learn
from bitleak.quantizers.network.rounding_relaxation import RoundingSchedule

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


@dataclass(frozen=True)
class PieceCopy:
    """One copy of a piece, as a network at one precision has it.

    Attributes:
        grids: The grid of each layer to quantize, by its name in the piece.
        inputs: Inputs of the piece in the quantized network.
        generator: Draws the mini-batches.
        importance: Weight of each element of the output in the squared error, at least 0, on
            average 1; None: all 1.
        start: Codes of each layer to begin at; None begins at the weights themselves.
    """

    grids: Mapping[str, Grid]
    inputs: Activations
    generator: torch.Generator
    importance: Activations | None = None
    start: Mapping[str, UInt8[Tensor, "out *rest"]] | None = None


def reconstruct(
    piece: fx.GraphModule,
    copies: Sequence[PieceCopy],
    targets: Activations,
    *,
    schedule: RoundingSchedule,
    memory: int | None = None,
) -> list[ReconstructedPiece]:
    """Learn the rounding of a piece's layers, for each copy as if alone.

    Args:
        piece: A module of one argument in evaluation mode, with full-precision weights; not
            changed.
        copies: Grids and inputs, for the same layers and as many records.
        targets: The piece's outputs in the full-precision network.
        schedule: Steps, rates and regulariser.
        memory: Bytes that the outputs of a copy may take in memory; None = no limit. It changes no
            value.

    Returns:
        Codes that are on the calibration records at least as good as rounding to the nearest.
    """
    weights = {name: piece.get_parameter(f"{name}.weight").detach() for name in copies[0].grids}
    nearest: list[dict[str, Tensor]] = []
    losses: list[float] = []
    for copy in copies:
        codes = {name: to_codes(weights[name], grid) for name, grid in copy.grids.items()}
        nearest.append(codes)
        rounded = run(piece, copy.inputs, codes, copy.grids)
        losses.append(mean_loss(rounded, targets, copy.importance))

    # Where rounding to the nearest loses nothing, no rounding is better.
    learning = [number for number, loss in enumerate(losses) if schedule.iterations and loss]
    learned = dict(zip(learning, _learned(piece, copies, learning, targets, schedule), strict=True))
    results: list[ReconstructedPiece] = []
    for number, copy in enumerate(copies):
        found = _result(piece, copy, targets, learned.get(number), losses[number], memory)
        if found is None:
            codes, loss = nearest[number], losses[number]
            outputs = outputs_of(piece, copy.inputs, codes, copy.grids, memory=memory)
            found = ReconstructedPiece(codes, outputs, loss, loss, "nearest")
        results.append(found)
    return results


def _learned(
    piece: fx.GraphModule,
    copies: Sequence[PieceCopy],
    numbers: Sequence[int],
    targets: Activations,
    schedule: RoundingSchedule,
) -> list[dict[str, Tensor]]:
    """Return the learnt codes of some of the copies."""
    if not numbers:
        return []
    roundings: list[Rounding] = []
    data: list[RoundingData] = []
    for copy in (copies[number] for number in numbers):
        weights = {name: piece.get_parameter(f"{name}.weight").detach() for name in copy.grids}
        roundings.append(Rounding(weights, copy.grids, copy.start))
        maps = (copy.inputs, targets, *([] if copy.importance is None else [copy.importance]))
        data.append(RoundingData(maps, copy.generator))
    return learn(with_affine_norms(piece), roundings, data, schedule)


def _result(
    piece: fx.GraphModule,
    copy: PieceCopy,
    targets: Activations,
    codes: Mapping[str, Tensor] | None,
    nearest: float,
    memory: int | None,
) -> ReconstructedPiece | None:
    """Return what the learnt codes give; None if there are none, or the nearest ones are better."""
    if codes is None:
        return None
    outputs = outputs_of(piece, copy.inputs, codes, copy.grids, memory=memory)
    loss = mean_loss(outputs.chunks(), targets, copy.importance)
    return ReconstructedPiece(codes, outputs, loss, nearest, "learned") if loss <= nearest else None


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
