"""Empirical Bayes for few references: variances and shifts of records, drawn towards their mean.

Variance. With s2 the variance of a record's d + 1 references, and one prior for all records of a
query and side,

    sigma2 ~ scaled inverse chi-square(d0, s02),    s2 | sigma2 ~ sigma2 chi-square(d) / d,

the posterior is again scaled inverse chi-square, with d0 + d degrees of freedom and scale

    v = (d0 s02 + d s2) / (d0 + d),

and a new score is Student t with d0 + d degrees of freedom. d0 and s02 are fitted to the mean and
the variance of log s2 over the records, which are digamma and trigamma functions of d and d0 (Smyth
2004, Linear models and empirical Bayes methods for microarray experiments). Records that spread
alike give d0 = infinity (here 10^6) and the pooled variance; records as different as can be give d0
= 0 and their own.

Shift. Membership moves a record's mean by delta ~ N(delta0, tau2), fitted by moments over the
records: delta0 = mean(m_in - m_out) and tau2 = max(0, variance(m_in - m_out) - mean(pooled_in /
n_in + pooled_out / n_out)). With A = v_out / n_out, B = v_in / n_in and g = 1 / (A + B + tau2), the
posterior means and their variances are

    m_out + A g (m_in - m_out - delta0),  A - A^2 g      and
    m_in  - B g (m_in - m_out - delta0),  B - B^2 g,

under a flat prior on the difficulty: each side borrows from the other as far as the shift is the
same for all. A new score then has variance v plus that of the mean; its distribution is taken as
Student t with the d0 + d degrees of freedom of v, which is exact for tau2 = infinity.

A Bayesian LiRA with a normal-inverse-gamma prior is BaVarIA (arXiv 2603.11799). Here the strength
of the prior is fitted instead of set, and the shift between the sides is shrunk instead of the two
means: difficulties differ far more between records than shifts do.

Cost: O(records queries) beyond the sums.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.special import betaln, digamma, gammaln, polygamma, stdtr

from bitleak.attacks.reference_sums import Sums

MOST_FREEDOM = 1e6
"""Degrees of freedom at which a prior counts as infinitely sure."""
RELATIVE_FLOOR = 1e-3
ABSOLUTE_FLOOR = 1e-6
"""Least deviation of a record, as a share of the pooled one and in nats (the resolution of float32
logits).
"""
SMALLEST_TAIL = 1e-290
"""Probability below which the tail's series takes over."""
TAIL_TERMS = 24
"""At that point t is above 36, and a term at most 2 k / t^2 of the one before."""


class Student(NamedTuple):
    """A record's distribution of scores: location, scale and degrees of freedom.

    The freedom has one row if it is the same for all records.
    """

    centre: Float64[np.ndarray, "records queries"]
    deviation: Float64[np.ndarray, "records queries"]
    freedom: Float64[np.ndarray, "rows queries"]


class Prior(NamedTuple):
    """Scaled inverse chi-square over the records of each query."""

    freedom: Float64[np.ndarray, "queries"]
    variance: Float64[np.ndarray, "queries"]


def predictive(side: Sums) -> Student:
    """Return the distribution of a new score given one side; flat prior on the mean."""
    variance, freedom = posterior(side)
    return Student(side.mean, np.sqrt(variance * (1 + 1 / side.counts[:, None])), freedom)


def predictive_pair(inside: Sums, outside: Sums) -> tuple[Student, Student]:
    """Return the distributions of a new member's and a new non-member's score, the shift shrunk."""
    v_in, freedom_in = posterior(inside)
    v_out, freedom_out = posterior(outside)
    n_in, n_out = inside.counts[:, None], outside.counts[:, None]

    # tau2 = max(0, variance(m_in - m_out) - mean(pooled_in / n_in + pooled_out / n_out))
    shift = inside.mean - outside.mean
    error = (inside.pooled / n_in + outside.pooled / n_out).mean(axis=0)
    between = np.maximum(shift.var(axis=0) - error, 0.0)  # (queries,)
    surprise = shift - shift.mean(axis=0)

    # the posterior means and variances of the module: A and B are the errors of the two means, g
    # the gain
    error_in, error_out = v_in / n_in, v_out / n_out
    gain = 1 / (error_in + error_out + between)
    centre_in = inside.mean - error_in * gain * surprise
    centre_out = outside.mean + error_out * gain * surprise
    return (
        Student(centre_in, np.sqrt(v_in + error_in - error_in**2 * gain), freedom_in),
        Student(centre_out, np.sqrt(v_out + error_out - error_out**2 * gain), freedom_out),
    )


