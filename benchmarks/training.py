"""Speed of training and queries against the common loop, and the accuracy of the trained models.

    python benchmarks/training.py speed --data PATH        # CPU: images per second of one core, two networks
    python benchmarks/training.py query --data PATH        # CPU: the same for queries
    python benchmarks/training.py population --data PATH   # 20 models on two cores against one process, two threads
    python benchmarks/training.py profile --data PATH      # shares of a step's time
    python benchmarks/training.py accuracy --data PATH     # fit against a plain float32 loop, over seeds
    python benchmarks/training.py gpu --data PATH          # images per second summed over models, matrix rate, query

PATH is a folder with CIFAR-10 as Parquet files in the Hub's layout. Every measurement is a process
of its own, with one thread unless stated otherwise; the sides take turns, `--repeats` times. Rates
on the CPU are per second of processor time, so that a busy machine disturbs them little. The median
over the repeats is shown; the JSON that `--json` writes has all of them.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import yaml
from scipy import stats
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
import common_loop

from bitleak import audit
from bitleak.config import validate
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, ModelSpec, Splits
from bitleak.data.array_images import channel_statistics
from bitleak.data.augment import augmented, standardize
from bitleak.engine.execution import run_tasks
from bitleak.engine.graph import Graph
from bitleak.engine.malloc import keep_freed_memory
from bitleak.engine.store import Store
from bitleak.models import build, load, profile
from bitleak.models.fused_network import fused
from bitleak.query import logits, outputs
from bitleak.registry import DATASETS, EXECUTORS, find
from bitleak.train.fit import fit, record_batches, settled
from bitleak.train.recipe import Arithmetic, Recipe, rate_at

NETWORKS: dict[str, dict[str, Any]] = {"cnn": {"width": 16}, "resnet18": {}}
"""The network of `examples/cifar10-small.yaml`, and the paper's."""

IMAGES = {"cnn": 2048, "resnet18": 256}
"""Images per epoch of a measurement; the second of two epochs is timed."""

QUERIES = ("identity", "flip")


def cifar(data: Path, cache: Path) -> Images:
    """CIFAR-10, or CIFAR-100 by its fine labels, decoded once per run of this script."""
    stored = cache / "pixels.npy"
    if not stored.exists():
        if not data.is_dir():
            raise SystemExit(f"--data must be a folder with CIFAR-10 as Parquet, got {data}")
        columns = pq.read_schema(next(data.rglob("*.parquet"))).names
        label = "fine_label" if "fine_label" in columns else "label"
        hub = find(DATASETS, "hub", kind="data set")
        images = hub(path="a local folder", label=label).load(data)
        np.save(cache / "labels.npy", images.labels)
        np.save(cache / "held_out.npy", images.held_out)
        np.save(stored, images.pixels)
    pixels = np.load(stored, mmap_mode="r")
    labels, held_out = (np.load(cache / f"{name}.npy") for name in ("labels", "held_out"))
    classes = tuple(map(str, range(int(labels.max()) + 1)))
    return Images(pixels, labels, classes, held_out)


def spec_of(name: str, images: Images) -> ModelSpec:
    """The network's spec with the training images' statistics."""
    mean, std = channel_statistics(images, np.flatnonzero(~images.held_out)[:10_000])
    classes = len(images.class_names)
    return ModelSpec(name, NETWORKS[name], classes, channels=3, size=32, mean=mean, std=std)


