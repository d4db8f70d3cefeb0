"""Speed and accuracy of the quantizers on a trained network, and of the algorithms that were
published.

    python -m benchmarks.quantizers PART [--seeds 0 1 2] [--levels 16 4 3] [--cache DIR] [--out DIR] [...]

Run from the repository root, on one thread (OMP_NUM_THREADS=1). The step `train` makes the
networks. Every part is a set of jobs; a job writes one JSON file under `--out` and is not repeated
unless requested, so a run may be stopped at any time. `table` prints the results as Markdown. Times
are CPU seconds of one thread. The modules describe the measurements: `exact` (obq, grid), `learned`
(adaround, brecq), `loops`, `accuracy` (accuracy, peers), `together`, `memory`, `hotspots`
(profile). `peers` needs another environment with brevitas 0.13.4 and aimet-torch 2.42, its Python
given by `--peers`; `jaxtyping` must be installed there too.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from benchmarks.quantizers.accuracy import accuracy_jobs, peer_jobs
from benchmarks.quantizers.exact import grid_jobs, obq_jobs
from benchmarks.quantizers.hotspots import hotspot_jobs
from benchmarks.quantizers.jobs import Job, run_jobs
from benchmarks.quantizers.learned import adaround_jobs, brecq_jobs
from benchmarks.quantizers.loops import loop_jobs
from benchmarks.quantizers.memory import memory_jobs
from benchmarks.quantizers.networks import Bench, Sizes
from benchmarks.quantizers.tables import tables
from benchmarks.quantizers.together import together_jobs

PARTS: dict[str, Callable[[Bench, argparse.Namespace], Iterator[Job]]] = {
    "obq": lambda bench, options: obq_jobs(
        bench, options.seeds, options.levels, tuple(options.rows)
    ),
    "grid": lambda bench, options: grid_jobs(bench, options.seeds, options.levels),
    "adaround": lambda bench, options: adaround_jobs(bench, options.seeds, options.levels),
    "brecq": lambda bench, options: brecq_jobs(bench, options.seeds, options.levels, options.full),
    "loops": lambda bench, options: loop_jobs(bench, options.seeds, options.levels),
    "accuracy": lambda bench, options: accuracy_jobs(bench, options.seeds, options.levels),
    "peers": lambda bench, options: peer_jobs(bench, options.seeds, options.levels),
    "together": lambda bench, options: together_jobs(bench, options.seeds),
    "memory": lambda bench, options: memory_jobs(bench, options.seeds, options.levels),
    "profile": lambda bench, options: hotspot_jobs(bench, options.seeds, options.levels),
}


def main() -> None:
    options = _parser().parse_args()
    torch.set_num_threads(1)
    sizes = Sizes(options.calibration, options.test, options.loop, options.short)
    bench = Bench(options.data, options.cache, options.out, options.peers, sizes)
    if options.part == "table":
        print(tables(options.out))
        return
    if options.part == "train":
        for seed in options.seeds:
            bench.train(seed)
        return
    jobs = [
        job
        for job in PARTS[options.part](bench, options)
        if any(word in job.name for word in options.only)
    ]
    if options.list:
        print("\n".join(str(job.file(options.out)) for job in jobs))
        return
    run_jobs(jobs, options.out, again=options.again)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quantizers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", choices=["train", *PARTS, "table"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--levels", type=int, nargs="+", default=[16, 4, 3])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"))
    parser.add_argument("--cache", type=Path, default=Path("build/quantizers/cache"))
    parser.add_argument("--out", type=Path, default=Path("build/quantizers/results"))
    parser.add_argument("--peers", type=Path, default=Path("build/quantizers/peers/bin/python"))
    parser.add_argument(
        "--only", nargs="+", default=[""], help="only jobs with one of these in their name"
    )
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[1, 8, 32], help="of OBQ's loop at a time"
    )
    parser.add_argument(
        "--full", action="store_true", help="brecq: also preset `paper` with all its iterations"
    )
    parser.add_argument("--again", action="store_true", help="repeat jobs that are done")
    parser.add_argument("--list", action="store_true", help="only say which files the jobs leave")
    for name, value in vars(Sizes()).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    return parser


if __name__ == "__main__":
    main()
