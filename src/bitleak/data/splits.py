"""Membership of records in training sets, and the parts of the held-out records.

Two designs of the same membership matrix:

- `population`: models come in complementary pairs, rows 2i and 2i + 1 being the two halves of one
  random split. Every model has exactly half of the pool, every record is IN for exactly half of
  the models. Any model can be attacked; its complement is left out and the others are its
  references, so that every record has as many IN as OUT references, whether the target has it or
  not. (With the complement kept, the target's own membership could be read off these counts.)
- `dedicated`: the first rows are targets on independent random halves, the others are shadows.
  For each record the shadows are ranked at random and the lower half gets it (Carlini et al. 2022,
  arXiv 2112.03570, section 4.1), which is independent of the targets. With `pairs`, the shadows are
  complementary pairs instead, so that any of the pairs alone hold every record equally often.

A pool of odd size loses one record, drawn at random, so that halves are halves. Canaries
(`data.canaries`) are a part of the pool with a draw of its own, so that every model has half of them
and half of the others.
"""

from functools import partial

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.core.checks import integer_in, number_in, one_of
from bitleak.core.errors import ConfigError
from bitleak.core.random_columns import uniform_columns
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, SplitMode, Splits
from bitleak.data.canaries import canary_positions


def make_splits(
    images: Images,
    *,
    mode: SplitMode,
    targets: int,
    calibration: int,
    population: int,
    seed: int,
    models: int | None = None,
    shadows: int | None = None,
    held_out: float = 0.3,
    test: int | None = None,
    canaries: int = 0,
    pairs: bool = False,
) -> Splits:
    """Draw the membership matrix and the parts of the held-out records, all from one seed.

    Args:
        images: The data set; if it has held-out records, they and no others are held out.
        mode: `population` or `dedicated`.
        targets: Number of models to attack. Of a population these are the rows 0, 2, 4, ... and
            only then 1, 3, 5, ..., so that no two are complements of each other as long as that is
            possible.
        calibration: Held-out records for calibrating quantizers, from 0.
        population: Held-out records as an adversary's sample of the distribution, from 0.
        seed: The audit's root seed.
        models: Rows of a population, even. Not used in the mode `dedicated`.
        shadows: Shadow models next to the targets, even. Not used in the mode `population`.
        held_out: Fraction of the records to hold out, in (0, 1), the same of every class up to
            rounding. Not used if the source has a held-out part.
        test: Held-out records for the accuracy, from 1; None takes the rest.
        canaries: Records of the pool that are canaries, even.
        pairs: Whether shadows are complementary pairs; not used in the mode `population`.

    Raises:
        ValueError: A number is out of range, or `models` or `shadows` is missing.
        ConfigError: The held-out records or the pool are too few.

    Example:
        >>> from bitleak.data.digits import Digits
        >>> splits = make_splits(
        ...     Digits().load(None), mode="population", models=6, targets=2, calibration=50, population=100, seed=0
        ... )
        >>> splits.member.shape, splits.targets.tolist(), len(splits.test)
        ((6, 1258), [0, 2], 389)
    """
    one_of("mode", mode, ("population", "dedicated"))
    outside = _held_out(images, held_out, seed)
    pool = _even_pool(np.setdiff1d(np.flatnonzero(~images.held_out), outside), seed)

    # Every record is in exactly half of the rows that can be references, canaries and others alike.
    if mode == "population":
        rows = _even("models", models, 2)
        chosen = [*range(0, rows, 2), *range(1, rows, 2)][: integer_in("targets", targets, 1, rows)]
        draw = partial(balanced_pairs, models=rows)
    else:
        chosen = list(range(integer_in("targets", targets, 1)))
        count = _even("shadows", shadows, 0)
        draw = partial(_dedicated, targets=len(chosen), shadows=count, pairs=pairs)
    inside = np.zeros(len(pool), bool)
    inside[canary_positions(len(pool), _even("canaries", canaries, 0), seed)] = True
    ordinary = draw(len(pool) - canaries, rng=np.random.default_rng(seed_for(seed, "member")))
    member = np.empty((len(ordinary), len(pool)), bool)
    member[:, ~inside] = ordinary
    if canaries:
        rng = np.random.default_rng(seed_for(seed, "canary member"))
        member[:, inside] = draw(canaries, rng=rng)

    # The parts come from a draw of their own, so that none moves the matrix.
    parts = _parts(outside, calibration, population, test, seed)
    splits = Splits(mode, pool, member, np.sort(np.array(chosen, np.int64)), *parts)
    check_splits(splits)
    return splits


