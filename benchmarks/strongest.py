"""The strongest of several attacks and adversaries in simulated audits: intervals and verdicts.

    python benchmarks/strongest.py [--audits 1000] [--world noise ties two best shared answers]

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
- `answers`: nothing leaks; 8 models, 4 of them targets, 400 records and FPR 5 %, attacked by
  all forms of LiRA and by `threshold`, as in an audit with `fp32` references.

Columns: the interval of the mean TPR over targets lies above chance; it holds the TPR of the best
pair; the targets' own intervals hold it; the variant, which leaks as much, is called lower or
higher; and how often the first pair (or one of the tied) is chosen.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
from scipy.special import ndtr, ndtri

from bitleak import metrics
from bitleak.attacks import Attack, attack_view, expand, player_groups, split_numbers
from bitleak.core.types import SIGNALS, Measure
from bitleak.metrics import Estimates, PairChoice
from bitleak.steps.attack_targets import AttackLabel, AttackScores
from bitleak.steps.measure_strongest import MeasureStrongest
from bitleak.steps.play_targets import PlayTargets, gathered_rates

PAIRS, TARGETS, PLAYERS, RECORDS, FPR = 12, 2, 4, 600, 0.04
RATE = f"tpr@{FPR:g}"
STRONG, WEAK = 1.0, 0.7
SHIFTS = {
    "noise": [0.0] * PAIRS,
    "ties": [STRONG] * PAIRS,
    "two": [STRONG] * 2 + [WEAK] * (PAIRS - 2),
    "best": [STRONG] + [WEAK] * (PAIRS - 1),
    "shared": [STRONG * 2] * 2 + [WEAK * 2] * (PAIRS - 2),
}
EXPOSED = 0.2
WORLDS = (*SHIFTS, "answers")

Counts = Mapping[str, float]


def scores_world(world: str, audits: int) -> Iterator[str]:
    """Yield a line per rule."""
    shifts = np.array(SHIFTS[world])
    truth = _truth(world, float(shifts.max()))
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for audit in range(audits):
        rng = np.random.default_rng([list(SHIFTS).index(world), audit])
        for rule, counts in _audit(rng, world, shifts, truth, audit).items():
            for name, count in counts.items():
                sums[rule][name] += count / audits
    for rule, shares in sums.items():
        yield f"{world}, {rule}: " + "; ".join(f"{k} {100 * v:.1f} %" for k, v in shares.items())


def _truth(world: str, shift: float) -> float:
    """Return the TPR of the best pair at the FPR."""
    strong = ndtr(shift + ndtri(FPR))
    return EXPOSED * strong + (1 - EXPOSED) * FPR if world == "shared" else float(strong)


def _audit(
    rng: np.random.Generator, world: str, shifts: np.ndarray, truth: float, seed: int
) -> dict[str, Counts]:
    """Return for each rule whether each of the events of the columns happens."""
    models = TARGETS + PLAYERS
    member = rng.random((models, RECORDS)).argsort(axis=1) < RECORDS // 2
    exposed = rng.random(RECORDS) < EXPOSED if world == "shared" else np.ones(RECORDS, bool)
    signal = shifts[:, None] * (member & exposed)[:, None]  # (models, pairs, records)
    record = np.sqrt(0.2) * rng.standard_normal(RECORDS)
    model = rng.standard_normal((models, 1, RECORDS))
    own = rng.standard_normal(signal.shape)
    at_full = signal + record + np.sqrt(0.55) * model + np.sqrt(0.25) * own
    moved = np.sqrt(0.55) * _near(rng, model) + np.sqrt(0.25) * _near(rng, own)
    at_variant = signal + record + moved
    full = _all_estimates(at_full[:TARGETS], member[:TARGETS])
    variant = _all_estimates(at_variant[:TARGETS], member[:TARGETS])

    events = {}
    choices = [_choice(scores, member, seed) for scores in (at_full, at_variant)]
    pairs = [_strongest(c, f, seed) for c, f in zip(choices, (full, variant), strict=True)]
    tied = int((shifts == shifts.max()).sum())
    events["strongest"] = _events(*pairs, truth) | {"chosen": float(choices[0].pair < tied)}
    best = [int(np.argmax([_mean(pair[RATE]) for pair in f])) for f in (full, variant)]
    events["best"] = _events(full[best[0]], variant[best[1]], truth) | {
        "chosen": float(best[0] < tied)
    }
    area = int(np.argmax([_mean(pair["auc"]) for pair in full]))
    events["area"] = _events(full[area], variant[area], truth) | {"chosen": float(area < tied)}
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


def _choice(scores: np.ndarray, member: np.ndarray, seed: int) -> PairChoice:
    """Return the choice on the players, the same for all targets."""
    rates = [metrics.player_rates(scores[p], member[p], FPR) for p in range(TARGETS, len(scores))]
    influence = np.mean([rate.influence for rate in rates], axis=0)
    return metrics.choose_pair(
        np.mean([rate.value for rate in rates], axis=0), metrics.on_draws(influence, seed)
    )


def _strongest(choice: PairChoice, estimates: list[Estimates], seed: int) -> Estimates:
    figures = []
    for target in range(TARGETS):
        figures.append({pair: {RATE: estimates[pair][RATE][target]} for pair in choice.pairs})
    return metrics.strongest_estimates([choice] * TARGETS, figures, seed)


def _events(full: Estimates, variant: Estimates, truth: float) -> dict[str, float]:
    only = {RATE: full[RATE]}
    total = metrics.measures_from(only, mode="population").aggregate[RATE]
    single = metrics.measures_from(only, mode="population").targets[RATE]
    compared = metrics.measures_from({RATE: variant[RATE]}, mode="population", baseline=only)
    covered = [one.low <= truth <= one.high for one in single]
    return {
        "above chance": float(total.low > FPR),
        "covered": float(total.low <= truth <= total.high),
        "targets covered": float(np.mean(covered)),
        "false verdict": float(compared.aggregate[RATE].p_value < 0.05),
    }


def _mean(figures: tuple) -> float:
    return float(np.mean([figure.value for figure in figures]))


def answers_world(audits: int) -> Iterator[str]:
    """Yield a line: attacks on answers that say nothing of the membership."""
    attacks = [attack for word in ("lira", "threshold") for attack in expand(word)]
    names = tuple(attack.name for attack in attacks)
    events: dict[str, float] = defaultdict(float)
    for audit in range(audits):
        rng = np.random.default_rng([len(SHIFTS), audit])
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
    play = PlayTargets(names, False, (), (), (), fpr, seed)
    played = []
    for group in groups:
        rows = group.references(split, range(models))
        players = []
        for row in group.players:
            players.append((rows.index(row), (signals[row], signals[row, :0]), member[row]))
        played.append(play.group_rates(view_of(signals[rows[0]], rows), players, attacks))
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
