"""The Ray cluster of a run: joined by its address, or started on this machine with a random
token.
"""

import importlib
import logging
import math
import os
import secrets
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from bitleak.core.errors import ConfigError, ExecutionError
from bitleak.core.interrupts import keep_handlers
from bitleak.engine.executors.ray_demands import requested_address
from bitleak.engine.worker import Runtime

if find_spec("ray"):
    import ray

ANSWER = 10.0
"""Seconds for a cluster's port to answer."""

OBJECT_STORE = 100 << 20
"""Bytes of a local cluster's object store, through which only messages go."""

QUIET = ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "RAY_worker_niceness")
"""Ray's variables that a local cluster sets to 0: reports, warnings, workers of low priority."""


SERVERS = ("raylet", "gcs_server")
"""Processes of a node without which a cluster of one node ends, by Ray's names."""


@dataclass(frozen=True)
class Cluster:
    """The cluster that this process uses.

    Attributes:
        own: Whether it was started here.
        joined: Whether it was joined here; if not, the caller had joined it, and leaves it.
        address: Its address, HOST:PORT.
        servers: Its raylet and its GCS server if it was started here, by Ray's names.
    """

    own: bool
    joined: bool
    address: str
    servers: Mapping[str, subprocess.Popen]


def join_cluster(runtime: Runtime, cores: float, environment: Mapping[str, Any]) -> Cluster:
    """Join a cluster or start one, unless this process has joined one.

    Args:
        runtime: Settings of the workers, with the cluster's address or None.
        cores: CPUs of a cluster that is started.
        environment: Ray's environment of the workers, empty for the default.

    Raises:
        ConfigError: No cluster answers at the address.
        ExecutionError: None can be started.
    """
    if ray.is_initialized():
        return Cluster(False, False, _address(), {})
    for name in QUIET:
        os.environ.setdefault(name, "0")
    _silence()
    address = requested_address(runtime)
    options: dict[str, Any] = {"runtime_env": dict(environment)} if environment else {}
    if address is None:
        options |= {
            "num_cpus": math.ceil(cores),
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE,
        }
        os.environ.update(_token_variables())
        _read_environment()
    elif address != "auto":
        _check_answers(address)
    try:
        with keep_handlers():
            ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **options,
            )
    except Exception as error:  # Ray raises no narrower one where a node is too slow to start
        if address is None:
            reason = " ".join(str(error).split())
            raise ExecutionError(f"a local Ray cluster cannot be started: {reason}") from error
        raise ConfigError(_not_joined(address, error)) from error
    own = address is None
    return Cluster(own, True, _address(), _servers() if own else {})


def _address() -> str:
    return ray.get_runtime_context().gcs_address


def _servers() -> dict[str, subprocess.Popen]:
    """Return the servers of the cluster that was started; without them, it ends."""
    module: Any = importlib.import_module("ray._private.worker")
    started = getattr(getattr(module, "_global_node", None), "all_processes", {})
    return {kind: started[kind][0].process for kind in SERVERS if kind in started}


def _read_environment() -> None:
    """Let Ray read its variables again: it keeps those that were there when it was imported."""
    raylet = _raylet()
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


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
        "set RAY_AUTH_MODE=token if it asks for a token, or leave --address out to start one on this machine"
    )


def _silence() -> None:
    """Keep Ray from printing about dead workers in spite of its settings: the run reports them."""
    module: Any = importlib.import_module("ray._private.worker")
    if hasattr(module, "print_to_stdstream"):
        module.print_to_stdstream = lambda *lines, **options: None
