"""The strongest of several attacks and adversaries in simulated audits: intervals and verdicts.

    python benchmarks/strongest.py [--audits 1000] [--world noise ties two best shared dedicated trainings few answers]

The rule of `bitleak.metrics.strongest` (chosen on players, the choice repeated under resampling)
is compared with `best`, the pair with the largest TPR on the targets that it is reported on, and
with `area`, the pair with the largest AUC of the targets at full precision, whose intervals and
p-values know nothing of the choice. An audit has 2 targets, 4 players, 12 pairs and 600 records,
300 of them members of each model; scores of different pairs of one model correlate 0.75, those of
different models 0.2, and those of a variant 0.9 with full precision's. FPR 4 %, so that twelve false
positives are expected. Worlds:

- `noise`: nothing leaks.
- `ties`: all pairs leak alike (TPR 0.227 at 4 %).
- `two`: two pairs leak alike, the others less.
- `best`: one pair leaks more than the others.
- `shared`: as `two`, where a fifth of the records leaks and the others do not.
- `dedicated`: as `two`, with 2 dedicated targets; the shift of a model is its own, N(shift, 0.1^2), and
  the truth is that of these targets.
- `trainings`: the same with 5 dedicated targets, whose interval is about models trained anew.
- `few`: as `dedicated`, with 3 players, so that the pair is the one named beforehand: the last, which
  leaks less than the best; its own TPR is the truth.
- `answers`: nothing leaks; 8 models, 4 of them targets, 400 records and FPR 5 %, attacked by
  all forms of LiRA and by `threshold`, as in an audit with `fp32` references.

Columns: the interval of the mean TPR over targets lies above chance; it holds the TPR of the best
pair; the targets' own intervals hold it; the variant, which leaks as much, is called lower or
higher; the interval's half-width (per cent too); and how often the best pair (or one of the tied) is
chosen. The rule `fixed` is the best pair (in `few` the named one) without a choice.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from bitleak import metrics
from bitleak.attacks import (
    FEWEST_PLAYERS,
    Attack,
    PlayedCase,
    attack_view,
    expand,
    player_groups,
    split_numbers,
)
from bitleak.core.types import SIGNALS, Measure, SplitMode
from bitleak.metrics import Estimates, PairChoice
from bitleak.steps.attack_targets import AttackLabel, AttackScores
from bitleak.steps.measure_strongest import MeasureStrongest
from bitleak.steps.play_targets import gathered_rates, group_rates

PAIRS, RECORDS, FPR = 12, 600, 0.04
RATE = f"tpr@{FPR:g}"
STRONG, WEAK = 1.0, 0.7
TRAINING = 0.1
EXPOSED = 0.2


@dataclass(frozen=True)
class World:
    """Audits whose truth is known.

    Attributes:
        shifts: Members' scores above the others', by pair.
        exposed: Share of the records that leak.
        targets: Number of targets.
        players: Number of players.
        mode: How training sets are drawn.
        training: Deviation of the shift between models.
    """

    shifts: tuple[float, ...]
    exposed: float = 1.0
    targets: int = 2
    players: int = 4
    mode: SplitMode = "population"
    training: float = 0.0

    @property
    def pair(self) -> int:
        """The pair whose TPR is the truth: the best, or the one named beforehand."""
        return int(np.argmax(self.shifts)) if self.players >= FEWEST_PLAYERS else PAIRS - 1

    def truth(self, shift: np.ndarray | float) -> float:
        """Return the mean TPR at the FPR of models with these shifts."""
        strong = float(np.mean(ndtr(shift + ndtri(FPR))))
        return self.exposed * strong + (1 - self.exposed) * FPR


TWO = (STRONG,) * 2 + (WEAK,) * (PAIRS - 2)
SCORE_WORLDS = {
    "noise": World((0.0,) * PAIRS),
    "ties": World((STRONG,) * PAIRS),
    "two": World(TWO),
    "best": World((STRONG,) + (WEAK,) * (PAIRS - 1)),
    "shared": World(tuple(2 * shift for shift in TWO), EXPOSED),
    "dedicated": World(TWO, mode="dedicated", training=TRAINING),
    "trainings": World(TWO, targets=5, mode="dedicated", training=TRAINING),
    "few": World(TWO, players=FEWEST_PLAYERS - 1, mode="dedicated", training=TRAINING),
}
WORLDS = (*SCORE_WORLDS, "answers")

Counts = Mapping[str, float]


def scores_world(name: str, audits: int) -> Iterator[str]:
    """Yield a line per rule."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for audit in range(audits):
        rng = np.random.default_rng([list(SCORE_WORLDS).index(name), audit])
        for rule, counts in _audit(rng, SCORE_WORLDS[name], audit).items():
            for event, count in counts.items():
                sums[rule][event] += count / audits
    for rule, shares in sums.items():
        yield f"{name}, {rule}: " + "; ".join(f"{k} {100 * v:.1f} %" for k, v in shares.items())


