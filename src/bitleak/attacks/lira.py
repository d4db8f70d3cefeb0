"""LiRA: how much likelier is the target's answer under models trained on the record than not?

Per record and query, the references trained on the record (IN) and those not trained on it (OUT)
give a normal distribution each for the logit-scaled confidence f. The score is the mean over
queries of

    online:              log N(f; mu_in, sigma_in) - log N(f; mu_out, sigma_out)
    offline, one-sided:  -log P(N(mu_out, sigma_out) > f)
    offline, two-sided:  -log N(f; mu_out, sigma_out)

Carlini et al. 2022 (arXiv 2112.03570), Algorithm 1 and equation (4). The centres and deviations are

    shrunk      mean of the record's own references, the shift between IN and OUT shrunk; Student t
                in place of the normal, with the record's own variance drawn towards the variance of
                all records (`attacks.shrink`)
    per_record  mean and deviation (n - 1) of the record's own references
    fixed       mean of the record's own references; one deviation per query and side from the
                residuals of all records around their centres,
                sqrt(sum of squares / (references - records))
    paper       median of the record's own references; one deviation of the raw, uncentred scores of
                all records and queries: of IN for both sides online, of OUT offline (as the authors'
                code does)

Deviations from the published code. One fixed list of queries for all models, and the mean of the
per-query ratios. `fixed` pools residuals, IN and OUT separately, because raw scores also spread
with the difficulty of the records. `shrunk` is the default: online it is near the better one of
`per_record` and `fixed` at every number of references, and above both where records differ and
references are few. Offline that holds in simulations, but on networks that fit their data, `fixed`
finds more: steady OUT answers do not imply that membership moves a record less, and without IN
references that cannot be seen (mean over 64 small networks for digits, 31 OUT references, one
query: TPR at 1 % FPR 7.6 % against 5.4 %, AUC 0.650 against 0.646). Offline is one-sided by
default, as the paper's test is: the two-sided density of the code calls a very low confidence a
member. `log P` is computed as such and does not underflow. A deviation is at least 1e-3 of the
pooled one of its side and 1e-6 nats (the resolution of float32 logits), so that a record whose
references all agree still has a finite score. Pooled deviations are root mean squares and not
robust: records with margins of hundreds of nats dominate them, and forms other than `per_record`
then find less on the rest.

Misleading where references are few (with 2 per side the forms differ widely), where a single
reference is on another scale (a pooled deviation then finds next to nothing), and where a quantized
target is compared with `fp32` references: the change of its calibration counts as membership or
hides it.

Cost: O(refs records queries), in blocks of records, so that the memory beyond the view is a few MB;
`paper` sorts the references of each record.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import log_ndtr

from bitleak.attacks.attack import (
    cached_blocks,
    mean_of_queries,
    reference_signal,
    signal_of,
)
from bitleak.attacks.reference_sums import SideName, Sums, serving_rows, side_of, side_sums
from bitleak.attacks.shrink import (
    ABSOLUTE_FLOOR,
    RELATIVE_FLOOR,
    Student,
    log_density,
    log_survival,
    predictive,
    predictive_pair,
)
from bitleak.core.checks import one_of
from bitleak.core.types import SIGNALS, AttackView, Scores, SignalName

Mode = Literal["online", "offline"]
Variance = Literal["shrunk", "per_record", "fixed", "paper"]
Side = Literal["one_sided", "two_sided"]

FEWEST_OF_VARIANCE = {"shrunk": 2, "per_record": 2, "fixed": 2, "paper": 1}
"""Fewest references per side for a deviation or a residual, by `variance`."""


class Normal(NamedTuple):
    """Centre and deviation of the references' scores of one side."""

    centre: Float64[np.ndarray, "records queries"]
    deviation: Float64[np.ndarray, "..."]


