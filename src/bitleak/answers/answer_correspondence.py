"""Reasons to doubt that rows which belong together do: rows of `member`, of the quantized file, and of the population.

A file that is joined by order says nothing of a wrong order, and its leakage vanishes at exit code 0. The answers show
it: a model's deviation from the other models, record by record, is its own. With r the ranks of one model's
confidences, less the mean of the record over models,

| test | statistic | doubt |
|---|---|---|
| membership | z of the contrast of r over each row of `member` | another row fits better, or members are low |
| all models agree | correlation of a model's ranks with the mean of the others | none, though most models have one |
| quantized models | correlation of r with each full-precision model's | another model fits better |
| quantized records | correlation of the means over models | none, though halves of the models agree |
| quantized queries | correlation of the deviations from a record's mean | another query fits better |
| population | equal answers of several models about two records | a record of the pool |

All thresholds are 6 standard errors. Cost: the ranks of up to 16,384 records of every model, and a product of matrices.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.report.format import count, listed

SIGMAS = 6.0
"""Standard errors from which a difference is none of chance."""

_RECORDS = 1 << 14
QUERY_RECORDS, QUERY_MODELS = 1 << 12, 16
"""Records and models that are compared at most; each query is sorted once more."""

RELIABLE = 0.5
"""Correlation between two halves of the models from which their mean says something of a record."""

STRANGE_SIGMAS = 4.0
"""Standard errors within which a correlation is that of records in another order, and beyond which it is unusual."""

_DEVIATIONS = 1.4826
"""Standard deviations per median absolute deviation of normal values."""

COMPARED_NUMBERS = 16
"""Answers about a record by which it is recognized, at most."""

FEWEST_NUMBERS = 6
"""Different answers about a record that it takes; a saturated record has the same ones as another."""

Confidences = Float64[np.ndarray, "_models _records _queries"]


def sampled_ranks(confidence: Confidences) -> Float64[np.ndarray, "models _shown"]:
    """Return the ranks of the records that are compared, which several tests share."""
    return _ranks(confidence[:, _spread(confidence.shape[1], _RECORDS)])


def correspondence_doubts(
    confidence: Confidences,
    member: Bool[np.ndarray, "models records"],
    names: Sequence[str],
    ranks: Float64[np.ndarray, "models _shown"] | None = None,
) -> list[str]:
    """Return sentences on models whose answers do not fit their rows of `member`.

    Args:
        confidence: Confidences of all models.
        member: Rows in the order of the models.
        names: Names of the models.
        ranks: Result of `sampled_ranks`, or None to compute it here.
    """
    shown = _spread(confidence.shape[1], _RECORDS)
    deviation = _double_centred(sampled_ranks(confidence) if ranks is None else ranks)
    contrast = _double_centred(member[:, shown].astype(np.float64))
    norms = np.sqrt(deviation**2 @ (contrast**2).T)
    if len(names) < 2 or (norms == 0).any():
        return []
    z = deviation @ contrast.T / norms

    # A row that is correlated with the model's own row has a part of its contrast.
    margin = SIGMAS * np.maximum(1.0, np.sqrt(2 - 2 * np.corrcoef(contrast)))
    other = _better_fit(z, np.arange(len(names)), margin)
    low = np.diag(z) < -SIGMAS
    wrong = np.flatnonzero((other >= 0) & ~low)
    doubts = []
    if low.any():
        doubts.append(
            f"Members have lower confidences than non-members in {count(int(low.sum()), 'model')} of {len(names)} "
            f"({_first_names(names, np.flatnonzero(low))}): are their rows of member inverted, or another model's?"
        )
    if len(wrong):
        first = int(wrong[0])
        doubts.append(
            f"{count(len(wrong), 'model')} of {len(names)} answer as if trained on the members of another row of "
            f"member (first: model {names[first]} on those of {names[other[first]]}): are the rows of member in the "
            "order of the models?"
        )
    return doubts


def stranger_doubts(
    confidence: Confidences,
    names: Sequence[str],
    knowing: Bool[np.ndarray, "models"] | None = None,
    ranks: Float64[np.ndarray, "models _shown"] | None = None,
) -> list[str]:
    """Return a sentence on models whose answers have nothing to do with those of the others.

    Records differ in how hard they are, for all models of a population alike. Correlations of a model's ranks with
    the mean of the others are compared with chance and with those of the other models, if they are large for most.
    Small networks may agree little: in 32 trained on digits, one was at 0.18 where the median was 0.57.

    Args:
        confidence: Confidences of all models.
        names: Names of the models.
        knowing: Whether a model knows its members' labels, so that its records are in order; None without labels.
        ranks: Result of `sampled_ranks`, or None to compute it here.
    """
    if len(names) < 4:
        return []
    ranks = sampled_ranks(confidence) if ranks is None else ranks
    total, chance = ranks.sum(axis=0), STRANGE_SIGMAS / np.sqrt(ranks.shape[1])
    shared = np.array([_correlation(row, total - row) for row in ranks])
    usual = float(np.median(shared))
    outlying = STRANGE_SIGMAS * _DEVIATIONS * float(np.median(np.abs(shared - usual)))
    strange = (shared < chance) & (shared < usual - outlying)
    if knowing is not None:
        strange &= ~knowing
    strangers = np.flatnonzero(strange)
    if not len(strangers) or usual < max(RELIABLE, 2 * chance):
        return []
    return [
        f"The answers of {count(len(strangers), 'model')} of {len(names)} ({_first_names(names, strangers)}) have "
        "nothing to do with those of the others about the same records: are their records in another order, or were "
        "their rows never filled?"
    ]


def pairing_doubts(
    full: Confidences,
    quantized: Confidences,
    rows: Int64[np.ndarray, "quantized"],
    names: Sequence[str],
) -> list[str]:
    """Return sentences on quantized answers that are not about the models, records or queries of the same place.

    Args:
        full: Confidences at full precision.
        quantized: Confidences of the quantized models on these records and queries.
        rows: The row of `full` of each quantized model.
        names: Names of the quantized models.
    """
    shown = _spread(full.shape[1], _RECORDS)
    ranks, smaller = _ranks(full[:, shown]), _ranks(quantized[:, shown])
    doubts = _record_doubts(ranks, smaller, "records")
    if not doubts:
        doubts = [
            *_model_doubts(ranks, smaller, rows, names),
            *_query_doubts(full[rows], quantized),
        ]
    return doubts


def population_pairing_doubts(full: Confidences, quantized: Confidences) -> list[str]:
    """Return a sentence if the quantized answers are about the population in another order.

    Args:
        full: Confidences at full precision, for the population.
        quantized: Confidences of quantized models, for as many records.
    """
    if full.shape[1:] != quantized.shape[1:] or full.shape[1] < 20:
        return []
    return _record_doubts(_ranks(full), _ranks(quantized), "population records")


def copy_doubts(
    pool: Confidences,
    population: Confidences,
    clusters: Int64[np.ndarray, "records"] | None = None,
) -> list[str]:
    """Return sentences on records with the same answers: among the population, or twice in the pool.

    Args:
        pool: Confidences of the audited records.
        population: Confidences of the population records.
        clusters: Number of each audited record's cluster, in which equal answers raise no doubt.
    """
    step = 1e-3 * float(np.std(pool[:COMPARED_NUMBERS]))
    if not step > 0 or pool.shape[0] * pool.shape[2] < FEWEST_NUMBERS:
        return []
    keys = _keys(pool, step)
    varied = [key for key in keys if key]
    if len(varied) < len(keys) / 4:
        return []
    known, doubts = set(varied), []
    shared = sum(key in known for key in _keys(population, step))
    if shared >= max(2, population.shape[1] / 100):
        doubts.append(
            f"{count(shared, 'population record')} of {population.shape[1]} are answered as records of the pool are, "
            "by all models: the population must be records that no model was trained on; calibration and the attacks "
            "that use it are wrong otherwise."
        )
    twice = len(varied) - len(known)
    if clusters is not None:
        # of those in one cluster, one counts
        alone = {(key, name) for key, name in zip(keys, clusters.tolist(), strict=True) if key}
        twice = len(alone) - len(known)
    if twice >= max(2, pool.shape[1] / 100):
        doubts.append(
            f"{count(twice, 'record')} of {pool.shape[1]} are answered as other records are, by all models: is a "
            "record in the file twice? Intervals are too narrow then, and bounds on epsilon too large, since its "
            "copies say the same: give copies the same number in `clusters`."
        )
    return doubts


def _keys(confidence: Confidences, step: float) -> list[bytes]:
    """Rounded answers about each record; empty bytes where they do not tell it from others."""
    few = confidence[:COMPARED_NUMBERS]
    numbers = few.transpose(1, 0, 2).reshape(few.shape[1], few.shape[0] * few.shape[2])[
        :, :COMPARED_NUMBERS
    ]
    rounded = np.rint(numbers / step).astype(np.int64)
    ordered = np.sort(rounded, axis=1)
    distinct = 1 + (np.diff(ordered, axis=1) > 0).sum(axis=1)
    return [
        row.tobytes() if many >= FEWEST_NUMBERS else b""
        for row, many in zip(rounded, distinct, strict=True)
    ]


def _model_doubts(
    ranks: Float64[np.ndarray, "models records"],
    smaller: Float64[np.ndarray, "quantized records"],
    rows: Int64[np.ndarray, "quantized"],
    names: Sequence[str],
) -> list[str]:
    """A quantized model deviates from the others as its full-precision model does."""
    deviation = _unit(_double_centred(ranks))
    mean = smaller.mean(axis=0) if len(smaller) > 2 else ranks.mean(axis=0)
    difference = smaller - mean
    follows = _unit(difference - difference.mean(axis=1, keepdims=True)) @ deviation.T
    margin = (
        SIGMAS
        * np.maximum(1.0, np.sqrt(np.maximum(2 - 2 * deviation @ deviation.T, 0)))
        / np.sqrt(ranks.shape[1])
    )
    other = _better_fit(follows, rows, margin)
    wrong = np.flatnonzero(other >= 0)
    # Records of a class move together, so answers that quantizing has spoilt follow some model weakly.
    if not len(wrong) or np.median(follows.max(axis=1)) < RELIABLE:
        return []
    return [
        f"The quantized answers of {count(len(wrong), 'model')} of {len(names)} follow another full-precision model "
        f"more closely than their own (first: model {names[wrong[0]]}, row {int(other[wrong[0]])} at full precision): "
        "are the models in another order? An array `models` gives the numbers of the rows."
    ]


def _record_doubts(
    ranks: Float64[np.ndarray, "models records"],
    smaller: Float64[np.ndarray, "quantized records"],
    subject: str,
) -> list[str]:
    """Both halves of the quantized models agree about a record, and not with full precision."""
    if min(len(ranks), len(smaller)) < 2:
        return []
    chance = SIGMAS / np.sqrt(ranks.shape[1])
    halves = [
        _correlation(group[::2].mean(axis=0), group[1::2].mean(axis=0))
        for group in (ranks, smaller)
    ]
    agreement = _correlation(ranks.mean(axis=0), smaller.mean(axis=0))
    if min(halves) < max(RELIABLE, chance) or agreement >= chance:
        return []
    if agreement < -max(RELIABLE, chance):
        return [
            f"The quantized models are the more confident about the {subject}, the less the full-precision ones are: "
            "do the two files hold one quantity with opposite signs (losses in one of them)?"
        ]
    return [
        f"The quantized models agree about the {subject}, but not with the full-precision ones: are the {subject} in "
        "another order, or others?"
    ]


def _query_doubts(full: Confidences, quantized: Confidences) -> list[str]:
    _, records, queries = full.shape
    if queries < 2:
        return []
    from scipy.stats import rankdata  # here, since it takes long

    at = _spread(records, QUERY_RECORDS)
    chosen = slice(0, QUERY_MODELS)
    deviations = []
    for group in (full[chosen][:, at], quantized[chosen][:, at]):
        ranks = rankdata(group, axis=1)
        of_query = ranks - ranks.mean(axis=2, keepdims=True)
        by_query = np.moveaxis(of_query, 2, 0).reshape(queries, -1)
        deviations.append(_unit(by_query - by_query.mean(axis=1, keepdims=True)))
    first, second = deviations
    margin = (
        SIGMAS * np.maximum(1.0, np.sqrt(np.maximum(2 - 2 * first @ first.T, 0))) / np.sqrt(len(at))
    )
    other = _better_fit(second @ first.T, np.arange(queries), margin)
    wrong = np.flatnonzero(other >= 0)
    if not len(wrong):
        return []
    return [
        f"The quantized answers to query {int(wrong[0])} follow those of query {int(other[wrong[0]])} at full "
        "precision more closely than those of their own: are the queries in another order?"
    ]


def _better_fit(
    fit: Float64[np.ndarray, "_rows _columns"],
    own: Int64[np.ndarray, "rows"],
    margin: Float64[np.ndarray, "_columns _columns"],
) -> Int64[np.ndarray, "rows"]:
    """Return the column that fits a row better than its own by the margin; -1 if none does."""
    gain = fit - fit[np.arange(len(fit)), own][:, None] - margin[own]
    best = gain.argmax(axis=1)
    return np.where(gain[np.arange(len(fit)), best] > 0, best, -1)


def _ranks(confidence: Confidences) -> Float64[np.ndarray, "_models _records"]:
    """Ranks of each model's mean confidences, so that neither its scale nor single records count much."""
    from scipy.stats import rankdata  # here, since it takes long

    ranks = rankdata(confidence.mean(axis=2), axis=1)
    return np.asarray(ranks, np.float64) / confidence.shape[1]


def _double_centred(
    values: Float64[np.ndarray, "_rows _columns"],
) -> Float64[np.ndarray, "rows columns"]:
    return values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()


def _unit(values: Float64[np.ndarray, "_rows _columns"]) -> Float64[np.ndarray, "rows columns"]:
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def _correlation(
    first: Float64[np.ndarray, "records"], second: Float64[np.ndarray, "records"]
) -> float:
    return float(_unit((first - first.mean())[None])[0] @ _unit((second - second.mean())[None])[0])


def _spread(records: int, most: int) -> Int64[np.ndarray, "shown"]:
    return np.unique(np.linspace(0, records - 1, most).astype(np.int64))


def _first_names(names: Sequence[str], rows: Int64[np.ndarray, "rows"]) -> str:
    return f"{listed([str(names[row]) for row in rows[:5]])}{', ...' if len(rows) > 5 else ''}"
