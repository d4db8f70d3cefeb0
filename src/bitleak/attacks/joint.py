"""Joint attack: how much do several releases of one model leak together?

An adversary who sees a model and its quantized copy has, per record and query, a vector of scores
s_1, s_2, ..., one per release (its logit-scaled confidence). The references exist in every release
too, so IN and OUT each give a multivariate distribution, and the score is its log-likelihood ratio.
The covariance of a record and side is taken as

    C = B D B',    B unit lower triangular, the same for all records,
                   D diagonal, the record's own

(the modified Cholesky factorisation). Row k of B^-1 holds minus the slopes of release k on those
before it, so that

    e_1 = s_1,    e_2 = s_2 - b_21 s_1,    e_3 = s_3 - b_31 s_1 - b_32 s_2,    ...

are uncorrelated, the volume is kept, and the ratio of the vectors is the sum of the ratios of the
e_k: the evidence of release k beyond the releases before it. Each is the ratio of
`lira-online-shrunk`, with variances and shifts shrunk as in `attacks.shrink`, and the mean over the
queries. The slopes come from weighted least squares over all records, references and both sides, on
residuals around the record's mean of its side, weighted by one over the record's variance in
release k.

So the variances are shrunk towards the pooled ones as far as the data support it, and the
correlations all the way: with a few references a record's own correlations are mostly noise. (An
inverse-Wishart prior on C, whose one strength must do for both, lost 0.7 to 1.2 points of AUC to
the first release alone in the simulation of a noisy copy with 3 to 32 references per side; this
form, on the same worlds, 0.02 at most.) Carlini et al. 2022 (arXiv 2112.03570) use several queries
as a vector, with the record's own covariances.

*Weights.* The ratios of the later e_k rest on estimated distributions, and if a copy adds nothing
they add noise: on trained networks the plain sum lost 0.3 to 0.7 points of AUC to the first release
alone. So the score is sum_k w_k r_k, where the weights w >= 0 come from a logistic regression of
membership on the ratios r_k, for references that play the target against the others
(`attacks.player`): the attack is tuned on models whose training sets the adversary knows, never on
the target. The prior of a weight is N(1, 1), under which the ratio is used as it is; the largest is
then set to 1, which changes no order. If a player would leave a record less than 2 references per
side, all weights are 1.

*Order.* The order of the releases matters where slopes differ between records: the first counts as
it is, the others by what they add. So each release is tried as the first, the others after it as
they are given, and the order is the one whose regression has the least log loss on the players, if
that is at least 3 nats below the given order's. (In the given order alone, with full precision before a
copy that was trained on and leaks more, this attack lost 1.6 points of AUC to the copy alone.)

The references must be `matched`. Comparing this attack with the best single release shows whether a
copy leaks more than the original.

Misleading where it is read alone: its AUC says nothing about several releases, only the difference
from the best single one does. And where releases differ between members and others by no mean and
no covariance, see `joint_learned`.

Cost: O(refs records releases (queries + releases)), and once for every player and order on 5,000 records at most.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import expit

from bitleak.attacks.attack import blocks, reference_signal, signal_of
from bitleak.attacks.player import player_view
from bitleak.attacks.reference_sums import Sums, refuse_few, sums
from bitleak.attacks.shrink import log_density, posterior, predictive_pair
from bitleak.core.errors import TooFewForAttack
from bitleak.core.types import AttackView, Scores

SINGULAR = 1e-10
"""Share of the largest variance below which a direction of earlier releases has no slope."""
PLAYERS, PLAYER_RECORDS, FEWEST_OF_PLAYER = 6, 5_000, 2
"""Number of references that play the target, their records at most, their references per side at
least.
"""


CLEARLY = 3.0
"""Nats by which the players' loss must fall for another order than the given one."""


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
        """Return the weighted log-likelihood ratio of every record.

        Args:
            views: One per release, of the same target, with the same references in the same order.

        Raises:
            ValueError: There is no view, the views do not belong together, a record has fewer than
                2 usable references on one side, or a confidence is not finite.
        """
        refuse_strangers(views)
        inside, outside = views[0].member, views[0].outside
        refuse_few(inside, 2, self.name, side="IN")
        refuse_few(outside, 2, self.name, side="OUT")
        order, believed = tuned(views)
        return believed @ joint_ratios([views[place] for place in order])


class Tuned(NamedTuple):
    """How the releases of a target are read together.

    Attributes:
        order: Places of the releases.
        weights: Weight of each one's ratio beyond those before it, 0 to 1.
    """

    order: tuple[int, ...]
    weights: Float64[np.ndarray, "releases"]


