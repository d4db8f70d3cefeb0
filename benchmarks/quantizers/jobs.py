"""Jobs that write one JSON file each, so that a benchmark can be stopped and continued."""

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
Result = TypeVar("Result")


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        part: Part of the benchmark, and its folder.
        name: Name of the measurement.
        seed: Seed of the network.
        run: Returns the figures, JSON values; an array is written into an .npz file next to the JSON.
    """

    part: str
    name: str
    seed: int
    run: Callable[[], Mapping[str, Any]]

    def file(self, out: Path) -> Path:
        """File of its figures."""
        return out / self.part / f"{self.name}-{self.seed}.json"


def run_jobs(jobs: Iterable[Job], out: Path, *, again: bool) -> None:
    """Run the jobs without a file, or all of them `again`."""
    for job in jobs:
        file = job.file(out)
        if file.exists() and not again:
            print(f"{file}: there already", flush=True)
            continue
        start, processor = time.time(), time.process_time()
        figures = dict(job.run())
        file.parent.mkdir(parents=True, exist_ok=True)
        arrays = {
            key: figures.pop(key) for key in list(figures) if isinstance(figures[key], np.ndarray)
        }
        if arrays:
            np.savez_compressed(file.with_suffix(".npz"), **arrays)
        record = {"part": job.part, "name": job.name, "seed": job.seed, **figures}
        record["job"] = {
            "seconds": time.time() - start,
            "cpu_seconds": time.process_time() - processor,
            **environment(),
        }
        unfinished = file.with_suffix(".part")
        unfinished.write_text(json.dumps(record, indent=1))
        unfinished.replace(file)
        print(json.dumps(record), flush=True)


def results(out: Path, part: str) -> list[dict[str, Any]]:
    """Return the results of a part's jobs, by name and seed."""
    records = [json.loads(file.read_text()) for file in sorted((out / part).glob("*.json"))]
    return sorted(records, key=lambda figures: (figures["name"], figures["seed"]))


def array(out: Path, figures: Mapping[str, Any], key: str) -> np.ndarray:
    """Return an array that a job has written."""
    return np.load(out / figures["part"] / f"{figures['name']}-{figures['seed']}.npz")[key]


def timed(call: Callable[[], Result]) -> tuple[Result, float]:
    """Return a call's result and its CPU seconds."""
    start = time.process_time()
    result = call()
    return result, time.process_time() - start


def environment() -> dict[str, Any]:
    """Return the versions and the machine that the figures depend on."""
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude", "*"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    models = [
        line.split(":")[1].strip()
        for line in _lines("/proc/cpuinfo")
        if line.startswith("model name")
    ]
    return {
        "commit": commit,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": models[0] if models else "",
    }


def _lines(file: str) -> list[str]:
    path = Path(file)
    return path.read_text().splitlines() if path.exists() else []
