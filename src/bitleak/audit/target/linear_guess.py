"""A linear guess at membership, cross-fitted: every record is scored by a model that did not see it.

The records are dealt into K folds, members and others alike. With standardised columns x, centred
memberships m and, per fold, c = sum of m x, q = sum of m^2 and the scatter S of the columns, the
model that scores fold k is ridge regression on the other folds,

    w_k = (sum over j != k of S_j + STIFFNESS n I)^-1 (sum over j != k of c_j),

and the statistic is the mean over folds of the two-sample t of the scores x'w_k,

    t_k = c_k'w_k / sqrt(q_k w_k'(S_k - c_k c_k' / q_k) w_k / n_k).

The folds share their models, so t_k are correlated, and no formula gives the variance of their mean
(Bengio and Grandvalet 2004). If nothing but chance tells members from others, then within a fold
every arrangement of the memberships is as likely as the given one, so the test is by permutation:
p = (1 + permutations with at least this statistic) / (1 + permutations), exact at any size. All of
it is computed from c, so a permutation costs one product with the columns.

Two halves would leave a model half of the records and the test the other half; K folds use nearly
all pairs of records, twice as many. *Power*: every permutation is a random split, and in each a shift
of the members by s v (v: change of the standardised columns) is planted exactly, as

    c_k + s q_k v,  and  (A - c c'/q)^-1 (c + s q v)  for w, up to a factor,

since the scatter within members and within others does not change (A: matrix of w_k; c, q: of its
folds; Sherman and Morrison).

Cost: `PERMUTATIONS` products of the columns with a vector, and K inverses of columns x columns.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

FOLDS = 10
"""Most folds; fewer with few records, so that each has `_FEWEST` of either kind."""

_FEWEST = 5
"""Members and others per fold, as far as there are 2 folds of them."""

PERMUTATIONS = 999
"""Permutations of the memberships."""

STIFFNESS = 3.0
"""Penalty per record, in variances of a column. So large a penalty adds up columns that move together,
as all measures of brightness do, which finds small shifts with few records: with 1,200 records and 50
columns, 6 of which move together, 0.3 finds a shift by 0.3 deviations in 38 %, 1 in 66, 3 in 81, 10 in 90
%; a larger one would hide shifts of single columns in the noise of such a group."""

SMALLEST = 1e-12
"""Floor of a variance, so that constant columns give the statistic 0."""


@dataclass(frozen=True)
class LinearGuess:
    """The result of a cross-fitted linear guess.

    Attributes:
        scores: Score of every record, larger for members.
        p_value: One-sided p-value of no difference, at least 1 / (1 + `PERMUTATIONS`).
        widening: Deviation of the statistic under no difference, by that of independent folds;
            at least 1. Intervals that take scores as independent are to be widened by it.
        power: Share of random splits in which the planted shift has a p-value below the level.
    """

    scores: Float64[np.ndarray, "records"]
    p_value: float
    widening: float
    power: float


def linear_guess(
    columns: Float32[np.ndarray, "records columns"],
    member: Bool[np.ndarray, "records"],
    shift: Float32[np.ndarray, "columns"],
    *,
    level: float,
    seed: int,
) -> LinearGuess:
    """Score every record by models that did not see it, and test the scores by permutation.

    Args:
        columns: Features.
        member: True for members; at least 2 of either kind.
        shift: Change of the features whose power is measured, in their units.
        level: Level of the test, for the power.
        seed: Seed of the folds and permutations.
    """
    generator = np.random.default_rng(seed)
    centre, deviation = columns.mean(axis=0), columns.std(axis=0)
    deviation = np.where(deviation > 1e-6 * np.maximum(1, np.abs(centre)), deviation, np.inf)
    standard = (columns - centre) / deviation
    folds = _folds(standard, member, generator)

    # The given arrangement, whose models also score the records.
    given = np.stack([fold.sums(member[fold.rows][None]) for fold in folds])
    scores = np.empty(len(member))
    for fold, weights in zip(folds, _weights(folds, given), strict=True):
        scores[fold.rows] = standard[fold.rows] @ weights[:, 0]
    statistic = float(_statistics(folds, given)[0])

    # Every other arrangement of each fold is as likely if membership means nothing.
    arranged = []
    for fold in folds:
        repeated = np.tile(member[fold.rows], (PERMUTATIONS, 1))
        arranged.append(fold.sums(generator.permuted(repeated, axis=1, out=repeated)))
    permuted = np.stack(arranged)
    null = np.sort(_statistics(folds, permuted))
    larger = int((null >= statistic).sum())

    # Significant is a statistic that fewer than `level` of the arrangements reach.
    allowed = math.ceil(level * (PERMUTATIONS + 1)) - 2
    planted = _statistics(folds, permuted, (shift / deviation).astype(np.float64))
    return LinearGuess(
        scores=scores,
        p_value=(1 + larger) / (1 + PERMUTATIONS),
        widening=max(1.0, float(null.std()) * math.sqrt(len(folds))),
        power=float((planted > null[-1 - allowed]).mean()),
    )


class _Fold(NamedTuple):
    """One fold and the model of the others.

    Attributes:
        rows: Its records.
        centred: Their standardised columns, less the means in the fold.
        share: Share of members.
        scatter: Sums of products of the columns.
        inverse: Inverse of the penalised scatter of the other folds.
    """

    rows: Int64[np.ndarray, "fold"]
    centred: Float32[np.ndarray, "fold columns"]
    share: float
    scatter: Float64[np.ndarray, "columns columns"]
    inverse: Float64[np.ndarray, "columns columns"]

    @property
    def spread(self) -> float:
        """Sum of squares of the centred memberships."""
        return len(self.rows) * self.share * (1 - self.share)

    def sums(
        self, member: Bool[np.ndarray, "arrangements fold"]
    ) -> Float64[np.ndarray, "columns arrangements"]:
        """Return the sums of membership times columns, per arrangement of the memberships."""
        return (self.centred.T @ member.T.astype(np.float32)).astype(np.float64)


def _folds(
    standard: Float32[np.ndarray, "records columns"],
    member: Bool[np.ndarray, "records"],
    generator: np.random.Generator,
) -> list[_Fold]:
    """Return the folds, members and others dealt out evenly."""
    sides = [generator.permutation(np.flatnonzero(member == side)) for side in (True, False)]
    count = max(2, min(FOLDS, min(map(len, sides)) // _FEWEST))
    rows = []
    for fold in range(count):
        # The others are dealt from the last fold on, so that sizes differ by little.
        dealt = (sides[0][fold::count], sides[1][count - 1 - fold :: count])
        rows.append(np.sort(np.concatenate(dealt)))
    centred = [standard[chosen] - standard[chosen].mean(axis=0) for chosen in rows]
    scatters = [(part.T @ part).astype(np.float64) for part in centred]
    total = np.sum(scatters, axis=0)
    folds = []
    for chosen, part, scatter in zip(rows, centred, scatters, strict=True):
        penalty = STIFFNESS * (len(standard) - len(chosen)) * np.eye(len(total))
        inverse = np.linalg.inv(total - scatter + penalty)
        folds.append(_Fold(chosen, part, float(member[chosen].mean()), scatter, inverse))
    return folds


def _weights(
    folds: list[_Fold],
    sums: Float64[np.ndarray, "folds columns arrangements"],
    shift: Float64[np.ndarray, "columns"] | None = None,
) -> list[Float64[np.ndarray, "columns arrangements"]]:
    """Return the weights that score each fold, after the members are shifted."""
    total, spread = sums.sum(axis=0), sum(fold.spread for fold in folds)
    weights = []
    for fold, part in zip(folds, sums, strict=True):
        others = total - part
        plain = fold.inverse @ others
        if shift is None:
            weights.append(plain)
            continue
        q = spread - fold.spread
        moved = plain + q * (fold.inverse @ shift)[:, None]
        within = q - (others * plain).sum(axis=0)
        weights.append(moved + plain * ((others * moved).sum(axis=0) / within))
    return weights


def _statistics(
    folds: list[_Fold],
    sums: Float64[np.ndarray, "folds columns arrangements"],
    shift: Float64[np.ndarray, "columns"] | None = None,
) -> Float64[np.ndarray, "arrangements"]:
    """Return the mean of the folds' t, per arrangement."""
    result = np.zeros(sums.shape[2])
    for fold, part, weights in zip(folds, sums, _weights(folds, sums, shift), strict=True):
        q, records = fold.spread, len(fold.rows)
        difference = (part * weights).sum(axis=0)
        # The scatter within members and within others: a shift does not change it.
        within = (weights * (fold.scatter @ weights)).sum(axis=0) - difference**2 / q
        if shift is not None:
            difference = difference + q * (shift @ weights)
        scale = np.sqrt(q * within.clip(0) / records)
        result += np.where(scale > SMALLEST, difference / np.maximum(scale, SMALLEST), 0.0)
    return result / len(folds)
