"""One root seed, and a named, independent seed for everything that draws from chance."""

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


def seed_for(root: int, *names: str | int) -> int:
    """Return a seed that depends on the root and the names alone.

    Args:
        root: The audit's seed.
        names: Name of the random draw, from the general to the particular.

    Returns:
        An integer in [0, 2**63), for `numpy.random.default_rng` or `torch.Generator.manual_seed`.

    Example:
        >>> seed_for(0, "train", 3) == seed_for(0, "train", 3)
        True
        >>> seed_for(0, "train", 3) == seed_for(0, "train", 4)
        False
    """
    text = json.dumps([root, *names], separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def seeded_python_and_numpy(seed: int) -> Iterator[None]:
    """Seed the global generators of Python and NumPy, and restore their states afterwards.

    Example:
        >>> with seeded_python_and_numpy(1):
        ...     first = random.random(), np.random.rand()
        >>> with seeded_python_and_numpy(1):
        ...     (random.random(), np.random.rand()) == first
        True
    """
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
