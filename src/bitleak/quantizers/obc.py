"""OBC's quantizer: every layer by OBQ on its own, and batch norm re-estimated.

One pass over the images through the full-precision network gives H = 2 / n sum x x^T for every
layer (one per group of a convolution), n being the number of images. Inputs that never occur (H_jj
= 0) get the weight 0. Then `obq` quantizes each row in the exact greedy order: among the free
weights it takes the p with the smallest error that the others cannot make up for,

    (q(w_p) - w_p)^2 / [H^-1]_pp,    and changes them by    -(w_p - q(w_p)) / [H^-1]_pp * [H^-1]_p.

Batch norm is not folded; its statistics are re-estimated after the quantized weights, see `norm_statistics`.
Source: Frantar and Alistarh 2022 (arXiv 2208.11580), sections 4 to 6.

Deviations, all off by default: with `inputs="quantized"`, a layer makes up for the loss of the
layers before it (`layerwise` has the formula), `polish` follows OBQ by coordinate descent over
the codes, and with `grid="output"` each row is quantized on two grids and keeps the better (see
`output_grid`), in twice the time.

Misleading where batch norm is re-estimated absolutely on images unlike those that the network was
trained on: the accuracy then falls at full precision already. And the greedy order minimises the
error of each layer alone; a method that looks further may leave less error of the logits.

Cost per layer: a Gram matrix over the images, and about out x columns^3 / 3 multiplications.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor, nn

from bitleak.core.checks import one_of
from bitleak.core.types import QuantizedWeights
from bitleak.quantizers.grid import Grid
from bitleak.quantizers.layers.descent import check_polish
from bitleak.quantizers.layers.layer_method import LayerInputs, LayerMethod, by_groups
from bitleak.quantizers.layers.obq import BUDGET, eliminate, invert
from bitleak.quantizers.network.layer_inputs import OnLayer
from bitleak.quantizers.network.layerwise import quantize_layers
from bitleak.quantizers.network.norm_statistics import check_statistics
from bitleak.quantizers.scheme import NormStatistics, Scheme

# Parts of the memory: with quantized inputs, the walk holds the activations of two networks too.
BESIDE = {"full_precision": 1, "quantized": 2}
INFLATION = 1e4  # of an input's variance; beyond it, float32 would lose the inverse's diagonal


@dataclass(frozen=True, kw_only=True)
class OBC(Scheme):
    """OBQ in its exact greedy order, then batch norm re-estimated.

    Attributes:
        inputs: `full_precision`: each layer should keep its output on the full-precision network's
            inputs. `quantized`: it should reach that output from the inputs after the quantized
            layers.
        polish: Sweeps of coordinate descent over the codes after OBQ, at most; 0 = none.
        exchange: Sweeps of paired moves of codes after `polish`, at most; 0 = none (see
            `exchange`).
        reestimate: The batch-norm statistics on the calibration images: by the change that
            quantization makes (`relative`), altogether (`absolute`), or not at all (`none`).
        reestimate_images: On how many of the calibration images, the first ones (rounded up to
            about 65,536 pixels); None = all. The statistics need fewer images than the second
            moments, and each takes a run of its own.
        dtype: Number type of the elimination. The second moments and their inverse are float64 in
            either case. `float32` saves time on wide layers and may decide near ties differently; a
            layer with an input that the others almost determine is computed in float64 all the
            same.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> quantized = OBC(levels=3)(network, torch.eye(4).reshape(4, 1, 2, 2), torch.Generator())
        >>> quantized.record["1"]["dead"], quantized.record["1"]["damping"]
        (0, 0.0)
    """

    inputs: LayerInputs = "full_precision"
    polish: int = 0
    exchange: int = 0
    reestimate: NormStatistics = "relative"
    reestimate_images: int | None = 1024
    dtype: Literal["float32", "float64"] = "float64"

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"reestimate": "absolute", "reestimate_images": None},
        "quick": {"dtype": "float32"},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("inputs", self.inputs, ("full_precision", "quantized"))
        check_polish(self.polish, self.exchange)
        check_statistics(self.reestimate, self.reestimate_images)
        one_of("dtype", self.dtype, ("float32", "float64"))

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
            on_layer: Called after each layer.
            memory: Bytes that statistics and activations may take, see
                `layer_pass.activation_budget`; it changes the time only.

        Raises:
            QuantizationError: A layer cannot be quantized.
        """
        return quantize_layers(
            self.method(), network, calibration, on_layer=on_layer, memory=memory
        )

    def method(self) -> LayerMethod:
        """Return the treatment of a layer, which `shared_pass` combines with other quantizers'."""
        elimination = Elimination(getattr(torch, self.dtype), BESIDE[self.inputs])
        return LayerMethod(
            scheme=self,
            quantize=partial(quantize_greedily, dtype=elimination.dtype, parts=elimination.parts),
            quantize_alike=elimination,
            inputs=self.inputs,
            sweeps=self.polish,
            exchanges=self.exchange,
            statistics=self.reestimate,
            statistics_images=self.reestimate_images,
        )


