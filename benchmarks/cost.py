"""CPU seconds of an audit by step, by this code and by another version or of another config, in turns.

    python benchmarks/cost.py --other SRC [--turns 3] [--config FILE] [--set split.models=8 ...]
    python benchmarks/cost.py --other-config FILE [--turns 3] [--config FILE] [--set split.models=8 ...]

SRC is the folder `src` of another checkout; the config is the demo's by default. Every run is one
process with an empty store, executor `serial` and one thread; a task's CPU seconds, user and system
time, are those between the ends of two tasks. `start` is the import of all steps and the
preparation, `report` the tables, figures and page. CPU seconds are compared, since other work on
the machine changes them less than wall seconds; versions alternate, so that both meet the same
load. The last column is this / other, of medians. The last line compares both `results.csv`.

Shares of a demo's step that stay with the same kernels on the same values, from profiles of single
steps (two cores of an AMD EPYC, no GPU, commit 5a4e974); the rest is Python around them:

    train     0.8   convolutions, batch norms and their backward passes
    query     0.7   convolutions; fusing and loading the network are a seventh
    brecq     0.5   19,200 steps of a unit on 16 images: convolutions, copy by copy
    adaround  0.6   84,000 steps of a layer's rounding; the rest is copies and passes over the images
    obc       0.5   eliminations of single weights, each a dozen kernels on some rows
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--other", type=Path)
    parser.add_argument("--other-config", type=Path, help="by default the same")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--config", type=Path, help="by default the demo's")
    parser.add_argument("--set", action="append", default=[], help="as in `bitleak audit`")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        run_audit(options.child, options.config, options.set)
        return
    if options.other is None and options.other_config is None:
        parser.error("expected --other or --other-config")
    if options.other and not (options.other / "bitleak" / "__init__.py").is_file():
        parser.error(f"--other must be a folder that holds bitleak, got {options.other}")

    own = HERE.parents[1] / "src"
    sources = {"this": own, "other": options.other.resolve() if options.other else own}
    config = options.config or own / "bitleak" / "demo.yaml"
    configs = {"this": config, "other": options.other_config or config}
    costs: dict[str, list[dict[str, float]]] = {name: [] for name in sources}
    digests: dict[str, str] = {}
    for turn in range(options.turns):
        for name in list(sources) if turn % 2 == 0 else list(sources)[::-1]:
            result = measured(sources[name], configs[name], options.set)
            costs[name].append(result["cpu"])
            digests[name] = result["digest"]
            print(f"{name}: {sum(result['cpu'].values()):.1f} CPU s", flush=True)
    print_table(costs)
    print(f"results.csv is {'the same' if len(set(digests.values())) == 1 else 'NOT the same'}")


def measured(source: Path, config: Path, settings: list[str]) -> dict:
    """Return the CPU seconds by step and the digest of the rows of one run in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(HERE), "--child", folder, "--config", str(config)]
        for setting in settings:
            command += ["--set", setting]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment = {**os.environ, **threads, "PYTHONPATH": str(source)}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        return json.loads(Path(folder, "cost.json").read_text())


def run_audit(folder: Path, config: Path, settings: list[str]) -> None:
    """Run an audit in this process and write its costs into the folder."""
    from bitleak import audit as library
    from bitleak.config import override, read_config, validate
    from bitleak.engine.malloc import keep_freed_memory
    from bitleak.engine.store import Store
    from bitleak.engine.worker import find_stage

    keep_freed_memory()
    prepared = library.prepare(validate(override(read_config(config), settings)))
    find_stage(prepared.runtime, "train")
    cpu: Counter[str] = Counter(start=time.process_time())

    def count(event) -> None:
        if event.kind != "finished":
            return
        if not event.outcome.ok:
            raise SystemExit(event.outcome.text)
        method = event.task.params.get("quantizer") if event.task.stage == "quantize" else None
        cpu[method or event.task.stage] += time.process_time() - cpu.total()

    library.audit(
        prepared,
        out=folder / "out",
        store=Store(folder / "store"),
        executor="serial",
        on_event=count,
    )
    cpu["report"] += time.process_time() - cpu.total()
    digest = hashlib.sha256((folder / "out" / "results.csv").read_bytes()).hexdigest()
    (folder / "cost.json").write_text(json.dumps({"cpu": dict(cpu), "digest": digest}))


def print_table(costs: dict[str, list[dict[str, float]]]) -> None:
    """Print medians over the turns by step, the largest first, and their sum by turn."""
    for runs in costs.values():
        for run in runs:
            run["all"] = sum(run.values())
    rows = []
    for step in dict.fromkeys([*costs["this"][0], *costs["other"][0]]):
        ours, theirs = (
            statistics.median(run.get(step, 0.0) for run in costs[name])
            for name in ("this", "other")
        )
        rows.append((theirs, ours, step))
    print("| step | other, CPU s | this, CPU s | this / other |\n|---|---|---|---|")
    for theirs, ours, step in sorted(rows, reverse=True):
        print(f"| {step} | {theirs:.1f} | {ours:.1f} | {ours / theirs if theirs else 0:.2f} |")


if __name__ == "__main__":
    main()
