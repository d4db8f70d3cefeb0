"""BRECQ: round the weights of each block so that the block's output changes least.

draft
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bitleak.core.types import QuantizedWeights
from bitleak.quant.fold import fold
from bitleak.quant.grid import search_grid
from bitleak.quant.reconstruct import Schedule, reconstruct, run
from bitleak.quant.result import assemble
from bitleak.quant.scheme import Scheme, layer_levels, quantizable
from bitleak.quant.units import units


@dataclass(frozen=True, kw_only=True)
class BRECQ(Scheme):
    iterations: int = 2000
    batch: int = 32
    learning_rate: float = 1e-3
    regularization: float = 0.01
    warmup: float = 0.2
    beta_start: float = 20.0
    beta_end: float = 2.0

    def __call__(self, network, calibration, generator, *, on_layer=None):
        folded = fold(network).requires_grad_(False)
        pieces = units(folded)
        layers = quantizable(folded)
        levels = layer_levels(self, [name for unit in pieces for name in unit.layers])
        schedule = Schedule(iterations=self.iterations, batch=self.batch, learning_rate=self.learning_rate,
            regularization=self.regularization, warmup=self.warmup, beta_start=self.beta_start, beta_end=self.beta_end)
        codes, grids, record = {}, {}, {}
        full = quantized = calibration
        for unit in pieces:
            full = run(unit.run, full)
            if not unit.layers:
                quantized = run(unit.run, quantized)
                continue
            own = {name: search_grid(layers[name].weight, levels[name], granularity=self.granularity,
                                     symmetric=self.symmetric, style=self.grid) for name in unit.layers}
            result = reconstruct(unit.run, own, quantized, full, schedule=schedule, generator=generator)
            quantized = result.outputs
            codes.update(result.codes); grids.update(own)
            record[unit.name] = dict(loss=result.loss, nearest=result.nearest, kept=result.kept)
        return assemble(folded, codes, grids, record)
