"""RMIA: against how many population records does this record's rise in probability stand out?

With p(x | theta) the target's probability of the true class, and p(x) its mean over models,

    LR(x, z) = (p(x | theta) / p(x)) / (p(z | theta) / p(z))
    score(x) = share of z with LR(x, z) >= gamma

Zarifzadeh et al. 2024 (arXiv 2312.03262). p(x) is

    online   the mean of p over IN and over OUT references, each half
    offline  ((1 + a) p_out(x) + 1 - a) / 2: p_in taken to be linear in p_out, and 1 at p_out = 1

and p(z), z being a member of no model, the mean over all references online and the offline form
offline. `a` = "tuned" is chosen on a model that is not the target: the reference with the median
mean confidence on the population plays the target, its membership is known, and the others (its
complement left out) are its references; the best of 0, 0.1, ..., 1 by AUC.

Deviations. The z are held-out records, never audited ones, so none can be the target's member. The
temperature, which the authors apply to logits, divides the logit-scaled confidence f instead: p =
sigmoid(f / T), exact for T = 1 and for two classes, as the signals hold no more than f. It is 2 by
default, as the authors suggest for images, there with a softmax expanded in a Taylor series and
given a margin, which has no counterpart in f. The reason is that networks that fit their data
answer with p near 1 for members and non-members alike, which T = 1 takes for no difference. (Mean
AUC of `online` over all 64 small networks for digits, 31 references per side, one query: 0.648 at T
= 1, 0.685 at 2, 0.688 at 3, 0.678 at 8; online LiRA 0.697. The best T depends on the networks; none
was chosen by these figures.) Several queries: the log ratios log p(x | theta) - log p(x) are
averaged over the queries, of x and of z alike (a vote of the queries would coarsen the score).

Ties. The share is a step function of the log ratio of x alone. Many records share 0 or 1, so `ties`
= "broken" (default) orders records with equal counts by the log ratio: it adds the record's rank
among the audited, below one count. The ratio p(x | theta) / p(x) alone then decides the order; z
and gamma place the score between 0 and 1, and matter to the order only if ties are "kept", as in
the paper. gamma is 1 by default, which spreads the counts most: of the same networks at T = 1 with
ties kept, gamma = 2 finds an AUC of 0.524 and gamma = 1 one of 0.648.

Misleading where target and references differ in calibration, as a quantized target and `fp32`
references do: the ratio p(x | theta) / p(x) then follows the calibration. The offline form takes
the IN half from a line whose slope `a` is tuned on a single reference. With ties kept, no FPR below
the share of records that tie at 1 can be reached.

Cost: O(refs (records + population) queries) for the means; all comparisons by one sort of the
population and one binary search per record, O((records + population) log population). One pass over
the references serves all forms and the tuning.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.attacks.attack import (
    cached_blocks,
    mean_of_queries,
    reference_signal,
    refuse_small_population,
    signal_of,
)
from bitleak.attacks.player import stand_in
from bitleak.attacks.reference_sums import refuse_few, refuse_few_of_side
from bitleak.core.checks import number_in, one_of
from bitleak.core.types import AttackView, Scores, SignalName

CANDIDATES = tuple(step / 10 for step in range(11))
"""The values of `a` among which tuning chooses."""

SMALLEST_MEAN = 1e-280
"""Mean probability below which it is summed as logarithms."""

MOST_LOG_ODDS = 690.0
"""Log-odds over the temperature beyond which p is taken at this end; its exp is within a
float64.
"""


@dataclass(frozen=True)
class RMIA:
    """The robust membership-inference attack.

    Attributes:
        mode: `online` uses IN and OUT references, `offline` OUT references only.
        gamma: Factor by which the ratio of x must exceed the ratio of z, at least 1.
        temperature: T of p = sigmoid(f / T), > 0.
        a: Slope of p_in over p_out, 0 to 1, or `tuned`; online ignores it.
        ties: `broken` by the log ratio or `kept`.

    Example:
        >>> RMIA().name, RMIA("offline", a=0.3, ties="kept").name
        ('rmia-online', 'rmia-offline-a0.3-counts')
    """

    mode: Literal["online", "offline"] = "online"
    gamma: int | float = 1.0
    temperature: int | float = 2.0
    a: int | float | Literal["tuned"] = "tuned"
    ties: Literal["broken", "kept"] = "broken"

    reads_one_signal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        one_of("mode", self.mode, ("online", "offline"))
        one_of("ties", self.ties, ("broken", "kept"))
        number_in("gamma", self.gamma, 1, np.finfo(float).max)
        number_in("temperature", self.temperature, 0, np.finfo(float).max, ends="(]")
        if self.a != "tuned":
            number_in("a", self.a, 0, 1)

    @property
    def name(self) -> str:
        """Name with the mode, and all fields that differ from their defaults."""
        parts = ["rmia", self.mode]
        if self.mode == "offline" and self.a != "tuned":
            parts.append(f"a{self.a:g}")
        if self.gamma != 1:
            parts.append(f"gamma{self.gamma:g}")
        if self.temperature != 2:
            parts.append(f"t{self.temperature:g}")
        if self.ties == "kept":
            parts.append("counts")
        return "-".join(parts)

    @property
    def signal(self) -> SignalName:
        """The logit-scaled confidence."""
        return "logit_scaled"

    @property
    def uses_references(self) -> bool:
        """True."""
        return True

    @property
    def outside_only(self) -> bool:
        """Whether it looks at OUT references only: `offline`, unless `a` is tuned on a reference's members."""
        return self.mode == "offline" and self.a != "tuned"

    @property
    def fewest_population(self) -> int:
        """1."""
        return 1

    def __call__(self, view: AttackView) -> Scores:
        """Return the share of population records that every record stands out against.

        Raises:
            ValueError: There are no population records, a record has too few usable references, or
                a confidence is not finite.
        """
        refuse_small_population(view.population_target, self.fewest_population, self.name)
        refuse_few_of_side(view, "OUT", 1, self.name)
        if self.mode == "online":
            refuse_few_of_side(view, "IN", 1, self.name)
            of_x, of_z = self._ratios(view)
        else:
            of_x, of_z = self._ratios(
                view, self.tuned_a(view) if self.a == "tuned" else float(self.a)
            )
        order = np.argsort(of_x)
        ascending = of_x[order]
        counts = np.empty(len(of_x), np.int64)
        # ascending keys are found several times faster
        counts[order] = dominated(ascending, of_z, float(np.log(self.gamma)))
        if self.ties == "kept":
            return counts / len(of_z)
        ranks = np.empty(len(of_x))
        if (ascending[1:] == ascending[:-1]).any():
            from scipy.stats import rankdata  # here, since it takes long

            ranks[:] = rankdata(of_x)
        else:
            ranks[order] = np.arange(1.0, len(of_x) + 1)
        return (counts + ranks / (len(of_x) + 1)) / len(of_z)

    def tuned_a(self, view: AttackView) -> float:
        """Return the `a` with the best AUC in an attack on one of the references by the others.

        Raises:
            ValueError: No other references are left to attack it with.
        """
        # The target plays no part, so that the forms and the cases of a view with these references
        # share it.
        key = ("tuned a", str(self.temperature))
        if key in view.shared:
            return view.shared[key]
        known = stand_in(view)
        records = known.records
        out = view.outside[np.ix_(known.references, records)]
        refuse_few(out, 1, f"{self.name} with a='tuned'", side="OUT")
        answers = reference_signal(view, self.signal)[known.row, records]
        log_target = log_sigmoid(answers / self.temperature)
        means = self._view_means(view).tuning
        of_records = Means(means.log_mean[records], means.complement[records])
        member = view.member[known.row, records]
        areas = []
        for a in CANDIDATES:
            scores = mean_of_queries(log_target - blended(*of_records, a))
            areas.append(_area(scores, member))
        view.shared[key] = CANDIDATES[int(np.argmax(areas))]
        return view.shared[key]

    def _ratios(
        self, view: AttackView, a: float | None = None
    ) -> tuple[Float64[np.ndarray, "records"], Float64[np.ndarray, "population"]]:
        """Return the mean log ratio of audited records and population; online without `a`."""
        means = self._view_means(view)
        of_records = means.online if self.mode == "online" else means.offline
        return (
            self._ratio(signal_of(view.target, self.signal), of_records, a),
            self._ratio(signal_of(view.population_target, self.signal), means.population, a),
        )

    def _ratio(
        self, target: Float64[np.ndarray, "records queries"], means: "Means", a: float | None
    ) -> Float64[np.ndarray, "records"]:
        usual = means.log_mean if a is None else blended(means.log_mean, means.complement, a)
        return mean_of_queries(log_sigmoid(target / self.temperature) - usual)

    def _view_means(self, view: AttackView) -> "ViewMeans":
        """Return the references' means, computed once for all forms."""
        key = ("rmia means", str(self.temperature))
        if key not in view.shared:
            known = stand_in(view)
            outside, member = view.outside, view.member
            tuning = outside & known.references[:, None]
            everyone = np.ones(view.population_references.shape[:2], bool)
            view.shared[key] = ViewMeans(
                *self._log_means(
                    reference_signal(view, self.signal), [[outside, member], [outside], [tuning]]
                ),
                *self._log_means(signal_of(view.population_references, self.signal), [[everyone]]),
            )
        return view.shared[key]

    def _log_means(
        self,
        references: Float64[np.ndarray, "refs records queries"],
        groups: Sequence[Sequence[Bool[np.ndarray, "refs records"]]],
    ) -> list["Means"]:
        """Return for each group the log of the mean probability and the mean of 1 - p.

        A group holds sides, and its means are the means of the sides' means. All groups are served
        by one pass over the references, whose exponentials take longest.
        """
        shape = (len(groups), *references.shape[1:])
        mean, complement = np.empty(shape), np.empty(shape)
        used = np.logical_or.reduce(list(chain.from_iterable(groups)))
        weights = [_weights(sides) for sides in groups]
        for block in cached_blocks(references):
            shares = []
            for sides, of_sides in zip(groups, weights, strict=True):
                shares.append(_share(sides, of_sides, block))
            unused = ~used[:, block]
            hidden = bool(unused.any())
            for query in range(references.shape[2]):  # an axis of two at the end makes passes slow
                # p = 1 / (1 + exp(-c)) and 1 - p = exp(-c) p, both exact; `MOST_LOG_ODDS` keeps exp
                # finite
                values = references[:, block, query] / -self.temperature
                if hidden:  # hidden references are NaN, and 0 times NaN is NaN
                    np.copyto(values, 0.0, where=unused)
                np.clip(values, -MOST_LOG_ODDS, MOST_LOG_ODDS, out=values)
                np.exp(values, out=values)
                p = values + 1
                np.divide(1, p, out=p)
                values *= p
                for place, share in enumerate(shares):
                    mean[place, block, query] = np.einsum("mr,mr->r", p, share)
                    complement[place, block, query] = np.einsum("mr,mr->r", values, share)
        means = []
        for sides, of_group, rest in zip(groups, mean, complement, strict=True):
            means.append(self._logs(references, sides, of_group, rest))
        return means

    def _logs(
        self,
        references: Float64[np.ndarray, "refs records queries"],
        sides: Sequence[Bool[np.ndarray, "refs records"]],
        mean: Float64[np.ndarray, "records queries"],
        complement: Float64[np.ndarray, "records queries"],
    ) -> "Means":
        """Return the means of a group with the log of the mean probability."""
        # from whichever of mean and 1 - mean is the smaller; by logarithms where it underflows
        near_one = complement < 0.5
        log_mean = np.log(np.maximum(mean, SMALLEST_MEAN))
        log_mean[near_one] = np.log1p(-complement[near_one])
        underflown = (mean < SMALLEST_MEAN).any(axis=1)
        if underflown.any():
            served = np.logical_and.reduce([side.any(axis=0) for side in sides])
            tiny = np.flatnonzero(underflown & served)
            log_mean[tiny] = _log_mean(
                log_sigmoid(references[:, tiny] / self.temperature),
                _share(sides, _weights(sides), tiny),
            )
        return Means(log_mean, complement)


