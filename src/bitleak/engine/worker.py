"""The work of a worker on a batch of tasks, the same in every executor.

It reads the inputs from the store, finds the stage by name, and commits each result as the stage
yields it, so that a killed process loses at most the task in flight. A stage is

    def stage(params: Sequence[Mapping], inputs: Mapping[str, Any], runtime: Runtime,
              progress: Callable[[float], None]) -> Iterator[result]

with one `params` per task of the batch; it yields one result per task, in order: a core type, or a
mapping of artifacts. `inputs` holds what `bitleak.engine.codecs` makes of each input, or a tuple of
those where a task names several keys. `progress` takes the fraction done, 0 to 1, of the task that
is yielded next.
"""

import functools
import importlib
import json
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from bitleak.core.errors import BitleakError, BrokenResult, ExecutionError, InputError, StoreError
from bitleak.core.types import ModelSpec, QuantizedWeights, Weights
from bitleak.engine.codecs import decoded, encode
from bitleak.engine.keys import Task, plain
from bitleak.engine.memory import forget_peak, peak_memory
from bitleak.engine.store import Store
from bitleak.engine.threads import limited_threads

FailureKind = Literal["", "input", "error"]


@dataclass(frozen=True)
class Runtime:
    """Settings that change the time that a task takes, never its result.

    Attributes:
        device: `cpu`, `cuda`, `cuda:1`, ... (results are byte-identical per type of device).
        threads: Threads of a CPU task.
        stages: Module that holds the stage functions.
        path: Path of the data set in the config; None = the data set has no such field.
        data: Local path that overrides `path`, or None.
        logs: Folder for the logs of failures; None = `logs` in the store.
        address: Address of the Ray cluster, or None to start one here.
        num_cpus: CPUs that a Ray task reserves.
        num_gpus: GPUs that a Ray task reserves, 0.25 is four tasks to a GPU; None = one if the
            device is one.
        network: Name and options of the network that all weights must belong to, so that no result
            in the store decides which code is loaded; None = not compared.
        weights: File with the weights of a target that was trained elsewhere, or None.
        files: Further files that tasks read, by the SHA-256 of their content.
    """

    device: str = "cpu"
    threads: int = 1
    stages: str = "bitleak.steps.stages"
    path: str | None = None
    data: str | None = None
    logs: str | None = None
    address: str | None = None
    num_cpus: float = 1.0
    num_gpus: float | None = None
    network: tuple[str, Mapping[str, Any]] | None = None
    weights: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """A task that has started (fraction 0) or got further.

    Attributes:
        key: The task's key.
        fraction: 0 to 1.
    """

    key: str
    fraction: float


@dataclass(frozen=True)
class Outcome:
    """The end of a task.

    Attributes:
        key: The task's key.
        ok: Whether its result is in the store.
        text: Reason why it is not, for people; empty if it is.
        kind: `input` if something handed in is wrong, `error` for anything else; empty if ok.
        log: File with the traceback; None if there is none.
        seconds: Time taken; the batch's common work counts for its first task.
        cached: Whether the result was in the store already, made by another run in the meantime.
        broken: Key of the damaged input that is the reason; empty for other reasons.
        fatal: Whether the store takes nothing more (full, or read-only): no other task can succeed.
    """

    key: str
    ok: bool
    text: str = ""
    kind: FailureKind = ""
    log: str | None = None
    seconds: float = 0.0
    cached: bool = False
    broken: str = ""
    fatal: bool = False


Stage = Callable[
    [Sequence[Mapping], Mapping[str, Any], Runtime, Callable[[float], None]], Iterator[Any]
]


def ignore(step: object) -> None:
    """Do nothing: the default for callers that need no progress."""


def run_batch(store_root: str, tasks: Sequence[Task], runtime: Runtime) -> list[Outcome]:
    """Return the list of all outcomes."""
    return list(outcomes(store_root, tasks, runtime))


def outcomes(
    store_root: str,
    tasks: Sequence[Task],
    runtime: Runtime,
    on_step: Callable[[Progress], None] = ignore,
) -> Iterator[Outcome]:
    """Do a batch, and yield one outcome per task, in order, as soon as it is known.

    A task that fails does not stop the others: they are handed to the stage again, without it.

    Args:
        store_root: Root of the store that holds the inputs and takes the results.
        tasks: Tasks with the same stage and the same inputs.
        runtime: Settings of this worker.
        on_step: Called as tasks start and proceed.
    """
    try:
        store = Store(store_root, create=False)
    except StoreError as error:
        yield from (Outcome(task.key, ok=False, text=str(error), kind="input") for task in tasks)
        return
    left = list(tasks)
    while left:
        todo = [task for task in left if not store.has(task)]
        yield from (Outcome(task.key, ok=True, cached=True) for task in left if task not in todo)
        left = todo
        for outcome in _attempt(store, todo, runtime, on_step) if todo else ():
            left = [task for task in left if task.key != outcome.key]
            yield outcome


