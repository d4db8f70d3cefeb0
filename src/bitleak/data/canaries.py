"""Canaries: records of the pool with a wrong label, on which a model can be right by memory alone.

A fit to the pattern of the data gives them another class, so members among them are learnt one by
one. They stand for the most exposed records of a data set (Aerni, Zhang and Tramer 2024,
arXiv 2404.17399, section 4). Positions and labels are drawn from the audit's seed, once for all
models: a wrong label is uniform over the other classes. Membership of a canary is that of the
membership matrix, so each is in the training set of half of the models.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, Splits


def canary_positions(pool: int, records: int, seed: int) -> Int64[np.ndarray, "canaries"]:
    """Return the positions of the canaries in the pool, ascending.

    Args:
        pool: Records of the pool, canaries included.
        records: Number of canaries.
        seed: The audit's root seed.

    Raises:
        ValueError: The pool has fewer records.

    Example:
        >>> canary_positions(10, 4, seed=0).tolist()
        [1, 2, 3, 9]
    """
    if records > pool:
        raise ValueError(f"canaries must be at most the {pool} records of the pool, got {records}")
    order = np.random.default_rng(seed_for(seed, "canaries")).permutation(pool)
    return np.sort(order[:records])


def mislabelled(images: Images, splits: Splits, records: int, seed: int) -> Images:
    """Return the images with a wrong label on every canary; the pixels are not copied.

    Args:
        images: The data set.
        splits: Splits whose pool holds the canaries.
        records: Number of canaries.
        seed: The audit's root seed.
    """
    classes = len(images.class_names)
    chosen = splits.pool[canary_positions(len(splits.pool), records, seed)]
    rng = np.random.default_rng(seed_for(seed, "canary labels"))
    labels = images.labels.copy()
    labels[chosen] = (labels[chosen] + rng.integers(1, classes, len(chosen))) % classes
    return replace(images, labels=labels)


def pool_part(splits: Splits, records: int, seed: int, *, canaries: bool) -> Splits:
    """Return the splits with a pool of the canaries alone, or of all others.

    Canaries have no part in calibration and accuracy, so the splits of canaries have no such records.

    Args:
        splits: Splits whose pool holds the canaries.
        records: Number of canaries.
        seed: The audit's root seed.
        canaries: Whether the canaries are kept; if not, the others are.
    """
    inside = np.zeros(len(splits.pool), bool)
    inside[canary_positions(len(splits.pool), records, seed)] = True
    kept_records = inside if canaries else ~inside
    part = replace(splits, pool=splits.pool[kept_records], member=splits.member[:, kept_records])
    no_records = splits.test[:0]
    return replace(part, calibration=no_records, test=no_records) if canaries else part
