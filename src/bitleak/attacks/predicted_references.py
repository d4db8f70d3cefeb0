"""References of which only some are quantized, and the others' quantized answers predicted.

Quantizing every reference is most of the cost of the `matched` adversary. Here all references
answer at full precision, k of them also as the target is quantized, and the answers of the others
are predicted by a regression estimator (control variates; Cochran 1977, Sampling Techniques,
chapter 7). Per signal, query and side, with f a reference's signal at full precision, q its signal
when quantized, K the k references and S all references of the side,

    g            monotone map of f onto q, piecewise linear with knots at quantiles of f, fitted on K
                 over all records to the deviations from each record's means: an effect of the record,
                 however large, has no part in it
    b, r         slope and correlation of q on g(f) within records: deviations from the record's
                 mean over K (across records r is near 1 because some records are easy for all)
    u            effect of the record: mean over K of q - b g(f), drawn towards its mean over the
                 records by w = tau^2 / (tau^2 + s_e^2 / k), where tau^2 is the variance of the
                 effects and s_e^2 the variance of q - b g(f) within records
    prediction   b g(f) + u for the references that are not quantized
    mean         mean over S of b g(f), plus u

The variance of this mean is s_q^2 ((1 - r^2) w / k + r^2 / M), so it counts as the mean of

    n = min(M, 1 / ((1 - r^2) w / k + r^2 / M))

references. The variance of a record is combined from two estimates of its logarithm:

    A = log s_q^2(K) + c (log s_g^2(S) - log s_g^2(K)), corrected by the part of g(f) that K misses,
        with variance V_A = T_K - c^2 (T_K - T_S), and
    B = log s_g^2(S) + mean of A - log s_g^2(S) over the records, which takes the ratio of the two
        variances to be the same for all, with variance V_B = T_S + tau^2 and covariance C = c T_S
        with A.

Here T = trigamma(degrees of freedom / 2) is the variance of the logarithm of a sample variance, c
the correlation of the logarithms of two sample variances of normal pairs with correlation r
(Kibble's bivariate gamma distribution and the Laguerre series of the logarithm, with a = (k - 1) / 2
and the rising factorial (a)_j),

    c = sum over j of r^(2j) (j - 1)! / (j (a)_j), divided by its value at r = 1, trigamma(a),

and tau^2 the variance of the log ratio over the records, by moments. The best linear combination
has the weight v = (V_A - C) / (V_A + V_B - 2 C) on B, and the d whose trigamma(d / 2) is its
variance (V_A V_B - C^2) / (V_A + V_B - 2 C) are its degrees of freedom. At r = 1 all of this is the
figure of all references; at r = 0 it is the one of the k alone, as far as the records do not show
that difficulty or spread carry over.

The residual enters as a number, never as drawn noise. LiRA reads means, variances, n and d
(`reference_sums.side_sums`); attacks that read single references get the predictions.

Cost: O(refs records queries) per signal, in blocks of records, and a copy of the references.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import digamma, gammaln, polygamma

from bitleak.attacks.attack import blocks
from bitleak.attacks.reference_sums import SideName, Sums, side_of, sums
from bitleak.attacks.shrink import inverse_trigamma
from bitleak.core.errors import TooFewForAttack
from bitleak.core.spill import new_array
from bitleak.core.types import SIGNALS, AttackView

FEWEST_QUANTIZED = 4
"""Fewest quantized references of a target: two per side of every record."""
TERMS = 2000
"""Terms of the series for the correlation of logarithms of variances."""
SIDES: tuple[SideName, ...] = ("IN", "OUT")
"""Both sides of a record."""
SEGMENTS = 16
"""Most segments of the monotone map."""
PAIRS_PER_SEGMENT = 64
"""Fewest answers of quantized references, of all records, in a segment."""
LEAST_VARIANCE = 1e-12
"""Variance, in squared nats, below which a record's answers do not vary."""
RANGES: dict[str, tuple[float, float]] = {
    "log_probability": (-np.inf, 0.0),
    "entropy": (0.0, np.inf),
    "correct": (0.0, 1.0),
}
"""Least and largest value of signals that are bounded."""