def references(
    splits: Splits, target: int | np.integer, *, seed: int = 0
) -> tuple[Int64[np.ndarray, "refs"], Bool[np.ndarray, "refs records"]]:
    """Return the reference models of a target, and which of them to use for which record.

    Args:
        splits: Splits of either mode.
        target: A row of `splits.member`.
        seed: The audit's root seed; it has an effect only if the matrix is unbalanced.

    Returns:
        Rows of `splits.member`: of a population all but the target and its complement, else all
        that are no targets. And the mask of `even_mask`, which is all True in the matrices made
        here.

    Raises:
        ValueError: No such target, or a record has fewer than 2 usable references per side.
    """
    rows = reference_models(splits, target)
    return rows, even_mask(splits.member[rows], seed_for(seed, "references", int(target)))


def reference_models(splits: Splits, target: int | np.integer) -> Int64[np.ndarray, "refs"]:
    """Return the rows of a target's reference models, as `references` does.

    Raises:
        ValueError: No such target.
    """
    integer_in("target", target, 0, len(splits.member) - 1)
    # The complement would give away the target's own membership, see the module's docstring.
    left_out = np.append(target ^ 1 if splits.mode == "population" else splits.targets, target)
    return np.setdiff1d(np.arange(len(splits.member)), left_out)


def even_mask(
    member: Bool[np.ndarray, "refs records"], seed: int, *, fewest: int = 2
) -> Bool[np.ndarray, "refs records"]:
    """Return a mask under which every record has the same number of IN and of OUT references.

    The number is the smallest count of either side over all records; where a record has more,
    those used are drawn at random.

    Args:
        member: True if the reference was trained on the record.
        seed: Seed for the draw.
        fewest: References per side that every record must have.

    Raises:
        ValueError: That number is below `fewest`; the message names the first records.

    Example:
        >>> member = np.array([[1, 1], [1, 1], [1, 0], [0, 0], [0, 0]], bool)
        >>> even_mask(member, 0).sum(axis=0)
        array([4, 4])
    """
    counts = np.minimum(member.sum(axis=0), (~member).sum(axis=0))
    few = np.flatnonzero(counts < fewest)
    if len(few):
        first = few[:5].tolist()
        raise ValueError(
            f"every record needs at least {fewest} references that were trained on it and {fewest} that were not; "
            f"{len(few)} of {len(counts)} have fewer, the first of them: {first} (positions in the pool)"
        )
    used = int(counts.min(initial=len(member)))
    if 2 * used == len(member):
        return np.ones_like(member)
    if not used:
        return np.zeros_like(member)

    # The references with the smallest random keys, block by block of records to bound the memory.
    mask = np.empty_like(member)
    for block, keys in uniform_columns(np.random.default_rng(seed), *member.shape):
        side, key = np.ascontiguousarray(member[:, block].T), np.ascontiguousarray(keys.T)
        mask[:, block] = (_smallest(side, key, used) | _smallest(~side, key, used)).T
    return mask


def _smallest(
    side: Bool[np.ndarray, "records refs"], keys: Float64[np.ndarray, "records refs"], count: int
) -> Bool[np.ndarray, "records refs"]:
    """Return the `count` references of one side with the smallest keys, which are below 1."""
    of_side = np.where(side, keys, 2.0)
    chosen = of_side <= np.partition(of_side, count - 1, axis=1)[:, count - 1, None]
    # Of two equal keys, which are rare, the first row counts.
    for record in np.flatnonzero(chosen.sum(axis=1) != count):
        chosen[record] = False
        chosen[record, np.argsort(of_side[record], kind="stable")[:count]] = True
    return chosen