class Means(NamedTuple):
    """Means over references.

    Attributes:
        log_mean: Log of the mean probability.
        complement: Mean of 1 - p.
    """

    log_mean: Float64[np.ndarray, "records queries"]
    complement: Float64[np.ndarray, "records queries"]


class ViewMeans(NamedTuple):
    """Means over the references of a view.

    Attributes:
        online: About audited records, over IN and over OUT references, each half.
        offline: Over OUT references.
        tuning: Over OUT references on other training sets than that of `stand_in`; says nothing
            about records without such references.
        population: About population records, over all references.
    """

    online: "Means"
    offline: "Means"
    tuning: "Means"
    population: "Means"


RMIA_FORMS = (
    RMIA("online"),
    RMIA("offline"),
    RMIA("online", ties="kept"),
    RMIA("offline", ties="kept"),
)
"""Online and offline, with ties broken by the log ratio and with the paper's counts."""


def _weights(
    sides: Sequence[Bool[np.ndarray, "refs records"]],
) -> list[Float64[np.ndarray, "records"]]:
    """Return the weight of a reference of each side in the mean over the sides' means."""
    return [1 / np.maximum(side.sum(axis=0), 1) / len(sides) for side in sides]


def _share(
    sides: Sequence[Bool[np.ndarray, "refs records"]],
    weights: Sequence[Float64[np.ndarray, "records"]],
    of: slice | Int64[np.ndarray, "some"],
) -> Float64[np.ndarray, "refs some"]:
    """Return the weights of all references, 0 if they are on no side, for some records."""
    share = np.where(sides[0][:, of], weights[0][of], 0.0)
    for side, weight in zip(sides[1:], weights[1:], strict=True):
        np.copyto(share, weight[of], where=side[:, of])  # sides are disjoint
    return share


