"""Convolutions of several copies of a layer, which differ in their weights, as one.

Maps of the copies are joined along the channels, so that one convolution with as many groups as
there are copies computes all: on small maps, the call of a kernel and its reordering of memory take
longer than the arithmetic. It is used for what it computes as the copies' own convolutions do, bit
for bit, which `grouped_where_equal` tries on random numbers; the rest is computed copy by copy.

Source: oneDNN's kernels take blocks of 8 or 16 channels; where a copy's channels are whole blocks,
the order of sums is that of a convolution of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_differentiate = torch.ops.aten.convolution_backward.default


@dataclass(frozen=True)
class JoinedConvolution:
    """Forward and backward pass of the copies of a layer.

    Attributes:
        layer: The layer, for its sizes and its bias.
        weights: The weight of each copy.
        passes: Whether the slopes by the inputs are needed.
        learnt: Whether the gradients by the weights are needed.
        grouped: Which of forward pass, slopes by the inputs and gradients by the weights are
            computed for all copies at once.
    """

    layer: nn.Conv2d
    weights: Sequence[Tensor]
    passes: bool
    learnt: bool
    grouped: tuple[bool, bool, bool] = (False, False, False)

    def grouped_where_equal(self, shape: torch.Size) -> "JoinedConvolution":
        """Return the same convolution, grouped where that changes no bit.

        Args:
            shape: Shape of the inputs of one copy.
        """
        weight = self.weights[0]
        if len(self.weights) == 1 or weight.device.type != "cpu":
            return self
        generator = torch.Generator().manual_seed(0)
        weights = [torch.randn(weight.shape, generator=generator) for _ in self.weights]
        inputs = join_copies([torch.randn(shape, generator=generator) for _ in self.weights])
        alone = replace(self, weights=weights)
        together = replace(alone, grouped=(True, True, True))
        outputs = alone.forward(inputs)
        slope = torch.randn(outputs.shape, generator=generator)
        (by_inputs,), by_weights = alone.backward(slope, [inputs], outputs)
        (same_inputs,), same_weights = together.backward(slope, [inputs], outputs)
        grouped = (
            torch.equal(outputs, together.forward(inputs)),
            by_inputs is not None
            and same_inputs is not None
            and torch.equal(by_inputs, same_inputs),
            all(map(torch.equal, by_weights, same_weights)),
        )
        return replace(self, grouped=grouped)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the copies' outputs."""
        bias = None if self.layer.bias is None else self.layer.bias.detach()
        if self.grouped[0]:
            copies = len(self.weights)
            biases = None if bias is None else bias.repeat(copies)
            return self._convolve(inputs, join_copies(self.weights, axis=0), biases, copies)
        parts = zip(split_copies(inputs, len(self.weights)), self.weights, strict=True)
        return join_copies([self._convolve(part, weight, bias, 1) for part, weight in parts])

    def backward(
        self, slope: Tensor, taken: Sequence[Tensor], value: Tensor
    ) -> tuple[tuple[Tensor | None], Sequence[Tensor]]:
        """Return the slopes by the inputs, and the gradients by the copies' weights.

        Args:
            slope: Derivative of the loss by the outputs.
            taken: The inputs.
            value: The outputs, which are not read.
        """
        copies = len(self.weights)
        together = (self.passes and self.grouped[1], self.learnt and self.grouped[2])
        by_inputs: Tensor | None = None
        by_weights: Sequence[Tensor] = ()
        if any(together):
            weights = join_copies(self.weights, axis=0)
            by_inputs, gradient = self._backward(slope, taken[0], weights, copies, together)
            by_weights = gradient.chunk(copies) if together[1] else ()

        # The rest copy by copy.
        alone = (self.passes and not together[0], self.learnt and not together[1])
        if not any(alone):
            return (by_inputs,), by_weights
        slopes, inputs = split_copies(slope, copies), split_copies(taken[0], copies)
        parts: list[tuple[Any, Any]] = []
        for part, given, weight in zip(slopes, inputs, self.weights, strict=True):
            parts.append(self._backward(part, given, weight, 1, alone))
        if alone[0]:
            by_inputs = join_copies([part for part, _ in parts])
        return (by_inputs,), [part for _, part in parts] if alone[1] else by_weights

    def _convolve(self, inputs: Tensor, weight: Tensor, bias: Tensor | None, copies: int) -> Tensor:
        layer = self.layer
        groups = copies * layer.groups
        return F.conv2d(inputs, weight, bias, layer.stride, layer.padding, layer.dilation, groups)

    def _backward(
        self, slope: Tensor, inputs: Tensor, weight: Tensor, copies: int, needed: tuple[bool, bool]
    ) -> tuple[Any, Any]:
        """Return the slopes by the inputs and the gradient by the weight, None if not needed."""
        layer = self.layer
        sizes = (layer.stride, layer.padding, layer.dilation)
        groups, mask = copies * layer.groups, (*needed, False)
        by_inputs, by_weight, _ = _differentiate(
            slope, inputs, weight, None, *sizes, False, (0, 0), groups, mask
        )
        return by_inputs, by_weight


def join_copies(parts: Sequence[Tensor], *, axis: int = 1) -> Tensor:
    """Return the copies' parts as one tensor; a single one is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), axis)


def split_copies(values: Tensor, copies: int) -> Sequence[Tensor]:
    """Return each copy's part of joined values, contiguous; that of a single one is not copied."""
    return [values] if copies == 1 else [part.contiguous() for part in values.chunk(copies, 1)]
