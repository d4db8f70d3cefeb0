"""LiRA: how much likelier is the target's answer under models trained on the record than under others?

Per record and query, the references trained on the record (IN) and those not trained on it (OUT) give a
normal distribution each for the logit-scaled confidence f. The score is the mean over queries of

    online:              log N(f; mu_in, sigma_in) - log N(f; mu_out, sigma_out)
    offline, one-sided:  -log P(N(mu_out, sigma_out) > f)
    offline, two-sided:  -log N(f; mu_out, sigma_out)

Carlini et al. 2022 (arXiv 2112.03570), Algorithm 1 and equation (4). The centres and deviations are

    per_record  mean and deviation (n - 1) of the record's own references
    fixed       mean of the record's own references; one deviation per query and side from the residuals of all
                records around their centres, sqrt(sum of squares / (references - records))
    paper       median of the record's own references; one deviation of the raw, uncentred scores of all
                records and queries: of IN for both sides online, of OUT offline (as the authors' code does)

Deviations from the published code. One fixed list of queries for all models, and the mean of the per-query
ratios. `fixed` pools residuals, IN and OUT apart, because raw scores also spread with the difficulty of the
records. Offline is one-sided by default, as the paper's test is: the two-sided density of the code calls a
very low confidence a member. `log P` is computed as such and does not underflow. A deviation is at least
1e-3 of the pooled one of its side and 1e-6 nats (what float32 logits resolve), so that a record whose references all
agree still has a finite score.

Cost: O(refs records queries), in blocks of records, so that the memory beyond the view is a few MB; `paper`
sorts the references of each record.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import log_ndtr

from bitleak.attacks.attack import signal_of
from bitleak.core.checks import one_of
from bitleak.core.types import SIGNALS, AttackView, Scores, SignalName

Mode = Literal["online", "offline"]
Variance = Literal["per_record", "fixed", "paper"]
Side = Literal["one_sided", "two_sided"]

BLOCK = 2**19
"""Reference scores handled at a time."""
RELATIVE_FLOOR = 1e-3
ABSOLUTE_FLOOR = 1e-6
FEWEST = {"per_record": 2, "fixed": 2, "paper": 1}
"""References a side that a deviation, or a residual, takes."""


class Moments(NamedTuple):
    """Of one side: centre and deviation of the references' scores."""

    centre: Float64[np.ndarray, "records queries"]
    deviation: Float64[np.ndarray, "..."]


@dataclass(frozen=True)
class LiRA:
    """The likelihood-ratio attack.

    Attributes:
        mode: `online` uses IN and OUT references, `offline` OUT references only.
        variance: Where the deviations come from, see the module; `fixed` is the better one below about 32
            references a side.
        side: Of the offline test: `one_sided` (survival function) or `two_sided` (density). Online ignores it.
        signal: Which signal; the normal assumption is made for the default.

    Example:
        >>> LiRA().name, LiRA(mode="offline", variance="per_record", side="two_sided").name
        ('lira-online-fixed', 'lira-offline-two_sided-per_record')
    """

    mode: Mode = "online"
    variance: Variance = "fixed"
    side: Side = "one_sided"
    signal: SignalName = "logit_scaled"

    def __post_init__(self) -> None:
        one_of("mode", self.mode, ("online", "offline"))
        one_of("variance", self.variance, ("per_record", "fixed", "paper"))
        one_of("side", self.side, ("one_sided", "two_sided"))
        one_of("signal", self.signal, SIGNALS)

    @property
    def name(self) -> str:
        """As in the results table; the signal is named where it is not the confidence."""
        form = self.mode if self.mode == "online" else f"{self.mode}-{self.side}"
        suffix = "" if self.signal == "logit_scaled" else f"-{self.signal}"
        return f"lira-{form}-{self.variance}{suffix}"

    @property
    def uses_references(self) -> bool:
        """True."""
        return True

    def __call__(self, view: AttackView) -> Scores:
        """The mean log-likelihood ratio of every record.

        Raises:
            ValueError: A record has too few usable references on a side, or a signal is not finite.
        """
        target = np.ascontiguousarray(signal_of(view.target, self.signal))
        references = signal_of(view.references, self.signal)
        outside = _moments(references, view.use & ~view.member, self.variance, side="OUT")
        if self.mode == "offline":
            return _offline(target, outside, self.side).mean(axis=1)
        inside = _moments(references, view.use & view.member, self.variance, side="IN")
        if self.variance == "paper":
            outside = outside._replace(deviation=inside.deviation)
        return (_log_density(target, inside) - _log_density(target, outside)).mean(axis=1)


