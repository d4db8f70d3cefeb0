"""Learned joint attack: a classifier of membership on the scores of several releases of one model.

`joint` assumes normal scores that have one correlation for members and others. This attack learns
the rest, such as the distance between two releases, from *players*: references in the target's
place (`attacks.player`), whose training sets the adversary knows. Per query and release, with the
record's distributions of `attacks.shrink`,

    z_k = (s_k - (c_in + c_out) / 2) / sqrt((d_in^2 + d_out^2) / 2),    u_k = asinh(r_k),

where s_k is the logit-scaled confidence, c and d are the centres and deviations of the two sides
in release k alone, and r_k is the ratio of `joint`: the evidence of release k beyond the releases
before it. The features are all z and u, their squares and products, and |z_j - z_k| for each pair
of releases; z is cut at +-5. The score is

    sum_k w_k r_k + b . f,

with ratios r and features f averaged over the queries, and f standardised on the players. w and b
are those of a logistic regression of the players' membership, with the priors w_k ~ N(1, 1), as in
`joint`, and b ~ N(0, 1 / (rows a)). The strength a is that of the least mean loss on players that
the fit has not seen: each training set of a player is left out in turn, with its complement. One
of the strengths is infinite, b = 0: the Gaussian attack with weights from the same players. So the
classifier departs from the Gaussian attack only as far as that helps on models that it was not
fitted to. Each release is tried as the first, as in `joint`.

*The target* has no part in the fit: neither its answers nor its membership, nor those of its
complement, are among the references. A player's references are counted as the target's are: no
model on the player's training set or on its complement is among them, and every record has the same
number on both sides, since uneven counts would betray the membership. That number is one smaller
than the target's; z and r hold the error of the centres, so their scale does not depend on it.

Compression of a model adds to its leakage according to CompLeak (arXiv 2507.16872), whose attack
learns from the answers of the original and the compressed model and their distance, and whose
published code keeps the epoch with the best accuracy on the target's own membership. Here nothing
is chosen by the target.

Misleading where references are few: with 3 per side players have 2, and there are 3 of them. Its
AUC alone says nothing about several releases; only the difference from the best single one does,
attacked by the learned attack too.

Cost: that of `joint` without weights, once for the target and once for each of 4 players on 5,000
records at most, and 25 regressions, both for every order: 0.3 seconds with two releases of 6,000
records.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import expit

from bitleak.attacks.joint import (
    QueryScores,
    best_order,
    every_record,
    innovation_ratios,
    orders,
    refuse_strangers,
    scores_by_query,
)
from bitleak.attacks.player import Player
from bitleak.attacks.reference_sums import refuse_few
from bitleak.attacks.shrink import predictive_pair
from bitleak.core.errors import TooFewForAttack
from bitleak.core.types import AttackView, Scores

FEWEST_OF_TARGET = 3
"""References per side that the target needs: a player has one fewer, and a deviation needs two."""
PLAYERS, RECORDS_OF_PLAYER, FEWEST_SETS = 4, 5_000, 2
"""Players, their records at most, and their training sets at least: one is left out in turn."""
STRENGTHS = (np.inf, 1.0, 0.1, 0.01, 0.001, 0.0001)
"""Strengths of the prior on the features' coefficients, per row; infinity is the Gaussian attack."""
CLEARLY = 10.0
"""Nats by which the loss must fall for another order than the given one: on digits, orders that told
the same differed by up to 9, since players share their references."""
FURTHEST = 5.0
"""Distance from the middle, in deviations, at which a score is cut before it is squared."""


class Evidence(NamedTuple):
    """The scores of one model in all releases, by record.

    Attributes:
        ratios: Ratios of `joint`, each release's beyond the releases before it.
        features: Features that are not Gaussian.
    """

    ratios: Float64[np.ndarray, "records releases"]
    features: Float64[np.ndarray, "records features"]


class PlayedEvidence(NamedTuple):
    """The scores of one player, and its membership.

    Attributes:
        evidence: Its scores.
        member: True for the records that it was trained on.
        training_set: Number of its training set, the same for a set and its complement.
    """

    evidence: Evidence
    member: Bool[np.ndarray, "records"]
    training_set: int


class PlayedViews(NamedTuple):
    """What one player sees, and its membership.

    Attributes:
        views: One per release.
        member: True for the records that it was trained on.
        training_set: Number of its training set, the same for a set and its complement.
    """

    views: tuple[AttackView, ...]
    member: Bool[np.ndarray, "records"]
    training_set: int

    def evidence(self, order: Sequence[int]) -> PlayedEvidence:
        """Return its scores with the releases in an order."""
        ordered = [self.views[place] for place in order]
        return PlayedEvidence(evidence_of(ordered), self.member, self.training_set)


