"""Which models serve a target as references, and which of them for which record, for any membership matrix.

A reference must not tell the target's membership by its own. In a matrix made elsewhere it can do so in three ways:

- It was trained on the target's training set (another seed of the same split) or on the complement, or nearly so. Such
  models are left out. "Nearly" is a test: within classes, the correlation of the two rows of the matrix, less the
  median of those of all other rows, is more than `RELATED_SIGMAS` standard errors from 0.
- With others it makes up a constant: each record is in half of the models, in one of the clients, out of one of the
  folds, or several such experiments are put together. The row of the target is then a constant less the sum of the rows
  of its *group*, found among the sums of rows that have no variance. In the group the counts are evened by themselves
  (of folds and clients this leaves nothing), and the remaining models separately.
- The counts differ without such a rule. Then all models are evened together.

Models with the same training set, say three seeds of each split, are used for a record all or none: else the number
of splits that are complete would betray membership where their counts do not.

Evened means that every record has the same number of used IN and of used OUT references, drawn at random where it has
more (`bitleak.data.even_mask`). Given these numbers every choice is as likely for the target's members as for others.

Cost: O(models^2 records) for all targets together, and O(models^3) per target.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.core.seeds import seed_for
from bitleak.data.splits import even_mask
from bitleak.metrics import auc_within_class

RELATED_SIGMAS = 6.5
"""Standard errors from which a correlation is none of chance: one pair of models in ten billion."""

FITTED_RECORDS, RIDGE, SURE = 4000, 10.0, 5.0
"""Of the regression: records, weight of the penalty, and standard errors above 0.5 from which it tells."""

NULL = 1e-8
"""Variance per record, and weight, below which a sum is constant."""

FEWEST_PER_SIDE = 2
"""References per side that a record needs."""

ReferenceRows = Int64[np.ndarray, "refs"]
"""ReferenceRows of models that serve as references, ascending."""

ReferenceUse = Bool[np.ndarray, "refs records"]
"""Which reference is used for which record."""


@dataclass(frozen=True)
class Serving:
    """The models that serve one target.

    Attributes:
        rows: Ascending.
        group: Rows that make up a constant with the target, ascending; evened by themselves.
        paired: Whether the target's complement is a row, which is left out.
        twins: ReferenceRows left out because they were trained on the target's training set.
        kin: ReferenceRows left out because their training sets follow from the target's.
    """

    rows: ReferenceRows
    group: Int64[np.ndarray, "group"]
    paired: bool
    twins: tuple[int, ...] = ()
    kin: tuple[int, ...] = ()


def serving(
    member: Bool[np.ndarray, "models records"],
    split: Int64[np.ndarray, "models"],
    targets: tuple[int, ...],
    labels: Int64[np.ndarray, "records"] | None,
) -> tuple[Serving, ...]:
    """Return the models that serve each target.

    Args:
        member: True if the model was trained on the record.
        split: `bitleak.attacks.split_numbers` of it.
        targets: ReferenceRows that are attacked.
        labels: Classes of the records, within which correlations are looked for; None is one class.
    """
    constant = _constant_sums(member, split)
    unusual = _unusual(member, labels)
    return tuple(_serving(target, member, split, constant, unusual) for target in targets)


def mask(
    member: Bool[np.ndarray, "models records"],
    split: Int64[np.ndarray, "models"],
    of: Serving,
    seed: int,
    target: int,
) -> Bool[np.ndarray, "refs records"]:
    """Return which of `of.rows` to use for which record."""
    rest = np.setdiff1d(of.rows, of.group)
    use = np.zeros((len(of.rows), member.shape[1]), bool)
    if len(of.group):
        name = "group" if len(rest) else "references"
        evened = _evened_splits(member[of.group], split[of.group], seed_for(seed, name, target))
        use[np.searchsorted(of.rows, of.group)] = evened
    if len(rest):
        use[np.searchsorted(of.rows, rest)] = _evened(
            member[rest], split[rest], seed_for(seed, "references", target)
        )
    return use


def usable(
    member: Bool[np.ndarray, "models records"],
    split: Int64[np.ndarray, "models"],
    of: Serving,
    target: int,
) -> Bool[np.ndarray, "records"]:
    """Return whether a record has `FEWEST_PER_SIDE` references per side.

    The rule does not depend on the target's membership.
    """
    rest = np.setdiff1d(of.rows, of.group)
    sure = _per_side(member[of.group], split[of.group])
    inside, outside = _counts(member[rest], split[rest])
    if of.paired or len(of.group):  # the rest does not depend on the target
        return np.minimum(inside, outside) + sure >= FEWEST_PER_SIDE
    own = member[target]
    return np.minimum(inside + own, outside + ~own) >= FEWEST_PER_SIDE + 1


def tells(
    member: Bool[np.ndarray, "models records"],
    split: Int64[np.ndarray, "models"],
    of: Serving,
    target: int,
    labels: Int64[np.ndarray, "records"] | None,
) -> bool:
    """Whether the evened sides still tell the target's membership: a regression on them, tried on other records.

    It is fitted to one half of at most `FITTED_RECORDS` records, within classes, and must not have an AUC within
    classes above 0.5 by `SURE` standard errors on the other half. Subsets within subsets are found by this.
    """
    chosen = np.unique(
        np.linspace(0, member.shape[1] - 1, min(FITTED_RECORDS, member.shape[1])).astype(np.int64)
    )
    shown = member[:, chosen]
    which = (
        np.zeros(len(chosen), np.int64)
        if labels is None
        else np.unique(labels[chosen], return_inverse=True)[1]
    )
    use = mask(shown, split, of, 0, target)
    side = np.where(use, 2.0 * shown[of.rows] - 1.0, 0.0)
    features = np.concatenate([side, side**2])
    known = np.random.default_rng(0).random(len(chosen)) < 0.5
    own = shown[target]
    # Deviations within classes, so that membership by class alone predicts nothing.
    centred, goal = (
        _within(features[:, known], which[known]),
        _within(own[None, known] * 1.0, which[known])[0],
    )
    ridge = RIDGE * np.eye(len(features))
    weights = np.linalg.solve(centred @ centred.T + ridge, centred @ goal)
    found = auc_within_class(weights @ features[:, ~known], own[~known], which[~known])
    return found is not None and found.value - 0.5 > SURE * float(
        np.sqrt((found.influence**2).sum())
    )


def _within(
    values: Float64[np.ndarray, "rows records"], which: Int64[np.ndarray, "records"]
) -> np.ndarray:
    """Return every row less its means by class."""
    size = np.maximum(np.bincount(which), 1)
    return (
        np.stack([row - (np.bincount(which, row) / size)[which] for row in values])
        if len(values)
        else values
    )


def per_side(
    member: Bool[np.ndarray, "models records"], split: Int64[np.ndarray, "models"], of: Serving
) -> int:
    """References per side that `mask` leaves, the same for every record."""
    rest = np.setdiff1d(of.rows, of.group)
    inside, outside = _counts(member[rest], split[rest])
    return _per_side(member[of.group], split[of.group]) + int(
        np.minimum(inside, outside).min(initial=len(rest))
    )


def _serving(
    target: int,
    member: Bool[np.ndarray, "models records"],
    split: Int64[np.ndarray, "models"],
    constant: Float64[np.ndarray, "models models"],
    unusual: Bool[np.ndarray, "models models"],
) -> Serving:
    twins = tuple(int(row) for row in np.flatnonzero(split == split[target]) if row != target)
    rows = np.flatnonzero(np.abs(split) != abs(split[target]))
    group = _group(target, rows, constant[target])
    kin = np.setdiff1d(rows[unusual[target, rows]], group)
    nothing = len(group) > 0 and _per_side(member[group], split[group]) == 0  # folds and clients
    if nothing:
        kin, group = np.union1d(kin, group), group[:0]
    paired = nothing or bool((split == -split[target]).any())
    return Serving(np.setdiff1d(rows, kin), group, paired, twins, tuple(kin.tolist()))


def _constant_sums(
    member: Bool[np.ndarray, "models records"], split: Int64[np.ndarray, "models"]
) -> Float64[np.ndarray, "models models"]:
    """Per model the smallest weights, its own being 1, with which the sum of all rows is constant; NaN if none are.

    Of the models on a training set and on its complement the first one counts.
    """
    _, first, which = np.unique(np.abs(split), return_index=True, return_inverse=True)
    centred = member[first] - member[first].mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    null = vectors[:, values < NULL * member.shape[1]]
    projection = null @ null.T
    own = np.diag(projection)[:, None]
    weights = np.where(own > NULL, projection / np.where(own > NULL, own, 1.0), np.nan)
    return weights[which][:, which]


def _group(
    target: int, rows: ReferenceRows, weights: Float64[np.ndarray, "models"]
) -> Int64[np.ndarray, "group"]:
    """The rows whose splits make up a constant with the target's; none if there are no such."""
    if np.isnan(weights[target]):
        return rows[:0]
    return rows[np.abs(weights[rows] - 1) < 1e-6]


