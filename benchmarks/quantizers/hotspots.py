"""Time of OBQ, AdaRound and BRECQ by operation, and the limits of one thread of this machine."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from benchmarks.quantizers.exact import DTYPES, LAYERS, layer_problem
from benchmarks.quantizers.jobs import Job, timed
from benchmarks.quantizers.networks import Bench
from torch.profiler import ProfilerActivity, profile

from bitleak.quantizers.adaround import AdaRound, round_adaptively
from bitleak.quantizers.brecq import BRECQ
from bitleak.quantizers.grid import search_grid
from bitleak.quantizers.layers.quadratic import Quadratic
from bitleak.quantizers.obc import quantize_greedily

TOP = 10
ROWS = 16  # of OBQ: the profiler holds every call, and all rows take the same ones
SIZES = (64, 576, 1152)  # of square matrices
BYTES = 1 << 28  # of each array whose copying is timed: beyond the caches


def hotspot_jobs(bench: Bench, seeds: list[int], levels: list[int]) -> Iterator[Job]:
    """Yield the jobs for the machine's limits, and one profile per algorithm, for the first seed
    and the first levels.
    """
    seed, count = seeds[0], levels[0]
    yield Job("profile", "machine", seed, _machine)
    for size in LAYERS:
        for dtype in DTYPES:
            run = partial(_obq, bench, seed, count, size, dtype)
            suffix = "" if dtype == "float64" else f"-{dtype}"
            yield Job("profile", f"obq-{size}{suffix}@{count}", seed, run)
        yield Job(
            "profile",
            f"adaround-{size}@{count}",
            seed,
            lambda size=size: _adaround(bench, seed, count, size),
        )
    yield Job("profile", f"brecq@{count}", seed, lambda: _brecq(bench, seed, count))


def _machine() -> dict[str, Any]:
    rates = {
        f"{str(dtype).removeprefix('torch.')} {size}": _matrix_rate(size, dtype)
        for dtype in (torch.float32, torch.float64)
        for size in SIZES
    }
    source = torch.ones(BYTES // 4)
    target = torch.empty_like(source)
    target.copy_(source)
    _, seconds = timed(lambda: [target.copy_(source) for _ in range(8)])
    return {
        "matmul_gflops": rates,
        "copy_gigabytes_per_second_read_and_written": 8 * 2 * BYTES / seconds / 1e9,
    }


def _matrix_rate(size: int, dtype: torch.dtype) -> float:
    """Return billions of operations per second of a square product."""
    left = torch.rand(size, size, dtype=dtype)
    out = left @ left
    times = max(3, int(4e9 / (2 * size**3)))
    _, seconds = timed(lambda: [torch.mm(left, left, out=out) for _ in range(times)])
    return times * 2 * size**3 / seconds / 1e9


def _obq(bench: Bench, seed: int, levels: int, size: str, dtype: str) -> dict[str, Any]:
    weight, hessian = layer_problem(bench, seed, LAYERS[size])
    weight = weight[:ROWS]
    grid = search_grid(weight, levels)
    return _profiled(lambda: quantize_greedily("layer", weight, grid, hessian, dtype=DTYPES[dtype]))


def _adaround(bench: Bench, seed: int, levels: int, size: str) -> dict[str, Any]:
    weight, hessian = layer_problem(bench, seed, LAYERS[size])
    zeros = hessian.new_zeros(len(weight), hessian.shape[-1])
    loss = Quadratic(hessian, zeros, zeros[:, 0], 1)
    grid = search_grid(weight, levels)
    return _profiled(
        lambda: round_adaptively(AdaRound(levels=levels, iterations=300), weight, grid, loss)
    )


def _brecq(bench: Bench, seed: int, levels: int) -> dict[str, Any]:
    network, calibration = bench.network(seed), bench.calibration(seed)
    settings = BRECQ(levels=levels, iterations=50)
    return _profiled(lambda: settings(network, calibration, torch.Generator().manual_seed(0)))


def _profiled(call: Callable[[], object]) -> dict[str, Any]:
    """Return the operations that take the most time themselves, after one run without the profiler."""
    _, seconds = timed(call)
    with profile(activities=[ProfilerActivity.CPU]) as taken:
        call()
    events = sorted(taken.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    top = [
        {"operation": event.key, "share": event.self_cpu_time_total / total, "calls": event.count}
        for event in events[:TOP]
    ]
    return {"cpu_seconds_unprofiled": seconds, "profiled_seconds": total / 1e6, "top": top}