class SignalFit(NamedTuple):
    """Regression of one signal of the quantized references on the same at full precision.

    Attributes:
        slope: b of the module, per query.
        correlation: r of the module, per query, in [0, 1].
        weight: w of the module, per query, in [0, 1].
        effect: u of the module.
    """

    slope: Float64[np.ndarray, "queries"]
    correlation: Float64[np.ndarray, "queries"]
    weight: Float64[np.ndarray, "queries"]
    effect: Float64[np.ndarray, "records queries"]


class PredictedView(NamedTuple):
    """The view of an attack by references of which only some are quantized.

    Attributes:
        view: The view: predictions in place of the answers of the others, and the moments of both
            sides for attacks that start from sums.
        correlation: r of the confidence, by side, the mean over queries.
        effective: n of the confidence, by side, the mean over records.
    """

    view: AttackView
    correlation: Mapping[SideName, float]
    effective: Mapping[SideName, float]


def predicted_view(
    view: AttackView,
    rows: Sequence[int],
    quantized: Float64[np.ndarray, "quantized records queries signals"],
    population_quantized: Float64[np.ndarray, "quantized population queries signals"],
) -> PredictedView:
    """Return the view in which the references answer as the target is quantized.

    Args:
        view: Answers of the quantized target, and of the references at full precision.
        rows: Rows among the references of the k that are quantized; both members of a pair of
            complements, so that every record has the same number per side.
        quantized: Signals of these, quantized, about the audited records.
        population_quantized: Their signals about the population.

    Raises:
        TooFewForAttack: Fewer than two of them are on one side of a record.
        ValueError: Records have different numbers of them per side.
    """
    for used in (view.member[rows], view.outside[rows]):
        counts = used.sum(axis=0)
        if (counts != counts[0]).any():
            raise ValueError(
                "quantized references must come in pairs of complements: every record needs the same "
                f"number of them per side, got {counts.min()} to {counts.max()}"
            )
    references = new_array(view.references.shape, view.references.dtype)
    population = np.empty_like(view.population_references)
    moments: dict[tuple[str, str], Sums] = {}
    correlation: dict[SideName, float] = {}
    effective: dict[SideName, float] = {}
    for place, signal in enumerate(SIGNALS[: view.references.shape[-1]]):
        full, bounds = view.references[..., place], RANGES.get(signal, (-np.inf, np.inf))
        references[..., place] = full
        for side in SIDES:
            used = side_of(view, side)
            part = predicted_side(full, quantized[..., place], rows, used, bounds=bounds)
            np.copyto(references[..., place], part.values, where=used[..., None])
            moments[signal, side] = part.sums
            if signal == "logit_scaled":
                correlation[side] = float(part.correlation.mean())
                effective[side] = float(part.sums.counts.mean())
        # no reference was trained on a population record: all of them are on its OUT side
        if population.shape[1]:
            outside = predicted_side(
                view.population_references[..., place],
                population_quantized[..., place],
                rows,
                np.ones(population.shape[:2], bool),
                bounds=bounds,
            )
            population[..., place] = outside.values
    predicted = replace(
        view, references=references, population_references=population, moments=moments
    )
    return PredictedView(predicted, correlation, effective)


class SidePrediction(NamedTuple):
    """One signal on one side, predicted.

    Attributes:
        values: Quantized signal of the k references, the prediction of it for the others; hidden
            references as they came.
        sums: Mean, variance, effective number and degrees of freedom of every record.
        correlation: r, per query.
    """

    values: Float64[np.ndarray, "refs records queries"]
    sums: Sums
    correlation: Float64[np.ndarray, "queries"]


