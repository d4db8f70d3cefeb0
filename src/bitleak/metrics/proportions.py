"""Shares of records (accuracies, agreement) with Wilson's and Clopper and Pearson's intervals.

Wilson's interval inverts the score test: the shares p with |k / n - p| <= 1.96 sqrt(p (1 - p) / n)
(Wilson 1927). It keeps near 95 % coverage near 0 and 1, where accuracies on training data lie.
Clopper and Pearson's is exact and never covers less than 95 %; it is right for a rate at a
threshold *fixed beforehand*, and wrong at a threshold taken from the same records.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import betaincinv

from bitleak.core.checks import integer_in, number_in
from bitleak.metrics.clusters import Clusters, cluster_sums, design_effect
from bitleak.metrics.estimates import Estimate, Z

_Counts = Int64[np.ndarray, "shares"] | Float64[np.ndarray, "shares"]
_Shares = Float64[np.ndarray, "shares"]


def estimate_proportion(
    success: Bool[np.ndarray, "records"],
    counted: Bool[np.ndarray, "records"] | None = None,
    clusters: Clusters | None = None,
) -> Estimate:
    """Return the share of the counted records that are a success, with Wilson's interval.

    Args:
        success: One truth value per record.
        counted: The records that count; None for all.
        clusters: As `dense_clusters` returns them; Wilson's interval then takes effective numbers.

    Raises:
        ValueError: No record counts.

    Example:
        >>> estimate = estimate_proportion(np.arange(100) < 90)
        >>> round(estimate.low, 4), round(estimate.high, 4)
        (0.8256, 0.9448)
    """
    counted = np.ones(len(success), bool) if counted is None else counted
    trials = int(counted.sum())
    if trials == 0:
        raise ValueError("a share needs at least one record, got none")
    share = float(success[counted].mean())
    influence = np.where(counted, success - share, 0.0) / trials
    if clusters is None:
        low, high = wilson(int(success[counted].sum()), trials)
    else:
        low, high = wilson_of_share(share, trials / design_effect(success, counted, clusters))
        influence = cluster_sums(influence, clusters)
    return Estimate(share, share, low, high, influence, "wilson")


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval for a share of `trials` >= 1 independent trials."""
    integer_in("successes", successes, 0, integer_in("trials", trials, 1))
    return wilson_of_share(successes / trials, trials)


def wilson_of_share(share: float, trials: int | float) -> tuple[float, float]:
    """Return Wilson's 95 % interval for a share of trials whose number may be an effective one."""
    shrink = 1 + Z**2 / trials
    middle = (share + Z**2 / (2 * trials)) / shrink
    reach = Z * np.sqrt(share * (1 - share) / trials + Z**2 / (4 * trials**2)) / shrink
    return max(0.0, float(middle - reach)), min(1.0, float(middle + reach))


def clopper_pearson(
    successes: int,
    trials: int,
    *,
    confidence: int | float = 0.95,
) -> tuple[float, float]:
    """Return the exact interval for a share of `trials` >= 1 independent trials.

    Args:
        successes: Number of successful trials.
        trials: At least 1.
        confidence: In (0, 1); half of the rest lies beyond each end.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> low, high = clopper_pearson(0, 100)
        >>> low, round(high, 4)
        (0.0, 0.0362)
    """
    integer_in("successes", successes, 0, integer_in("trials", trials, 1))
    tail = (1 - number_in("confidence", confidence, 0, 1, ends="()")) / 2
    counts = np.array([successes])
    return float(exact_low(counts, trials, tail)[0]), float(exact_high(counts, trials, tail)[0])


def exact_low(successes: _Counts, trials: int | float, tail: float) -> _Shares:
    """Return Clopper and Pearson's lower ends for many shares, the chance `tail` below each."""
    low = betaincinv(np.where(successes > 0, successes, 1), trials - successes + 1, tail)
    return np.where(successes > 0, low, 0.0)


def exact_high(successes: _Counts, trials: int | float, tail: float) -> _Shares:
    """Return Clopper and Pearson's upper ends for many shares, the chance `tail` above each."""
    failures = trials - successes
    high = betaincinv(successes + 1, np.where(failures > 0, failures, 1), 1 - tail)
    return np.where(failures > 0, high, 1.0)
