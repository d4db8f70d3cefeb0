"""Measurements on a GPU that is at hand for minutes: the parts in the order of their worth.

    benchmarks/gpu.sh pack DATA PACKED.tar
    benchmarks/gpu.sh run PACKED.tar OUT [--minutes 9] [--device cuda] [--toy]

- `rates` (`rates.json`, `plan.txt`): seconds of every kind of task of the paper's config on one
  ResNet-18: an epoch of training, queries, its three methods at three precisions; and the hours that
  `bitleak plan` expects of the whole config at these rates.
- `trainer` (`trainer.json`): images per second of several models at a time against the common loop
  (the aim is 5 times as many), and the share of the measured matrix rate (the aim is 25 %; `training.py gpu`).
- `methods` (`methods.json`): seconds of the paper's three methods at three precisions on one network
  (the aim is 60 s), by variant, from the tasks of `rates`.
- `models` (`results.bitleak`): with the minutes that are left, models and answers of the paper's
  config on the packed records, for `bitleak store import`.

A part whose file is there is not repeated, and finished tasks of a part stay in `OUT/store`, so the
same command goes on after an interruption. A part that fails leaves its message in `OUT/PART.log`,
and the next one begins. `--toy` takes small networks and quick presets, for a test on a CPU.
"""

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from bitleak.config import validate

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "examples" / "paper-cifar100.yaml"

MOST_BYTES = 60_000_000
TRAIN, TEST = 22_000, 4_000
"""Records that are packed; lossless pictures of CIFAR take about 1.75 kB each."""

METHODS = ("adaround", "brecq", "obc")
"""Methods that the paper compares; each has three precisions in its config."""

BUDGETS = {"rates": 0.55, "trainer": 0.25, "methods": 0.5, "models": 1.0}
"""Share of the minutes that are left which a part may take."""


def pack(data: Path, packed: Path) -> None:
    """Write the first records of both parts as one archive of Parquet files in the Hub's layout."""
    aside = packed.with_suffix(".part")
    packed.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, tarfile.open(aside, "w") as archive:
        for part, records in (("train", TRAIN), ("test", TEST)):
            shards = sorted(data.glob(f"**/{part}-*.parquet"))
            if not shards:
                raise SystemExit(f"{data}: expected files {part}-*.parquet, found none")
            file = Path(folder) / f"{part}-00000-of-00001.parquet"
            pq.write_table(pq.read_table(shards[0]).slice(0, records), file, compression="zstd")
            archive.add(file, file.name)
    size = aside.stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{packed}: {size:,} bytes, more than {MOST_BYTES:,}")
    aside.replace(packed)
    print(f"{packed}: {size:,} bytes")


def unpack(packed: Path, folder: Path) -> None:
    """Unpack the archive, once."""
    if not folder.exists():
        aside = folder.with_suffix(".part")
        with tarfile.open(packed) as archive:
            archive.extractall(aside, filter="data")
        aside.replace(folder)


def config(toy: bool, **changes: Any) -> dict[str, Any]:
    """Return the paper's config on the packed records, with changes by dotted name."""
    values: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    if toy:
        changes |= {"data.limit": 200, "data.held_out": 60, "split.population": 20}
        changes |= {"model": {"name": "cnn", "width": 4}, "train.epochs": 1, "train.batch": 50}
        changes |= {"calibration.records": 50, "fpr": [0.05], "query.batch": 100}
        entries = []
        for name in ("rtn", "adaround", "brecq", "obc"):
            entries.append({"name": name, "levels": [16, 3], "preset": "quick"})
        changes["quantize"] = [{"name": "rtn", "levels": 16}, *entries[1:]]
    for name, value in changes.items():
        section = values
        *sections, last = name.split(".")
        for part in sections:
            section = section[part]
        section[last] = value
    return values


def audit(options: argparse.Namespace, name: str, values: Mapping[str, Any], seconds: float) -> int:
    """Run an audit for at most these seconds; return its exit code, 3 if tasks are left."""
    path = options.out / f"{name}.yaml"
    path.write_text(yaml.safe_dump(dict(values)), encoding="utf-8")
    budget = f"{max(int(seconds), 1)}s"
    places = ["--store", str(options.out / "store"), "--out", str(options.out / f"{name}-report")]
    return bitleak(options, name, "audit", str(path), *places, "--budget", budget)


def bitleak(options: argparse.Namespace, name: str, verb: str, *arguments: str) -> int:
    """Run a verb with its output in the part's log; return its exit code."""
    command = [sys.executable, "-m", "bitleak", verb, *arguments]
    if verb in ("audit", "plan"):
        command += ["--data", str(options.data), "--device", options.device]
    with (options.out / f"{name}.log").open("a", encoding="utf-8") as log:
        return subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode


