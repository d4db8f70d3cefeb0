"""Requests of the options to Ray: a cluster, and room for a task on its machines."""

import math
import os

from bitleak.core.errors import ConfigError
from bitleak.engine.worker import Runtime


def requested_address(runtime: Runtime) -> str | None:
    """Return the address of the cluster to join, by option or `RAY_ADDRESS`; None to start one."""
    address = runtime.address or os.environ.get("RAY_ADDRESS")
    return None if address == "local" else address or None


def demands(runtime: Runtime) -> tuple[float, float]:
    """Return CPUs and GPUs of a task; a whole GPU, unless a share is given, if the device is one.

    Raises:
        ConfigError: A share is out of range.
    """
    gpus = runtime.num_gpus
    if gpus is None:
        gpus = 1.0 if runtime.device.startswith("cuda") else 0.0
    for name, value in (("num_cpus", runtime.num_cpus), ("num_gpus", gpus)):
        if not math.isfinite(value) or value < 0 or (value > 1 and value != int(value)):
            raise ConfigError(f"{name} must be a fraction of 1 or a whole number, got {value}")
    if runtime.num_cpus == 0 and gpus == 0:
        raise ConfigError(
            "num_cpus must be above 0 where num_gpus is 0, or there is no end to the tasks that fit"
        )
    return runtime.num_cpus, gpus


def times_held(has: float, demand: float) -> float:
    """Return how many times a machine's amount holds a demand; infinity if nothing is demanded."""
    return math.inf if demand == 0 else float(math.floor(has / demand + 1e-9))


def room_text(cpus: float, gpus: float) -> str:
    """Return the end of a sentence on machines without room for a task."""
    return f"has room for a task with {cpus:g} CPUs and {gpus:g} GPUs; lower --num-cpus or --num-gpus, or add machines"
