"""Round to nearest: every weight becomes the nearest point of the searched grid.

    code = clip(round(w / scale) + zero_point, 0, levels - 1)

No data is used but one image, which tells the order of the layers (for `last`). This is the baseline
that every other quantizer starts from and must not fall behind on its own objective.

Cost: the grid search, 80 passes over the weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bitleak.core.types import QuantizedWeights
from bitleak.quant.capture import OnLayer, prepare
from bitleak.quant.grid import decode, encode, grid_for
from bitleak.quant.result import assemble
from bitleak.quant.scheme import Scheme


@dataclass(frozen=True, kw_only=True)
class RoundToNearest(Scheme):
    """Round to nearest; all its fields are those of `Scheme`.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> quantized = RoundToNearest(levels=3)(network, torch.zeros(1, 1, 2, 2), torch.Generator())
        >>> int(quantized.layers["1"].codes.max()) < 3
        True
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}, "quick": {}}

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
            calibration: Normalised images; the first one is used.
            generator: Not used: nothing is drawn.
            on_layer: Told of each layer.

        Raises:
            QuantizationError: A layer cannot be quantized.
        """
        copied, layers, levels = prepare(self, network, calibration)
        codes, grids = {}, {}
        record: dict[str, dict[str, Any]] = {}
        for index, name in enumerate(levels):
            weight = layers[name].weight.detach()
            grids[name] = grid_for(self, weight, levels[name])
            codes[name] = encode(weight, grids[name])
            change = decode(codes[name], grids[name]) - weight
            error = float(change.square().sum() / weight.square().sum().clamp(min=torch.finfo(torch.float32).tiny))
            record[name] = {"levels": levels[name], "relative_weight_error": error}
            if on_layer is not None:
                on_layer(name, index, len(levels))
        return assemble(copied, codes, grids, record)