def _unusual(
    member: Bool[np.ndarray, "models records"], labels: Int64[np.ndarray, "records"] | None
) -> Bool[np.ndarray, "models models"]:
    """Pairs of rows that are correlated within classes as no chance would have it, less than most other pairs are."""
    values = member.astype(np.float64)
    which = (
        np.zeros(member.shape[1], np.int64)
        if labels is None
        else np.unique(labels, return_inverse=True)[1]
    )
    size = np.bincount(which)
    for row in values:
        row -= (np.bincount(which, row) / size)[which]
    covariance = values @ values.T
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    correlation = np.where(scale > 0, covariance / np.where(scale > 0, scale, 1.0), 0.0)
    values *= values
    error = np.sqrt(values @ values.T)
    others = correlation[~np.eye(len(member), dtype=bool)].reshape(len(member), -1)
    usual = np.median(others, axis=1, keepdims=True) if others.size else 0.0
    return np.abs(correlation - usual) * scale > RELATED_SIGMAS * np.maximum(
        error, np.finfo(float).tiny
    )


def _counts(
    member: Bool[np.ndarray, "rows records"], split: Int64[np.ndarray, "rows"]
) -> tuple[Int64[np.ndarray, "records"], Int64[np.ndarray, "records"]]:
    """References of each record, IN and OUT, that `_evened` can choose from."""
    rows = member[_as_many(split)] if _seeds(split) else member
    inside = rows.sum(axis=0)
    return inside, len(rows) - inside


