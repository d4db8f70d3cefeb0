"""Joint attack: what do several releases of one model tell together?

Someone who sees a model and its quantized copy has, per record, a vector of scores s, one per release (the mean over
queries of its logit-scaled confidence). The references exist in every release too, so IN and OUT each give a
multivariate Student distribution, and the score is

    log t(s; c_in, V_in, freedom_in) - log t(s; c_out, V_out, freedom_out)

the same as the attack `lira-online-shrunk` with one release and one query, whose formulas these are with matrices:

    Sigma ~ inverse Wishart with mode of the shape of P, d0 degrees of freedom in every direction
    V = (d0 P + S) / (d0 + d)           S the record's scatter over d + 1 references
    delta ~ N(delta0, T)                the shift that membership makes

With L the Cholesky factor of the pooled residual covariance (in which the releases' common noise shows), d0 and the
scale of P = L diag(s02) L' are fitted to the log variances of L^-1 times the residuals, direction by direction; d0 is
the mean over the directions. T is the covariance of m_in - m_out less that of its error, its negative eigenvalues set
to 0; with A = V_out / n_out, B = V_in / n_in and G = (A + B + T)^-1 the centres are m_out + A G (m_in - m_out - delta0)
and m_in - B G (m_in - m_out - delta0), with covariances A - A G A and B - B G B that are added to V.

Multivariate LiRA is in section VI-B of Carlini et al. 2022 (arXiv 2112.03570) for several queries, with the records'
own covariances; those are singular with few references, hence the shrinking. Whether a copy says more than the
original is what a comparison of this attack with its best single release shows; the references must be `matched`.

Cost: O(refs records (queries + releases^2) + records releases^3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import gammaln

from bitleak.attacks.attack import signal_of
from bitleak.attacks.shrink import ABSOLUTE_FLOOR, RELATIVE_FLOOR, fitted_prior
from bitleak.attacks.sides import blocks, refuse_few
from bitleak.core.types import AttackView, Scores

PIVOT = 1e-6
"""Added to the pooled correlations' diagonal, so that two releases that answer alike can be told apart from nothing."""


class Vectors(NamedTuple):
    """Of the used references of one side."""

    counts: Int64[np.ndarray, "records"]
    mean: Float64[np.ndarray, "records releases"]
    scatter: Float64[np.ndarray, "records releases releases"]

    @property
    def pooled(self) -> Float64[np.ndarray, "releases releases"]:
        """Covariance of the residuals of all records together, made definite."""
        found = self.scatter.sum(axis=0) / (self.counts.sum() - len(self.counts))
        return found + np.diag(PIVOT * np.diag(found) + ABSOLUTE_FLOOR**2)


@dataclass(frozen=True)
class Joint:
    """The likelihood-ratio attack on all releases of a target at once.

    Example:
        >>> Joint().name
        'joint'
    """

    @property
    def name(self) -> str:
        """`joint`."""
        return "joint"

    def __call__(self, views: Sequence[AttackView]) -> Scores:
        """The log-likelihood ratio of every record.

        Args:
            views: One per release, of the same target, with the same references in the same order.

        Raises:
            ValueError: There is no view, the views do not belong together, a record has fewer than 2 usable references
                on a side, or a confidence is not finite.
        """
        _refuse_strangers(views)
        first = views[0]
        target = np.column_stack([signal_of(view.target, "logit_scaled").mean(axis=1) for view in views])
        answers = np.stack([signal_of(view.references, "logit_scaled").mean(axis=2) for view in views], axis=-1)
        sides = {}
        for side, used in (("IN", first.use & first.member), ("OUT", first.use & ~first.member)):
            refuse_few(used, 2, self.name, side=side)
            sides[side] = vectors(answers, used)
        return _log_ratio(target, sides["IN"], sides["OUT"])


