"""Memory of the driver and its workers, by the number of models.

    python -m benchmarks.memory --models 16,32,64 --records 50000

makes a store as if that many models had been trained and queried on that many records (synthetic
answers: members are a little more confident), and runs the rest of the audit: attacks, measures,
report. No image is read and no network is trained, so this takes minutes. Peaks are those of the
processes, as the kernel counts them: `VmHWM`, mapped files and libraries included, and the largest
anonymous part (`RssAnon`), sampled every 20 ms.

    python -m benchmarks.memory --models 16,64 --alone

runs the attacks on one target, each number of models in a process of its own without PyTorch:
seconds, and the peak of every attack.
"""

import argparse
import json
import multiprocessing
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from bitleak.attacks import attack_view, expand
from bitleak.core.spill import stack_arrays
from bitleak.core.types import SIGNALS, Outputs
from bitleak.engine.artifacts import read_artifact, write_artifact
from bitleak.engine.memory import forget_peak, peak_memory

CLASSES = 10
SIDE = 8
HELD_OUT = 6000


def config(models: int, targets: int, attacks: list[str], data: Path) -> dict:
    return {
        "title": "memory",
        "data": {"name": "arrays", "path": str(data)},
        "split": {"models": models, "targets": targets, "population": 5000},
        "model": {"name": "cnn", "width": 4},
        "train": {"epochs": 1},
        "quantize": [],
        "attacks": attacks,
        "references": ["fp32"],
        "fpr": [0.001, 0.01],
        "query": {"augment": ["identity", "flip"]},
    }


def write_data(folder: Path, records: int) -> Path:
    """Write a data set of the right size whose images are noise."""
    generator = np.random.default_rng(0)
    parts = {}
    for prefix, count in (("", records), ("test_", HELD_OUT)):
        parts[f"{prefix}pixels"] = generator.integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8)
        parts[f"{prefix}labels"] = np.arange(count) % CLASSES
    np.savez(folder / "data.npz", **parts)
    return folder / "data.npz"


def answer(
    member: np.ndarray,
    hardness: np.ndarray,
    population: int,
    test: int,
    generator: np.random.Generator,
) -> Outputs:
    """Return answers of a model that is a little more confident of its members."""

    def signals(mean: np.ndarray) -> np.ndarray:
        confidence = generator.normal(mean[:, None], 1.0, (len(mean), 2))
        log_true, log_other = -np.logaddexp(0, -confidence), -np.logaddexp(0, confidence)
        share = np.exp(log_true)
        entropy = -share * log_true - (1 - share) * log_other
        parts = [
            log_true,
            confidence,
            confidence,
            entropy,
            -2 * (1 - share) * log_true,
            confidence > 0,
        ]
        assert len(parts) == len(SIGNALS)
        return np.stack(parts, axis=-1).astype(np.float64)

    return Outputs(
        signals(hardness + member),
        signals(generator.normal(2.0, 1.0, population)),
        generator.integers(0, CLASSES, test),
    )


def fill(prepared: Any, store: Any) -> None:
    """Write the results of trainings and queries."""
    from bitleak.data.array_files import Arrays
    from bitleak.data.splits import make_splits
    from bitleak.engine.codecs import encode

    sizes, config_ = prepared.plan.scale, prepared.config
    images = Arrays(config_.data.options["path"]).load(None)
    split = make_splits(
        images, **next(task.params for task in prepared.plan.tasks if task.stage == "splits")
    )
    hardness = np.random.default_rng(1).normal(2.0, 1.0, sizes.pool)
    for task in prepared.plan.tasks:
        if task.stage == "images":
            store.write(task, encode(images), {})
        elif task.stage == "splits":
            store.write(task, encode(split), {})
        elif task.stage == "query":
            model = int(task.label.split()[-1])
            generator = np.random.default_rng([2, model])
            answers = answer(
                split.member[model], hardness, sizes.population, len(split.test), generator
            )
            store.write(task, encode(answers), {})
        elif task.stage == "weigh":
            store.write(task, {"bytes": 1e5, "bits_per_weight": 32.0}, {})


