"""The strongest of several attacks and adversaries, chosen on other models than the target.

The best of many figures, chosen on the data that it is reported on, is too large (docs/statistics.md
has the share of audits in which it lies above chance where nothing leaks). So the pair
of attack and adversary is chosen on *players*, models that take the target's place and whose
references exclude the target and its complement. With the TPR of player p by pair a at the FPR
asked for,

    chosen = argmax_a M_a,    M_a = mean over players of TPR_p(a).

Nothing in M depends on the target's answers or membership, so the target's own errors do not enter
the choice. Players and target share their records, though, and another sample of records may choose
another pair. The interval therefore repeats the choice: in draw b record r has the weight
1 + g_br, g standard normal and the same for all models and variants (a multiplier bootstrap; Wu
1986), and to first order, with influences psi and phi (see `estimates`),

    M_a(b) = M_a + sum_r phi_ar g_br,    a(b) = argmax_a M_a(b),
    T(b) = centre_0 + d_a(b) + sum_r psi_a(b)r g_br,

where 0 is the chosen pair and d_a = D (1 - (1.96 s / D)^2)_+ with D = centre_a - centre_0, whose error
has the variance s^2: two pairs of which one finds as much as the other differ by that error alone,
and the sum over r has it already (with d_a = D intervals of pairs that tie cover 99 %).

The strongest figure has the value and the reach of the chosen pair's, the reach times

    max(1, sd T(b) / s),    s^2 = sum_a share_a var(sum_r psi_ar g_br),

share_a being the draws that choose a: so it is widened by the part that the choice adds to the errors that
the pairs have anyway. (With the chosen pair's own deviation for s, a chance difference between the
deviations of pairs that tie widened it by a tenth, since it counts only upwards.) Its influence is
(T(b) - mean T) / sqrt(draws): an entry per draw in the place of one per record, so that means over
targets and paired differences from the strongest at another variant have their covariances from the
same draws.
With 1,000 draws a width has an error of about 2 %. Pairs chosen in less than 1 % of the draws count
as the chosen pair.

The TPR of a player is that of the rule "last point with FPR <= alpha"; its influence has the slope
of the ROC over one standard deviation of the number of false positives to either side (see `tpr`).

Cost: a sort per pair and player; a product of influences and draws.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from bitleak.metrics.estimates import Estimate, Estimates, Z, stacked_influences

DRAWS = 1000
"""Draws of records in which the choice is repeated."""

RARE = 0.01
"""Share of the draws below which a pair that is chosen there counts as the chosen one."""

_BLOCK = 50
"""Draws that are in memory together."""


class PlayerRates(NamedTuple):
    """TPRs of one player by every attack.

    Attributes:
        value: TPR at the last point of the ROC with at most the FPR asked for.
        influence: Its derivative with respect to each record's weight.
    """

    value: Float64[np.ndarray, "attacks"]
    influence: Float64[np.ndarray, "attacks records"]


@dataclass(frozen=True)
class PairChoice:
    """The pair of attack and adversary for a target.

    Attributes:
        pair: Index of the chosen pair.
        drawn: Index of the pair that each draw of records chooses.
        named: Whether the pair was named beforehand instead.
    """

    pair: int
    drawn: Int64[np.ndarray, "draws"]
    named: bool = False

    @property
    def pairs(self) -> tuple[int, ...]:
        """Every pair that is chosen in a draw, and the chosen one."""
        return tuple(sorted({self.pair, *np.unique(self.drawn).tolist()}))


def player_rates(
    scores: Float64[np.ndarray, "attacks records"],
    member: Bool[np.ndarray, "records"],
    fpr: float,
) -> PlayerRates:
    """Return the TPR of one model by several attacks, with its influences.

    Args:
        scores: Larger = more likely a member.
        member: True for the members; both kinds are present.
        fpr: False-positive rate, in (0, 1).

    Example:
        >>> scores, member = np.arange(1000)[None] / 1000, np.arange(1000) % 2 == 0
        >>> rates = player_rates(scores, member, 0.1)
        >>> rates.value.round(2).tolist(), bool(abs(rates.influence.sum()) < 1e-12)
        ([0.1], True)
    """
    outside, members = scores[:, ~member], int(member.sum())
    count = outside.shape[1]

    # the threshold of the rule, and those one standard deviation of the false positives around it
    spread = max(1.0, math.sqrt(count * fpr * (1 - fpr)))
    ends = np.clip(np.round(count * fpr + np.array([-spread, spread])), 0, count - 1)
    allowed = min(int(count * fpr * (1 + 1e-12)), count - 1)
    ranks = [allowed, *ends.astype(int).tolist()]
    places = [count - 1 - rank for rank in ranks]
    ordered = np.partition(outside, sorted(set(places)), axis=1)
    inside = scores[:, member]
    above, low, high = (
        (inside > ordered[:, place, None]).mean(axis=1) for place in places
    )  # (attacks,)
    slope = (high - low) / max((ranks[2] - ranks[1]) / count, 1e-12)

    called = scores > ordered[:, places[0], None]
    share = called[:, ~member].mean(axis=1)
    influence = np.where(
        member,
        (called - above[:, None]) / members,
        -slope[:, None] * (called - share[:, None]) / count,
    )
    return PlayerRates(above, influence)


def on_draws(
    influence: Float64[np.ndarray, "figures records"], seed: int, audited: int | None = None
) -> Float32[np.ndarray, "figures draws"]:
    """Return the change of each figure under every draw of records.

    Args:
        influence: Derivative of each figure with respect to each record's weight.
        seed: Seed of the draws; equal seeds and numbers of audited records give the same draws.
        audited: Number of audited records, which come first; their draws do not depend on the records
            that follow. None if all are audited.
    """
    first = influence.shape[1] if audited is None else audited
    parts = [(influence[:, :first], np.random.default_rng(seed))]
    if first < influence.shape[1]:
        parts.append((influence[:, first:], np.random.default_rng([seed, 1])))
    changes = np.zeros((len(influence), DRAWS), np.float32)
    for part, rng in parts:
        changes += _on_draws(part, rng)
    return changes


def _on_draws(
    influence: Float64[np.ndarray, "figures records"], rng: np.random.Generator
) -> Float32[np.ndarray, "figures draws"]:
    narrow = influence.astype(np.float32)
    changes = np.empty((len(influence), DRAWS), np.float32)
    for start in range(0, DRAWS, _BLOCK):
        weights = rng.standard_normal((influence.shape[1], _BLOCK), dtype=np.float32)
        changes[:, start : start + _BLOCK] = narrow @ weights
    return changes


def choose_pair(
    rates: Float64[np.ndarray, "pairs"], changes: Float32[np.ndarray, "pairs draws"]
) -> PairChoice:
    """Return the pair with the largest rate, and that of every draw; the first of equal ones.

    Args:
        rates: Mean TPR over players by pair; NaN for a pair that no player was attacked by.
        changes: Its change under every draw of records.

    Raises:
        ValueError: All rates are NaN.

    Example:
        >>> choose_pair(np.array([0.1, 0.3, np.nan]), np.zeros((3, DRAWS), np.float32)).pairs
        (1,)
    """
    if np.isnan(rates).all():
        raise ValueError("a choice needs the rate of at least one pair, got none")
    values = np.where(np.isnan(rates), -np.inf, rates)
    pair = int(values.argmax())
    drawn = (values[:, None] + np.nan_to_num(changes)).argmax(axis=0)
    rare = np.bincount(drawn, minlength=len(rates)) < RARE * len(drawn)
    return PairChoice(pair, np.where(rare[drawn], pair, drawn))


def named_pair(pair: int) -> PairChoice:
    """Return the choice of a pair that is named beforehand, the same in every draw."""
    return PairChoice(pair, np.full(DRAWS, pair), named=True)


def strongest_estimates(
    choices: Sequence[PairChoice],
    figures: Sequence[Mapping[int, Mapping[str, Estimate]]],
    seed: int,
    audited: int | None = None,
) -> Estimates:
    """Return the figures of the chosen pairs, with the error of the choice.

    Args:
        choices: One per target.
        figures: For each target its figures by pair and metric: those of `PairChoice.pairs`, all with
            the same metrics.
        seed: Seed of the draws, as for the players' rates.
        audited: Number of audited records, or of their clusters, if more follow them in the influences
            of some figures (`map_error`); None takes the fewest.

    Returns:
        By metric an estimate per target, whose influences have an entry per draw.
    """
    # one product for all metrics: making the draws takes longer than using them
    names = list(figures[0][choices[0].pair])
    influences = []
    for metric in names:
        for by_pair in figures:
            influences += [by_metric[metric].influence for by_metric in by_pair.values()]
    audited = min(map(len, influences)) if audited is None else audited
    changes = iter(on_draws(stacked_influences(influences), seed, audited))

    estimates: dict[str, tuple[Estimate, ...]] = {}
    for metric in names:
        strongest = []
        for choice, by_pair in zip(choices, figures, strict=True):
            of_metric = {pair: by_metric[metric] for pair, by_metric in by_pair.items()}
            drawn = {pair: next(changes).astype(np.float64) for pair in of_metric}
            strongest.append(_strongest(choice, of_metric, drawn))
        estimates[metric] = tuple(strongest)
    return estimates


def _strongest(
    choice: PairChoice,
    figures: Mapping[int, Estimate],
    changes: Mapping[int, Float64[np.ndarray, "draws"]],
) -> Estimate:
    """Return the figure of the chosen pair, with T(b) of the module for its influence."""
    chosen, changes_of_chosen = figures[choice.pair], changes[choice.pair]
    total = np.empty(len(choice.drawn))
    variance = 0.0  # s^2 of the module
    for pair, figure in figures.items():
        # d_a of the module
        distance = figure.centre - chosen.centre
        error = float((changes[pair] - changes_of_chosen).var())
        beyond = distance * max(0.0, 1 - Z**2 * error / distance**2) if distance else 0.0
        drawn = choice.drawn == pair
        total[drawn] = beyond + changes[pair][drawn]
        variance += float(drawn.mean() * changes[pair].var())
    total -= total.mean()
    widening = max(1.0, float(total.std()) / math.sqrt(variance)) if variance > 0 else 1.0
    below, above = chosen.reach
    return replace(
        chosen,
        low=chosen.centre - widening * below,
        high=chosen.centre + widening * above,
        influence=total / math.sqrt(len(total)),
    )
