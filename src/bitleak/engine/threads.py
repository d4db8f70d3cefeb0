"""One thread for a CPU task in every executor: sums in another order are other numbers."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def thread_variables(threads: int) -> contextlib.AbstractContextManager[None]:
    """Set the variables that limit the threads of libraries and processes started meanwhile."""
    return environment(dict.fromkeys(_VARIABLES, str(threads)))


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while; restore their values afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Limit the threads of all libraries, loaded or not, and restore the limits afterwards."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    with thread_variables(threads), _limited_blas(threads):
        if torch:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)


def _limited_blas(threads: int) -> contextlib.AbstractContextManager:
    """Limit NumPy's matrix products, by threadpoolctl (on which scikit-learn depends)."""
    try:
        importlib.import_module("threadpoolctl")
    except (
        ImportError
    ):  # pragma: no cover - then NumPy's library keeps the variables it was started with
        return contextlib.nullcontext()
    # A search takes milliseconds: as long as a small task.
    return _thread_pools(frozenset(sys.modules)).limit(limits=threads)


@lru_cache(maxsize=1)
def _thread_pools(modules: frozenset[str]) -> Any:
    """Search the loaded libraries for pools of threads, again after a module was imported."""
    return importlib.import_module("threadpoolctl").ThreadpoolController()


def usable_cores() -> int:
    """Return the number of cores that this process may use: its affinity and its group's quota."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such group, or no quota ("max")
        return cores
