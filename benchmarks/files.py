"""Does the float simulation of a quantized network leak what its file leaks?

    python benchmarks/files.py --data FOLDER [--models 8] [--workers 2] [--out files.csv]
    python benchmarks/files.py --data FOLDER --config examples/cifar10-small.yaml --store STORE --brevitas

FOLDER holds CIFAR-10 in the Hub's layout. An audit of small networks has each of these variants of
every model: codes of `obc` at 16 and 4 levels as float weights in PyTorch, the same codes as ONNX
files in ONNX Runtime (the tool `export`), ONNX Runtime's static int8 (the tool `onnxruntime`), and
with `--brevitas` the codes of Brevitas' GPFQ at 4 bits as ONNX files, references alike. Networks are
those of a config; a store that holds them already spares their training. Printed are bytes, levels,
accuracy, and AUC and TPR by matched references; and for each pair of simulation and file the largest
difference of a logit, changed predictions, and the difference of AUC and TPR with 95 % intervals
from 1,000 bootstrap samples of the records, which all targets share.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bitleak import audit as library
from bitleak.config import read_config, validate
from bitleak.core.types import Outputs
from bitleak.engine.codecs import decode
from bitleak.engine.store import Store
from bitleak.metrics import roc
from bitleak.metrics.auc import auc
from bitleak.quantizers.obc import OBC
from bitleak.steps.attack_targets import AttackScores

FPR = 0.01
ATTACK = "rmia-online"
PAIRS = {"obc-16-file": "obc-4", "obc-4-file": "obc-2", "int8": "fp32", "gpfq-4": "obc-4"}
"""The variant that each file is compared with."""


def config(models: int) -> dict[str, Any]:
    tools = []
    for levels in (16, 4):
        options = {"quantizer": "obc", "levels": levels}
        tools.append(
            {"name": "tool", "call": "export", "label": f"obc-{levels}-file", "options": options}
        )
    return {
        "title": "files",
        "data": {"name": "hub", "path": "uoft-cs/cifar10", "limit": 1000, "held_out": 400},
        "split": {
            "mode": "population",
            "models": models,
            "targets": models // 2,
            "population": 100,
        },
        "model": {"name": "cnn", "width": 8},
        "train": {"epochs": 24, "batch": 32, "learning_rate": 0.1, "augment": ["flip"]},
        "calibration": {"source": "members", "records": 256},
        "quantize": [
            {"name": "obc", "levels": [16, 4]},
            *tools,
            {"name": "tool", "call": "onnxruntime", "label": "int8"},
        ],
        "attacks": ["rmia", "lira"],
        "references": ["matched"],
        "query": {"augment": ["identity"], "keep": "logits"},
        "fpr": [FPR],
        "power": False,
    }


def adapted(path: Path, brevitas: bool) -> dict[str, Any]:
    """Return the config of a file with the variants of this benchmark."""
    raw = read_config(path)
    for name in ("joint", "utility_matched", "calibration_inference", "headline"):
        raw.pop(name, None)
    preset = dict(OBC.PRESETS["quick"])
    tools = []
    for levels in (16, 4):
        options = {"quantizer": "obc", "levels": levels, **preset}
        tools.append(
            {"name": "tool", "call": "export", "label": f"obc-{levels}-file", "options": options}
        )
    tools.append({"name": "tool", "call": "onnxruntime", "label": "int8"})
    if brevitas:
        tools.append(
            {"name": "tool", "call": "brevitas", "label": "gpfq-4", "options": {"bits": 4}}
        )
    return {
        **raw,
        "quantize": [{"name": "obc", "levels": [16, 4], "preset": "quick"}, *tools],
        "attacks": [ATTACK, "lira-online-shrunk"],
        "references": ["fp32", "matched"],
        "query": {"augment": ["identity"], "keep": "logits"},
        "fpr": [FPR],
        "power": False,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--brevitas", action="store_true")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--out", type=Path, default=Path("files.csv"))
    options = parser.parse_args()
    start = time.perf_counter()
    raw = config(options.models)
    if options.config is not None:
        raw = adapted(options.config, options.brevitas)
    prepared = library.prepare(validate(raw), data=options.data)
    pairs = {
        file: plain for file, plain in PAIRS.items() if (file, "matched") in prepared.plan.scores
    }
    with tempfile.TemporaryDirectory() as folder:
        store = Store(options.store or Path(folder) / "store")
        out = Path(folder) / "out"
        report = library.audit(prepared, out=out, store=store, workers=options.workers)
        if report.failed:
            raise SystemExit(f"{len(report.failed)} tasks failed")
        print(f"{time.perf_counter() - start:.0f} s")
        _print_table(out / "results.csv")
        lines = [_compared(prepared, store, file, plain) for file, plain in pairs.items()]
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    for line in lines:
        print(", ".join(f"{key} {value}" for key, value in line.items()))


def _print_table(path: Path) -> None:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["target"] == "all"]
    for row in rows:
        if row["attack"] in ("", ATTACK) and row["reference"] in ("", "matched", "fp32"):
            interval = f" [{row['low']}, {row['high']}]" if row["low"] else ""
            print(f"{row['variant']}: {row['metric']} {row['value']}{interval} {row['verdict']}")


def _compared(prepared: Any, store: Store, file: str, plain: str) -> dict[str, Any]:
    """Return differences of logits, AUC and TPR, file minus simulation."""
    splits = decode("splits", store.read_key(prepared.plan.splits))
    outputs = [_outputs(prepared, store, variant) for variant in (file, plain)]
    difference, changed, count = 0.0, 0, 0
    for first, second in zip(*outputs, strict=True):
        for part in ("logits", "population_logits"):
            pair = getattr(first, part), getattr(second, part)
            difference = max(difference, float(np.abs(pair[0] - pair[1]).max()))
            changed += int((pair[0].argmax(-1) != pair[1].argmax(-1)).sum())
            count += pair[0][..., 0].size
    member = splits.member[list(prepared.plan.targets)]
    scores = [_scores(prepared, store, variant) for variant in (file, plain)]
    line = {
        "file": file,
        "compared with": plain,
        "largest difference of a logit": f"{difference:.2g}",
        "changed predictions": f"{changed} of {count}",
    }
    chance = np.random.default_rng(0)
    drawn = [chance.integers(0, member.shape[1], member.shape[1]) for _ in range(1000)]
    for name, figure in (("AUC", _mean_auc), (f"TPR at {FPR:g}", _mean_tpr)):
        value = figure(scores[0], member) - figure(scores[1], member)
        samples = []
        for records in drawn:
            first, second = (figure(part[:, records], member[:, records]) for part in scores)
            samples.append(first - second)
        low, high = np.quantile(samples, (0.025, 0.975))
        line[name] = f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"
    return line


def _outputs(prepared: Any, store: Store, variant: str) -> list[Outputs]:
    tasks = {task.label: task for task in prepared.plan.tasks}
    return [
        decode("outputs", store.read(tasks[f"query {variant} of model {row}"]))
        for row in prepared.plan.targets
    ]


def _scores(prepared: Any, store: Store, variant: str) -> np.ndarray:
    scores = prepared.plan.scores
    key = scores.get((variant, "matched"), scores.get((variant, "fp32")))
    return AttackScores.read(store.read_key(key)).of(ATTACK)


def _mean_auc(scores: np.ndarray, member: np.ndarray) -> float:
    pairs = zip(scores, member, strict=True)
    return float(np.mean([auc(roc(row, inside)) for row, inside in pairs]))


def _mean_tpr(scores: np.ndarray, member: np.ndarray) -> float:
    values = []
    for row, inside in zip(scores, member, strict=True):
        outside = np.sort(row[~inside])[::-1]
        values.append(float((row[inside] > outside[int(FPR * len(outside))]).mean()))
    return float(np.mean(values))


if __name__ == "__main__":
    main()
