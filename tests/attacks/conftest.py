"""Worlds whose answer is known, as attack views."""

from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

from bitleak.attacks import attack_view, two_class_signals
from bitleak.core.types import AttackView
from bitleak.data import even_mask


def complementary_pairs(rng, models, records):
    """Membership in which rows 2i and 2i + 1 are the halves of one random split."""
    ranks = rng.random((models // 2, records)).argsort(axis=1)
    first = np.zeros((models // 2, records), bool)
    np.put_along_axis(first, ranks[:, : records // 2], True, axis=1)
    return np.stack([first, ~first], axis=1).reshape(models, records)


def balanced_shadows(rng, shadows, records):
    """Membership in which every record is IN for exactly half of the shadows."""
    return rng.random((shadows, records)).argsort(axis=0) < shadows // 2


def view_of(
    target, references, member, use=None, population_target=None, population_references=None
):
    """A view from logit-scaled confidences: target [records queries], references [refs records queries]."""
    queries = target.shape[1]
    if population_target is None:
        population_target = np.zeros((2, queries))
        population_references = np.zeros((len(references), 2, queries))
    return attack_view(
        target=two_class_signals(target),
        references=two_class_signals(references),
        member=member,
        use=np.ones_like(member) if use is None else use,
        population_target=two_class_signals(population_target),
        population_references=two_class_signals(population_references),
        labels=np.zeros(len(target), np.int64),
    )


@pytest.fixture
def worlds() -> dict[str, Callable]:
    return {"pairs": complementary_pairs, "shadows": balanced_shadows, "view": view_of}


def gaussian(seed, *, records=4000, models=34, shift=4.0, queries=2, population=1000):
    """Target row 0 of a population: confidence = difficulty + spread * (memory * member + noise).

    Memory is exponential over the records with mean `shift`, the spread log-normal around 1: some records are
    remembered much better, and some are much steadier over models.
    """
    rng = np.random.default_rng(seed)
    member = complementary_pairs(rng, models, records)
    difficulty, spread = (
        rng.normal(4.0, 2.0, (records, queries)),
        np.exp(0.7 * rng.standard_normal((records, 1))),
    )
    memory = rng.exponential(shift, (records, 1))
    confidence = memory * member[:, :, None] + rng.standard_normal((models, records, queries))
    confidence = difficulty + spread * confidence
    steady = np.exp(0.7 * rng.standard_normal((population, 1)))
    outside = rng.normal(4.0, 2.0, (population, queries)) + steady * rng.standard_normal(
        (models, population, queries)
    )
    return view_of(
        confidence[0], confidence[2:], member[2:], None, outside[0], outside[2:]
    ), member[0]


@pytest.fixture
def gaussian_world() -> Callable:
    return gaussian


EDGES = ("saturated", "constant", "wrong", "ties", "one query", "evened")


@pytest.fixture(params=EDGES)
def edge(request) -> AttackView:
    """A small problem whose rows are at the edges of what answers can be; one view per name in `EDGES`."""
    return edge_view(request.param)


def edge_view(kind, records=24, models=14, population=55):
    rng = np.random.default_rng(EDGES.index(kind))
    queries = 1 if kind == "one query" else 2
    member = complementary_pairs(rng, models, records)
    if kind == "evened":  # unbalanced counts, made equal by the mask
        member = rng.random((models, records)) < 0.7
        member[:3], member[3:6] = False, True
    target, references = (
        rng.normal(2, 3, (records, queries)),
        rng.normal(2, 3, (models, records, queries)),
    )
    references += 2 * member[:, :, None]
    outside, others = (
        rng.normal(2, 3, (population, queries)),
        rng.normal(2, 3, (models, population, queries)),
    )
    near = 1e-3 * rng.standard_normal((models, 4, queries))
    if (
        kind == "saturated"
    ):  # target and references, the target alone, the references alone, and both wrong
        target[[0, 1]], target[3], outside[0], outside[1] = 300.0, -300.0, 300.0, -300.0
        references[:, [0, 2]], references[:, 3] = 300.0 + near[:, [0, 2]], -300.0 + near[:, 3]
        others[:, 0] = 300.0 + near[:, 1]
    if kind == "constant":  # no variance: beside the target, at the target, and on one side only
        references[:, 0], references[:, 1], target[1] = 1.5, 0.25, 0.25
        references[member[:, 2], 2] = 4.0
        others[:, 0] = 2.0
    if kind == "wrong":  # confidently: the target alone, the references alone, both
        target[[0, 2]] = -40.0
        references[:, [1, 2]] = -40.0 + 100 * near[:, [1, 2]]
    if kind == "ties":
        target, references, outside, others = (
            of.round(0) for of in (target, references, outside, others)
        )
        references[:, 5] = target[5]
    use = even_mask(member, 0) if kind == "evened" else None
    return view_of(target, references, member, use, outside, others)


@pytest.fixture
def slow() -> dict[str, Callable]:
    """Loops that several attacks' tests compare with."""
    return {
        "shrunk": slow_shrunk,
        "prior": slow_prior,
        "posterior": slow_posterior,
        "sides": slow_sides,
    }


def slow_sides(references, member, use):
    """References of every record, by side."""
    sides = {
        "in": [[] for _ in range(references.shape[1])],
        "out": [[] for _ in range(references.shape[1])],
    }
    for record in range(references.shape[1]):
        for reference in range(len(references)):
            if use[reference, record]:
                sides["in" if member[reference, record] else "out"][record].append(
                    references[reference, record]
                )
    return {side: [np.array(rows) for rows in of] for side, of in sides.items()}


def slow_posterior(values):
    """Pooled variance, posterior variances and their degrees of freedom, of one side and query: `values` by record."""
    residuals = np.concatenate([value - value.mean() for value in values])
    pooled = (residuals**2).sum() / (len(residuals) - len(values))
    floor = max(1e-3 * np.sqrt(pooled), 1e-6) ** 2
    own = [max(value.var(ddof=1), floor) for value in values]
    strength, variance = slow_prior(own, [len(value) - 1 for value in values])
    freedom = [strength + len(value) - 1 for value in values]
    found = [(strength * variance + (len(value) - 1) * s2) / (strength + len(value) - 1)
             for value, s2 in zip(values, own, strict=True)]  # fmt: skip
    return pooled, found, freedom


def slow_shrunk(attack, target, sides):
    """LiRA's shrunk form query by query and record by record, the mean by conditioning a 2 x 2 normal."""
    records, queries = target.shape
    scores = np.zeros(records)
    for query in range(queries):
        values = {side: [row[:, query] for row in rows] for side, rows in sides.items()}
        if attack.mode == "offline":
            _, v, freedom = slow_posterior(values["out"])
            for record, own in enumerate(values["out"]):
                wide, value = np.sqrt(v[record] * (1 + 1 / len(own))), target[record, query]
                if attack.side == "one_sided":
                    scores[record] -= slow_log_survival(value, freedom[record], own.mean(), wide)
                else:
                    scores[record] -= stats.t.logpdf(value, freedom[record], own.mean(), wide)
            continue
        of = {side: slow_posterior(values[side]) for side in ("in", "out")}
        means = {side: np.array([row.mean() for row in values[side]]) for side in values}
        shift = means["in"] - means["out"]
        error = np.mean(
            [
                of["in"][0] / len(a) + of["out"][0] / len(b)
                for a, b in zip(values["in"], values["out"], strict=True)
            ]
        )
        between = max(shift.var() - error, 1e-12)
        for record in range(records):
            v, freedom = ({side: of[side][part][record] for side in of} for part in (1, 2))
            a, b = v["out"] / len(values["out"][record]), v["in"] / len(values["in"][record])
            # posterior of (difficulty, shift) given m_out and m_in, under a flat prior on the difficulty
            precision = np.array([[1 / a + 1 / b, 1 / b], [1 / b, 1 / b + 1 / between]])
            m_out, m_in = means["out"][record], means["in"][record]
            known = np.array([m_out / a + m_in / b, m_in / b + shift.mean() / between])
            centre, covariance = np.linalg.solve(precision, known), np.linalg.inv(precision)
            wide = {
                "out": np.sqrt(v["out"] + covariance[0, 0]),
                "in": np.sqrt(v["in"] + covariance.sum()),
            }
            at = {"out": centre[0], "in": centre.sum()}
            logs = {
                s: stats.t.logpdf(target[record, query], freedom[s], at[s], wide[s])
                for s in ("in", "out")
            }
            scores[record] += logs["in"] - logs["out"]
    return scores / queries


def slow_log_survival(value, freedom, centre, deviation):
    """Of Student's t; with many digits where SciPy's underflows."""
    found = stats.t.logsf(value, freedom, centre, deviation)
    if np.isfinite(found):
        return found
    with mpmath.workdps(30):
        a, t = mpmath.mpf(freedom) / 2, (mpmath.mpf(value) - centre) / deviation
        x = freedom / (freedom + t**2)
        tail = x**a * mpmath.sqrt(1 - x) / (2 * a * mpmath.beta(a, 0.5))
        return float(mpmath.log(tail * mpmath.hyp2f1(1, a + 0.5, a + 1, x, maxterms=10**6)))


def slow_prior(variances, freedoms):
    """Strength and variance of the prior by bracketing the trigamma equation."""
    logs = [
        np.log(s2) - digamma(d / 2) + np.log(d / 2)
        for s2, d in zip(variances, freedoms, strict=True)
    ]
    excess = np.var(logs, ddof=1) - np.mean([polygamma(1, d / 2) for d in freedoms])
    if excess <= polygamma(1, 5e5):
        strength = 1e6
    else:
        strength = 2 * np.exp(
            brentq(lambda x: polygamma(1, np.exp(x)) - excess, -20, 20, xtol=1e-14)
        )
    return strength, np.exp(np.mean(logs) + digamma(strength / 2) - np.log(strength / 2))
