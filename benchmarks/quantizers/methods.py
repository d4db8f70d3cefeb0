"""The methods of the tables, by name."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from benchmarks.quantizers.networks import Sizes
from benchmarks.quantizers.published import min_max
from torch import Tensor, nn

from bitleak.core.types import QuantizedWeights
from bitleak.quantizers.adaround import AdaRound
from bitleak.quantizers.assembly import assemble_weights
from bitleak.quantizers.brecq import BRECQ
from bitleak.quantizers.gptq import GPTQ
from bitleak.quantizers.grid import to_codes
from bitleak.quantizers.obc import OBC
from bitleak.quantizers.rtn import RoundToNearest
from bitleak.quantizers.scheme import Scheme, quantizable

SWEEPS, EXCHANGES = 50, 20  # of polish and of exchange, at most

Method = Callable[[nn.Module, Tensor, torch.Generator], QuantizedWeights]


def methods(levels: int, sizes: Sizes) -> dict[str, Method]:
    """Return all methods of this package at these levels, and round-to-nearest between the
    extremes.

    `kept`: the batch-norm statistics stay those of the training. `absolute`: they become those of
    the calibration images, which are not cropped, unlike those of the training.
    """
    short = sizes.short
    schemes: dict[str, Scheme] = {
        "rtn": RoundToNearest(),
        "adaround": AdaRound(),
        f"adaround-paper-{short}": _preset(AdaRound, "paper", iterations=short),
        "adaround-polish": AdaRound(polish=SWEEPS),
        "adaround-exchange": AdaRound(polish=SWEEPS, exchange=EXCHANGES),
        "brecq": BRECQ(),
        "brecq-batch-32": BRECQ(batch=32),
        "brecq-output-grid": BRECQ(grid="output", batch=32),
        f"brecq-paper-{short}": _preset(BRECQ, "paper", iterations=short),
        "obc": OBC(),
        "obc-output-grid": OBC(grid="output"),
        "obc-absolute": OBC(reestimate="absolute"),
        "obc-polish": OBC(polish=SWEEPS),
        "obc-quantized-polish": OBC(inputs="quantized", polish=SWEEPS),
        "obc-quantized-polish-output-grid": OBC(inputs="quantized", polish=SWEEPS, grid="output"),
        "obc-quantized-exchange": OBC(inputs="quantized", polish=SWEEPS, exchange=EXCHANGES),
        "obc-quantized-polish-kept": OBC(inputs="quantized", polish=SWEEPS, reestimate="none"),
        "gptq-index": GPTQ(order="index"),
        "gptq-activation": GPTQ(),
        "gptq-quantized-polish": GPTQ(inputs="quantized", polish=SWEEPS),
        "gptq-quantized-polish-kept": GPTQ(inputs="quantized", polish=SWEEPS, reestimate="none"),
    }
    ours: dict[str, Method] = {
        name: replace(scheme, levels=levels) for name, scheme in schemes.items()
    }
    return {"rtn-min-max": _between_extremes(levels), **ours}


def _preset(kind: Any, name: str, **changes: Any) -> Scheme:
    return kind(**{**kind.PRESETS[name], **changes})


def _between_extremes(levels: int) -> Method:
    def quantize(
        network: nn.Module, calibration: Tensor, generator: torch.Generator
    ) -> QuantizedWeights:
        layers = quantizable(network)
        grids = {name: min_max(layer.weight.detach(), levels) for name, layer in layers.items()}
        codes = {name: to_codes(layer.weight, grids[name]) for name, layer in layers.items()}
        return assemble_weights(network, codes, grids, {})

    return quantize
