"""Several precisions from one pass over the images, against one precision."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from benchmarks.quantizers.jobs import Job, timed
from benchmarks.quantizers.networks import Bench

from bitleak.quantizers.obc import OBC
from bitleak.quantizers.shared_pass import quantize_together

LEVELS = (16, 4, 3)
RECORDS, ROUNDS = 2048, 10  # the paper's calibration for OBC


def together_jobs(bench: Bench, seeds: list[int]) -> Iterator[Job]:
    """Yield one job per seed."""
    for seed in seeds:
        yield Job("together", "obc", seed, lambda seed=seed: _together(bench, seed))


def _together(bench: Bench, seed: int) -> dict[str, Any]:
    network = bench.network(seed)
    calibration = bench.augmented(
        seed, records=bench.sizes.calibration * RECORDS // 1024, rounds=ROUNDS
    )
    methods = [OBC(levels=levels) for levels in LEVELS]
    chances = [torch.Generator().manual_seed(0) for _ in methods]
    single, first = timed(lambda: methods[0](network, calibration, chances[0]))
    together, seconds = timed(
        lambda: tuple(quantize_together(methods, network, calibration, chances))
    )
    singles = [single, *(method(network, calibration, torch.Generator()) for method in methods[1:])]
    equal = [
        np.array_equal(layer.codes, alone.layers[name].codes)
        for alone, shared in zip(singles, together, strict=True)
        for name, layer in shared.layers.items()
    ]
    _, last = timed(lambda: methods[0](network, calibration, chances[0]))
    return {
        "images": len(calibration),
        "levels": LEVELS,
        "one_cpu_seconds": [first, last],
        "together_cpu_seconds": seconds,
        "ratio": 2 * seconds / (first + last),
        "layers_equal": sum(equal),
        "layers": len(equal),
    }