def predicted_side(
    full: Float64[np.ndarray, "refs records queries"],
    quantized: Float64[np.ndarray, "quantized records queries"],
    rows: Sequence[int],
    used: Bool[np.ndarray, "refs records"],
    *,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> SidePrediction:
    """Predict one signal of the references of one side that are not quantized.

    Args:
        full: The signal of all references at full precision.
        quantized: The signal of the k quantized references.
        rows: Their rows in `full`.
        used: True for the references of this side; every record has the same number of them, and
            at least two of them are in `rows`.
        bounds: Least and largest value of the signal.

    Returns:
        Values with the predictions in place of full precision where `used`, and their sums.

    Raises:
        TooFewForAttack: A record has fewer than two quantized references on this side.

    Example:
        >>> full = np.random.default_rng(0).normal(size=(8, 500, 1))
        >>> side = predicted_side(full, full[:4] - 1, [0, 1, 2, 3], np.ones((8, 500), bool))
        >>> bool(np.abs(side.values - (full - 1)).max() < 1e-6), float(side.sums.counts[0].round(6))
        (True, 8.0)
    """
    few = used[rows].sum(axis=0).min()
    if few < 2:
        raise TooFewForAttack(
            f"quantized references must be at least 2 per side for every record, got {few}; "
            "raise `quantized` of the references"
        )
    mapped = _mapped(full, quantized, rows, used)
    fit = _fit(mapped[rows], quantized, used[rows])
    return _assemble(mapped, quantized, rows, used, fit, bounds)


def effective_number(
    correlation: float | Float64[np.ndarray, "queries"],
    quantized: int,
    references: int,
    *,
    weight: float | Float64[np.ndarray, "queries"] = 1.0,
) -> float:
    """Return n of the module: one number for all queries.

    Effects that hardly differ between records would make it larger than the number of references,
    which is not claimed.

    Args:
        correlation: r, in [0, 1].
        quantized: k, quantized references per side, at least 1.
        references: M, references per side.
        weight: w, in [0, 1]; 1 if effects of records differ by much.

    Example:
        >>> [round(effective_number(r, 8, 31), 1) for r in (0.0, 0.8, 0.9, 1.0)]
        [8.0, 15.2, 20.0, 31.0]
    """
    square = np.square(np.asarray(correlation, np.float64))
    variance = (1 - square) * weight / quantized + square / references
    return min(1 / float(np.mean(variance)), float(references))


def _mapped(
    full: Float64[np.ndarray, "refs records queries"],
    quantized: Float64[np.ndarray, "quantized records queries"],
    rows: Sequence[int],
    used: Bool[np.ndarray, "refs records"],
) -> Float64[np.ndarray, "refs records queries"]:
    """Return g(f) of the module where `used`; hidden references as they came."""
    mapped = new_array(full.shape, full.dtype)
    for query in range(full.shape[2]):
        knots, values = _monotone(full[rows, :, query], quantized[:, :, query], used[rows])
        for block in blocks(full):
            here = np.ascontiguousarray(full[:, block, query])
            mapped[:, block, query] = np.where(
                used[:, block], _interpolated(here, knots, values), here
            )
    return mapped


def _monotone(
    f: Float64[np.ndarray, "quantized records"],
    q: Float64[np.ndarray, "quantized records"],
    used: Bool[np.ndarray, "quantized records"],
) -> tuple[Float64[np.ndarray, "knots"], Float64[np.ndarray, "knots"]]:
    """Return the knots of the monotone map, and its values there.

    The slopes of the segments are the non-negative ones with the least sum of squares of the
    deviations, within records, of q from the map.
    """
    from scipy.optimize import nnls  # here, since it takes long

    answers = f[used]
    segments = max(1, min(SEGMENTS, len(answers) // PAIRS_PER_SEGMENT))
    knots = np.unique(np.quantile(answers, np.linspace(0, 1, segments + 1)))
    if len(knots) < 2:
        return knots, knots

    # the part of f in each segment, the outer two without an end, as deviations within records
    starts, ends = knots[:-1].copy(), knots[1:].copy()
    starts[0], ends[-1] = -np.inf, np.inf
    deviations = [_within(q, used)]
    for start, end in zip(starts, ends, strict=True):
        deviations.append(_within(np.clip(f, start, end), used))
    products = np.array([[np.vdot(a, b) for b in deviations] for a in deviations])

    # normal equations, by a root of the matrix; segments in which no record varies get the slope 0
    values, vectors = np.linalg.eigh(products[1:, 1:])
    kept = values > 1e-12 * max(values.max(), 0.0)
    if not kept.any():
        return knots, np.zeros(len(knots))
    root = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
    target = vectors[:, kept].T @ products[1:, 0] / np.sqrt(values[kept])
    slopes, _ = nnls(root, target)
    return knots, np.append(0.0, np.cumsum(slopes * np.diff(knots)))


def _within(
    values: Float64[np.ndarray, "quantized records"], used: Bool[np.ndarray, "quantized records"]
) -> Float64[np.ndarray, "quantized records"]:
    """Return deviations from each record's mean over the references of its side; 0 for the others."""
    mean = np.where(used, values, 0.0).sum(axis=0) / used.sum(axis=0)
    return np.where(used, values - mean, 0.0)


def _interpolated(
    f: Float64[np.ndarray, "refs records"],
    knots: Float64[np.ndarray, "knots"],
    values: Float64[np.ndarray, "knots"],
) -> Float64[np.ndarray, "refs records"]:
    """Return the map; beyond its outer knots it goes on with the slope that it has there."""
    mapped = np.interp(f, knots, values)
    if len(knots) < 2:
        return mapped
    low = (values[1] - values[0]) / (knots[1] - knots[0])
    high = (values[-1] - values[-2]) / (knots[-1] - knots[-2])
    return mapped + low * np.minimum(f - knots[0], 0.0) + high * np.maximum(f - knots[-1], 0.0)


def _fit(
    mapped: Float64[np.ndarray, "quantized records queries"],
    quantized: Float64[np.ndarray, "quantized records queries"],
    used: Bool[np.ndarray, "quantized records"],
) -> SignalFit:
    """Return slope, correlation and effects of the k quantized references."""
    count = used.sum(axis=0)[:, None]
    mean_g, mean_q = _mean(mapped, used, count), _mean(quantized, used, count)
    weights = used[..., None].astype(np.float64)
    residual_g, residual_q = (mapped - mean_g) * weights, (quantized - mean_q) * weights

    # b and r within records: sums of products of the deviations from the records' means
    square_g = np.einsum("mrq,mrq->q", residual_g, residual_g)
    square_q = np.einsum("mrq,mrq->q", residual_q, residual_q)
    product = np.maximum(np.einsum("mrq,mrq->q", residual_g, residual_q), 0.0)
    varies = (square_g > 0) & (square_q > 0)
    slope = np.where(varies, product / np.where(varies, square_g, 1.0), 0.0)
    correlation = product / np.sqrt(np.where(varies, square_g * square_q, 1.0))
    correlation = np.minimum(np.where(varies, correlation, 0.0), 1.0)

    # tau^2 = variance of the effects over the records, less that of their errors s_e^2 / k
    degrees = (count - 1).sum()
    error = np.maximum(square_q - slope * product, 0.0) / degrees
    raw = mean_q - slope * mean_g
    centre = raw.mean(axis=0)
    error_of_mean = error * (1 / count).mean(axis=0)
    between = np.maximum(raw.var(axis=0) - error_of_mean, 0.0)
    total = between + error_of_mean
    weight = np.where(total > 0, between / np.where(total > 0, total, 1.0), 1.0)
    return SignalFit(slope, correlation, weight, centre + weight * (raw - centre))


def _mean(
    values: Float64[np.ndarray, "refs records queries"],
    used: Bool[np.ndarray, "refs records"],
    count: Int64[np.ndarray, "records one"],
) -> Float64[np.ndarray, "records queries"]:
    return np.where(used[..., None], values, 0.0).sum(axis=0) / count


def _assemble(
    mapped: Float64[np.ndarray, "refs records queries"],
    quantized: Float64[np.ndarray, "quantized records queries"],
    rows: Sequence[int],
    used: Bool[np.ndarray, "refs records"],
    fit: SignalFit,
    bounds: tuple[float, float],
) -> SidePrediction:
    """Return predictions and sums by a fit."""
    of_all, of_k = sums(mapped, used), sums(mapped[rows], used[rows])
    measured = sums(quantized, used[rows])
    # every record has the same number of references per side, so that one row stands for all
    k, count = measured.counts[:1, None], of_all.counts[:1, None]
    records = len(measured.counts)
    square = fit.correlation**2

    # predictions of the references that are not quantized; the k as they are
    values = new_array(mapped.shape, mapped.dtype)
    for block in blocks(mapped):
        predicted = np.clip(fit.slope * mapped[:, block] + fit.effect[block], *bounds)
        values[:, block] = np.where(used[:, block, None], predicted, mapped[:, block])
    values[rows] = np.where(used[rows][..., None], quantized, values[rows])

    number = effective_number(fit.correlation, k.item(), count.item(), weight=fit.weight)

    # T, c, and the two estimates A and B of the log variance, each less its expected error
    degrees_k, degrees_all = k - 1.0, np.maximum(count - 1.0, 1.0)
    t_k, t_all = polygamma(1, degrees_k / 2), polygamma(1, degrees_all / 2)
    c = _log_correlation(square, degrees_k.item())
    log_q = _log_variance(measured.squares, degrees_k)
    log_g = _log_variance(of_k.squares, degrees_k)
    log_all = _log_variance(of_all.squares, degrees_all)
    corrected = log_q + c * (log_all - log_g)
    ratio = corrected - log_all

    # tau^2 by moments, and the best combination of A and B
    variance_a, shared = t_k - c**2 * (t_k - t_all), c * t_all
    between = np.maximum(ratio.var(axis=0) - variance_a - t_all + 2 * shared, 0.0)
    variance_b = t_all + between
    spread = variance_a + variance_b - 2 * shared
    weight = np.where(spread > 0, (variance_a - shared) / np.where(spread > 0, spread, 1.0), 0.0)
    weight = np.clip(weight, 0.0, 1.0)
    variance = (
        (1 - weight) ** 2 * variance_a + weight**2 * variance_b + 2 * weight * (1 - weight) * shared
    )
    log_variance = log_all + ratio.mean(axis=0) + (1 - weight) * (ratio - ratio.mean(axis=0))
    freedom = np.full(records, (2 * inverse_trigamma(variance)).mean())
    moments = Sums(
        counts=np.full(records, number),
        mean=fit.slope * of_all.mean + fit.effect,
        squares=np.exp(log_variance + _log_bias(freedom)[:, None]) * freedom[:, None],
        freedom=freedom,
    )
    return SidePrediction(values, moments, fit.correlation)


def _log_variance(
    squares: Float64[np.ndarray, "records queries"], degrees: Float64[np.ndarray, "one one"]
) -> Float64[np.ndarray, "records queries"]:
    """Return the logarithm of the variance, without its bias."""
    return np.log(np.maximum(squares / degrees, LEAST_VARIANCE)) - _log_bias(degrees)


def _log_bias(degrees: Float64[np.ndarray, "*axes"]) -> Float64[np.ndarray, "*axes"]:
    """Return E[log s^2] - log sigma^2 of a variance with this many degrees of freedom."""
    return digamma(degrees / 2) - np.log(degrees / 2)


def _log_correlation(
    square: Float64[np.ndarray, "queries"], degrees: float
) -> Float64[np.ndarray, "queries"]:
    """Return c of the module for r^2 and the degrees of freedom of both variances."""
    a, j = degrees / 2, np.arange(1.0, TERMS + 1)
    terms = np.exp(gammaln(j) + gammaln(a) - gammaln(a + j)) / j
    series = (np.minimum(square, 1.0)[:, None] ** j * terms).sum(axis=1)
    # the terms that are left out fall as j^(-1 - a); they are in trigamma(a)
    missing = np.maximum(polygamma(1, a) - terms.sum(), 0.0) * np.minimum(square, 1.0) ** TERMS
    return (series + missing) / polygamma(1, a)