def orders(releases: int) -> list[tuple[int, ...]]:
    """Return the orders that are tried, the given one first.

    Example:
        >>> orders(3)
        [(0, 1, 2), (1, 0, 2), (2, 0, 1)]
    """
    places = range(releases)
    return [(first, *[place for place in places if place != first]) for first in places]


def tuned(views: Sequence[AttackView]) -> Tuned:
    """Return order and weights of the least loss on players; as given and 1 if there are none."""
    given = Tuned(tuple(range(len(views))), np.ones(len(views)))
    if len(views) == 1:
        return given
    players = [played for played in (_played(views, place) for place in range(PLAYERS)) if played]
    if not players:
        return given
    member = np.concatenate([played[0][1] for played in players])
    tried: list[tuple[float, Tuned]] = []
    for order in orders(len(views)):
        ratios = [joint_ratios([played[place][0] for place in order]) for played in players]
        found, loss = weights(np.concatenate(ratios, axis=1), member)
        tried.append((loss, Tuned(order, found)))
    return tried[best_order([loss for loss, _ in tried], CLEARLY)][1]


def best_order(losses: Sequence[float], gain: float) -> int:
    """Return the place of the least loss if it is below the first one by a gain; else the first.

    Example:
        >>> best_order([100.0, 91.0], 10.0), best_order([100.0, 89.0, 70.0], 10.0)
        (0, 2)
    """
    least = int(np.argmin(losses))
    return least if losses[least] <= losses[0] - gain else 0


def weights(
    ratios: Float64[np.ndarray, "releases records"], member: Bool[np.ndarray, "records"]
) -> tuple[Float64[np.ndarray, "releases"], float]:
    """Return the weights of a logistic regression of membership on log ratios, and its loss.

    They are at least 0 and have the prior N(1, 1); the largest is then set to 1.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> member = np.arange(2000) % 2 == 0
        >>> telling = rng.normal(2.0 * member - 1.0, np.sqrt(2.0))
        >>> weights(np.stack([telling, rng.normal(size=2000)]), member)[0].round(1).tolist()
        [1.0, 0.0]
    """
    from scipy.optimize import minimize  # here, since it takes long

    sign = np.where(member, 1.0, -1.0)

    # sum of log(1 + exp(-margin)) + |w - 1|^2 / 2, and its gradient; the bias, `point[0]`, has no
    # prior
    def cost(point: Float64[np.ndarray, "_"]) -> tuple[float, Float64[np.ndarray, "_"]]:
        margin = sign * (point[0] + point[1:] @ ratios)
        pull = -sign * expit(-margin)
        gradient = np.concatenate([[pull.sum()], ratios @ pull + point[1:] - 1.0])
        return float(
            np.logaddexp(0.0, -margin).sum() + 0.5 * np.square(point[1:] - 1.0).sum()
        ), gradient

    start = np.concatenate([[0.0], np.ones(len(ratios))])
    bounds = [(None, None), *[(0.0, None)] * len(ratios)]
    solution = minimize(
        cost,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"ftol": 1e-15, "gtol": 1e-9},
    )
    fitted = solution.x[1:]
    largest = fitted.max()
    return fitted / largest if largest > 0 else np.ones(len(ratios)), float(solution.fun)