def _audit(rng: np.random.Generator, world: World, seed: int) -> dict[str, Counts]:
    """Return for each rule whether each of the events of the columns happens."""
    models, targets = world.targets + world.players, world.targets
    member = rng.random((models, RECORDS)).argsort(axis=1) < RECORDS // 2
    exposed = rng.random(RECORDS) < world.exposed if world.exposed < 1 else np.ones(RECORDS, bool)
    shifts = np.array(world.shifts)[:, None]
    record = np.sqrt(0.2) * rng.standard_normal(RECORDS)
    model = rng.standard_normal((models, 1, RECORDS))
    own = rng.standard_normal((models, PAIRS, RECORDS))
    trained = world.training * rng.standard_normal((models, 1, 1)) if world.training else 0.0
    signal = (shifts + trained) * (member & exposed)[:, None]  # (models, pairs, records)
    at_full = signal + record + np.sqrt(0.55) * model + np.sqrt(0.25) * own
    moved = np.sqrt(0.55) * _near(rng, model) + np.sqrt(0.25) * _near(rng, own)
    at_variant = signal + record + moved
    full = _all_estimates(at_full[:targets], member[:targets])
    variant = _all_estimates(at_variant[:targets], member[:targets])

    # the figure that the interval is about: of these targets, or of models trained anew
    best = world.shifts[world.pair]
    if world.targets >= metrics.FEWEST_TARGETS and world.mode == "dedicated":
        nodes, weights = np.polynomial.hermite_e.hermegauss(21)
        rates = ndtr(best + world.training * nodes + ndtri(FPR))
        truth = float(np.average(rates, weights=weights))
    else:
        truth = world.truth(best + np.ravel(trained)[:targets] if world.training else best)

    events = {}
    choices = [_choice(scores, member, world, seed) for scores in (at_full, at_variant)]
    pairs = [_strongest(c, f, seed) for c, f in zip(choices, (full, variant), strict=True)]
    tied = [place for place, shift in enumerate(world.shifts) if shift == best]
    events["strongest"] = _events(*pairs, truth, world.mode) | {
        "chosen": float(choices[0].pair in tied)
    }
    largest = [int(np.argmax([_mean(pair[RATE]) for pair in f])) for f in (full, variant)]
    events["best"] = _events(full[largest[0]], variant[largest[1]], truth, world.mode) | {
        "chosen": float(largest[0] in tied)
    }
    area = int(np.argmax([_mean(pair["auc"]) for pair in full]))
    events["area"] = _events(full[area], variant[area], truth, world.mode) | {
        "chosen": float(area in tied)
    }
    fixed = world.pair
    events["fixed"] = _events(full[fixed], variant[fixed], truth, world.mode) | {"chosen": 1.0}
    return events


def _near(rng: np.random.Generator, noise: np.ndarray) -> np.ndarray:
    return 0.9 * noise + np.sqrt(1 - 0.81) * rng.standard_normal(noise.shape)


def _all_estimates(scores: np.ndarray, member: np.ndarray) -> list[Estimates]:
    """Return the figures of every pair."""
    estimates = []
    for pair in range(scores.shape[1]):
        estimates.append(
            metrics.estimate_metrics(scores[:, pair], member, fprs=(FPR,), balanced=False)
        )
    return estimates


def _choice(scores: np.ndarray, member: np.ndarray, world: World, seed: int) -> PairChoice:
    """Return the choice on the players, the same for all targets."""
    if world.players < FEWEST_PLAYERS:
        return metrics.named_pair(world.pair)
    players = range(world.targets, len(scores))
    rates = [metrics.player_rates(scores[p], member[p], FPR) for p in players]
    influence = np.mean([rate.influence for rate in rates], axis=0)
    return metrics.choose_pair(
        np.mean([rate.value for rate in rates], axis=0), metrics.on_draws(influence, seed)
    )


def _strongest(choice: PairChoice, estimates: list[Estimates], seed: int) -> Estimates:
    figures, targets = [], len(estimates[0][RATE])
    for target in range(targets):
        figures.append({pair: {RATE: estimates[pair][RATE][target]} for pair in choice.pairs})
    return metrics.strongest_estimates([choice] * targets, figures, seed)