class Classifier(NamedTuple):
    """A fitted regression.

    Attributes:
        weights: Weights of the ratios.
        coefficients: Coefficients of the features, 0 for the Gaussian attack.
        strength: Strength of the prior on the coefficients.
        loss: Log loss on players that a fit with this strength has not seen, summed over records.
        order: Places of the releases.
    """

    weights: Float64[np.ndarray, "releases"]
    coefficients: Float64[np.ndarray, "features"]
    strength: float
    loss: float = np.inf
    order: tuple[int, ...] = ()

    def __call__(self, evidence: Evidence) -> Scores:
        """Return the score of every record, up to a constant."""
        return evidence.ratios @ self.weights + evidence.features @ self.coefficients


@dataclass(frozen=True)
class LearnedJoint:
    """The attack on all releases of a target by a classifier that other models have trained.

    Example:
        >>> LearnedJoint().name
        'joint-learned'
    """

    @property
    def name(self) -> str:
        """`joint-learned`."""
        return "joint-learned"

    def __call__(self, views: Sequence[AttackView]) -> Scores:
        """Return the classifier's score of every record.

        Args:
            views: One per release, of the same target, with the same references in the same order.

        Raises:
            ValueError: There is no view, the views do not belong together, or a confidence is not
                finite.
            TooFewForAttack: A record has fewer than 3 usable references on one side, or fewer than
                2 training sets are left for players.
        """
        learned = learned_classifier(views)
        return learned(evidence_of([views[place] for place in learned.order]))


def learned_classifier(views: Sequence[AttackView]) -> Classifier:
    """Return the classifier that the references in the target's place have trained.

    Raises:
        ValueError: As in `LearnedJoint`.
        TooFewForAttack: As in `LearnedJoint`.
    """
    refuse_strangers(views)
    refuse_few(views[0].member, FEWEST_OF_TARGET, LearnedJoint().name, side="IN")
    refuse_few(views[0].outside, FEWEST_OF_TARGET, LearnedJoint().name, side="OUT")
    played: list[PlayedViews] = []
    for row in player_rows(views[0].split).tolist():
        player = _played(views, row, len(played))
        played += [player] if player is not None else []
        if len(played) == PLAYERS:
            break
    if len(played) < FEWEST_SETS:
        raise TooFewForAttack(
            f"{LearnedJoint().name} needs references on at least {FEWEST_SETS} training sets, no complements, which "
            f"leave 2 references per side when they play the target, got {len(played)}"
        )
    by_order = [
        fitted([player.evidence(order) for player in played])._replace(order=order)
        for order in orders(len(views))
    ]
    return by_order[best_order([classifier.loss for classifier in by_order], CLEARLY)]


def player_rows(split: Int64[np.ndarray, "refs"]) -> Int64[np.ndarray, "sets"]:
    """Return a row of each training set and its complement, in an order drawn from a fixed seed.

    Args:
        split: Number of each reference's training set, negative for its complement.
    """
    generator = np.random.default_rng(0)
    order = generator.permutation(len(split))
    _, first = np.unique(np.abs(split[order]), return_index=True)
    return order[np.sort(first)]