def dominated(
    of_x: Float64[np.ndarray, "records"], of_z: Float64[np.ndarray, "population"], margin: float
) -> Int64[np.ndarray, "records"]:
    """Return for every x the number of z with of_x >= of_z + margin.

    Example:
        >>> dominated(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.0]), 1.0).tolist()
        [0, 1, 3]
    """
    return np.searchsorted(np.sort(of_z + margin), of_x, side="right")


def blended(
    log_out: Float64[np.ndarray, "records queries"],
    complement: Float64[np.ndarray, "records queries"],
    a: float,
) -> Float64[np.ndarray, "records queries"]:
    """Return log(((1 + a) p_out + 1 - a) / 2) from log p_out and 1 - p_out."""
    if a == 1:
        return log_out
    return np.log1p(-(1 + a) / 2 * complement)


def log_sigmoid(confidence: Float64[np.ndarray, "*axes"]) -> Float64[np.ndarray, "*axes"]:
    """Return the log of the probability whose log-odds are the confidence."""
    return -np.logaddexp(0.0, -confidence)


def _log_mean(
    logs: Float64[np.ndarray, "refs records queries"], share: Float64[np.ndarray, "refs records"]
) -> Float64[np.ndarray, "records queries"]:
    """Return the log of the weighted mean of exp(logs)."""
    masked = np.where(share[:, :, None] > 0, logs, -np.inf)
    largest = masked.max(axis=0)
    return largest + np.log(np.einsum("mrq,mr->rq", np.exp(masked - largest), share))


def _area(scores: Float64[np.ndarray, "records"], member: Bool[np.ndarray, "records"]) -> float:
    """Return the AUC by ranks; 0.5 if all or none are members."""
    inside, outside = np.sort(scores[member]), np.sort(scores[~member])
    pairs = len(inside) * len(outside)
    if not pairs:
        return 0.5
    # pairs that are won, and ties half
    won = sum(int(np.searchsorted(outside, inside, end).sum()) for end in ("left", "right"))
    return won / 2 / pairs