def vectors(answers: Float64[np.ndarray, "refs records releases"], used: Bool[np.ndarray, "refs records"]) -> Vectors:
    """Counts, means and scatter matrices of the used references."""
    counts = used.sum(axis=0)
    _, records, releases = answers.shape
    mean, scatter = np.empty((records, releases)), np.empty((records, releases, releases))
    for block in blocks(answers):
        values, weights = answers[:, block], used[:, block].astype(np.float64)
        mean[block] = np.einsum("mrk,mr->rk", values, weights) / counts[block, None]
        residuals = (values - mean[block]) * weights[:, :, None]
        scatter[block] = np.einsum("mrk,mrl->rkl", residuals, residuals)
    return Vectors(counts, mean, scatter)


def _log_ratio(target: Float64[np.ndarray, "records releases"], inside: Vectors, outside: Vectors) -> Scores:
    v_in, freedom_in = posterior(inside)
    v_out, freedom_out = posterior(outside)
    a, b = v_out / outside.counts[:, None, None], v_in / inside.counts[:, None, None]
    shift = inside.mean - outside.mean
    error = inside.pooled * np.mean(1 / inside.counts) + outside.pooled * np.mean(1 / outside.counts)
    between = _definite(np.atleast_2d(np.cov(shift, rowvar=False, bias=True)) - error)
    gain = np.linalg.inv(a + b + between)
    surprise = np.einsum("rkl,rl->rk", gain, shift - shift.mean(axis=0))
    c_in, c_out = (
        inside.mean - np.einsum("rkl,rl->rk", b, surprise),
        outside.mean + np.einsum("rkl,rl->rk", a, surprise),
    )
    return log_density(target - c_in, v_in + b - b @ gain @ b, freedom_in) - log_density(
        target - c_out, v_out + a - a @ gain @ a, freedom_out
    )


def posterior(side: Vectors) -> tuple[Float64[np.ndarray, "records releases releases"], Float64[np.ndarray, "records"]]:
    """Posterior covariance of every record, and its degrees of freedom."""
    own = side.counts - 1.0
    factor = np.linalg.cholesky(side.pooled)
    inverse = np.linalg.inv(factor)
    straight = np.einsum("kl,rlm,km->rk", inverse, side.scatter, inverse) / own[:, None]
    least = (ABSOLUTE_FLOOR / np.diag(factor)) ** 2
    prior = fitted_prior(np.maximum(straight, np.maximum(RELATIVE_FLOOR**2, least)), own)
    strength = float(prior.freedom.mean())
    usual = (factor * prior.variance) @ factor.T
    freedom = strength + own
    return (strength * usual + side.scatter) / freedom[:, None, None], freedom


def log_density(
    apart: Float64[np.ndarray, "records releases"],
    shape: Float64[np.ndarray, "records releases releases"],
    freedom: Float64[np.ndarray, "records"],
) -> Float64[np.ndarray, "records"]:
    """Log density of the multivariate Student distribution."""
    releases = apart.shape[1]
    factor = np.linalg.cholesky(shape)
    white = np.linalg.solve(factor, apart[:, :, None])[:, :, 0]
    half = (freedom + releases) / 2
    constant = gammaln(half) - gammaln(freedom / 2) - releases / 2 * np.log(freedom * np.pi)
    volume = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
    return constant - volume - half * np.log1p((white**2).sum(axis=1) / freedom)


def _definite(matrix: Float64[np.ndarray, "releases releases"]) -> Float64[np.ndarray, "releases releases"]:
    """The nearest matrix without negative eigenvalues."""
    values, directions = np.linalg.eigh(matrix)
    return (directions * np.maximum(values, 0.0)) @ directions.T


def _refuse_strangers(views: Sequence[AttackView]) -> None:
    if not views:
        raise ValueError("the joint attack needs at least one view, got none")
    for number, view in enumerate(views[1:], start=1):
        for field in ("member", "use", "labels"):
            if not np.array_equal(getattr(view, field), getattr(views[0], field)):
                raise ValueError(
                    f"all views must be of the same target, records and references, but {field} of view {number} "
                    "differs from that of view 0"
                )
