"""Extra peak memory of each method: a process of its own, in which network and images are loaded
already.

The modules that a first step of `torch.optim.Adam` imports (some 75 MB in every case) and the
libraries' own buffers are loaded too, so that the memory of the method alone is measured.
"""

import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from benchmarks.quantizers.jobs import Job
from benchmarks.quantizers.methods import methods
from benchmarks.quantizers.networks import Bench

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # what `clear_refs` takes to set the peak to what is resident now (man 5 proc)


def memory_jobs(bench: Bench, seeds: list[int], levels: list[int]) -> Iterator[Job]:
    """Yield one job per method, for the first seed and the first levels."""
    for name in methods(levels[0], bench.sizes):
        yield Job(
            "memory", f"{name}@{levels[0]}", seeds[0], _memory(bench, seeds[0], levels[0], name)
        )


def _memory(bench: Bench, seed: int, levels: int, name: str) -> Any:
    def run() -> dict[str, Any]:
        bench.calibration_file(seed)  # made here, so that the child does not hold all images
        receiver, sender = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("spawn").Process(
            target=_child, args=(bench, seed, levels, name, sender)
        )
        child.start()
        sender.close()
        figures = json.loads(receiver.recv())
        child.join()
        return figures

    return run


def _child(bench: Bench, seed: int, levels: int, name: str, sender: Any) -> None:
    torch.set_num_threads(1)
    network, calibration = bench.network(seed), bench.calibration(seed)
    method = methods(levels, bench.sizes)[name]
    with torch.no_grad():
        network(calibration[:1])
    _step_of_adam()
    CLEAR.write_text(RESET_PEAK)
    before = _kilobytes("VmRSS")
    method(network, calibration, torch.Generator().manual_seed(0))
    megabytes = (_kilobytes("VmHWM") - before) / 1e3 * 1.024
    sender.send(
        json.dumps({"extra_megabytes": megabytes, "before_megabytes": before / 1e3 * 1.024})
    )


def _step_of_adam() -> None:
    variable = torch.zeros(1, requires_grad=True)
    variable.grad = torch.zeros(1)
    torch.optim.Adam([variable], fused=True).step()


def _kilobytes(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])
