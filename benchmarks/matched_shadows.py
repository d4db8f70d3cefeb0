"""Cost of the matched adversary: every shadow quantized in every way, by this code and by another
version.

    python benchmarks/matched_shadows.py --other SRC [--networks 64] [--workers 2]

SRC is the folder `src` of another checkout. The networks are those of `bitleak demo`, trained by
this code for a few epochs; each is quantized by adaround, brecq and obc at 16, 4 and 3 levels with
the presets `quick`, in as many processes as `--workers`, one thread each. The two versions take
turns by quarters of the networks. The precisions of one quantizer are computed together if the
version can share their common work, as its audits do.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
LEVELS, METHODS, RECORDS, TURNS = (16, 4, 3), ("adaround", "brecq", "obc"), 256, 4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--other", type=Path, required=True)
    parser.add_argument("--networks", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if not (options.other / "bitleak" / "__init__.py").is_file():
        parser.error(
            f"--other must be a folder that holds the package bitleak, got {options.other}"
        )
    sources = {"this": HERE.parents[1] / "src", "other": options.other.resolve()}
    spent: dict[str, list[dict[str, float]]] = {name: [] for name in sources}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            _command("train", folder, 0, options.networks),
            check=True,
            env=_environment(sources["this"]),
        )
        for turn in range(TURNS):
            numbers = range(
                turn * options.networks // TURNS, (turn + 1) * options.networks // TURNS
            )
            for name in list(sources) if turn % 2 == 0 else list(sources)[::-1]:
                spent[name].append(_quantized(sources[name], folder, numbers, options.workers))
                print(
                    f"{name}: networks {numbers.start} to {numbers.stop - 1}: {spent[name][-1]}",
                    flush=True,
                )
    total = {
        name: {key: sum(seconds[key] for seconds in rounds) for key in rounds[0]}
        for name, rounds in spent.items()
    }
    for name, figures in total.items():
        print(f"{name}: {', '.join(f'{key} {value:.1f}' for key, value in figures.items())}")
    for key in total["this"]:
        print(f"{key}, other / this: {total['other'][key] / total['this'][key]:.2f}")


def _quantized(source: Path, folder: str, numbers: range, workers: int) -> dict[str, float]:
    """Return wall seconds of all processes, and CPU seconds by method."""
    start = time.perf_counter()
    with ExitStack() as stack:
        shares = [numbers[worker::workers] for worker in range(workers)]
        running = [
            stack.enter_context(
                subprocess.Popen(
                    _command("quantize", folder, share.start, share.stop, share.step),
                    stdout=subprocess.PIPE,
                    text=True,
                    env=_environment(source),
                )
            )
            for share in shares
        ]
        reports = [json.loads(process.communicate()[0]) for process in running]
    wall = time.perf_counter() - start
    return {"wall": wall, **{name: sum(report[name] for report in reports) for name in METHODS}}


def _command(job: str, folder: str, *numbers: int) -> list[str]:
    return [
        sys.executable,
        str(HERE.parent / "matched_shadows_child.py"),
        job,
        folder,
        *map(str, numbers),
    ]


def _environment(source: Path) -> dict[str, Any]:
    return {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    main()