class Clock:
    """Processor and wall seconds since the end of the first epoch."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float]] = []

    def __call__(self, epoch: int, loss: float) -> None:
        """Record the time; takes the arguments of `on_epoch` of `fit`."""
        self.marks.append((time.process_time(), time.perf_counter()))

    def rates(self, images: int) -> dict[str, float]:
        """Return images per processor second and per second, from the second epoch on."""
        (cpu, wall), (cpu_end, wall_end) = self.marks[0], self.marks[-1]
        seen = images * (len(self.marks) - 1)
        return {"per_cpu_second": seen / (cpu_end - cpu), "per_second": seen / (wall_end - wall)}


def measure_training(
    side: str, name: str, images: Images, autocast: Arithmetic, device: str = "cpu", count: int = 0
) -> dict[str, float]:
    """Measure the rates of one side: `bitleak`, or `common`, in float32 on a CPU, with a loader's
    worker processes on a GPU.
    """
    spec, members = spec_of(name, images), np.arange(count or IMAGES[name])
    gpu = device != "cpu"
    recipe = Recipe(epochs=2, batch=128, augment=("crop", "flip"), autocast=autocast)
    clock = Clock()
    if side == "bitleak":
        keep_freed_memory()
        fit(images, members, recipe, spec=spec, seed=0, device=device, on_epoch=clock)
    else:
        photos = common_loop.Photos(
            images, members, spec, [common_loop.cropped, common_loop.flipped]
        )
        workers = 8 if gpu else 0
        common_loop.train(
            build(spec, seed=0), photos, recipe, device=device, workers=workers, on_epoch=clock
        )
    return clock.rates(len(members))


def measure_query(
    side: str, name: str, images: Images, device: str = "cpu", count: int = 0
) -> dict[str, float]:
    """Measure the answers per second of one side, after a warm-up pass over some of the images."""
    spec = spec_of(name, images)
    network, records = build(spec, seed=0), np.arange(count or 2 * IMAGES[name])
    ready = fused(network)  # as an audit asks it
    batch = 64 if device == "cpu" else 1000

    def ask(rows: np.ndarray) -> None:
        if side == "bitleak":
            no_rows = np.arange(0)
            splits = Splits(
                "population",
                rows,
                np.zeros((2, len(rows)), bool),
                np.array([0]),
                no_rows,
                no_rows,
                no_rows,
            )
            outputs(ready, images, splits, spec=spec, queries=QUERIES, batch=batch, device=device)
            return
        for transforms in ([], [common_loop.mirrored]):
            photos = common_loop.Photos(images, rows, spec, transforms)
            common_loop.ask(
                network, photos, batch=batch, device=device, workers=0 if device == "cpu" else 8
            )

    if side == "bitleak":
        keep_freed_memory()
    clock = Clock()
    for rows in (records[:128], records):
        ask(rows)
        clock(0, 0.0)
    return clock.rates(len(QUERIES) * len(records))


def measure_matrices(device: str, dtype: torch.dtype, size: int) -> float:
    """Measure floating-point operations per second of the product of two square matrices: the best
    of 10.
    """
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    clock = time.process_time if device == "cpu" else time.perf_counter
    best = float("inf")
    for _ in range(10):
        _wait(device)
        start = clock()
        left @ right
        _wait(device)
        best = min(best, clock() - start)
    return 2 * size**3 / best


def measure_population(kind: str, workers: int, threads: int, folder: Path) -> None:
    """Train the 20 models of the prepared store in `folder`."""
    from dataclasses import replace

    prepared = _population(os.environ["BENCHMARK_POPULATION"], Path(os.environ["BENCHMARK_DATA"]))
    trained = [task for task in prepared.plan.tasks if task.stage in ("images", "splits", "train")]
    graph = Graph(trained, wanted=[task.key for task in trained if task.stage == "train"])
    if kind == "serial":
        keep_freed_memory()  # as every worker of `processes` does
    executor = find(EXECUTORS, kind, kind="executor")(
        str(folder), replace(prepared.runtime, threads=threads), workers
    )
    report = run_tasks(graph, Store(folder), executor)
    executor.close()
    if report.failed:
        raise SystemExit(report.failed[0].text)


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Measure CPU images per second per core, and the processor's maximum in the arithmetic of the
    training.
    """
    results: dict[str, Any] = {"matrices": _child(options, "matrices")}
    rate, arithmetic = results["matrices"]["flops"], results["matrices"]["arithmetic"]
    for name in options.networks:
        results[name] = _sides(options, "training", name)
        work = (
            6
            * profile(
                ModelSpec(name, NETWORKS[name], 10, 3, 32, (0.5,) * 3, (0.5,) * 3)
            ).multiply_adds
        )
        results[name]["most"] = rate / work
        print(
            f"  at the rate of its matrix products, {rate / 1e9:.0f} GFLOP/s in {arithmetic}, this core could do"
        )
        print(f"  {results[name]['most']:.0f} images/s of {name}", flush=True)
    return results


