"""One root seed, and a named, independent seed for everything that draws from chance."""

import hashlib
import json


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
