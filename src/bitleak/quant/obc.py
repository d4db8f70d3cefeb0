"""OBC's quantizer: every layer by OBQ on its own, then batch norm re-estimated.

One pass over the images through the full-precision network gives H = 2 / n sum x x^T for every layer
(one per group of a convolution), n being the number of images. Inputs that never occur (H_jj = 0) get
the weight 0. Then `obq` quantizes each row in the exact greedy order. Batch norm is not folded; its
statistics are re-estimated behind the quantized weights, see `reestimate`.
Source: Frantar and Alistarh 2022 (arXiv 2208.11580), sections 4 to 6.

Cost per layer: a Gram matrix over the images, and about out x columns^3 / 3 multiplications.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor, nn

from bitleak.core.checks import one_of
from bitleak.core.types import QuantizedWeights
from bitleak.quant.capture import OnLayer, prepare, stream
from bitleak.quant.gram import gram
from bitleak.quant.grid import Grid, decode, grid_for
from bitleak.quant.obq import eliminate, invert
from bitleak.quant.reestimate import reestimate
from bitleak.quant.result import assemble
from bitleak.quant.scheme import Layer, Scheme, check_finite

INFLATION = 1e4  # of an input's variance; beyond it, float32 would lose the inverse's diagonal


@dataclass(frozen=True, kw_only=True)
class OBC(Scheme):
    """OBQ in its exact greedy order, then batch norm re-estimated.

    Attributes:
        reestimate: Whether to re-estimate the batch-norm statistics on the calibration images.
        dtype: What the elimination computes in. The second moments and their inverse are float64 in
            either case. `float32` saves time on wide layers and may decide near ties differently; a layer
            with an input that the others almost determine is computed in float64 all the same.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> quantized = OBC(levels=3)(network, torch.eye(4).reshape(4, 1, 2, 2), torch.Generator())
        >>> quantized.record["1"]["dead"], quantized.record["1"]["damping"]
        (0, 0.0)
    """

    reestimate: bool = True
    dtype: Literal["float32", "float64"] = "float64"

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}, "quick": {"dtype": "float32"}}

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("dtype", self.dtype, ("float32", "float64"))

    def __call__(
        self,
        network: nn.Module,
        calibration: Float[Tensor, "records *sample"],
        generator: torch.Generator,
        *,
        on_layer: OnLayer | None = None,
    ) -> QuantizedWeights:
        """Quantize the network.

        Args:
            network: Any network; it is not changed.
            calibration: Normalised images.
            generator: Not used: nothing is drawn.
            on_layer: Told of each layer.

        Raises:
            QuantizationError: A layer cannot be quantized.
        """
        copied, layers, levels = prepare(self, network, calibration)
        seconds = second_moments(copied, layers, calibration)
        codes: dict[str, Tensor] = {}
        grids: dict[str, Grid] = {}
        record: dict[str, dict[str, Any]] = {}
        for index, name in enumerate(levels):
            weight = layers[name].weight.detach().clone()
            grids[name] = grid_for(self, weight, levels[name])
            hessian = seconds.pop(name).mul_(2 / len(calibration))
            codes[name], facts = quantize_layer(name, weight, grids[name], hessian, dtype=getattr(torch, self.dtype))
            layers[name].weight.data.copy_(decode(codes[name], grids[name]))
            record[name] = {"levels": levels[name], **facts}
            if on_layer is not None:
                on_layer(name, index, len(levels))
        if self.reestimate:
            reestimate(copied, calibration)
        return assemble(copied, codes, grids, record)


def second_moments(
    network: nn.Module, layers: Mapping[str, Layer], calibration: Float[Tensor, "records *sample"]
) -> dict[str, Float64[Tensor, "groups columns columns"]]:
    """Sum of x x^T over the inputs of each layer, all in one pass over the images."""
    totals: dict[str, Tensor] = {}

    def add(name: str, inputs: Tensor) -> None:
        part = gram(layers[name], inputs)
        totals[name] = totals[name].add_(part) if name in totals else part

    stream(network, calibration, dict.fromkeys(layers, add))
    return totals


def quantize_layer(
    name: str,
    weight: Float[Tensor, "out *rest"],
    grid: Grid,
    hessian: Float64[Tensor, "groups columns columns"],
    *,
    dtype: torch.dtype = torch.float64,
) -> tuple[UInt8[Tensor, "out *rest"], dict[str, Any]]:
    """The codes of one layer.

    Args:
        name: For messages.
        weight: Its full-precision weight.
        grid: Its grid.
        hessian: H per group, up to a factor.
        dtype: What to compute in.

    Returns:
        The codes, and for the record: the error of the output relative to its energy on the inputs that
        the Hessian was made of, the number of dead columns, the largest relative damping of a group.

    Raises:
        QuantizationError: The Hessian is not finite, or cannot be inverted.
    """
    check_finite(name, hessian, "calibration input")
    rows = weight.flatten(1).unflatten(0, (len(hessian), -1))  # (groups, out / groups, columns)
    scale, zero_point = (part.expand(len(weight)).reshape(rows.shape[:2]) for part in (grid.scale, grid.zero_point))
    parts = []
    for group, second in enumerate(hessian):
        dead = second.diagonal() == 0
        inverse, damping = invert(name, second + torch.diag(dead.to(second)))
        alive = rows[group].masked_fill(dead, 0)
        inflation = float((inverse.diagonal() * second.diagonal()).max())  # 1 / (1 - R^2) of an input on the others
        exact = inverse if inflation > INFLATION else inverse.to(dtype)
        codes = eliminate(alive, exact, scale[group], zero_point[group], grid.levels)
        parts.append((codes, int(dead.sum()), damping))
    codes = torch.cat([codes for codes, _, _ in parts]).reshape(weight.shape)
    change = (decode(codes, grid) - weight).reshape(rows.shape).double()
    error = ((change @ hessian) * change).sum() / ((rows.double() @ hessian) * rows).sum()
    facts = {"relative_error": float(error), "dead": sum(dead for _, dead, _ in parts)}
    return codes, {**facts, "damping": max(damping for _, _, damping in parts)}