def balanced_pairs(
    records: int, models: int, rng: np.random.Generator
) -> Bool[np.ndarray, "models records"]:
    """Return random halves of an even number of records, each followed by its complement."""
    halves = np.stack([_half(records, rng) for _ in range(models // 2)])
    return np.stack([halves, ~halves], axis=1).reshape(models, records)


def check_splits(splits: Splits) -> None:
    """Refuse splits that contradict themselves.

    Raises:
        ValueError: A record is in two parts or twice in one, the pool is not ascending, the matrix
            does not fit it, a target is no row or occurs twice, or rows 2i and 2i + 1 of a
            population are not each other's complement.
    """
    # A record in two parts would be trained on and held out, and leak into calibration or accuracy.
    parts = {name: getattr(splits, name) for name in ("pool", "calibration", "population", "test")}
    records, counts = np.unique(np.concatenate(list(parts.values())), return_counts=True)
    if (counts > 1).any():
        record = int(records[counts.argmax()])
        parted = [name for name, part in parts.items() if record in part]
        raise ValueError(
            f"record {record} must play one part, got it {counts.max()} times in {', '.join(parted)}"
        )
    if (np.diff(splits.pool) <= 0).any():
        raise ValueError("the pool must be ascending")
    models = len(splits.member)
    if splits.member.shape != (models, len(splits.pool)):
        raise ValueError(
            f"member must have a column per pool record ({len(splits.pool)}), got {splits.member.shape}"
        )
    targets = splits.targets
    if len(np.unique(targets)) != len(targets) or not ((targets >= 0) & (targets < models)).all():
        raise ValueError(
            f"targets must be different rows from 0 to {models - 1}, got {targets.tolist()}"
        )
    if splits.mode == "population" and not (
        models % 2 == 0 and (splits.member[::2] ^ splits.member[1::2]).all()
    ):
        raise ValueError("rows 2i and 2i + 1 of a population must be each other's complement")


def _held_out(images: Images, fraction: float, seed: int) -> Int64[np.ndarray, "held_out"]:
    """Return the source's held-out records or, without any, a fraction drawn from every class."""
    if images.held_out.any():
        return np.flatnonzero(images.held_out)
    number_in("held_out", fraction, 0.0, 1.0, ends="()")
    records = len(images.labels)
    count = max(round(records * fraction), 1)
    rng = np.random.default_rng(seed_for(seed, "held_out"))
    order = rng.permutation(records)
    by_class = order[np.argsort(images.labels[order], kind="stable")]

    # One record of every window of records / count, so each class gives its share up to rounding.
    windows = np.floor((np.arange(count) + rng.random()) * (records / count)).astype(np.int64)
    return np.sort(by_class[np.minimum(windows, records - 1)])


def _even_pool(pool: np.ndarray, seed: int) -> Int64[np.ndarray, "pool"]:
    # Drawn, so that no place in the file decides which record is lost.
    if len(pool) % 2:
        pool = np.delete(pool, np.random.default_rng(seed_for(seed, "odd")).integers(len(pool)))
    if len(pool) < 2:
        raise ConfigError(f"the pool must hold at least 2 records to train on, got {len(pool)}")
    return pool


def _parts(
    outside: np.ndarray, calibration: int, population: int, test: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return disjoint random parts of the held-out records, each ascending."""
    integer_in("calibration", calibration, 0)
    integer_in("population", population, 0)
    needed = calibration + population + (1 if test is None else integer_in("test", test, 1))
    if needed > len(outside):
        raise ConfigError(
            f"{len(outside)} held-out records are too few for calibration ({calibration}), population ({population}) "
            f"and test ({'at least 1' if test is None else test}), which need {needed}: lower these or hold out more"
        )
    order = np.random.default_rng(seed_for(seed, "parts")).permutation(outside)
    tested = len(order) - calibration - population if test is None else test
    first, second, third, _ = np.split(order, np.cumsum([calibration, population, tested]))
    return np.sort(first), np.sort(second), np.sort(third)


def _even(name: str, count: int | None, low: int) -> int:
    if count is None:
        raise ValueError(f"{name} must be given in this mode")
    if integer_in(name, count, low) % 2:
        raise ValueError(
            f"{name} must be even, so that every record is in half of them, got {count}"
        )
    return count


def _half(records: int, rng: np.random.Generator) -> Bool[np.ndarray, "records"]:
    member = np.zeros(records, bool)
    member[rng.permutation(records)[: records // 2]] = True
    return member


def _dedicated(
    records: int, targets: int, shadows: int, rng: np.random.Generator, *, pairs: bool
) -> Bool[np.ndarray, "models records"]:
    """Return independent halves for the targets, then balanced rows or pairs for the shadows."""
    halves = [_half(records, rng) for _ in range(targets)]
    drawn = balanced_pairs if pairs and shadows else _balanced
    return np.concatenate([np.stack(halves), drawn(records, shadows, rng)])


def _balanced(
    records: int, models: int, rng: np.random.Generator
) -> Bool[np.ndarray, "models records"]:
    # Twice `argsort` gives the rank of each model; the lower half gets the record.
    return rng.random((models, records)).argsort(axis=0).argsort(axis=0) < models // 2