class Peaks:
    """Largest anonymous memory of this process and of its workers, sampled."""

    def __init__(self) -> None:
        self.driver = self.workers = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Peaks":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.driver = max(self.driver, anonymous("self"))
            for child in multiprocessing.active_children():
                self.workers = max(self.workers, anonymous(str(child.pid)))


def anonymous(process: str) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def measure(
    models: int, arguments: argparse.Namespace, data: Path, folder: Path
) -> dict[str, object]:
    from bitleak import audit as library
    from bitleak.config import validate
    from bitleak.engine.store import Store

    raw = config(models, arguments.targets, arguments.attacks.split(","), data)
    prepared = library.prepare(validate(raw), device="cpu")
    store = Store(folder / f"store-{models}")
    fill(prepared, store)
    start = time.perf_counter()
    forget_peak()
    with Peaks() as peaks:
        report = library.audit(
            prepared, out=folder / f"out-{models}", store=store, workers=arguments.workers
        )
    assert not report.failed, report.failed
    seconds = time.perf_counter() - start
    driver = peak_memory()
    found: dict[str, int] = {}
    for entry in store.ls():
        peak = entry.manifest["runtime"].get("peak_memory", 0)
        found[entry.stage] = max(found.get(entry.stage, 0), peak)
    return {
        "models": models,
        "records": prepared.plan.scale.pool,
        "seconds": round(seconds, 1),
        "answers": sum(size for stage, (_, size) in store.sizes().items() if stage == "query"),
        "worker by stage": {stage: peak for stage, peak in found.items() if peak},
        "worker, anonymous": peaks.workers,
        "driver": driver,
        "driver, anonymous": peaks.driver,
    }


def alone(models: int, records: int, names: str) -> None:
    """Print the peak of every attack on one target; each step is a process of its own, and starts
    with no memory.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="bitleak-memory-") as temporary:
        for step in (write_answers, attack_answers):
            process = context.Process(target=step, args=(Path(temporary), models, records, names))
            process.start()
            process.join()


def write_answers(folder: Path, models: int, records: int, names: str) -> None:
    """Write answers as a store keeps them, and the membership."""
    generator = np.random.default_rng(0)
    member = np.zeros((models, records), bool)
    for row in range(0, models, 2):
        member[row, generator.permutation(records)[: records // 2]] = True
        member[row + 1] = ~member[row]
    hardness = generator.normal(2.0, 1.0, records)
    write_artifact(folder, "member", member)
    for row in range(models):
        answers = answer(member[row], hardness, 5000, 1, generator)
        write_artifact(folder, f"signals-{row}", answers.signals)
        write_artifact(folder, f"population-{row}", answers.population_signals)


def attack_answers(folder: Path, models: int, records: int, names: str) -> None:
    """Attack the first model, whose complement is the second."""
    start = time.process_time()
    forget_peak()
    peaks = {"before": peak_memory()}
    signals, population = (
        [read_artifact(folder / f"{name}-{row}.npy") for row in range(models)]
        for name in ("signals", "population")
    )
    view = attack_view(
        target=signals[0],
        references=stack_arrays(signals[2:]),
        member=np.array(read_artifact(folder / "member.npy")[2:]),
        use=np.ones((models - 2, records), bool),
        population_target=population[0],
        population_references=stack_arrays(population[2:]),
        labels=np.zeros(records, np.int64),
    )
    for attack in [each for name in names.split(",") for each in expand(name)]:
        forget_peak()
        attack(view)
        peaks[attack.name] = peak_memory()
    seconds = round(time.process_time() - start, 1)
    print(json.dumps({"models": models, "CPU seconds": seconds, "peaks": peaks}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="16,32,64")
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--targets", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--attacks", default="lira,rmia,threshold")
    parser.add_argument("--alone", action="store_true")
    arguments = parser.parse_args()
    if arguments.alone:
        for models in map(int, arguments.models.split(",")):
            alone(models, arguments.records, arguments.attacks)
        return
    with tempfile.TemporaryDirectory(prefix="bitleak-memory-") as temporary:
        data = write_data(Path(temporary), arguments.records)
        for models in map(int, arguments.models.split(",")):
            print(json.dumps(measure(models, arguments, data, Path(temporary))), flush=True)


if __name__ == "__main__":
    main()
