"""Stages small enough to be read at a glance, for the tests of the engine."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from bitleak.core.errors import DataError


def draw(params, inputs, runtime, progress):
    """Normal numbers from a seed."""
    for item in params:
        progress(0.5)
        yield {
            "numbers": np.random.default_rng(item["seed"]).normal(size=item.get("size", 4)),
            "note": dict(item),
        }


def multiply(params, inputs, runtime, progress):
    """A product of matrices, whose last bits depend on the order of its sums."""
    matrix = inputs["numbers"]["numbers"].reshape(-1, 50)
    shared = matrix.T @ matrix
    for item in params:
        note(runtime, f"multiply {len(params)}")
        if item["power"] < 0:
            raise ZeroDivisionError("a negative power")
        yield {"product": np.linalg.matrix_power(shared / 100, item["power"])}


def total(params, inputs, runtime, progress):
    """The sum over all of several inputs."""
    for item in params:
        arrays = [
            array
            for artifacts in inputs["parts"]
            for array in artifacts.values()
            if isinstance(array, np.ndarray)
        ]
        yield {"total": np.array([item.get("factor", 1.0) * sum(array.sum() for array in arrays)])}


def fail(params, inputs, runtime, progress):
    """Fails as it is told."""
    raise {"input": DataError, "error": ZeroDivisionError, "exit": SystemExit}[params[0]["how"]](
        "told to fail"
    )
    yield


def die(params, inputs, runtime, progress):
    """Is killed, as often as `times` says, and then is not; later tasks of the batch are not killed."""
    for item in params:
        deaths = Path(runtime.data) / f"deaths-{item['name']}"
        count = len(deaths.read_text()) if deaths.exists() else 0
        if count < item["times"]:
            deaths.write_text("x" * (count + 1))
            print("about to die", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.Signals[item.get("signal", "SIGKILL")])
        yield {"alive": np.array([count])}


def rest(params, inputs, runtime, progress):
    """Takes its time; behind a gate, until somebody opens it for all."""
    for item in params:
        note(runtime, f"rest {os.getpid()}")
        while item.get("gate") and runtime.data and not Path(runtime.data, "open").exists():
            time.sleep(0.01)
        for step in range(20):
            progress(step / 20)
            time.sleep(item["seconds"] / 20)
        yield {"rested": np.array([item["seconds"]]), "name": item.get("name", "")}


def threads(params, inputs, runtime, progress):
    """What the libraries were told about threads, as seen from a stage."""
    for _ in params:
        yield {"threads": os.environ["OMP_NUM_THREADS"]}


def leave(*arguments):
    """Not a stage: a process that is gone before it has said anything."""
    os._exit(3)


def note(runtime, text):
    """Appends a line to a file that the tests read."""
    if runtime.data:
        with (Path(runtime.data) / "notes").open("a") as file:
            file.write(text + "\n")