def rates(options: argparse.Namespace, seconds: float) -> None:
    """Measure every kind of task once: one target and the fewest shadows, full-precision references."""
    changes = {"split.targets": 1, "split.shadows": 4, "references": ["fp32"]}
    values = config(options.toy, **changes, **({} if options.toy else {"train.epochs": 1}))
    code = audit(options, "rates", values, seconds)
    if code not in (0, 3):
        raise SystemExit(f"the audit ended with {code}; see rates.log")
    measured = finished_tasks(options)
    if not measured:
        raise SystemExit("no task was finished in time; see rates.log")
    write(options.out / "rates.json", {"complete": code == 0, "tasks": measured})
    whole = options.out / "plan.yaml"
    whole.write_text(yaml.safe_dump(config(options.toy)), encoding="utf-8")
    code = bitleak(options, "plan", "plan", str(whole), "--store", str(options.out / "store"))
    if code:
        raise SystemExit(f"the plan ended with {code}; see plan.log")
    (options.out / "plan.log").replace(options.out / "plan.txt")


def finished_tasks(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Return label, device, seconds and memory of the store's trainings, quantizations and queries."""
    measured: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((options.out / "store").glob("*/*/*/manifest.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        kind = manifest["task"]["stage"]
        if kind in ("train", "quantize", "query"):
            runtime = manifest["runtime"]
            entry = {name: runtime[name] for name in ("device", "seconds", "peak_memory")}
            measured.setdefault(kind, []).append({"task": manifest["label"], **entry})
    return measured


def trainer(options: argparse.Namespace, seconds: float) -> None:
    """Measure the trainer against the common loop."""
    command = [sys.executable, "benchmarks/training.py", "gpu", "--data", str(options.data)]
    command += ["--json", str(options.out / "trainer.json"), "--device", options.device]
    if options.toy:
        command += ["--count", "256", "--networks", "cnn", "--models", "1", "2"]
    with (options.out / "trainer.log").open("w", encoding="utf-8") as log:
        subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, check=True, timeout=seconds, cwd=ROOT
        )


def methods(options: argparse.Namespace, seconds: float) -> None:
    """Sum up the seconds of the paper's methods on one network."""
    asked = set()
    for entry in validate(config(options.toy)).quantize:
        if entry.name in METHODS:
            asked.add(entry.variant)
    earlier = options.out / "rates.yaml"
    if asked - set(of_first_model(options)) and earlier.exists():  # `rates` had no time for these
        audit(options, "rates", yaml.safe_load(earlier.read_text(encoding="utf-8")), seconds)
    measured = {name: task for name, task in of_first_model(options).items() if name in asked}
    missing = sorted(asked - set(measured))
    if missing:
        raise SystemExit(f"not quantized in time: {', '.join(missing)}; see rates.log")
    total = sum(task["seconds"] for task in measured.values())
    write(options.out / "methods.json", {"seconds": total, "variants": measured})


def of_first_model(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the finished quantizations of the target, by variant."""
    by_variant = {}
    for task in finished_tasks(options).get("quantize", []):
        variant, _, model = task["task"].partition(" of model ")
        if model == "0":
            by_variant[variant] = task
    return by_variant


def models(options: argparse.Namespace, seconds: float) -> None:
    """Train and query models of the paper's config as long as there is time, and export them."""
    changes = {"split.targets": 1, "split.shadows": 8}
    audit(options, "models", config(options.toy, **changes), seconds - 15)
    store, exported = str(options.out / "store"), str(options.out / "results.bitleak")
    code = bitleak(options, "export", "store", "export", exported, "--store", store)
    if code:
        raise SystemExit(f"the export ended with {code}; see export.log")


PARTS: Mapping[str, tuple[Callable[[argparse.Namespace, float], None], str]] = {
    "rates": (rates, "rates.json"),
    "trainer": (trainer, "trainer.json"),
    "methods": (methods, "methods.json"),
    "models": (models, "results.bitleak"),
}


def write(path: Path, values: Any) -> None:
    """Write JSON whole or not at all."""
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(values, indent=1, default=float), encoding="utf-8")
    aside.replace(path)


def run(options: argparse.Namespace) -> int:
    """Run the parts that are not done; return the number that failed."""
    options.out.mkdir(parents=True, exist_ok=True)
    unpack(options.packed, options.data)
    end = time.monotonic() + 60 * options.minutes
    failed = 0
    for name, (part, file) in PARTS.items():
        left = end - time.monotonic()
        if (options.out / file).exists():
            print(f"{name}: done before", flush=True)
            continue
        if left < 20:
            print(f"{name}: no time left", flush=True)
            continue
        started = time.monotonic()
        try:
            part(options, BUDGETS[name] * left)
            result = "done"
        except (SystemExit, subprocess.SubprocessError, OSError) as error:
            result, failed = f"failed: {error}", failed + 1
        print(f"{name}: {result}, {time.monotonic() - started:.0f} s", flush=True)
    return failed


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    packing = verbs.add_parser("pack")
    packing.add_argument("data", type=Path)
    packing.add_argument("packed", type=Path)
    running = verbs.add_parser("run")
    running.add_argument("packed", type=Path)
    running.add_argument("out", type=Path)
    running.add_argument("--minutes", type=float, default=9.0)
    running.add_argument("--device", default="cuda")
    running.add_argument("--toy", action="store_true")
    options = parser.parse_args()
    if options.verb == "pack":
        pack(options.data, options.packed)
        return 0
    options.out, options.data = options.out.resolve(), options.out.resolve() / "data"
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