def _played(views: Sequence[AttackView], row: int, place: int) -> PlayedViews | None:
    """Return the views of one reference in the target's place; None if it leaves too few others."""
    step = -(-len(views[0].target) // RECORDS_OF_PLAYER)
    # the same draws for every release, since these have the same membership; each player sees other
    # records
    players = []
    for view in views:
        some = every_record(view, step, place % step)
        try:
            players.append(Player(some, np.random.default_rng(place), row))
        except TooFewForAttack:
            return None
    played_views = [player.view() for player in players]
    sides = (played_views[0].member, played_views[0].outside)
    if min(int(side.sum(axis=0).min()) for side in sides) < FEWEST_OF_TARGET - 1:
        return None
    return PlayedViews(tuple(played_views), players[0].member, abs(int(views[0].split[row])))


def evidence_of(views: Sequence[AttackView]) -> Evidence:
    """Return ratios and features of every record, means over the queries."""
    ratios, features = [], []
    for scores in scores_by_query(views):
        ratios.append(innovation_ratios(scores).T)
        features.append(query_features(positions(scores), ratios[-1]))
    return Evidence(np.mean(ratios, axis=0), np.mean(features, axis=0))


def positions(scores: QueryScores) -> Float64[np.ndarray, "records releases"]:
    """Return the target's place between the centres of the two sides, in deviations."""
    places = np.empty_like(scores.target)
    for release in range(places.shape[1]):
        inside, outside = predictive_pair(
            scores.sums_in.only(release), scores.sums_out.only(release)
        )
        middle = (inside.centre + outside.centre) / 2
        deviation = np.sqrt((inside.deviation**2 + outside.deviation**2) / 2)
        places[:, release] = (scores.target[:, release] - middle[:, 0]) / deviation[:, 0]
    return places


def query_features(
    places: Float64[np.ndarray, "records releases"], ratios: Float64[np.ndarray, "records releases"]
) -> Float64[np.ndarray, "records features"]:
    """Return z and u, their squares and products, and the distances |z_j - z_k|, see the module."""
    z = np.clip(places, -FURTHEST, FURTHEST)
    linear = np.concatenate([z, np.arcsinh(ratios)], axis=1)
    first, second = np.triu_indices(linear.shape[1])
    earlier, later = np.triu_indices(z.shape[1], k=1)
    products = linear[:, first] * linear[:, second]
    return np.concatenate([linear, products, np.abs(z[:, earlier] - z[:, later])], axis=1)


def fitted(played: Sequence[PlayedEvidence]) -> Classifier:
    """Return the regression on all players, with the strength that serves unseen players best."""
    losses = np.zeros(len(STRENGTHS))
    for training_set in dict.fromkeys(player.training_set for player in played):
        seen = [player for player in played if player.training_set != training_set]
        unseen = [player for player in played if player.training_set == training_set]
        losses += _held_out_losses(seen, unseen)
    # the strongest prior wins ties
    regression = _Regression(played)
    start = regression.start
    for strength in STRENGTHS[: int(losses.argmin()) + 1]:
        start = regression.solved(strength, start)
    chosen = regression.classifier(start, STRENGTHS[int(losses.argmin())])
    return chosen._replace(loss=float(losses.min()))


def _held_out_losses(
    seen: Sequence[PlayedEvidence], unseen: Sequence[PlayedEvidence]
) -> Float64[np.ndarray, "strengths"]:
    """Return the log loss on unseen players, summed over their records, for each strength."""
    regression, losses = _Regression(seen), []
    point = regression.start
    for strength in STRENGTHS:
        point = regression.solved(strength, point)
        classifier, loss = regression.classifier(point, strength), 0.0
        bias = point[0] - float(classifier.coefficients @ regression.centre)
        for player in unseen:
            margin = np.where(player.member, 1.0, -1.0) * (classifier(player.evidence) + bias)
            loss += float(np.logaddexp(0.0, -margin).sum())
        losses.append(loss)
    return np.array(losses)


class _Regression:
    """Logistic regression of membership on ratios and standardised features.

    A point holds the bias, the ratios' weights and the features' coefficients.
    """

    def __init__(self, played: Sequence[PlayedEvidence]) -> None:
        ratios = np.concatenate([player.evidence.ratios for player in played])
        features = np.concatenate([player.evidence.features for player in played])
        self.centre, spread = features.mean(axis=0), features.std(axis=0)
        # a feature that does not vary has no coefficient
        self._spread = np.where(
            spread > 1e-12 * np.maximum(1.0, np.abs(self.centre)), spread, np.inf
        )
        standard = (features - self.centre) / self._spread
        self._rows = np.concatenate([np.ones((len(ratios), 1)), ratios, standard], axis=1)
        self._sign = np.where(np.concatenate([player.member for player in played]), 1.0, -1.0)
        self._releases = ratios.shape[1]
        self.start = np.zeros(self._rows.shape[1])
        self.start[1 : 1 + self._releases] = 1.0

    def solved(self, strength: float, start: Float64[np.ndarray, "_"]) -> Float64[np.ndarray, "_"]:
        """Return the point of the largest posterior density, by Newton steps with a trust region."""
        from scipy.optimize import minimize  # here, since it takes long

        used = len(start) if np.isfinite(strength) else 1 + self._releases
        rows, sign = self._rows[:, :used], self._sign
        # the bias has no prior; w ~ N(1, 1), b ~ N(0, 1 / (rows strength))
        precision, prior = np.zeros(used), np.zeros(used)
        precision[1 : 1 + self._releases], prior[1 : 1 + self._releases] = 1.0, 1.0
        precision[1 + self._releases :] = len(rows) * strength if used == len(start) else 1.0

        def cost(point: Float64[np.ndarray, "_"]) -> tuple[float, Float64[np.ndarray, "_"]]:
            margin = sign * (rows @ point)
            gradient = precision * (point - prior) - (sign * expit(-margin)) @ rows
            away = 0.5 * precision @ np.square(point - prior)
            return float(np.logaddexp(0.0, -margin).sum() + away), gradient

        def curvature(point: Float64[np.ndarray, "_"]) -> Float64[np.ndarray, "_ _"]:
            chance = expit(rows @ point)
            return (rows * (chance * (1 - chance))[:, None]).T @ rows + np.diag(precision)

        solution = minimize(
            cost,
            start[:used],
            jac=True,
            hess=curvature,
            method="trust-exact",
            options={"gtol": 1e-6 * len(rows)},
        )
        return np.concatenate([solution.x, np.zeros(len(start) - used)])

    def classifier(self, point: Float64[np.ndarray, "_"], strength: float) -> Classifier:
        """Return the regression in units of the features, without its bias."""
        weights = point[1 : 1 + self._releases]
        return Classifier(weights, point[1 + self._releases :] / self._spread, strength)
