"""OBQ and the grid search against the published loops, on layers of a trained network and their
real Hessians.
"""

from collections.abc import Iterator
from typing import Any

import torch
from benchmarks.quantizers.jobs import Job, timed
from benchmarks.quantizers.networks import Bench
from benchmarks.quantizers.published import rank_one, searched_by_channel
from torch import Tensor

from bitleak.quantizers.grid import Grid, search_grid
from bitleak.quantizers.network.layerwise import second_moments
from bitleak.quantizers.obc import INFLATION, quantize_greedily
from bitleak.quantizers.scheme import quantizable

LAYERS = {"64x576": "stage2.0.conv2", "128x1152": "stage3.0.conv2"}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
ROWS = 32  # rows that the published code takes at a time by default
REPEATS = 3


def obq_jobs(
    bench: Bench, seeds: list[int], levels: list[int], rows: tuple[int, ...] = (1, 8, ROWS)
) -> Iterator[Job]:
    """Yield one job per layer, dtype, levels and seed.

    Args:
        bench: Networks and sizes.
        seeds: Seeds of the networks.
        levels: Levels of the grids.
        rows: Rows that the loop processes at a time: the published default, and fewer, whose copies of the
            inverse stay in a cache.
    """
    for seed in seeds:
        for count in levels:
            for size in LAYERS:
                for dtype in DTYPES:
                    run = _obq(bench, seed, count, size, dtype, rows)
                    yield Job("obq", f"{size}-{dtype}@{count}", seed, run)


def _obq(
    bench: Bench, seed: int, levels: int, size: str, dtype: str, chunks: tuple[int, ...]
) -> Any:
    def run() -> dict[str, Any]:
        weight, hessian = layer_problem(bench, seed, LAYERS[size])
        grid = search_grid(weight, levels)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian[0])).to(DTYPES[dtype])
        ours, loops, equal = [], {}, {}
        for chunk in chunks:
            codes, seconds = timed(
                lambda: quantize_greedily("layer", weight, grid, hessian, dtype=DTYPES[dtype])[0]
            )
            ours.append(seconds)
            part = Grid(grid.scale[:chunk], grid.zero_point[:chunk], levels)
            rows = weight.flatten(1)[:chunk]
            expected, seconds = timed(lambda rows=rows, part=part: rank_one(rows, inverse, part))
            loops[chunk] = seconds * len(weight) / chunk
            equal[chunk] = float((codes.flatten(1)[:chunk] == expected).double().mean())
        return {
            "ours_seconds": ours,
            "loop_seconds_by_rows_at_a_time": loops,
            "ratio_published": loops[chunks[-1]] / _middle(ours),
            "ratio_best_loop": min(loops.values()) / _middle(ours),
            "equal_codes": equal,
            "in_float64_all_the_same": dtype == "float32" and _inflation(hessian[0]) > INFLATION,
        }

    return run


def layer_problem(bench: Bench, seed: int, name: str) -> tuple[Tensor, Tensor]:
    """Return a layer's weight, and the H of its inputs on the calibration images."""
    network, calibration = bench.network(seed), bench.calibration(seed)
    layer = quantizable(network)[name]
    second = second_moments(network, {name: layer}, calibration)[name]
    return layer.weight.detach().clone(), second * (2 / len(calibration))


def _inflation(hessian: Tensor) -> float:
    return float((torch.linalg.inv(hessian).diagonal() * hessian.diagonal()).max())


def _middle(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) // 2]


def grid_jobs(bench: Bench, seeds: list[int], levels: list[int]) -> Iterator[Job]:
    """Yield one job per levels and seed: all layers of the network."""
    for seed in seeds:
        for count in levels:
            yield Job("grid", f"search@{count}", seed, _grid(bench, seed, count))


def _grid(bench: Bench, seed: int, levels: int) -> Any:
    def run() -> dict[str, Any]:
        weights = [layer.weight.detach() for layer in quantizable(bench.network(seed)).values()]
        ours, loop = [], []
        for _ in range(REPEATS):
            grids, seconds = timed(lambda: [search_grid(weight, levels) for weight in weights])
            ours.append(seconds)
            expected, seconds = timed(
                lambda: [searched_by_channel(weight, levels) for weight in weights]
            )
            loop.append(seconds)
        equal = [
            torch.equal(a.scale, b.scale) and torch.equal(a.zero_point, b.zero_point)
            for a, b in zip(grids, expected, strict=True)
        ]
        return {
            "ours_seconds": ours,
            "loop_seconds": loop,
            "ratio": _middle(loop) / _middle(ours),
            "layers_equal": sum(equal),
            "layers": len(equal),
        }

    return run