def posterior(
    side: Sums,
) -> tuple[Float64[np.ndarray, "records queries"], Float64[np.ndarray, "rows queries"]]:
    """Return the posterior variance of every record and query, and its degrees of freedom.

    These have one row if all records have the same number of references: functions of them are
    slow.
    """
    degrees = side.degrees[:, None]
    if len(degrees) and (degrees == degrees[0]).all():
        degrees = degrees[:1]
    floor = np.maximum(RELATIVE_FLOOR * np.sqrt(side.pooled), ABSOLUTE_FLOOR) ** 2
    variance = np.maximum(side.squares / degrees, floor)
    prior = fitted_prior(variance, np.broadcast_to(degrees[:, 0], len(variance)))
    freedom = prior.freedom + degrees
    return (prior.freedom * prior.variance + degrees * variance) / freedom, freedom


def fitted_prior(
    variance: Float64[np.ndarray, "records queries"], freedom: Float64[np.ndarray, "records"]
) -> Prior:
    """Return the prior that matches the mean and the variance of the log variances.

    Args:
        variance: Variance of each record and query, > 0.
        freedom: Degrees of freedom of each record's variances, at least 1.
    """
    distinct, places = np.unique(
        freedom, return_inverse=True
    )  # a few, and their functions are slow
    half = distinct / 2

    # E[log s2] = log s02 + digamma(d/2) - log(d/2) - digamma(d0/2) + log(d0/2), and
    # var[log s2] = trigamma(d/2) + trigamma(d0/2)
    centred = np.log(variance) - (digamma(half) - np.log(half))[places, None]
    records = len(variance)
    excess = centred.var(axis=0) * records / max(records - 1, 1) - polygamma(1, half)[places].mean()
    least = float(polygamma(1, MOST_FREEDOM / 2))
    prior_freedom = np.clip(2 * inverse_trigamma(np.maximum(excess, least)), 0.0, MOST_FREEDOM)
    scale = np.exp(centred.mean(axis=0) + digamma(prior_freedom / 2) - np.log(prior_freedom / 2))
    return Prior(prior_freedom, scale)


def inverse_trigamma(value: Float64[np.ndarray, "*axes"]) -> Float64[np.ndarray, "*axes"]:
    """Return the x > 0 with trigamma(x) = value, by Newton steps on the nearly linear 1 / trigamma.

    Example:
        >>> inverse_trigamma(polygamma(1, np.array([0.01, 1.0, 500.0]))).round(9).tolist()
        [0.01, 1.0, 500.0]
    """
    x = 0.5 + 1 / value
    for _ in range(30):  # quadratic and from above: 10 are enough anywhere
        now = polygamma(1, x)
        following = np.maximum(x + now * (1 - now / value) / polygamma(2, x), 1e-12)
        if np.array_equal(following, x):
            break
        x = following
    return x


def log_density(
    value: Float64[np.ndarray, "records queries"], of: Student
) -> Float64[np.ndarray, "records queries"]:
    """Return the log density of the Student distribution."""
    half = of.freedom / 2
    constant = _log_gamma_step(half) - 0.5 * np.log(of.freedom * np.pi)
    distance = (value - of.centre) / of.deviation
    return constant - np.log(of.deviation) - (half + 0.5) * np.log1p(distance**2 / of.freedom)


def _log_gamma_step(x: Float64[np.ndarray, "*axes"]) -> Float64[np.ndarray, "*axes"]:
    """Return log of Gamma(x + 1/2) / Gamma(x), for large x by the series of DLMF 5.11.13."""
    clipped = np.maximum(x, 50.0)
    series = (
        0.5 * np.log(clipped) - 1 / (8 * clipped) + 1 / (192 * clipped**3) - 1 / (640 * clipped**5)
    )
    return np.where(x > 50.0, series, gammaln(x + 0.5) - gammaln(x))


def log_survival(
    value: Float64[np.ndarray, "records queries"], of: Student
) -> Float64[np.ndarray, "records queries"]:
    """Return the log of the probability of a larger value, without underflow or rounding to 0.

    Far out, with a = freedom / 2, u = 2 a / t^2 and Gauss's function after Pfaff's transformation
    (DLMF 8.17.8 and 15.8.1), the tail is
    (1 + 1 / u)^-a (1 + u)^(1/2) / (2 a B(a, 1/2)) times the sum over k of (1/2)_k / (a + 1)_k
    (-u)^k.
    """
    distance = (value - of.centre) / of.deviation
    nearer = stdtr(of.freedom, -np.abs(distance))  # the smaller tail, on the value's own side
    tail = np.where(distance < 0, np.log1p(-nearer), np.log(np.maximum(nearer, SMALLEST_TAIL)))

    # the series of the docstring where the tail underflows
    far = (distance > 0) & (nearer < SMALLEST_TAIL)
    freedom = np.broadcast_to(of.freedom, far.shape)[far]
    a, u = freedom / 2, freedom / distance[far] ** 2
    series, term = np.ones_like(a), np.ones_like(a)
    for k in range(TAIL_TERMS):
        term = term * -u * (k + 0.5) / (a + 1 + k)
        series += term
    tail[far] = (
        -a * np.log1p(1 / u) + 0.5 * np.log1p(u) - np.log(2 * a) - betaln(a, 0.5) + np.log(series)
    )
    return tail