@dataclass(frozen=True)
class LiRA:
    """The likelihood-ratio attack.

    Attributes:
        mode: `online` uses IN and OUT references, `offline` OUT references only.
        variance: Where the deviations come from, see the module.
        side: Tail of the offline test: `one_sided` (survival function) or `two_sided` (density).
            Online ignores it.
        signal: Which signal; the normal assumption is made for the default.

    Example:
        >>> LiRA().name, LiRA(mode="offline", variance="per_record", side="two_sided").name
        ('lira-online-shrunk', 'lira-offline-two_sided-per_record')
    """

    mode: Mode = "online"
    variance: Variance = "shrunk"
    side: Side = "one_sided"
    signal: SignalName = "logit_scaled"

    exchangeable: ClassVar[bool] = True
    reads_one_signal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        one_of("mode", self.mode, ("online", "offline"))
        one_of("variance", self.variance, tuple(FEWEST_OF_VARIANCE))
        one_of("side", self.side, ("one_sided", "two_sided"))
        one_of("signal", self.signal, SIGNALS)

    @property
    def name(self) -> str:
        """Name in the results table, with the signal if it is not the confidence."""
        form = self.mode if self.mode == "online" else f"{self.mode}-{self.side}"
        suffix = "" if self.signal == "logit_scaled" else f"-{self.signal}"
        return f"lira-{form}-{self.variance}{suffix}"

    @property
    def uses_references(self) -> bool:
        """True."""
        return True

    @property
    def outside_only(self) -> bool:
        """Whether it looks at OUT references only: `offline`."""
        return self.mode == "offline"

    @property
    def fewest_population(self) -> int:
        """0: it looks at no population records."""
        return 0

    def __call__(self, view: AttackView) -> Scores:
        """Return the mean log-likelihood ratio of every record.

        Raises:
            ValueError: A record has too few usable references on one side, or a signal is not
                finite.
        """
        target = np.ascontiguousarray(signal_of(view.target, self.signal))
        outside = self._sums(view, "OUT")
        if self.mode == "offline":
            alone = (
                self._predictive(outside, view)
                if self.variance == "shrunk"
                else self._normal(outside, view, "OUT")
            )
            return mean_of_queries(_offline(target, alone, self.side))
        inside = self._sums(view, "IN")
        if self.variance == "shrunk":
            student_in, student_out = self._predictive_pair(inside, outside, view)
            ratio = log_density(target, student_in) - log_density(target, student_out)
            return mean_of_queries(ratio)
        normal_in = self._normal(inside, view, "IN")
        normal_out = self._normal(outside, view, "OUT")
        if self.variance == "paper":  # the authors' code takes the deviation of IN for both
            normal_out = normal_out._replace(deviation=normal_in.deviation)
        return mean_of_queries(_log_density(target, normal_in) - _log_density(target, normal_out))

    def _sums(self, view: AttackView, side: SideName) -> Sums:
        caller = f"variance {self.variance!r}"
        return side_sums(
            view, self.signal, side, fewest=FEWEST_OF_VARIANCE[self.variance], caller=caller
        )

    def _predictive(self, outside: Sums, view: AttackView) -> Student:
        key = ("predictive", self.signal)
        if key not in view.shared:
            view.shared[key] = predictive(outside)
        return view.shared[key]

    def _predictive_pair(
        self, inside: Sums, outside: Sums, view: AttackView
    ) -> tuple[Student, Student]:
        key = ("predictive pair", self.signal)
        if key not in view.shared:
            view.shared[key] = predictive_pair(inside, outside)
        return view.shared[key]

    def _normal(self, side_sums: Sums, view: AttackView, side: SideName) -> Normal:
        if self.variance == "paper":
            key = ("median", self.signal, side)
            if key not in view.shared:
                view.shared[key] = _median(reference_signal(view, self.signal), side_of(view, side))
            return Normal(view.shared[key], _raw_deviation(side_sums))
        pooled = np.sqrt(side_sums.pooled)  # (queries,)
        if self.variance == "fixed":
            return Normal(side_sums.mean, np.maximum(pooled, ABSOLUTE_FLOOR))
        deviation = np.sqrt(side_sums.squares / side_sums.degrees[:, None])
        return Normal(
            side_sums.mean,
            np.maximum(deviation, np.maximum(RELATIVE_FLOOR * pooled, ABSOLUTE_FLOOR)),
        )


LIRA_FORMS = (
    LiRA("online", "shrunk"),
    LiRA("online", "per_record"),
    LiRA("online", "fixed"),
    LiRA("online", "paper"),
    LiRA("offline", "shrunk", "one_sided"),
    LiRA("offline", "per_record", "one_sided"),
    LiRA("offline", "fixed", "one_sided"),
    LiRA("offline", "shrunk", "two_sided"),
    LiRA("offline", "per_record", "two_sided"),
    LiRA("offline", "fixed", "two_sided"),
    LiRA("offline", "paper", "one_sided"),
    LiRA("offline", "paper", "two_sided"),
)
"""Every form: online and offline, the latter one-sided (the paper's test) and two-sided (its
code).
"""


def _offline(
    target: Float64[np.ndarray, "records queries"], outside: Student | Normal, side: Side
) -> Float64[np.ndarray, "records queries"]:
    if isinstance(outside, Student):
        return (
            -log_density(target, outside) if side == "two_sided" else -log_survival(target, outside)
        )
    if side == "two_sided":
        return -_log_density(target, outside)
    return -log_ndtr(-(target - outside.centre) / outside.deviation)


def _log_density(
    target: Float64[np.ndarray, "records queries"], normal: Normal
) -> Float64[np.ndarray, "records queries"]:
    """Return the log density of the normal, without the constant, which changes no order."""
    return -0.5 * ((target - normal.centre) / normal.deviation) ** 2 - np.log(normal.deviation)


def _raw_deviation(side_sums: Sums) -> Float64[np.ndarray, ""]:
    """Return the deviation (n) of all scores around their grand mean.

    The sum of squares is the sum within records plus the counts times the squares between them.
    """
    counts, mean, squares = side_sums.counts, side_sums.mean, side_sums.squares
    if side_sums.freedom is not None:  # the squares are those of another number of references
        squares = squares * ((counts - 1) / side_sums.freedom)[:, None]
    queries = mean.shape[1]
    grand = (counts @ mean).sum() / (counts.sum() * queries)
    between = (counts @ (mean - grand) ** 2).sum()
    return np.asarray(
        max(np.sqrt((squares.sum() + between) / (counts.sum() * queries)), ABSOLUTE_FLOOR)
    )


def _median(
    references: Float64[np.ndarray, "refs records queries"], used: Bool[np.ndarray, "refs records"]
) -> Float64[np.ndarray, "records queries"]:
    rows, counts = serving_rows(used), used.sum(axis=0)
    whole = bool(used[rows].all())
    median = np.empty(references.shape[1:])
    for block in cached_blocks(references):
        middle = counts[block, None]
        for query in range(references.shape[2]):
            # contiguous memory sorts several times faster
            ascending = np.array(references[rows, block, query].T, order="C")
            if not whole:  # unused references sort last
                np.copyto(ascending, np.inf, where=~used[rows, block].T)
            ascending.sort(axis=1)
            # the median is the mean of the two middle ones of the used
            below = np.take_along_axis(ascending, (middle - 1) // 2, axis=1)[:, 0]
            above = np.take_along_axis(ascending, middle // 2, axis=1)[:, 0]
            median[block, query] = (below + above) / 2
    return median
