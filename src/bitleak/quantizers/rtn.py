"""Round to nearest: every weight becomes the nearest point of the searched grid.

    code = clip(round(w / scale) + zero_point, 0, levels - 1)

Source: the affine grid of Jacob et al. 2018 (arXiv 1712.05877), section 2.1, with its range searched
for the least squared error of the weights instead of set by their extremes.

No data is used but one image, which gives the order of the layers (for `last`). This is the
baseline that every other quantizer starts from, and must not be worse than on its own objective.

With `polish`, coordinate descent over the codes follows, on each layer's output error with the
inputs of the full-precision network (see `descent`); then the calibration images are used, and
`record` holds the error of the output instead of the error of the weight.

Misleading where it stands for quantization as such: at 2 bits it destroys most networks, and a
network that classifies nothing leaks nothing. Little leakage next to lost accuracy is no
protection.

Cost: the grid search, 80 passes over the weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bitleak.core.types import QuantizedWeights
from bitleak.quantizers.assembly import assemble_weights
from bitleak.quantizers.grid import Grid, grid_for, to_codes, to_weights
from bitleak.quantizers.layers.descent import check_polish
from bitleak.quantizers.layers.layer_method import LayerMethod
from bitleak.quantizers.network.layer_inputs import OnLayer, prepare_layers
from bitleak.quantizers.network.layerwise import quantize_layers
from bitleak.quantizers.network.plain_copy import plain_arithmetic, plain_copy
from bitleak.quantizers.scheme import Scheme, check_finite


@dataclass(frozen=True, kw_only=True)
class RoundToNearest(Scheme):
    """Round to nearest.

    Attributes:
        polish: Sweeps of coordinate descent over the codes afterwards, at most; 0 = none, and no
            data.
        exchange: Sweeps of paired moves of codes after `polish`, at most; 0 = none (see
            `exchange`).

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> quantized = RoundToNearest(levels=3)(network, torch.zeros(1, 1, 2, 2), torch.Generator())
        >>> int(quantized.layers["1"].codes.max()) < 3
        True
    """

    polish: int = 0
    exchange: int = 0

    @property
    def looks_at_images(self) -> bool:
        """Whether the result depends on the calibration images: with `polish` or `activations`."""
        return self.polish > 0 or self.activations is not None

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}, "quick": {}}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_polish(self.polish, self.exchange)
        if self.grid == "output" and not self.polish:
            raise ValueError(
                "grid 'output' needs polish of at least 1: without it, rtn looks at no image"
            )

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
            calibration: Normalised images; without `polish` and `activations`, the first one is used.
            generator: Not used: nothing is drawn.
            on_layer: Called after each layer.
            memory: Bytes that the statistics may take, with `polish`; it changes the time only.

        Raises:
            QuantizationError: A layer cannot be quantized.
        """
        method = self.method()
        if method is not None:
            return quantize_layers(method, network, calibration, on_layer=on_layer, memory=memory)
        with plain_arithmetic():
            plain = plain_copy([self], network, calibration, data_free=True)
            return plain.result(self._without_data(plain.network, plain.images, on_layer))

    def _without_data(
        self, network: nn.Module, calibration: Tensor, on_layer: OnLayer | None
    ) -> QuantizedWeights:
        """Return the nearest codes; one image gives the order of the layers."""
        copied, layers, levels = prepare_layers(self, network, calibration)
        codes, grids = {}, {}
        record: dict[str, dict[str, Any]] = {}
        for index, name in enumerate(levels):
            weight = layers[name].weight.detach()
            grids[name] = grid_for(self, weight, levels[name])
            codes[name] = to_codes(weight, grids[name])
            change = to_weights(codes[name], grids[name]) - weight
            error = float(
                change.square().sum()
                / weight.square().sum().clamp(min=torch.finfo(torch.float32).tiny)
            )
            record[name] = {"levels": levels[name], "relative_weight_error": error}
            if on_layer is not None:
                on_layer(name, index, len(levels))
        return assemble_weights(copied, codes, grids, record, scheme=self, images=calibration)

    def method(self) -> LayerMethod | None:
        """Return the treatment of a layer with `polish`; None without, as it needs no images."""
        if not self.polish:
            return None
        return LayerMethod(
            scheme=self, quantize=_nearest, sweeps=self.polish, exchanges=self.exchange
        )


def _nearest(
    name: str, weight: Tensor, grid: Grid, hessian: Tensor
) -> tuple[Tensor, dict[str, Any]]:
    check_finite(name, hessian, "calibration input")
    return to_codes(weight, grid), {}
