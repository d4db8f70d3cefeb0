"""GPTQ: quantize a layer's columns in one fixed order; the columns after make up for each error.

With H = 2 / n sum x x^T, the relative damping added to its diagonal, and U the upper Cholesky
factor of its inverse, H^-1 = U^T U, all rows at once, for the columns j in order:

    e = (w_j - q(w_j)) / U_jj,    w_k -= e U_jk  for the columns k after j.

Row j of U is row j of the inverse after OBQ's eliminations (see `obq`), divided by the square root
of its diagonal entry: this is OBQ with one order for all rows, and the orders `index` (as in the
weight tensor) and `activation` (descending H_jj, the columns with the largest inputs first) need no
search.
Source: Frantar et al. 2022 (arXiv 2210.17323), algorithm 1; `activation` is the published code's
`act_order`.

It takes a small part of the time of `obc`, and it is no substitute for it: at 3 and 4 levels, the
error of the layers' outputs is about twice that of OBC's greedy order (1.4 to 1.8 times on a small
residual network for CIFAR-10; the order `activation` is the better one). Nothing in this package
falls back to it.

Deviations: H comes from the full-precision network's inputs, as in `obc` (one pass; the published
code takes those after the quantized blocks, with W as the target; `inputs="quantized"` takes them
with the target that fits them, see `layerwise`). The factor comes from one Cholesky factorisation
of H with its columns reversed and one triangular inverse, in float64, instead of three
factorisations in float32. Where H cannot be factorised with `damping`, larger ones are tried, and
`record` says which sufficed. Each row is quantized on two grids, the searched one of all quantizers
and one that suits the layer's output, and keeps the better (see `output_grid`), unless `grid` says
otherwise, as in preset `paper`. Batch norm is re-estimated as in `obc` unless `reestimate` is
`none`, as in preset `paper`.

Misleading where it stands for OBC: both minimise the same error, and the fixed order leaves about
twice as much of it.

Cost per layer: a Gram matrix over the images, 2/3 columns^3 for the factors, rows x columns^2 / 2
for the errors. Memory: a few matrices of columns x columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor, nn

from bitleak.core.checks import number_in, one_of
from bitleak.core.types import QuantizedWeights
from bitleak.quantizers.grid import Grid
from bitleak.quantizers.layers.descent import check_polish
from bitleak.quantizers.layers.layer_method import LayerInputs, LayerMethod, by_groups
from bitleak.quantizers.layers.obq import damped_factor
from bitleak.quantizers.network.layer_inputs import OnLayer
from bitleak.quantizers.network.layerwise import quantize_layers
from bitleak.quantizers.network.norm_statistics import check_statistics
from bitleak.quantizers.scheme import NormStatistics, Scheme

BLOCK_COLUMNS = 64
GPTQ_DAMPINGS = (1e-2, 1e-1, 1.0)  # dampings to try where `damping` does not suffice


@dataclass(frozen=True, kw_only=True)
class GPTQ(Scheme):
    """OBQ with one column order for all rows of a layer.

    Attributes:
        order: Order of the columns: as in the weight, `index`, or by descending second moment,
            `activation`.
        damping: Amount added to the diagonal of H, relative to its mean; at least 0.
        inputs: `full_precision`: each layer should keep its output on the full-precision network's
            inputs. `quantized`: it should reach that output from the inputs after the quantized
            layers.
        polish: Sweeps of coordinate descent over the codes afterwards, at most; 0 = none.
        exchange: Sweeps of paired moves of codes after `polish`, at most; 0 = none (see
            `exchange`).
        reestimate: The batch-norm statistics on the calibration images: by the change that
            quantization makes (`relative`), altogether (`absolute`), or not at all (`none`).
        reestimate_images: On how many of the calibration images, the first ones (rounded up to
            about 65,536 pixels); None = all. The statistics need fewer images than the second
            moments, and each takes a run of its own.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> quantized = GPTQ(levels=3)(network, torch.eye(4).reshape(4, 1, 2, 2), torch.Generator())
        >>> quantized.record["1"]["dead"], quantized.record["1"]["damping"]
        (0, 0.01)
        >>> GPTQ(damping=-1.0)
        Traceback (most recent call last):
        ...
        ValueError: damping must be a number in [0.0, inf], got -1.0
    """

    order: Literal["index", "activation"] = "activation"
    damping: float = 0.01
    inputs: LayerInputs = "full_precision"
    polish: int = 0
    exchange: int = 0
    reestimate: NormStatistics = "relative"
    reestimate_images: int | None = 1024
    grid: Literal["zero", "paper", "output"] = "output"

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"order": "index", "reestimate": "none", "grid": "zero"},
        "quick": {},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("order", self.order, ("index", "activation"))
        number_in("damping", self.damping, 0.0, float("inf"))
        one_of("inputs", self.inputs, ("full_precision", "quantized"))
        check_polish(self.polish, self.exchange)
        check_statistics(self.reestimate, self.reestimate_images)

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
        return LayerMethod(
            scheme=self,
            quantize=partial(quantize_in_order, order=self.order, damping=self.damping),
            inputs=self.inputs,
            sweeps=self.polish,
            exchanges=self.exchange,
            statistics=self.reestimate,
            statistics_images=self.reestimate_images,
            damping=self.damping,
        )


def quantize_in_order(
    name: str,
    weight: Float[Tensor, "out *rest"],
    grid: Grid,
    hessian: Float64[Tensor, "groups columns columns"],
    *,
    order: Literal["index", "activation"] = "activation",
    damping: float = 0.01,
) -> tuple[UInt8[Tensor, "out *rest"], dict[str, Any]]:
    """Return the codes of one layer.

    Args:
        name: The layer's name, for messages.
        weight: Weight to quantize.
        grid: Its grid.
        hessian: H per group, up to a factor.
        order: Order of the columns.
        damping: Relative to the mean of the diagonal of H.

    Returns:
        The codes, and for the record: the number of dead columns, the largest relative damping of a
        group.

    Raises:
        QuantizationError: H is not finite, or cannot be factorised.
    """

    def solve(
        rows: Tensor, second: Tensor, scale: Tensor, zero_point: Tensor
    ) -> tuple[Tensor, Tensor]:
        # H with rows and columns in the order of quantization, each group by its own order
        columns = column_order(second.diagonal(dim1=1, dim2=2), order)
        group = torch.arange(len(second), device=second.device)[:, None, None]
        in_order = second[group, columns[:, :, None], columns[:, None]]

        ladder = [damping]
        for larger in GPTQ_DAMPINGS:
            if larger > damping:
                ladder.append(larger)
        upper, used = inverse_factor(name, in_order, tuple(ladder))
        place = columns[:, None].expand_as(rows)
        sorted_codes = _in_order(rows.gather(2, place), upper, scale, zero_point, grid.levels)
        return torch.empty_like(sorted_codes).scatter_(2, place, sorted_codes), used

    return by_groups(name, weight, grid, hessian, solve)


def column_order(
    diagonal: Float64[Tensor, "groups columns"], order: Literal["index", "activation"]
) -> Int64[Tensor, "groups columns"]:
    """Return the columns of each group in the order in which they are quantized; ties by index.

    Example:
        >>> column_order(torch.tensor([[1.0, 3.0, 3.0]], dtype=torch.float64), "activation").tolist()
        [[1, 2, 0]]
    """
    if order == "index":
        return torch.arange(diagonal.shape[1], device=diagonal.device).expand(diagonal.shape)
    return diagonal.argsort(dim=1, descending=True, stable=True)


def inverse_factor(
    name: str, hessian: Float64[Tensor, "groups columns columns"], ladder: tuple[float, ...]
) -> tuple[Float64[Tensor, "groups columns columns"], Float64[Tensor, "groups"]]:
    """Return U with H^-1 = U^T U, upper triangular, and the relative damping of H that it took.

    H with rows and columns reversed is G G^T; G reversed again is upper triangular, and its inverse
    is U.

    Raises:
        QuantizationError: None of the dampings makes H positive definite.

    Example:
        >>> second = torch.diag(torch.tensor([4.0, 16.0], dtype=torch.float64))
        >>> upper, damping = inverse_factor("fc", second[None], (0.0,))
        >>> upper.diagonal(dim1=1, dim2=2).tolist(), damping.tolist()
        ([[0.5, 0.25]], [0.0])
    """
    lower, damping = damped_factor(name, hessian.flip(1, 2), ladder)
    identity = torch.eye(hessian.shape[1]).to(hessian)
    return torch.linalg.solve_triangular(lower.flip(1, 2), identity, upper=True), damping


def _in_order(
    weight: Tensor, upper: Tensor, scale: Tensor, zero_point: Tensor, levels: int
) -> Tensor:
    """Return the codes, column after column.

    Within a block of columns each error is passed on at once; the columns after the block get the
    errors of the whole block by one product, which keeps a CPU busier than many small ones.
    """
    # In steps of the grid: (groups, columns, rows)
    free = (weight.double() / scale[..., None]).mT.contiguous()
    low = -zero_point.double()
    high = low + levels - 1
    for start in range(0, free.shape[1], BLOCK_COLUMNS):
        stop = min(start + BLOCK_COLUMNS, free.shape[1])
        errors = torch.empty_like(free[:, start:stop])
        for step, column in enumerate(range(start, stop)):
            value = free[:, column].clone()
            free[:, column] = value.round().clamp_(low, high)
            errors[:, step] = (value - free[:, column]) / upper[:, column, column, None]
            following = upper[:, column, column + 1 : stop]
            free[:, column + 1 : stop].baddbmm_(
                following[..., None], errors[:, step, None], alpha=-1
            )
        free[:, stop:].baddbmm_(upper[:, start:stop, stop:].mT, errors, alpha=-1)
    return (free.mT - low[..., None]).to(torch.uint8)