def query(options: argparse.Namespace) -> dict[str, Any]:
    """Measure CPU answers per second per core."""
    return {name: _sides(options, "query", name) for name in options.networks}


def population(options: argparse.Namespace) -> dict[str, Any]:
    """Measure wall seconds of 20 trainings, with the sides in turns."""
    runs: dict[str, list[dict[str, float]]] = {"two processes": [], "one process, two threads": []}
    sides = {"two processes": ("processes", 2, 1), "one process, two threads": ("serial", 1, 2)}
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready"
        prepared = _population(options.population, options.data)
        serial = find(EXECUTORS, "serial", kind="executor")(str(ready), prepared.runtime)
        run_tasks(
            Graph([t for t in prepared.plan.tasks if t.stage in ("images", "splits")]),
            Store(ready),
            serial,
        )
        for repeat in range(options.repeats):
            for side, arguments in sides.items():
                store = Path(folder) / f"{side}-{repeat}".replace(" ", "-")
                copytree(ready, store)
                runs[side].append(_timed([*map(str, ("_population", *arguments, store))], options))
                print(f"{side}: {runs[side][-1]}", flush=True)
    wall = {
        side: statistics.median(run["seconds"] for run in of_side) for side, of_side in runs.items()
    }
    print(
        f"one process, two threads / two processes: {wall['one process, two threads'] / wall['two processes']:.2f} x"
    )
    return runs