def _seeds(split: Int64[np.ndarray, "rows"]) -> bool:
    """Whether several models share a training set, and none has the complement of another's."""
    return len(np.unique(split)) < len(split) and len(np.unique(np.abs(split))) == len(
        np.unique(split)
    )


def _evened(
    member: Bool[np.ndarray, "rows records"], split: Int64[np.ndarray, "rows"], seed: int
) -> Bool[np.ndarray, "rows records"]:
    """All rows where they are even, else `even_mask`: of the splits if these have several models each."""
    if (2 * member.sum(axis=0) == len(member)).all():
        return np.ones_like(member)
    return (
        _evened_splits(member, split, seed) if _seeds(split) else even_mask(member, seed, fewest=0)
    )


def _evened_splits(
    member: Bool[np.ndarray, "rows records"], split: Int64[np.ndarray, "rows"], seed: int
) -> Bool[np.ndarray, "rows records"]:
    """As many splits that hold a record as do not; all models of a split, and of its complement, or none."""
    _, first, which = np.unique(np.abs(split), return_index=True, return_inverse=True)
    order = np.sort(first)
    evened = even_mask(member[order], seed, fewest=0)
    return evened[np.searchsorted(order, first)[which]] & _as_many(split)[:, None]


def _per_side(member: Bool[np.ndarray, "rows records"], split: Int64[np.ndarray, "rows"]) -> int:
    """References per side that `_evened_splits` leaves."""
    _, first = np.unique(np.abs(split), return_index=True)
    counts = member[first].sum(axis=0)
    splits = int(np.minimum(counts, len(first) - counts).min(initial=len(first)))
    return splits * int(_as_many(split).sum()) // max(1, len(first))


def _as_many(split: Int64[np.ndarray, "rows"]) -> Bool[np.ndarray, "rows"]:
    """The first models of each split, and of its complement, as many of each as there are of all."""
    kept = np.zeros(len(split), bool)
    numbers = np.unique(np.abs(split))
    for sign in (1, -1):
        places = [np.flatnonzero(split == sign * number) for number in numbers]
        fewest = min((len(found) for found in places), default=0)
        for found in places:
            kept[found[:fewest]] = True
    return kept