@dataclass(frozen=True)
class Elimination:
    """The solver of layers on several grids at once; instances with equal fields are equal.

    Attributes:
        dtype: Type to compute in.
        parts: The memory of `obq.BUDGET` is divided by this.
    """

    dtype: torch.dtype
    parts: int

    def __call__(
        self,
        name: str,
        weights: Sequence[Float[Tensor, "_ *rest"]],
        grids: Sequence[Grid],
        hessian: Float64[Tensor, "groups columns columns"],
    ) -> tuple[list[UInt8[Tensor, "_ *rest"]], dict[str, Any]]:
        """Return the codes of one layer on each grid, and the facts of `quantize_greedily`.

        Args:
            name: The layer's name, for messages.
            weights: Weight to quantize on each grid.
            grids: At any levels.
            hessian: H per group, up to a factor, of all of them.

        Raises:
            QuantizationError: The Hessian is not finite, or cannot be inverted.
        """
        # The rows of a group come together, those of its first grid first.
        groups = len(hessian)
        rows = [weight.unflatten(0, (groups, -1)) for weight in weights]
        scales, zero_points, levels = [], [], []
        for weight, grid in zip(weights, grids, strict=True):
            scale, zero_point = grid.scale.expand(len(weight)), grid.zero_point.expand(len(weight))
            scales.append(scale.unflatten(0, (groups, -1)))
            zero_points.append(zero_point.unflatten(0, (groups, -1)))
            levels.append(torch.full_like(scales[-1], grid.levels, dtype=torch.int64))
        # `by_groups` reads scale and zero point alone; the levels go to the solver by row.
        joined = Grid(
            torch.cat(scales, 1).flatten(),
            torch.cat(zero_points, 1).flatten(),
            max(grid.levels for grid in grids),
        )

        codes, facts = by_groups(
            name,
            torch.cat(rows, 1).flatten(0, 1),
            joined,
            hessian,
            partial(_solve, name, torch.cat(levels, 1), self.dtype, self.parts),
        )
        parts = codes.unflatten(0, (groups, -1)).split([part.shape[1] for part in rows], 1)
        return [part.flatten(0, 1) for part in parts], facts


def quantize_greedily(
    name: str,
    weight: Float[Tensor, "out *rest"],
    grid: Grid,
    hessian: Float64[Tensor, "groups columns columns"],
    *,
    dtype: torch.dtype = torch.float64,
    parts: int = 1,
) -> tuple[UInt8[Tensor, "out *rest"], dict[str, Any]]:
    """Return the codes of one layer.

    Args:
        name: The layer's name, for messages.
        weight: Weight to quantize.
        grid: Its grid.
        hessian: H per group, up to a factor.
        dtype: Type to compute in.
        parts: The memory of `obq.BUDGET` is divided by this.

    Returns:
        The codes, and for the record: the number of dead columns, the largest relative damping of a
        group.

    Raises:
        QuantizationError: The Hessian is not finite, or cannot be inverted.
    """
    (codes,), facts = Elimination(dtype, parts)(name, [weight], [grid], hessian)
    return codes, facts


def _solve(
    name: str,
    levels: Int64[Tensor, "groups rows"],
    dtype: torch.dtype,
    parts: int,
    rows: Float[Tensor, "groups rows columns"],
    second: Float64[Tensor, "groups columns columns"],
    scale: Float[Tensor, "groups rows"],
    zero_point: Float[Tensor, "groups rows"],
) -> tuple[UInt8[Tensor, "groups rows columns"], Float64[Tensor, "groups"]]:
    """Return the codes of the rows of each group, and the damping of its H."""
    inverse, damping = invert(name, second)

    # an input's variance over its variance given the others: 1 / (1 - R^2)
    inflation = (inverse.diagonal(dim1=1, dim2=2) * second.diagonal(dim1=1, dim2=2)).amax(1)
    inflated = inflation > INFLATION
    budget = BUDGET[rows.device.type] // parts
    if len(inflated.unique()) == 1:  # all alike: no copies by group
        kind = torch.float64 if bool(inflated[0]) else dtype
        return eliminate(rows, inverse.to(kind), scale, zero_point, levels, budget=budget), damping
    codes = torch.empty(rows.shape, dtype=torch.uint8, device=rows.device)
    for group, kind in ((inflated, torch.float64), (~inflated, dtype)):
        part = inverse[group].to(kind)
        codes[group] = eliminate(
            rows[group], part, scale[group], zero_point[group], levels[group], budget=budget
        )
    return codes, damping
