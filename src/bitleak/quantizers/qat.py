"""Quantization-aware training: the network is trained on, with quantized weights, on its own members.

This is training, not quantization after training: it sees all members of the model *with their
labels*, for more epochs. In each step the forward pass uses the quantized weights

    v = scale * (clip(round(w / scale) + zero_point, 0, levels - 1) - zero_point),

and the backward pass takes the rounding for the identity (the straight-through estimator): dv / dw
is 1 where w is within the range of its grid, and 0 where it is clipped. The float weights w are
moved by the recipe's SGD, loss and augmentation at a small learning rate. Grids are those of `grid`,
searched for w anew at the start of each epoch. The codes of the last step's w are released, so the
released weights lie on the grid; biases and batch norm are trained along, their statistics are the
running ones of the training.

Source: Jacob et al. 2018 (arXiv 1712.05877), section 3; the estimator is that of Bengio et al. 2013
(arXiv 1308.3432). Deviations: activations stay float, batch norm is not folded, and the grid is
searched per epoch in place of a moving range.

Misleading where it is taken for quantization: it adds epochs on the members, so its leakage beyond
that of a network that was quantized after training is the leakage of training.

Cost: that of as many epochs of training, and a grid search per epoch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.func import functional_call

from bitleak.core.checks import integer_in, number_in
from bitleak.core.types import QuantizedWeights
from bitleak.quantizers.assembly import assemble_weights
from bitleak.quantizers.grid import Grid, grid_for, per_weight, to_codes, to_weights
from bitleak.quantizers.network.layer_inputs import prepare_layers
from bitleak.quantizers.scheme import Scheme


@dataclass(frozen=True, kw_only=True)
class QuantizationAwareTraining(Scheme):
    """Quantization-aware training, on all members of the model and with their labels.

    Attributes:
        epochs: Passes over the members.
        learning_rate: At the start; the recipe's schedule decays it over these epochs.

    Example:
        >>> QuantizationAwareTraining(levels=256, activations=8)
        Traceback (most recent call last):
        ...
        ValueError: activations must be null: qat trains with quantized weights and float activations, got 8
    """

    epochs: int = 10
    learning_rate: float = 0.001

    looks_at_images: ClassVar[bool] = False
    """No calibration images: it trains on all members."""

    def __post_init__(self) -> None:
        super().__post_init__()
        integer_in("epochs", self.epochs, 1)
        number_in("learning_rate", self.learning_rate, 0, math.inf, ends="()")
        if self.activations is not None:
            raise ValueError(
                "activations must be null: qat trains with quantized weights and float activations, "
                f"got {self.activations}"
            )
        if self.grid == "output":
            raise ValueError(
                "grid must be zero or paper: qat looks at no layer's output, got 'output'"
            )


class FakeQuantized(nn.Module):
    """A network that computes with quantized weights and whose float weights can be trained.

    Args:
        scheme: Levels and grids.
        network: The trained network; it is copied.
        images: Normalised images, at least one, which give the order of the layers.

    Raises:
        QuantizationError: A layer cannot be quantized.
    """

    def __init__(
        self, scheme: Scheme, network: nn.Module, images: Float[Tensor, "records *sample"]
    ) -> None:
        super().__init__()
        self._scheme = scheme
        self.network, layers, self._levels = prepare_layers(scheme, network, images)
        self._layers = {name: layers[name] for name in self._levels}
        self._before = {name: layer.weight.detach().clone() for name, layer in self._layers.items()}
        self._grids: dict[str, Grid] = {}
        self.search()

    def search(self) -> None:
        """Search the grids for the weights as they are."""
        for name, layer in self._layers.items():
            weight = layer.weight.detach().contiguous()
            self._grids[name] = grid_for(self._scheme, weight, self._levels[name])

    def forward(self, inputs: Float[Tensor, "records *sample"]) -> Tensor:
        """Return the outputs with quantized weights."""
        weights = {}
        for name, layer in self._layers.items():
            weights[f"{name}.weight"] = straight_through(layer.weight, self._grids[name])
        outputs: Tensor = functional_call(self.network, weights, (inputs,))
        return outputs

    def released(self, images: Float[Tensor, "records *sample"]) -> QuantizedWeights:
        """Return the codes of the weights as they are.

        Args:
            images: Normalised images, of which one batch is run to compare it with the codes.
        """
        codes: dict[str, Tensor] = {}
        record: dict[str, Mapping[str, Any]] = {}
        for name, layer in self._layers.items():
            weight, before = layer.weight.detach().contiguous(), self._before[name]
            codes[name] = to_codes(weight, self._grids[name])
            moved = float((weight - before).norm() / before.norm().clamp(min=1e-30))
            record[name] = {"levels": self._levels[name], "relative_weight_change": moved}
        network = self.network.eval()
        return assemble_weights(
            network, codes, self._grids, record, scheme=self._scheme, images=images
        )


def straight_through(
    weight: Float32[Tensor, "out *rest"], grid: Grid
) -> Float32[Tensor, "out *rest"]:
    """Return the nearest weights on the grid; the gradient is that of the weight, 0 where it is clipped.

    Example:
        >>> weight = torch.tensor([[-0.4, 1.2, 9.0]], requires_grad=True)
        >>> quantized = straight_through(weight, Grid(torch.ones(1), torch.zeros(1), 4))
        >>> quantized.sum().backward()
        >>> quantized.tolist(), weight.grad.tolist()
        ([[0.0, 1.0, 3.0]], [[1.0, 1.0, 0.0]])
    """
    quantized: Tensor = _StraightThrough.apply(weight, grid)
    return quantized


def in_range(weight: Float[Tensor, "out *rest"], grid: Grid) -> Bool[Tensor, "out *rest"]:
    """Return True for weights whose nearest code, before it is clipped, is on the grid."""
    scale, zero_point = per_weight(grid, weight)
    code = torch.round(weight / scale) + zero_point
    return (code >= 0) & (code <= grid.levels - 1)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(context: FunctionCtx, weight: Tensor, grid: Grid) -> Tensor:
        context.save_for_backward(in_range(weight, grid))
        return to_weights(to_codes(weight, grid), grid)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (inside,) = context.saved_tensors
        return gradient * inside, None
