"""A lower bound on epsilon from one training run whose memberships were independent coins.

The adversary guesses for some records that they are members, for some that they are not, and
abstains from the rest. If training is (epsilon, delta)-differentially private and n memberships
were independent fair coins, the number W of correct ones of r guesses obeys (Steinke, Nasr and
Jagielski 2023, arXiv 2305.08846, main theorem)

    P(W >= v) <= P(B >= v) + 2 n delta max_i P(v > B >= v - i) / i,
    B ~ Binomial(r, 1 / (1 + e^-epsilon)).

The bound is the largest epsilon at which the right side is at most the tail: anything smaller is
refuted. With delta = 0 it is log-odds(Clopper and Pearson's lower end for v of r). No assumption is
made on how one record's score depends on another's, but the coins must be independent. Halves of
fixed size, drawn without replacement, are not coins: knowing one membership shifts the odds of the
others, and the bound is refused for them.

Which records are guessed depends on the scores alone: the k largest are called members and the l
smallest non-members, both numbers fixed beforehand. Records tied across a boundary are left out, so
that the order of records says nothing. With A attacks and G pairs (k, l) every one of the A G tests
has the tail (1 - confidence) / (A G).

Deviation: the paper takes the pair of numbers as given and reports the best of several; here
several are paid for. Cost: O(records log records) per attack, O(r) for each of 40 bisection steps
if delta > 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import bdtr, bdtrc, betaincinv, expit, logit

from bitleak.core.checks import integer_in, number_array, number_in, truth_array
from bitleak.core.types import Scores

EPSILON_BISECTIONS = 40


@dataclass(frozen=True)
class OneRunBound:
    """A lower bound on epsilon, and the guesses it comes from.

    Attributes:
        epsilon: At least 0, in nats; 0 if nothing was shown.
        guesses: Number of guesses made, r.
        correct: Number of right guesses, v.
    """

    epsilon: float
    guesses: int
    correct: int


def one_run_bounds(
    scores: Float64[np.ndarray, "attacks records"],
    member: Bool[np.ndarray, "records"],
    *,
    guesses: Sequence[tuple[int, int]],
    independent: bool,
    delta: int | float = 0.0,
    confidence: int | float = 0.95,
) -> tuple[OneRunBound, ...]:
    """Return a lower bound on epsilon by every attack, all of them valid together.

    Args:
        scores: Scores of all attacks; larger = more likely a member; finite.
        member: True for the members: independent coins of 1/2.
        guesses: Pairs to try: the number of largest scores that are called members and the number
            of smallest that are called non-members; fixed before looking at the membership.
        independent: Whether the memberships were independent coins. False for the halves of
            `Splits`.
        delta: The delta of differential privacy, in [0, 1].
        confidence: Chance, in (0, 1), that no bound is above the truth.

    Returns:
        One per attack, the best of its pairs; their maximum is a valid bound too.

    Raises:
        ValueError: The memberships are no independent coins, or a shape or a number is out of
            range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> member = rng.random(2000) < 0.5
        >>> answer = member ^ (rng.random(2000) < 1 / (1 + np.e))  # epsilon = 1
        >>> ranks = answer + 0.1 * rng.random(2000)
        >>> (bound,) = one_run_bounds(ranks[None], member, guesses=[(500, 500)], independent=True)
        >>> 0.7 < bound.epsilon < 1
        True
    """
    if not independent:
        raise ValueError(
            "a bound from one run needs memberships that are independent coins; halves of fixed "
            "size are not: draw every membership with probability 1/2 on its own, or use "
            "epsilon_bounds"
        )

    # shapes and numbers, before anything is sorted
    scores, member = number_array("scores", scores), truth_array("member", member)
    if scores.ndim != 2 or len(scores) == 0 or scores.shape[1:] != member.shape:
        records = f"{member.shape[0]} records, got {scores.shape}"
        raise ValueError(f"scores must be [attacks records] with {records}")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    for inside, outside in guesses:
        integer_in("guesses of a pair together", inside + outside, 1, len(member))
        integer_in("guesses", min(inside, outside), 0)
    number_in("delta", delta, 0, 1)

    # Bonferroni over attacks and pairs
    mistake = 1 - number_in("confidence", confidence, 0, 1, ends="()")
    tail = mistake / (len(scores) * max(len(guesses), 1))
    return tuple(_best(row, member, guesses, float(delta), tail) for row in scores)


def one_run_p_value(
    records: int, guesses: int, correct: int, *, epsilon: int | float, delta: int | float = 0.0
) -> float:
    """Return the largest chance of that many correct guesses under differential privacy.

    Args:
        records: Independent coins, n.
        guesses: Coins guessed, r.
        correct: Coins guessed right, v.
        epsilon: Privacy in nats, at least 0.
        delta: The delta of differential privacy, in [0, 1].

    Example:
        >>> round(one_run_p_value(100, 4, 4, epsilon=0.0), 4)
        0.0625
    """
    if correct == 0:
        return 1.0
    accuracy = float(expit(epsilon))
    beyond = float(bdtrc(correct - 1, guesses, accuracy))
    if delta == 0:
        return beyond
    below = np.append(0.0, bdtr(np.arange(correct), guesses, accuracy))  # P(B < 0), ..., P(B < v)
    spread = (below[-1] - below[-2::-1]) / np.arange(1, correct + 1)  # P(v > B >= v - i) / i
    return float(min(1.0, beyond + 2 * records * delta * spread.max()))


def _best(
    scores: Scores,
    member: Bool[np.ndarray, "records"],
    pairs: Sequence[tuple[int, int]],
    delta: float,
    tail: float,
) -> OneRunBound:
    # strict inequalities against the first score outside: ties across the boundary are left out
    ascending = np.concatenate([[-np.inf], np.sort(scores), [np.inf]])
    bounds = []
    for inside, outside in pairs:
        called_in = scores > ascending[len(scores) - inside]
        called_out = scores < ascending[outside + 1]
        guessed = int(called_in.sum() + called_out.sum())
        correct = int((called_in & member).sum() + (called_out & ~member).sum())
        epsilon = _largest_refuted(len(scores), guessed, correct, delta, tail)
        bounds.append(OneRunBound(epsilon, guessed, correct))
    return max(bounds, key=lambda bound: bound.epsilon)


def _largest_refuted(records: int, guesses: int, correct: int, delta: float, tail: float) -> float:
    """Return the largest epsilon whose p-value is at most the tail, or 0, to 1e-12 relative."""
    if correct == 0:
        return 0.0
    high = float(logit(betaincinv(correct, guesses - correct + 1, tail)))  # exact at delta = 0
    if high <= 0 or delta == 0:
        return max(high, 0.0)
    low = 0.0
    if one_run_p_value(records, guesses, correct, epsilon=low, delta=delta) > tail:
        return 0.0
    for _ in range(EPSILON_BISECTIONS):
        middle = (low + high) / 2
        if one_run_p_value(records, guesses, correct, epsilon=middle, delta=delta) <= tail:
            low = middle
        else:
            high = middle
    return low