def _events(full: Estimates, variant: Estimates, truth: float, mode: SplitMode) -> dict[str, float]:
    only = {RATE: full[RATE]}
    measures = metrics.measures_from(only, mode=mode)
    total, single = measures.aggregate[RATE], measures.targets[RATE]
    compared = metrics.measures_from({RATE: variant[RATE]}, mode=mode, baseline=only)
    covered = [alone.low <= truth <= alone.high for alone in single]
    p_value = compared.aggregate[RATE].p_value
    return {
        "above chance": float(total.low > FPR),
        "covered": float(total.low <= truth <= total.high),
        "targets covered": float(np.mean(covered)),
        "false verdict": float(p_value is not None and p_value < 0.05),
        "half-width": (total.high - total.low) / 2,
    }


def _mean(figures: tuple) -> float:
    return float(np.mean([figure.value for figure in figures]))


def answers_world(audits: int) -> Iterator[str]:
    """Yield a line: attacks on answers that say nothing of the membership."""
    attacks = [attack for word in ("lira", "threshold") for attack in expand(word)]
    names = tuple(attack.name for attack in attacks)
    events: dict[str, float] = defaultdict(float)
    for audit in range(audits):
        rng = np.random.default_rng([len(SCORE_WORLDS), audit])
        table = _answers_audit(rng, attacks, names, audit)
        for name, measure in table.items():
            events[f"{name} above chance"] += float(measure.low > 0.05) / audits
            events[f"{name} covered"] += float(measure.low <= 0.05 <= measure.high) / audits
    yield "answers: " + "; ".join(f"{name} {100 * value:.1f} %" for name, value in events.items())


def _answers_audit(
    rng: np.random.Generator, attacks: list[Attack], names: tuple[str, ...], seed: int
) -> dict[str, Measure]:
    models, records, fpr = 8, 400, 0.05
    halves = rng.random((models // 2, records)).argsort(axis=1) < records // 2
    member = np.stack([halves, ~halves], axis=1).reshape(models, records)
    confidence = 2 * rng.standard_normal(records) + rng.standard_normal((models, records))
    signals = np.zeros((models, records, 1, len(SIGNALS)))
    signals[..., 0, 0] = -np.logaddexp(0, -confidence)
    signals[..., 0, 1] = confidence
    split, targets = split_numbers(member), (0, 2, 4, 6)

    def view_of(target: np.ndarray, rows: list[int]):
        return attack_view(
            target=target,
            references=signals[rows],
            member=member[rows],
            use=np.ones((len(rows), records), bool),
            population_target=target[:0],
            population_references=signals[rows, :0],
            labels=np.zeros(records, np.int64),
        )

    scores = np.empty((len(attacks), len(targets), records))
    for place, target in enumerate(targets):
        view = view_of(signals[target], [row for row in range(models) if row // 2 != target // 2])
        for index, attack in enumerate(attacks):
            scores[index, place] = attack(view)
    groups = player_groups(split, targets, range(models), range(models), seed)
    played = []
    for group in groups:
        rows = group.references(split, range(models))
        players = []
        for row in group.players:
            players.append((rows.index(row), (signals[row], signals[row, :0]), member[row]))
        view, case = view_of(signals[rows[0]], rows), PlayedCase(attacks, recalibrate=False)
        played += group_rates(view, players, [case], fpr=fpr, seed=seed)
    rates = gathered_rates(attacks, groups, played, records, seed=seed)
    labels = tuple(AttackLabel(attack.name, attack.uses_references) for attack in attacks)
    of_targets = AttackScores(scores, None, labels, targets)
    step = MeasureStrongest("fp32", "", None, ("fp32",), "lira-online-shrunk", "fp32", (fpr,), seed)
    truth = member[list(targets)]
    figures = step.figures([of_targets], [rates], truth, baseline=None, mode="population")
    measures = {}
    for row in figures.table.rows:
        if row.target == "all" and row.metric == f"tpr@{fpr:g}":
            measures["strongest"] = row.measure
    best = None
    for index in range(len(attacks)):
        alone = metrics.measure(scores[index], truth, fprs=(fpr,), balanced=False)
        rate = alone.aggregate[f"tpr@{fpr:g}"]
        if best is None or rate.value > best.value:
            best = rate
        if attacks[index].name == "lira-online-shrunk":
            measures["lira-online-shrunk"] = rate
    measures["best"] = best
    return measures


def main() -> None:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--world", choices=WORLDS, nargs="*", default=WORLDS)
    options = parser.parse_args()
    for world in options.world:
        start = time.process_time()
        lines = (
            answers_world(options.audits)
            if world == "answers"
            else scores_world(world, options.audits)
        )
        for line in lines:
            print(line, flush=True)
        print(f"({time.process_time() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
