"""An audit from config to report: what the command line calls, and what a notebook may call.

```
prepared = prepare(config, data=None, device="cpu")       # reads no pixels, computes nothing
result = audit(prepared, out=Path("audit"), store=Path("bitleak-store"))
```
"""

import os
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml

from bitleak import registry
from bitleak.config import Config, resolved
from bitleak.core.errors import ConfigError, ModelError, StoreError
from bitleak.core.types import Description, Measure, ModelSpec, Row
from bitleak.engine.graph import Graph
from bitleak.engine.keys import Task
from bitleak.engine.manifest import load_manifest
from bitleak.engine.run import Report, run
from bitleak.engine.store import Store
from bitleak.engine.threads import usable_cores
from bitleak.engine.worker import Runtime
from bitleak.metrics import headline_fpr
from bitleak.models import profile
from bitleak.plan import NetworkSize, Plan, plan
from bitleak.report import RocCurve, Summary, VariantSummary, headline, write_all

EXECUTOR_MEMORY = 700 << 20
"""Bytes that a worker takes before it has read anything: the interpreter and PyTorch."""


@dataclass(frozen=True)
class Prepared:
    """An audit that has been checked as far as it can be without computing.

    Attributes:
        config: The validated config.
        description: The data set, undecoded.
        network: Size of the network.
        plan: All tasks.
        runtime: Where it runs.
    """

    config: Config
    description: Description
    network: NetworkSize
    plan: Plan
    runtime: Runtime


@dataclass(frozen=True)
class Forecast:
    """What is left to do, and what it should take.

    Attributes:
        todo: Tasks to do by stage, and how many are in the store already: (to do, cached).
        seconds: Expected seconds of the tasks to do, on one worker.
        hours: Expected hours with the given number of workers.
        disk: Expected bytes to be written.
        free: Bytes free where the store is.
        memory: Expected peak memory of all workers in bytes.
        measured: Whether the seconds were corrected by what the store's manifests say.
    """

    todo: Mapping[str, tuple[int, int]]
    seconds: float
    hours: float
    disk: int
    free: int
    memory: int
    measured: bool


def prepare(config: Config, *, data: Path | None = None, device: str = "auto") -> Prepared:
    """Checks data set, network and sizes, and makes the plan.

    Args:
        config: A validated config.
        data: A local folder or file that takes the place of the config's data set.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: The data set cannot be described, the network does not fit, the sizes do not add
            up, or there is no such device.
    """
    device = resolve_device(device)
    dataset = registry.find(registry.DATASETS, config.data.name, kind="data set")(**config.data.options)
    description = dataset.describe(data)
    name, options = config.model
    unit = (0.5,) * description.channels
    spec = ModelSpec(name, options, description.classes, description.channels, description.size, mean=unit, std=unit)
    try:
        found = profile(spec)
    except ModelError as error:
        raise ConfigError(f"model: {error}") from None
    for entry in config.quantize:
        _check_patterns(entry.variant, entry.options.get("layers") or {}, list(found.layers))
    network = NetworkSize(found.parameters, found.multiply_adds, len(found.layers))
    runtime = Runtime(
        device=device,
        data=str(data) if data is not None else None,
        path=config.data.options.get("path"),
    )
    return Prepared(config, description, network, plan(config, description, network, device=device), runtime)