def _played(
    views: Sequence[AttackView], player: int
) -> list[tuple[AttackView, Bool[np.ndarray, "some"]]] | None:
    """Return a player's views on some of the records, and its membership; None if it leaves too few references."""
    step = -(-len(views[0].target) // PLAYER_RECORDS)
    try:  # the same draws for every release, since these have the same membership
        played = [
            player_view(every_record(view, step), np.random.default_rng(player)) for view in views
        ]
    except TooFewForAttack:
        return None
    view, _ = played[0]
    if min(int(side.sum(axis=0).min()) for side in (view.member, view.outside)) < FEWEST_OF_PLAYER:
        return None
    return played


def every_record(view: AttackView, step: int, start: int = 0) -> AttackView:
    """Return the view of every `step`-th record from the record `start` on."""
    return replace(
        view,
        target=view.target[start::step],
        references=view.references[:, start::step],
        side=view.side[:, start::step],
        labels=view.labels[start::step],
    )


def joint_ratios(views: Sequence[AttackView]) -> Float64[np.ndarray, "releases records"]:
    """Return each release's mean log-likelihood ratio beyond the releases before it."""
    ratios, queries = np.zeros((len(views), len(views[0].target))), 0
    for scores in scores_by_query(views):
        ratios += innovation_ratios(scores)
        queries += 1
    return ratios / queries


class QueryScores(NamedTuple):
    """Confidences of the target and the references in all releases, at one query.

    Attributes:
        target: Confidence of the target.
        references: Confidences of the references, each release's in memory of its own.
        inside: References that were trained on the record and are used for it.
        outside: References that were not.
        sums_in: Sums over `inside`, release by release.
        sums_out: Sums over `outside`.
    """

    target: Float64[np.ndarray, "records releases"]
    references: Float64[np.ndarray, "refs records releases"]
    inside: Bool[np.ndarray, "refs records"]
    outside: Bool[np.ndarray, "refs records"]
    sums_in: Sums
    sums_out: Sums


def scores_by_query(views: Sequence[AttackView]) -> Iterator[QueryScores]:
    """Yield the confidences and their sums, query by query."""
    inside, outside = views[0].member, views[0].outside
    target = np.stack([signal_of(view.target, "logit_scaled") for view in views], axis=-1)
    answers = [reference_signal(view, "logit_scaled") for view in views]
    for query in range(target.shape[1]):
        planes = np.stack([release_answers[:, :, query] for release_answers in answers])
        references = np.moveaxis(planes, 0, -1)
        yield QueryScores(
            target[:, query],
            references,
            inside,
            outside,
            sums(references, inside),
            sums(references, outside),
        )


def innovation_ratios(scores: QueryScores) -> Float64[np.ndarray, "releases records"]:
    """Return each release's log-likelihood ratio beyond the releases before it, at one query."""
    inside, outside, confidence = scores.inside, scores.outside, scores.references
    known = scores.sums_in, scores.sums_out
    ratios = np.empty(scores.target.T.shape)
    for release in range(len(ratios)):
        slope = slopes(confidence[..., : release + 1], inside, outside, known)
        # e_k = s_k - sum over j < k of b_kj s_j, for the target and for the references
        innovation = scores.target[:, release] - scores.target[:, :release] @ slope
        if release:
            new = confidence[..., release] - confidence[..., :release] @ slope  # (refs, records)
            sums_in, sums_out = sums(new[..., None], inside), sums(new[..., None], outside)
        else:
            sums_in, sums_out = known[0].only(0), known[1].only(0)
        student_in, student_out = predictive_pair(sums_in, sums_out)
        ratios[release] = (
            log_density(innovation[:, None], student_in)
            - log_density(innovation[:, None], student_out)
        )[:, 0]
    return ratios


def slopes(
    answers: Float64[np.ndarray, "refs records releases"],
    inside: Bool[np.ndarray, "refs records"],
    outside: Bool[np.ndarray, "refs records"],
    known: tuple[Sums, Sums],
) -> Float64[np.ndarray, "earlier"]:
    """Return the slopes of the last release on those before it, within records and sides.

    Args:
        answers: Confidences of the references, the releases last.
        inside: References that were trained on the record.
        outside: References that were not.
        known: Sums over each side.
    """
    # normal equations of weighted least squares: residuals around the means of record and side,
    # each divided by the record's deviation in the last release
    releases = answers.shape[2]
    if releases == 1:
        return np.zeros(0)
    products = np.zeros((releases, releases))
    for used, side in zip((inside, outside), known, strict=True):
        precision = 1 / np.sqrt(posterior(side.only(releases - 1))[0][:, 0])
        for block in blocks(answers):
            scale = used[:, block] * precision[block]
            residuals = []
            for release in range(releases):
                centred = answers[:, block, release] - side.mean[block, release]
                residuals.append(np.where(used[:, block], centred * scale, 0.0).ravel())
            for row, first in enumerate(residuals):
                for column, second in enumerate(residuals):
                    products[row, column] += first @ second
    return np.linalg.pinv(products[:-1, :-1], rcond=SINGULAR, hermitian=True) @ products[:-1, -1]


def refuse_strangers(views: Sequence[AttackView]) -> None:
    """Refuse views that are not of the same target, references and records.

    Raises:
        ValueError: There is none, or one differs from the first.
    """
    if not views:
        raise ValueError("the joint attack needs at least one view, got none")
    for number, view in enumerate(views[1:], start=1):
        for field in ("side", "split", "labels"):
            if not np.array_equal(getattr(view, field), getattr(views[0], field)):
                raise ValueError(
                    f"all views must be of the same target, records and references, but {field} of view {number} "
                    "differs from that of view 0"
                )