def _attempt(
    store: Store, tasks: Sequence[Task], runtime: Runtime, on_step: Callable[[Progress], None]
) -> Iterator[Outcome]:
    """Yield outcomes up to and including the first that is not ok."""
    start = time.perf_counter()
    current = tasks[0]
    committing = False
    forget_peak()
    try:
        on_step(Progress(current.key, 0.0))
        stage = find_stage(runtime, current.stage)
        inputs = {name: _value(store, keys, runtime) for name, keys in current.inputs.items()}
        with limited_threads(runtime.threads):

            def progress(done: float) -> None:
                if done > 0:  # 0 has been reported
                    on_step(Progress(current.key, min(1.0, float(done))))

            produced = iter(stage([task.params for task in tasks], inputs, runtime, progress))
            for current in tasks:
                if current is not tasks[0]:
                    on_step(Progress(current.key, 0.0))
                artifacts = encode(_next(produced, current))
                committing = True
                store.write(current, artifacts, {**_environment(runtime), **_spent(start)})
                committing = False
                _drop_log(store, runtime, current)  # of an earlier, failed attempt
                yield Outcome(current.key, ok=True, seconds=time.perf_counter() - start)
                start = time.perf_counter()
                forget_peak()
    except (Exception, SystemExit) as error:
        failure = _failure(store, runtime, current, error, time.perf_counter() - start)
        yield replace(failure, fatal=committing and isinstance(error, StoreError))


def find_stage(runtime: Runtime, name: str) -> Stage:
    """Return the stage function with this name.

    Raises:
        ExecutionError: The module of stages has none.
    """
    module = importlib.import_module(runtime.stages)
    if not callable(getattr(module, name, None)):
        raise ExecutionError(f"{runtime.stages} has no stage {name!r}")
    return getattr(module, name)


def log_path(store: Store, runtime: Runtime, name: str) -> Path:
    """Return the path of a worker's log."""
    return Path(runtime.logs or store.logs) / f"{name}.log"


def write_log(store: Store, runtime: Runtime, task: Task, text: str) -> str | None:
    """Write the log of a failed task; return None if that fails too."""
    text = f"{task.name}\n{json.dumps(task.identity, indent=1)}\n\n{text}"
    try:
        if runtime.logs is None:
            return store.keep_log(task.key, text)
        path = log_path(store, runtime, task.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except (OSError, StoreError):
        return None
    return str(path)


def _drop_log(store: Store, runtime: Runtime, task: Task) -> None:
    if runtime.logs is None:
        store.drop_log(task.key)
    else:
        log_path(store, runtime, task.key).unlink(missing_ok=True)


def _value(store: Store, keys: str | tuple[str, ...], runtime: Runtime) -> Any:
    if not isinstance(keys, str):
        return tuple(_value(store, key, runtime) for key in keys)
    value = decoded(store.read_key(keys))
    if runtime.network is not None and isinstance(value, Weights | QuantizedWeights):
        _check_network(value.spec, runtime.network, f"{store.find(keys)}")
    return value


def _check_network(
    spec: ModelSpec | None, expected: tuple[str, Mapping[str, Any]], place: str
) -> None:
    """Refuse weights of another network than the audit's: a stored name could load foreign code."""
    stored = None if spec is None else (spec.name, plain(spec.options))
    if stored != (expected[0], plain(expected[1])):
        network = (
            "no network" if stored is None else f"the network {stored[0]} {json.dumps(stored[1])}"
        )
        raise StoreError(
            f"result {place} says that its weights are those of {network}, but this audit is about {expected[0]} "
            f"{json.dumps(plain(expected[1]))}: it is not what its task makes, and no code that it names was loaded. "
            "Remove this folder, and the result is made again; was it imported?"
        )


def _next(produced: Iterator[Any], task: Task) -> Any:
    try:
        return next(produced)
    except StopIteration:
        raise ExecutionError(f"stage {task.stage!r} yielded nothing for {task.name}") from None


def _failure(
    store: Store, runtime: Runtime, task: Task, error: BaseException, seconds: float
) -> Outcome:
    text = str(error) if isinstance(error, BitleakError) else f"{type(error).__name__}: {error}"
    log = write_log(store, runtime, task, "".join(traceback.format_exception(error)))
    kind: FailureKind = "input" if isinstance(error, InputError) else "error"
    broken = error.key if isinstance(error, BrokenResult) else ""
    return Outcome(
        task.key, ok=False, text=text, kind=kind, log=log, seconds=seconds, broken=broken
    )


def _spent(start: float) -> dict[str, Any]:
    return {"seconds": round(time.perf_counter() - start, 3), "peak_memory": peak_memory()}


def _environment(runtime: Runtime) -> dict[str, Any]:
    versions = {name: _version(name) for name in ("bitleak", "numpy", "torch")}
    python = platform.python_version()
    return {
        "device": _device(runtime.device),
        "threads": runtime.threads,
        "python": python,
        **versions,
    }


@functools.cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _device(name: str) -> str:
    torch = sys.modules.get("torch")
    return (
        f"{name} ({torch.cuda.get_device_name(name)})"
        if torch and name.startswith("cuda")
        else name
    )