def accuracy(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the test accuracy of `fit` and of a plain loop with the same seeds, and the paired
    difference with its t interval.
    """
    seeds = [_child(options, "accuracy", str(seed)) for seed in range(options.seeds)]
    for seed, pair in enumerate(seeds):
        print(f"seed {seed}: fit {pair['fit']:.2f} %, plain loop {pair['plain']:.2f} %", flush=True)
    difference = np.array([pair["fit"] - pair["plain"] for pair in seeds])
    half = stats.t.ppf(0.975, len(seeds) - 1) * difference.std(ddof=1) / len(seeds) ** 0.5
    print(
        f"fit - plain: {difference.mean():+.2f} points, 95 % t interval +- {half:.2f}, {len(seeds)} seeds"
    )
    return {"seeds": seeds, "mean": difference.mean(), "half_width": half}


def measure_accuracy(
    images: Images, seed: int, members: int, epochs: int, autocast: Arithmetic
) -> dict[str, float]:
    """Measure the test accuracy in percent of both, on all held-out records."""
    keep_freed_memory()
    spec, test = spec_of("cnn", images), np.flatnonzero(images.held_out)
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(~images.held_out))[:members]
    recipe = Recipe(
        epochs=epochs, batch=128, learning_rate=0.1, augment=("flip",), autocast=autocast
    )
    networks = {
        "fit": load(fit(images, chosen, recipe, spec=spec, seed=seed)),
        "plain": plain_loop(images, chosen, recipe, spec, seed),
    }
    accuracies = {}
    for name, network in networks.items():
        predicted = logits(network, images, test, spec=spec, batch=500).argmax(axis=1)
        accuracies[name] = 100 * float((predicted == images.labels[test]).mean())
    return accuracies


def plain_loop(
    images: Images, members: np.ndarray, recipe: Recipe, spec: ModelSpec, seed: int
) -> nn.Module:
    """Train by the recipe in plain float32: no layout, no fused optimiser; the same initialisation,
    order and draws.
    """
    network = build(spec, seed=seed_for(seed, "initialisation")).train()
    pixels, labels = (
        torch.from_numpy(images.pixels[members]),
        torch.from_numpy(images.labels[members]),
    )
    order = torch.Generator().manual_seed(seed_for(seed, "order"))
    chance = torch.Generator().manual_seed(seed_for(seed, "augment"))
    velocity = [torch.zeros_like(value) for value in network.parameters()]
    for epoch in range(recipe.epochs):
        for chosen in record_batches(torch.randperm(len(members), generator=order), recipe.batch):
            inputs = standardize(
                augmented(pixels[chosen], recipe.augment, chance), spec.mean, spec.std
            )
            loss = nn.functional.cross_entropy(network(inputs), labels[chosen])
            network.zero_grad()
            loss.backward()
            with torch.no_grad():
                for value, moving in zip(network.parameters(), velocity, strict=True):
                    moving.mul_(recipe.momentum).add_(value.grad + recipe.weight_decay * value)
                    value.sub_(rate_at(recipe, epoch) * moving)
    return network.eval()


def profiled(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the shares of a step's time by kind of operation, and the time of a step of 2 images,
    which does not scale.
    """
    return {name: _child(options, "profile", name) for name in options.networks}


def measure_profile(name: str, images: Images, autocast: Arithmetic) -> dict[str, Any]:
    """Measure the table of one network."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as watch

    keep_freed_memory()
    spec = spec_of(name, images)

    def trained(count: int, batch: int) -> float:
        clock = Clock()
        recipe = Recipe(epochs=3, batch=batch, augment=("crop", "flip"), autocast=autocast)
        fit(images, np.arange(count), recipe, spec=spec, seed=0, on_epoch=clock)
        return batch / clock.rates(count)["per_cpu_second"]

    seconds = {batch: trained(4 * batch, batch) for batch in (2, 128)}
    with watch(activities=[ProfilerActivity.CPU]) as trace:
        recipe = Recipe(epochs=1, batch=128, augment=("crop", "flip"), autocast=autocast)
        fit(images, np.arange(512), recipe, spec=spec, seed=0)
    groups: dict[str, float] = {}
    for event in trace.key_averages():
        groups[_group(event.key)] = groups.get(_group(event.key), 0.0) + event.self_cpu_time_total
    total = sum(groups.values())
    print(
        f"{name}, batch 128: a step takes {1000 * seconds[128]:.1f} ms; one of 2 images {1000 * seconds[2]:.2f} ms"
    )
    for group, spent in sorted(groups.items(), key=lambda item: -item[1]):
        print(f"  {100 * spent / total:5.1f} %  {group}")
    return {
        "seconds_per_step": seconds,
        "shares": {group: spent / total for group, spent in groups.items()},
    }


GROUPS = {
    "convolution, backward": ("convolution_backward", "aten::mm", "aten::bmm"),
    "convolution, forward": ("mkldnn_convolution", "convolution"),
    "batch norm": ("batch_norm",),
    "ReLU and addition": ("threshold", "clamp", "relu", "aten::add"),
    "batches, and conversions between types": (
        "index", "copy_", "where", "flip", "pad", "div", "sub", "rand", "fill", "unfold", "constant",
    ),
    "optimiser": ("sgd",),
}  # fmt: skip


def _group(key: str) -> str:
    for group, parts in GROUPS.items():
        if any(part in key.lower() for part in parts) and not key.startswith("autograd::"):
            return group
    return "everything else: Python, autograd, views, allocation"


def gpu(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the GPU's lines: matrix rate, training summed over simultaneous models, and the
    query.
    """
    device = options.device
    if device != "cpu" and not torch.cuda.is_available():
        raise SystemExit("the GPU's lines need a CUDA device, and PyTorch finds none here")
    name = options.networks[-1]
    images = cifar(options.data, options.cache)
    work = 6 * profile(spec_of(name, images)).multiply_adds
    results = unfinished(options)
    if not results:
        results["device"] = "cpu" if device == "cpu" else torch.cuda.get_device_name()
        side = 512 if device == "cpu" else 8192
        results["bfloat16_flops"] = measure_matrices(device, torch.bfloat16, side)
        keep_unfinished(options, results)
    rate = results["bfloat16_flops"]
    print(f"{results['device']}: {rate / 1e12:.0f} TFLOP/s in bfloat16 matrix products", flush=True)
    records = options.count or len(images.labels)

    # The common loop, then several models at a time; a line that an earlier run measured is kept.
    for job, count in (("training", min(records, 25_000)), ("query", records)):
        measured = results.setdefault(job, {})
        if "common" not in measured:
            short = count if job == "query" else min(count, 12_800)
            common = _child(options, job, "common", name, device, str(short))
            measured["common"] = common["per_second"]
            keep_unfinished(options, results)
        print(f"{job}, common loop: {measured['common']:.0f} images/s", flush=True)
        for models in map(str, options.models):
            if models not in measured:
                together = _children(options, int(models), job, "bitleak", name, device, str(count))
                measured[models] = sum(child["per_second"] for child in together)
                keep_unfinished(options, results)
            total, share = measured[models], ""
            if job == "training":
                results.setdefault("share_of_matrix_rate", {})[models] = total * work / rate
                share = f", {100 * total * work / rate:.0f} % of the matrix rate"
            times = total / measured["common"]
            print(
                f"{job}, {models} at a time: {total:.0f} images/s, {times:.1f} x{share}", flush=True
            )
    return results


def unfinished(options: argparse.Namespace) -> dict[str, Any]:
    """Return the results of an interrupted run with the same `--json`; empty if there is none."""
    if options.json is None or not _unfinished_file(options).exists():
        return {}
    return json.loads(_unfinished_file(options).read_text())


def keep_unfinished(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Keep results for the next run with the same `--json`."""
    if options.json is not None:
        aside = options.json.with_suffix(".part")
        aside.write_text(json.dumps(results))
        aside.replace(_unfinished_file(options))


def _unfinished_file(options: argparse.Namespace) -> Path:
    return options.json.with_suffix(".unfinished.json")


def _sides(options: argparse.Namespace, job: str, name: str) -> dict[str, Any]:
    """Run both sides in turns and print the medians."""
    runs: dict[str, list[dict[str, float]]] = {"common": [], "bitleak": []}
    for _ in range(options.repeats):
        for side, of_side in runs.items():
            of_side.append(_child(options, job, side, name))
    rate = {
        side: statistics.median(run["per_cpu_second"] for run in of_side)
        for side, of_side in runs.items()
    }
    ratio = rate["bitleak"] / rate["common"]
    print(
        f"{job} of {name}, images per second of one core: bitleak {rate['bitleak']:.0f}, common loop ",
        end="",
    )
    print(f"{rate['common']:.0f}: {ratio:.2f} x", flush=True)
    return {**runs, "ratio": ratio}


def _child(options: argparse.Namespace, *arguments: str) -> Any:
    return _children(options, 1, *arguments)[0]


def _children(options: argparse.Namespace, count: int, *arguments: str) -> list[Any]:
    """Return the JSON in the last lines of processes of this script that run at the same time."""
    cifar(options.data, options.cache)
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen(_command(options, arguments), stdout=subprocess.PIPE, text=True)
            )
            for _ in range(count)
        ]
        printed = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit(f"{' '.join(arguments)} failed; see above")
    for text in printed:
        print(
            "\n".join(text.splitlines()[:-1]), end="\n" if "\n" in text.strip() else "", flush=True
        )
    return [json.loads(text.splitlines()[-1]) for text in printed]


def _command(options: argparse.Namespace, arguments: Sequence[str]) -> list[str]:
    shared = [
        "--data",
        str(options.data),
        "--cache",
        str(options.cache),
        "--members",
        str(options.members),
    ]
    shared += ["--epochs", str(options.epochs), "--autocast", options.autocast]
    return [sys.executable, __file__, "_child", *arguments, *shared]


def _timed(arguments: list[str], options: argparse.Namespace) -> dict[str, float]:
    """Return the wall seconds of a process of this script with all its children, and their
    processor seconds.
    """
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {
        **os.environ,
        "BENCHMARK_DATA": str(options.data),
        "BENCHMARK_POPULATION": options.population,
    }
    subprocess.run(
        [sys.executable, __file__, *arguments, "--data", str(options.data)],
        check=True,
        env=environment,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(time.perf_counter() - start, 2), "cpu_seconds": round(cpu, 2)}


def _population(kind: str, data: Path) -> audit.Prepared:
    """Describe 20 models: of the small network on CIFAR-10, one epoch of 2,000 images each, or
    those of the demo.
    """
    if kind == "demo":
        demo = yaml.safe_load(
            resources.files("bitleak").joinpath("demo.yaml").read_text(encoding="utf-8")
        )
        return audit.prepare(
            validate({**demo, "split": {**demo["split"], "models": 20}}), device="cpu"
        )
    config = {
        "data": {"name": "hub", "path": "uoft-cs/cifar10", "limit": 4000, "held_out": 200},
        "split": {"mode": "population", "models": 20, "targets": 2, "population": 50},
        "model": {"name": "cnn", "width": 16},
        "train": {"epochs": 1, "batch": 128, "augment": ["flip"], "autocast": "auto"},
        "quantize": [{"name": "rtn", "levels": 4}],
        "seed": 0,
    }
    return audit.prepare(validate(config), data=data, device="cpu")


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _run_child(options: argparse.Namespace) -> Any:
    torch.set_num_threads(1)
    job, *rest = options.rest
    if job == "matrices":
        arithmetic = settled(Recipe(autocast=options.autocast), "cpu").autocast
        dtype = torch.bfloat16 if arithmetic == "bfloat16" else torch.float32
        return {
            "flops": measure_matrices("cpu", dtype, 1024),
            "arithmetic": str(dtype).removeprefix("torch."),
        }
    images = cifar(options.data, options.cache)
    if job in ("training", "query"):
        side, name, *more = rest
        device, count = (more[0], int(more[1])) if more else ("cpu", 0)
        if job == "query":
            return measure_query(side, name, images, device, count)
        return measure_training(side, name, images, options.autocast, device, count)
    if job == "profile":
        return measure_profile(rest[0], images, options.autocast)
    return measure_accuracy(images, int(rest[0]), options.members, options.epochs, options.autocast)


JOBS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "speed": speed,
    "query": query,
    "population": population,
    "profile": profiled,
    "accuracy": accuracy,
    "gpu": gpu,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", choices=[*JOBS, "_child", "_population"])
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--cache", type=Path, help="where the decoded images lie; a temporary folder unless given"
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--members", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument(
        "--population", choices=["cifar10", "demo"], default="cifar10", help="which 20 models"
    )
    parser.add_argument(
        "--autocast", default="auto", help="of this package's trainings: none, bfloat16 or auto"
    )
    parser.add_argument(
        "--models", type=int, nargs="+", default=[1, 2, 4], help="models at a time on the GPU"
    )
    parser.add_argument("--device", default="cuda", help="of `gpu`: cuda, or cpu for a test")
    parser.add_argument("--count", type=int, help="of `gpu`: images; all of PATH unless given")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    options = _options()
    if options.job == "_population":
        kind, workers, threads, folder = options.rest
        measure_population(kind, int(workers), int(threads), Path(folder))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.cache = options.cache or Path(folder)
        options.cache.mkdir(parents=True, exist_ok=True)
        if options.job == "_child":
            print(json.dumps(_run_child(options)))
            return
        results = {options.job: JOBS[options.job](options)}
    results["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }
    results["torch"] = torch.__version__
    if options.json:
        options.json.write_text(json.dumps(results, indent=1, default=float))
        _unfinished_file(options).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
