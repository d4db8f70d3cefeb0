"""Candidates for the calibration set of a target, and the calibration sets of its quantized models.

The membership matrix of a population, one level down: the pool are candidate members of the target,
the rows are quantized versions of that one target, and each is calibrated on the half of the
candidates that its row marks. Rows come in complementary pairs, so that every candidate
is in exactly half of the calibration sets and any row can be attacked with all others but its
complement as references. All candidates are members of the target, so a figure measures calibration
and not training.
"""

import numpy as np

from bitleak.core.checks import integer_in
from bitleak.core.errors import ConfigError
from bitleak.core.seeds import seed_for
from bitleak.core.types import Splits
from bitleak.data.splits import balanced_pairs, check_splits


def calibration_candidates(
    splits: Splits, target: int, *, candidates: int, models: int, population: int, seed: int
) -> Splits:
    """Draw the candidates of a target as the pool, and the calibration sets as the matrix.

    Args:
        splits: Splits of the audit.
        target: A row of `splits.member`.
        candidates: Members of the target to draw, even.
        models: Quantized models, even.
        population: At most this many other members of the target are the adversary's sample of
            the distribution: they are in no calibration set, and as much members of the target as
            the candidates are.
        seed: Seed for this target's draw.

    Returns:
        Splits without calibration and test records, every row a target.

    Raises:
        ValueError: A number is out of range.
        ConfigError: The target has too few members.
    """
    integer_in("target", target, 0, len(splits.member) - 1)
    for name, number in (("candidates", candidates), ("models", models)):
        if integer_in(name, number, 2) % 2:
            raise ValueError(f"{name} must be even, so that halves are halves, got {number}")
    members = splits.pool[splits.member[target]]
    if candidates > len(members):
        raise ConfigError(
            f"candidates must be at most the target's {len(members)} members, got {candidates}"
        )
    last = candidates + integer_in("population", population, 0)

    # Candidates and the adversary's sample are disjoint parts of one random order.
    order = np.random.default_rng(seed_for(seed, "candidates")).permutation(members)
    chosen, population_records = order[:candidates], order[candidates:last]
    empty = np.empty(0, np.int64)
    halves = Splits(
        mode="population",
        pool=np.sort(chosen),
        member=balanced_pairs(candidates, models, np.random.default_rng(seed_for(seed, "halves"))),
        targets=np.arange(models),
        calibration=empty,
        population=np.sort(population_records),
        test=empty,
    )
    check_splits(halves)
    return halves
