"""How long a run on answers should take, and which attacks cannot be run on them.

Every attack is first tried on a few made-up records with the run's own membership and numbers of references, queries
and population records. That gives the rate, and shows which attacks cannot be run at all before an hour is spent.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from bitleak import metrics
from bitleak.answers.answer_signals import block_planes
from bitleak.answers.attack_preparation import PreparedAttack
from bitleak.answers.joint_releases import RELEASES, score_releases
from bitleak.answers.serving_models import ReferenceRows, ReferenceUse
from bitleak.answers.target_views import FULL_BY_FULL, PLAYED_CASES
from bitleak.answers.variant_scales import AS_THEY_CAME
from bitleak.attacks import attack_view, signals_of_targets, two_class_signals
from bitleak.core.errors import TooFewForAttack
from bitleak.core.types import AttackView
from bitleak.steps.choose_thresholds import played_thresholds
from bitleak.steps.measure_power import POWER_TARGETS

REPORTING = 10.0
"""Seconds of one core for the tables, the figures and the page, whatever the number of records."""

TRIAL_NUMBERS = 1 << 19
TRIAL_RECORDS = (64, 4000)
"""A trial has `TRIAL_NUMBERS` reference answers, but its records are within these limits."""


@dataclass(frozen=True)
class ExpectedSeconds:
    """How long a run should take.

    Attributes:
        reading: Seconds until all signals are there.
        attacking: Seconds of all attacks on all targets.
        measuring: Seconds of the metrics.
        reporting: Seconds of tables, figures and page.
    """

    reading: float
    attacking: float
    measuring: float
    reporting: float = REPORTING

    @property
    def total(self) -> float:
        """All of them together."""
        return self.reading + self.attacking + self.measuring + self.reporting


def try_attacks(prepared: PreparedAttack) -> tuple[PreparedAttack, ExpectedSeconds]:
    """Return the run with the attacks that can be run, and the time that it should take.

    Raises:
        ConfigError: An attack that was named cannot be run, or none can.
    """
    # The first target's references, drawn as in the run.
    design, answers = prepared.design, prepared.answers
    start = time.perf_counter()
    rows, use = design.references(design.targets[0])
    drawing = time.perf_counter() - start
    view = trial_view(prepared, rows, use)

    # Attacks that fail here for want of references are left out, or refused if they were named.
    seconds: dict[str, float] = {}
    for attack in prepared.attacks:
        try:
            seconds[attack.name] = _shortest(partial(attack, view))
        except TooFewForAttack as error:
            prepared = prepared.without(attack, f"for want of what it takes ({error})")

    # Seconds per trial record, times the records.
    scale, targets = len(design.records) / len(view.labels), len(design.targets)
    joint = _shortest(partial(_all_releases, view)) if prepared.joint else 0.0
    playing = _playing(prepared, view)
    attacking = (
        attacking_seconds(prepared, seconds, playing=playing, joint=joint) * scale
        + drawing * targets
    )
    score_sets = sum(len(prepared.attacks_of(case)) for case in prepared.cases)
    score_sets += len(RELEASES) if prepared.joint else 0
    measuring = _measuring(prepared, view) * score_sets * targets * scale
    models = len(answers.pool) + (len(prepared.quantized.pool) if prepared.quantized else 0)
    reading = _reading(prepared) * models * (len(design.records) + answers.population_records)
    return prepared, ExpectedSeconds(reading, attacking, measuring)


def attacking_seconds(
    prepared: PreparedAttack, seconds: Mapping[str, float], *, playing: float, joint: float
) -> float:
    """Return the seconds of all work per target, on as many records as were tried.

    Args:
        prepared: The run.
        seconds: Seconds of each attack on one target, by name.
        playing: Seconds of the thresholds chosen without the target, in one case.
        joint: Seconds of the joint attack on one target.
    """
    targets, per_side = len(prepared.design.targets), prepared.design.per_side()
    names = [attack.name for case in prepared.cases for attack in prepared.attacks_of(case)]
    played = sum(case in PLAYED_CASES for case in prepared.cases)
    per_target = math.fsum(seconds[name] for name in names) + played * playing + joint
    fewer = 0.0
    if prepared.power and per_side >= 2:
        # An attack with fewer references takes its share of the seconds with all.
        share = sum(metrics.doubling_counts(per_side)[:-1]) / per_side
        by_reference = [
            seconds[attack.name] for attack in prepared.attacks if attack.uses_references
        ]
        fewer = min(targets, POWER_TARGETS) * share * math.fsum(by_reference)
    return targets * per_target + fewer


def trial_view(prepared: PreparedAttack, rows: ReferenceRows, use: ReferenceUse) -> AttackView:
    """Return a view of made-up confidences with the first target's references."""
    design, answers = prepared.design, prepared.answers
    low, high = TRIAL_RECORDS
    records = min(
        max(TRIAL_NUMBERS // (max(1, len(rows)) * answers.queries), low), high, len(design.records)
    )
    # Spread over the file, since a file may be sorted by class or membership.
    chosen = np.unique(np.linspace(0, len(design.records) - 1, records).astype(np.int64))
    population = min(answers.population_records, high)
    generator = np.random.default_rng(0)

    def random_signals(*shape: int) -> np.ndarray:
        return two_class_signals(generator.normal(2.0, 2.0, (*shape, answers.queries)))

    return attack_view(
        target=random_signals(len(chosen)),
        references=random_signals(len(rows), len(chosen)),
        member=design.member[rows][:, chosen],
        use=use[:, chosen],
        population_target=random_signals(population),
        population_references=random_signals(len(rows), population),
        labels=prepared.labels[chosen],
    )


def _all_releases(view: AttackView) -> None:
    """Run the joint attack as often as for one target."""
    for releases in RELEASES:
        score_releases([view] * len(releases))


def _playing(prepared: PreparedAttack, view: AttackView) -> float:
    """Return the seconds of the thresholds of one target, from a reference in its place."""
    if not prepared.design.referenced:
        return 0.0
    attacks, generator = prepared.by_reference(FULL_BY_FULL), np.random.default_rng(0)
    return _shortest(
        partial(played_thresholds, view, attacks, prepared.fprs, generator, recalibrate=False)
    )


def _reading(prepared: PreparedAttack) -> float:
    """Return the seconds per model and record, from a block of the file."""
    answers, records = prepared.answers, min(len(prepared.design.records), 2000)
    labels = None if answers.labels is None else answers.labels[:records]
    with np.errstate(all="ignore"):  # numbers that are not finite are reported when all are read
        block = np.nan_to_num(np.ascontiguousarray(answers.pool[0][:records]))
        count = signals_of_targets(prepared.attacks)
        reading = partial(block_planes, block, answers.kind, labels, None, count, AS_THEY_CAME)
        return _shortest(reading) / records


def _measuring(prepared: PreparedAttack, view: AttackView) -> float:
    """Return the seconds per set of scores of as many records as the view has."""
    scores = np.random.default_rng(0).normal(size=(1, len(view.labels)))
    member = np.arange(len(view.labels))[None] % 2 == 0
    seconds = _shortest(partial(metrics.estimate_metrics, scores, member, fprs=prepared.fprs))
    if member.size >= 4:  # the bound needs two members and two non-members
        bound = partial(
            metrics.epsilon_measures, scores, member, seed=0, delta=prepared.delta, comparisons=1
        )
        seconds += _shortest(bound)
    return seconds


def _shortest(call: Callable[[], object]) -> float:
    """Return the seconds of the shortest of three calls: the first warms up, and other processes may delay any."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
