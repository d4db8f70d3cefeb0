"""The Ray cluster of a run: joined by its address, or started on this machine with a random
token.
"""

import importlib
import logging
import math
import os
import secrets
import socket
from importlib.util import find_spec
from typing import Any

from bitleak.core.errors import ConfigError, ExecutionError
from bitleak.core.interrupts import keep_handlers
from bitleak.engine.threads import environment
from bitleak.engine.worker import Runtime

if find_spec("ray"):
    import ray

ANSWER = 10.0
"""Seconds for a cluster's port to answer."""

OBJECT_STORE = 100 << 20
"""Bytes of a local cluster's object store, through which only messages go."""

QUIET = ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "RAY_worker_niceness")
"""Ray's variables that a local cluster sets to 0: reports, warnings, workers of low priority."""


def join_cluster(runtime: Runtime, cpus: float) -> bool:
    """Join a cluster or start one; return whether `close` should leave it."""
    if ray.is_initialized():
        return False
    for name in QUIET:
        os.environ.setdefault(name, "0")
    _silence()
    address = runtime.address or os.environ.get("RAY_ADDRESS")
    local: dict[str, Any] = {
        "num_cpus": math.ceil(cpus),
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE,
    }
    options: dict[str, Any] = {} if address else local
    if address and address not in ("auto", "local"):
        _check_answers(address)
    local_cluster = not address or address == "local"
    # Ray takes SIGTERM for itself: the handlers are restored.
    try:
        with environment(_token_variables() if local_cluster else {}), keep_handlers():
            read_environment()
            ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **options,
            )
    except Exception as error:  # Ray raises no narrower one where a node is too slow to start
        read_environment()
        if not address:
            raise ExecutionError(f"a local Ray cluster cannot be started: {error}") from error
        raise ConfigError(_not_joined(address, error)) from error
    return True


def read_environment() -> None:
    """Let Ray read its variables again: it keeps those that were there when it was imported."""
    raylet = _raylet()
    if hasattr(raylet, "AuthenticationTokenLoader"):
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()


def demands(runtime: Runtime) -> tuple[float, float]:
    """CPUs and GPUs of a task; a whole GPU, unless a share is given, where the device is one."""
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


def _token_variables() -> dict[str, str]:
    """Return the environment of a local cluster that refuses clients without its random token.

    A local cluster listens on all interfaces, with any address of its node (Ray 2.60), and a client
    can run any code. The token is new for every run and is written to no file.

    Raises:
        ConfigError: The installed Ray knows no tokens.
    """
    if not hasattr(_raylet(), "AuthenticationTokenLoader"):
        raise ConfigError(
            f"Ray {ray.__version__} cannot ask its clients for a token, so that anybody who reaches this "
            "machine could run code in its workers; install Ray 2.52 or newer, or join a cluster of "
            "your own by --address"
        )
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _raylet() -> Any:
    return importlib.import_module("ray._raylet")


def _check_answers(address: str) -> None:
    """Try the port first, since Ray tries for minutes if nothing answers."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(
            f"--address must be auto or HOST:PORT, such as 10.0.0.1:6379, got {address!r}"
        )
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(_not_joined(address, error)) from error


def _not_joined(address: str, error: Exception) -> str:
    return (
        f"--address {address}: no Ray cluster can be joined there ({error}); start one with `ray start --head`, "
        "or leave --address out to start one on this machine"
    )


def _silence() -> None:
    """Keep Ray from printing about dead workers in spite of its settings: the run reports them."""
    module: Any = importlib.import_module("ray._private.worker")
    if hasattr(module, "print_to_stdstream"):
        module.print_to_stdstream = lambda *lines, **options: None