def _offline(
    target: Float64[np.ndarray, "records queries"], outside: Moments, side: Side
) -> Float64[np.ndarray, "records queries"]:
    if side == "two_sided":
        return -_log_density(target, outside)
    return -log_ndtr(-(target - outside.centre) / outside.deviation)


def _log_density(
    target: Float64[np.ndarray, "records queries"], moments: Moments
) -> Float64[np.ndarray, "records queries"]:
    """Log density of the normal, without the constant that cancels or shifts all scores alike."""
    return -0.5 * ((target - moments.centre) / moments.deviation) ** 2 - np.log(moments.deviation)


def _moments(
    references: Float64[np.ndarray, "refs records queries"],
    used: Bool[np.ndarray, "refs records"],
    variance: Variance,
    *,
    side: str,
) -> Moments:
    counts = used.sum(axis=0)
    _refuse_few(counts, FEWEST[variance], variance, side)
    mean, centre, squares = (np.empty(references.shape[1:]) for _ in range(3))
    step = max(1, BLOCK // (references.shape[0] * references.shape[2]))
    for start in range(0, references.shape[1], step):
        block = slice(start, start + step)
        values, weights = np.ascontiguousarray(references[:, block]), used[:, block].astype(np.float64)
        mean[block] = np.einsum("mrq,mr->rq", values, weights) / counts[block, None]
        residuals = (values - mean[block]) * weights[:, :, None]
        squares[block] = np.einsum("mrq,mrq->rq", residuals, residuals)
        centre[block] = _median(values, used[:, block]) if variance == "paper" else mean[block]
    if variance == "paper":
        return Moments(centre, _raw_deviation(mean, squares, counts))
    pooled = np.sqrt(squares.sum(axis=0) / (counts.sum() - len(counts)))  # (queries,)
    if variance == "fixed":
        return Moments(centre, np.maximum(pooled, ABSOLUTE_FLOOR))
    own = np.sqrt(squares / (counts[:, None] - 1))
    return Moments(centre, np.maximum(own, np.maximum(RELATIVE_FLOOR * pooled, ABSOLUTE_FLOOR)))


def _raw_deviation(
    mean: Float64[np.ndarray, "records queries"],
    squares: Float64[np.ndarray, "records queries"],
    counts: Int64[np.ndarray, "records"],
) -> Float64[np.ndarray, ""]:
    """Deviation (n) of all scores around their grand mean, from those within and between records."""
    queries = mean.shape[1]
    grand = (counts @ mean).sum() / (counts.sum() * queries)
    between = (counts @ (mean - grand) ** 2).sum()
    return np.asarray(max(np.sqrt((squares.sum() + between) / (counts.sum() * queries)), ABSOLUTE_FLOOR))


def _median(
    values: Float64[np.ndarray, "refs records queries"], used: Bool[np.ndarray, "refs records"]
) -> Float64[np.ndarray, "records queries"]:
    ascending = np.sort(np.where(used[:, :, None], values, np.inf), axis=0)
    counts = used.sum(axis=0)[None, :, None]
    below, above = (np.take_along_axis(ascending, at, axis=0)[0] for at in ((counts - 1) // 2, counts // 2))
    return (below + above) / 2


def _refuse_few(counts: Int64[np.ndarray, "records"], fewest: int, variance: str, side: str) -> None:
    few = np.flatnonzero(counts < fewest)
    if len(few):
        raise ValueError(
            f"variance {variance!r} needs at least {fewest} usable {side} references for every record, "
            f"got {counts[few[0]]} for record {few[0]} ({len(few)} such records)"
        )