def resolve_device(device: str) -> str:
    """The device's name, `auto` resolved.

    Raises:
        ConfigError: There is no such device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"--device must be auto, cpu, cuda or cuda:N, got {device!r}") from None
    if kind.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device must be auto, cpu, cuda or cuda:N, got {device!r}")
    count = torch.cuda.device_count()
    if kind.type == "cuda" and (kind.index or 0) >= count:
        raise ConfigError(f"--device {device}: PyTorch finds {count} CUDA devices here; use --device cpu")
    return device


def forecast(prepared: Prepared, store: Store | None, *, workers: int) -> Forecast:
    """What is left to do, and what it should take, with rates from the store where it has any.

    Args:
        prepared: What `prepare` gave.
        store: The store; None is one that does not exist yet, in the current folder.
        workers: Number of processes.
    """
    graph = Graph(prepared.plan.tasks, wanted=prepared.plan.results)
    pending = graph.pending(store) if store else list(graph.tasks.values())
    open_keys = {task.key for task in pending}
    todo: dict[str, tuple[int, int]] = {}
    for task in graph.tasks.values():
        left, cached = todo.get(task.stage, (0, 0))
        todo[task.stage] = (left + 1, cached) if task.key in open_keys else (left, cached + 1)
    ratios = measured_rates(graph, store) if store else {}
    costs = [task.cost * ratios.get(_kind(task), 1.0) for task in pending]
    seconds = float(sum(costs))
    return Forecast(
        todo=todo,
        seconds=seconds,
        hours=max(seconds / workers, max(costs, default=0.0)) / 3600,
        disk=sum(prepared.plan.bytes[task.key] for task in pending),
        free=shutil.disk_usage(store.root if store else Path()).free,
        memory=workers * (EXECUTOR_MEMORY + peak_memory(prepared)),
        measured=bool(ratios),
    )


def measured_rates(graph: Graph, store: Store) -> dict[str, float]:
    """Measured over expected seconds of the finished tasks, by kind of task."""
    sums: dict[str, tuple[float, float]] = {}
    for task in graph.tasks.values():
        if store.has(task) and task.cost > 0:
            seconds = load_manifest(store.path(task))["runtime"].get("seconds", 0.0)
            measured, expected = sums.get(_kind(task), (0.0, 0.0))
            sums[_kind(task)] = (measured + seconds, expected + task.cost)
    return {kind: measured / expected for kind, (measured, expected) in sums.items()}


def peak_memory(prepared: Prepared) -> int:
    """Expected bytes that the largest task of a worker takes, on top of the interpreter."""
    sizes, config = prepared.plan.sizes, prepared.config
    pixels = prepared.description.channels * prepared.description.size**2
    answers = 8 * 6 * len(config.query.augment) * (sizes.pool + sizes.population)
    attack = answers * (len(prepared.plan.references) + 2) * 2
    shown = max((entry.calibration.records for entry in config.quantize), default=0)
    quantize = shown * pixels * 4 * 64
    return max(attack, quantize, 4 * prepared.network.parameters * 6) + pixels * (sizes.pool + sizes.test)


def audit(
    prepared: Prepared,
    *,
    out: Path,
    store: Store,
    executor: str = "processes",
    workers: int | None = None,
    on_event: Callable[[Any], None] = lambda event: None,
) -> Report:
    """Does what is missing and, if nothing failed, writes the report.

    Args:
        prepared: What `prepare` gave.
        out: Folder for the tables, figures and page; made where it is missing.
        store: Where finished work is, and goes.
        executor: A name of the registry's `EXECUTORS`.
        workers: Number of processes; None is one per core on a CPU, one on a GPU.
        on_event: Called with the engine's events.

    Returns:
        What was done, cached, failed and not run.

    Raises:
        InputError: The disk is too small, a task found the input wrong, or `out` cannot be written.
        KeyboardInterrupt: Passed on, after the workers have gone.
    """
    check_out(out)
    count = worker_count(prepared, workers)
    expected = forecast(prepared, store, workers=count)
    if expected.disk > expected.free:
        raise StoreError(
            f"store {store.root}: the audit needs about {expected.disk / 1e9:.1f} GB, but only "
            f"{expected.free / 1e9:.1f} GB are free; free some space or give another --store"
        )
    graph = Graph(prepared.plan.tasks, wanted=prepared.plan.results)
    kind = registry.find(registry.EXECUTORS, executor, kind="executor")
    runner = kind(str(store.root), prepared.runtime, count)
    report = run(graph, store, runner, on_event=on_event)
    runner.close()
    if not report.failed:
        write_results(prepared, store, out)
    return report


def worker_count(prepared: Prepared, workers: int | None) -> int:
    """Processes to use: as asked, else one per core on a CPU, one on a GPU."""
    if workers is not None:
        return workers
    return usable_cores() if prepared.runtime.device == "cpu" else 1


def check_out(out: Path) -> None:
    """Makes the output folder.

    Raises:
        StoreError: It is a file, or it cannot be written to.
    """
    if out.exists() and not out.is_dir():
        raise StoreError(f"--out {out}: expected a folder, got a file")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"--out {out}: cannot be made ({error.strerror}); give another folder") from None
    if not os.access(out, os.W_OK):
        raise StoreError(f"--out {out}: no permission to write; give another folder")


def write_results(prepared: Prepared, store: Store, out: Path) -> None:
    """Everything that an audit leaves in its output folder, from a store in which all is done."""
    tasks = {task.key: task for task in prepared.plan.tasks}
    rows: list[Row] = []
    curves: list[RocCurve] = []
    for key in prepared.plan.results:
        found = store.read(tasks[key])
        rows += [_row(line) for line in found["rows"]]
        curves += _curves(tasks[key], found.get("curves", {}))
    order = ["fp32", *(entry.variant for entry in prepared.config.quantize), "control"]
    rows.sort(key=lambda row: order.index(row.variant))
    (out / "config.yaml").write_text(_config_text(prepared), encoding="utf-8")
    write_all(rows, curves, summarize(prepared, rows), out)


def summarize(prepared: Prepared, rows: list[Row]) -> Summary:
    """What the report says besides the figures."""
    config, sizes = prepared.config, prepared.plan.sizes
    attack, reference = headline(rows)
    non_members = sizes.pool - sizes.members
    fpr = headline_fpr(config.fpr, non_members)
    name, options = config.model
    models = len({*prepared.plan.targets, *prepared.plan.references})
    per_side = (models - 2) // 2 if config.split.mode == "population" else config.split.shadows // 2
    shown = list(dict.fromkeys(_calibration_line(entry.calibration) for entry in config.quantize))
    return Summary(
        title=config.title or f"{config.data.name}, {name}",
        dataset=str(config.data.options.get("path") or config.data.name),
        records=sizes.pool,
        members=sizes.members,
        non_members=non_members,
        population_records=sizes.population,
        test_records=sizes.test,
        classes=prepared.description.classes,
        models=models,
        mode=config.split.mode,
        targets=len(prepared.plan.targets),
        references=per_side,
        network=name + "".join(f" {key}={value}" for key, value in options.items()),
        parameters=prepared.network.parameters,
        training=_recipe_line(prepared),
        calibration="; ".join(shown) or "none",
        calibration_records=max((entry.calibration.records for entry in config.quantize), default=0),
        fprs=config.fpr,
        headline_attack=attack,
        headline_reference=reference,
        headline_fpr=fpr,
        expected_false_positives=fpr * non_members,
        presets=_preset_lines(prepared),
        queries=len(config.query.augment),
        interval=_interval_line(config),
        versions=versions(),
        machine=f"{prepared.runtime.device}, {platform.machine()}",
        seeds={"root": config.seed},
        variants=_variants(prepared, rows),
    )


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    names = ("bitleak", "torch", "numpy", "scipy", "scikit-learn")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def _check_patterns(variant: str, layers: Mapping[str, int], names: list[str]) -> None:
    for pattern in layers:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(
                f"quantize: {variant}: layers[{pattern!r}] matches no layer of the model; its layers are "
                f"{', '.join(names)}"
            )


def _kind(task: Task) -> str:
    return f"{task.stage}:{task.params.get('quantizer', '')}" if task.stage == "quantize" else task.stage


def _row(line: Mapping[str, Any]) -> Row:
    return Row(**{**line, "measure": Measure(**line["measure"])})


def _curves(task: Task, curves: Mapping[str, Any]) -> list[RocCurve]:
    about = (task.params.get("variant", ""), task.params.get("quantizer", ""), task.params.get("levels"))
    found = []
    for name, points in curves.items():
        attack, reference, target = name.split("/")
        found.append(RocCurve(*about, attack, reference, target, points))
    return found


def _config_text(prepared: Prepared) -> str:
    """The resolved config, with what it ran on as comments."""
    lines = ["# The config of this audit with every default written out."]
    lines += [f"# {name} {version}" for name, version in versions().items()]
    lines += [f"# device {prepared.runtime.device}", f"# data fingerprint {prepared.description.fingerprint}"]
    return "\n".join(lines) + "\n" + yaml.safe_dump(resolved(prepared.config), sort_keys=False, width=100)


def _recipe_line(prepared: Prepared) -> str:
    recipe = prepared.config.train
    augment = " and ".join(recipe.augment) or "no augmentation"
    precision = "" if recipe.autocast == "none" else f", {recipe.autocast} autocast"
    return (
        f"{recipe.epochs} epochs of SGD, batch {recipe.batch}, learning rate {recipe.learning_rate:g} "
        f"({recipe.schedule}), momentum {recipe.momentum:g}, weight decay {recipe.weight_decay:g}, {augment}{precision}"
    )


def _calibration_line(calibration: Any) -> str:
    who = "members of the model" if calibration.source == "members" else "held-out records"
    rounds = f" in {calibration.rounds} augmented rounds" if calibration.rounds > 1 else ""
    return f"{calibration.records} {who}{rounds}"


def _preset_lines(prepared: Prepared) -> tuple[str, ...]:
    """One sentence per preset in use that costs accuracy."""
    found = {}
    for entry in prepared.config.quantize:
        if entry.preset == "quick" and entry.options.get("iterations"):
            found[entry.label] = (
                f"{entry.label} ran with preset quick ({entry.options['iterations']} steps): "
                "its accuracy is below what the algorithm reaches with its default or paper preset."
            )
    return tuple(found.values())


def _interval_line(config: Config) -> str:
    if config.split.mode == "dedicated":
        return f"95 % t intervals over {config.split.targets} dedicated targets"
    return "95 % intervals over the records, which all targets share; they hold for these models"


def _variants(prepared: Prepared, rows: list[Row]) -> tuple[VariantSummary, ...]:
    found = {(row.variant, row.metric): row.measure.value for row in rows if row.target == "all"}
    entries = [("fp32", "", None), *((e.variant, e.label, e.levels) for e in prepared.config.quantize)]
    return tuple(
        VariantSummary(name, quantizer, levels, found[name, "bits_per_weight"], round(found[name, "bytes"]))
        for name, quantizer, levels in entries
    )
