"""The squared error of a layer's linear output as a function of its weight: exact, without data.

With the layer's input x in the full-precision network and x_q after the quantized layers, its
weight W and a quantized weight W + E, the error of an output channel, summed over records and
positions, is

    sum (W x - (W + E) x_q)^2 = E A E^T - 2 E D^T + c,

where A = sum x_q x_q^T, D = sum r x_q^T, c = sum r^2 and r = W (x - x_q). With C = sum x x_q^T this
is D = W (C - A); it is summed as r x_q^T, so that no small difference of large numbers is taken and
W C, not C, is needed: a sum over out x columns instead of columns x columns.

Cost: two products with a weight (r and D) and a Gram matrix per layer.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Float, Float64
from torch import Tensor, nn

from bitleak.quantizers.layers.gram import gram, moment, product_with
from bitleak.quantizers.scheme import Layer, check_finite

SILENT = 1e-30  # energy below which an output counts as zero, so that a relative error stays finite


@dataclass(frozen=True)
class Quadratic:
    """The sums over calibration data that give a layer's error, named as in the module's docstring.

    Attributes:
        gram: A.
        moment: D.
        constant: c, the error that the layer inherits: E = 0 has it.
        positions: Number of records times positions.
    """

    gram: Float64[Tensor, "groups columns columns"]
    moment: Float64[Tensor, "out columns"]
    constant: Float64[Tensor, "out"]
    positions: int

    def error(self, change: Float[Tensor, "out columns"]) -> Float64[Tensor, "out"]:
        """Return the error of the weight W + `change` per output channel, summed over positions."""
        rows = change.double().unflatten(0, (len(self.gram), -1))  # (groups, out / groups, columns)
        linear = 2 * self.moment.unflatten(0, (len(self.gram), -1))
        return ((rows @ self.gram - linear) * rows).sum(-1).flatten() + self.constant

    def relative(
        self, change: Float[Tensor, "out columns"], weight: Float[Tensor, "out columns"]
    ) -> float:
        """Return the error of the output over its energy; 0 if the output is 0 and stays 0."""
        error = float(self.error(change).sum())
        return error / max(float(self.energy(weight).sum()), SILENT) if error else 0.0

    def energy(self, weight: Float[Tensor, "out columns"]) -> Float64[Tensor, "out"]:
        """Return the sum of (W x)^2 per output channel for the full-precision weight W."""
        rows = weight.double().unflatten(0, (len(self.gram), -1))
        linear = 2 * self.moment.unflatten(0, (len(self.gram), -1))
        return ((rows @ self.gram + linear) * rows).sum(-1).flatten() + self.constant


def quadratic(name: str, layer: Layer, pairs: Iterable[tuple[Tensor, ...]]) -> Quadratic:
    """Sum a layer's error over pairs of inputs: full-precision x, x_q after the quantized layers.

    Raises:
        QuantizationError: An input is not finite.
    """
    (only,) = quadratics(name, layer, pairs)
    return only


def quadratics(name: str, layer: Layer, inputs: Iterable[tuple[Tensor, ...]]) -> list[Quadratic]:
    """Sum a layer's errors in several quantized networks.

    Args:
        name: The layer's name, for messages.
        layer: The layer.
        inputs: By chunks: full-precision x, then x_q in each of the quantized networks.

    Raises:
        QuantizationError: An input is not finite.
    """
    weight = layer.weight.detach()
    sums: list[list[Tensor]] = []
    positions = 0
    for full, *quantized in inputs:
        parts: list[list[Tensor]] = []
        for quantized_inputs in quantized:
            residual = product_with(layer, weight, full - quantized_inputs)
            axis = residual.ndim - 1 if isinstance(layer, nn.Linear) else 1
            summed_axes = [number for number in range(residual.ndim) if number != axis]
            constant = residual.square().sum(summed_axes).double()
            second, mixed = gram(layer, quantized_inputs), moment(layer, quantized_inputs, residual)
            parts.append([second, mixed, constant])
        positions += residual.numel() // residual.shape[axis]
        if not sums:
            sums = parts
            continue
        for totals, addends in zip(sums, parts, strict=True):
            for total, addend in zip(totals, addends, strict=True):
                total.add_(addend)
    errors: list[Quadratic] = []
    for second, mixed, constant in sums:
        check_finite(name, second, "calibration input")
        errors.append(Quadratic(second, mixed, constant, positions))
    return errors
