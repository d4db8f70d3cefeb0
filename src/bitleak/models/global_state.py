"""Process-wide state that outside code draws from or sets: global generators and PyTorch's settings.

Layers draw from global generators: dropout from PyTorch's, stochastic depth often from Python's or
NumPy's. Their state depends on everything that ran before in the process, so a model would depend on the
number of workers. `seeded_draws` gives each use a seed of its own. Modules written for inference set
the settings of every later computation of the process; `settings_kept` restores it.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from bitleak.core.seeds import seeded_python_and_numpy


@contextmanager
def seeded_draws(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed the global generators of PyTorch, Python and NumPy, and restore their states afterwards.

    Args:
        seed: Any seed of `core.seeds`.
        device: A GPU has a generator of its own, which is seeded too.

    Example:
        >>> with seeded_draws(1):
        ...     first = torch.rand(1), random.random(), np.random.rand()
        >>> with seeded_draws(1):
        ...     (torch.rand(1), random.random(), np.random.rand()) == first
        True
    """
    device = torch.device(device)
    devices = [device] if device.type == "cuda" else []
    with seeded_python_and_numpy(seed), torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def draws_so_far() -> tuple[object, ...]:
    """Return the states of the global generators, equal if nothing was drawn between two calls."""
    legacy = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    return (
        torch.get_rng_state().numpy().tobytes(),
        random.getstate(),
        legacy["key"].tobytes(),
        legacy["pos"],
    )


@contextmanager
def settings_kept() -> Iterator[None]:
    """Restore PyTorch's gradients, default dtype and device, and threads after outside code ran.

    Example:
        >>> with settings_kept():
        ...     _ = torch.set_grad_enabled(False)
        >>> torch.is_grad_enabled()
        True
    """
    gradients, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    device, threads = torch.get_default_device(), torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_grad_enabled(gradients)
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(device)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
