"""Wall and CPU seconds of `bitleak demo` by this code and by another version, in turns.

    python benchmarks/demo.py --other SRC [--turns 3] [--workers 2] [--set split.models=8 ...]
    python benchmarks/demo.py --tool onnxruntime [--turns 2]

SRC is the folder `src` of another checkout. With `--tool`, the other run is the same demo with a
tool among its quantizers. Every run has an empty store of its own. CPU seconds are
those of all processes of a run: the driver, the fork server and its workers, user and system time.
On a machine with other work compare the CPU seconds, and alternate: both versions then meet the
same load, turn by turn. The last line has the medians and their ratios. Linux only.
"""

import argparse
import ctypes
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import yaml

HERE = Path(__file__).resolve()
PR_SET_CHILD_SUBREAPER = 36


class Spent(NamedTuple):
    """Seconds of one run."""

    wall: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--other", type=Path)
    parser.add_argument("--tool", help="such as onnxruntime")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="as in `bitleak demo`")
    options = parser.parse_args()
    if (options.other is None) == (options.tool is None):
        parser.error("expected one of --other and --tool")
    if options.other and not (options.other / "bitleak" / "__init__.py").is_file():
        parser.error(f"--other must be a folder that holds bitleak, got {options.other}")
    # The fork server outlives the driver; it becomes a child of this process, which waits for it.
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise SystemExit(f"prctl: {os.strerror(ctypes.get_errno())}")

    own = HERE.parents[1] / "src"
    sources = {"this": own, "other": options.other.resolve() if options.other else own}
    tools = {"this": None, "other": options.tool}
    spent: dict[str, list[Spent]] = {name: [] for name in sources}
    for turn in range(options.turns):
        for name in list(sources) if turn % 2 == 0 else list(sources)[::-1]:
            spent[name].append(run(sources[name], options.workers, options.set, tools[name]))
            print(
                f"{name}: {spent[name][-1].wall:.1f} s, {spent[name][-1].cpu:.1f} CPU s", flush=True
            )
    for field in Spent._fields:
        ours, theirs = (
            statistics.median(getattr(seconds, field) for seconds in spent[name])
            for name in ("this", "other")
        )
        print(f"{field}: this {ours:.1f} s, other {theirs:.1f} s, this / other {ours / theirs:.3f}")


def run(source: Path, workers: int, settings: list[str], tool: str | None) -> Spent:
    """Return the seconds of a demo from an empty store, until its last process has ended."""
    with tempfile.TemporaryDirectory() as folder:
        config = yaml.safe_load((source / "bitleak" / "demo.yaml").read_text())
        config["quantize"] += [{"name": "tool", "call": tool}] if tool else []
        Path(folder, "demo.yaml").write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "bitleak", "audit", f"{folder}/demo.yaml"]
        command += ["--workers", str(workers)]
        command += ["--store", f"{folder}/store", "--out", f"{folder}/out"]
        for setting in settings:
            command += ["--set", setting]
        environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        log = os.open(f"{folder}/log", os.O_WRONLY | os.O_CREAT)
        start = time.perf_counter()
        driver = os.posix_spawn(
            sys.executable,
            command,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
        )
        os.close(log)
        wall, cpu = 0.0, 0.0
        while True:
            try:
                process, status, usage = os.wait4(-1, 0)
            except ChildProcessError:
                return Spent(wall, cpu)
            cpu += usage.ru_utime + usage.ru_stime
            if process == driver:
                wall = time.perf_counter() - start
                if status != 0:
                    raise SystemExit(Path(folder, "log").read_text())


if __name__ == "__main__":
    main()
