"""The attacks on every target in every case, and how long they should take.

Every attack is first tried on a few made-up records with the run's own membership and numbers of references, queries
and population records. That gives the rate, and tells which attacks cannot be run at all before an hour is spent.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from jaxtyping import Float64

from bitleak import metrics
from bitleak.answers.answer_correspondence import pairing_doubts, population_pairing_doubts
from bitleak.answers.answer_doubts import coarse, late
from bitleak.answers.answer_signals import Signals, block_signals, signals_of
from bitleak.answers.attack_preparation import Prepared
from bitleak.answers.attack_statistics import (
    DELTA,
    PLAYED,
    POWER_TARGETS,
    chosen_thresholds,
    memorised,
    power_rows,
)
from bitleak.answers.joint_releases import RELEASES, joint_scores, joint_seconds
from bitleak.answers.target_views import CONTROL, FULL, QUANTIZED, Case, References, Rows, Use, Views
from bitleak.attacks import attack_view, signals_of_references, two_class_signals
from bitleak.core.errors import DataError, TooFewForAttack, UnfitView
from bitleak.core.spill import Scratch
from bitleak.core.types import SIGNALS, AttackView
from bitleak.metrics import Memorisation
from bitleak.report import PowerRow

CONFIDENCE, CORRECT = SIGNALS.index("logit_scaled"), SIGNALS.index("correct")

REPORTING = 10.0
"""Seconds of one core for the tables, the figures and the page, whatever the number of records."""

TRIAL_NUMBERS = 1 << 19
TRIAL_RECORDS = (64, 4000)
"""A trial has this many reference answers, but at least and at most so many records."""

OnStep = Callable[[float, str], None]
"""Called with the fraction done and what is being done."""


@dataclass(frozen=True)
class Attacked:
    """What the attacks say.

    Attributes:
        scores: By case and name of the attack, `[targets records]`.
        correct: By variant, whether each target classifies each audited record correctly at its first query, as
            0.0 or 1.0; empty for scores, which do not tell.
        joint: Scores of the joint attack, by `RELEASES`; None where it was not run.
        thresholds: By case and name of the attack, those chosen without the targets.
        power: The attacks with fewer references.
        memorised: By variant; empty for scores.
        doubts: Reasons to doubt the answers, now that all are read, a sentence each.
    """

    scores: Mapping[tuple[Case, str], Float64[np.ndarray, "targets records"]]
    correct: Mapping[str, Float64[np.ndarray, "targets records"]]
    joint: Float64[np.ndarray, "releases targets records"] | None = None
    thresholds: Mapping[tuple[Case, str], Float64[np.ndarray, "targets fprs"]] = field(default_factory=dict)
    power: tuple[PowerRow, ...] = ()
    memorised: Mapping[str, Memorisation] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expected:
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
    def seconds(self) -> float:
        """All together."""
        return self.reading + self.attacking + self.measuring + self.reporting


def tried(prepared: Prepared) -> tuple[Prepared, Expected]:
    """The run with the attacks that can be run, and the time it should take.

    Raises:
        ConfigError: An attack that was asked for cannot be run, or none can.
    """
    start = time.perf_counter()
    rows, use = prepared.design.references(prepared.design.targets[0])
    choosing = time.perf_counter() - start
    view = trial_view(prepared, rows, use)
    seconds: dict[str, float] = {}
    for attack in prepared.attacks:
        try:
            seconds[attack.name] = _seconds(partial(attack, view))
        except TooFewForAttack as error:
            prepared = prepared.without(attack, f"for want of what it takes ({error})")
    records, answers = len(prepared.design.records), prepared.answers
    scale = records / len(view.labels)
    targets = len(prepared.design.targets)
    together = joint_seconds(view) if prepared.joint else 0.0
    case = prepared.cases[0]
    playing = _seconds(partial(chosen_thresholds, prepared, view, prepared.design.targets[0], case))
    attacking = attacking_seconds(prepared, seconds, playing=playing, together=together) * scale + choosing * targets
    pairs = [attack.name for case in prepared.cases for attack in prepared.attacks_of(case)]
    sets = len(pairs) + (len(RELEASES) if prepared.joint else 0)
    measuring = _measuring(view, prepared) * sets * targets * scale
    models = len(answers.pool) + (len(prepared.quantized.pool) if prepared.quantized else 0)
    reading = _reading(prepared) * models * (records + answers.population_records)
    return prepared, Expected(reading, attacking, measuring)


def attacking_seconds(prepared: Prepared, seconds: Mapping[str, float], *, playing: float, together: float) -> float:
    """Seconds of everything that is done once or more for a target, on as many records as were tried.

    Args:
        prepared: The run.
        seconds: Of each attack on one target, by name.
        playing: Of the thresholds chosen without the target, in one case.
        together: Of the joint attack on one target.
    """
    targets, most = len(prepared.design.targets), prepared.design.per_side()
    pairs = [attack.name for case in prepared.cases for attack in prepared.attacks_of(case)]
    played = sum(case in PLAYED for case in prepared.cases)
    per_target = math.fsum(seconds[name] for name in pairs) + played * playing + together
    few = 0.0
    if prepared.power and most >= 2:  # an attack with fewer references takes its share of the seconds
        share = sum(metrics.doubling_counts(most)[:-1]) / most
        by_reference = [seconds[attack.name] for attack in prepared.attacks if attack.uses_references]
        few = min(targets, POWER_TARGETS) * share * math.fsum(by_reference)
    return targets * per_target + few


def trial_view(prepared: Prepared, rows: Rows, use: Use) -> AttackView:
    """A view of made-up confidences with the first target's references."""
    design, answers = prepared.design, prepared.answers
    low, high = TRIAL_RECORDS
    records = min(max(TRIAL_NUMBERS // (max(1, len(rows)) * answers.queries), low), high, len(design.records))
    # spread over the file, lest a file sorted by class or membership give one of them alone
    chosen = np.unique(np.linspace(0, len(design.records) - 1, records).astype(np.int64))
    population = min(answers.population_records, high)
    generator = np.random.default_rng(0)
    member, use = design.member[rows][:, chosen], use[:, chosen]

    def made_up(*shape: int) -> np.ndarray:
        return two_class_signals(generator.normal(2.0, 2.0, (*shape, answers.queries)))

    labels = np.zeros(len(design.records), np.int64) if answers.labels is None else answers.labels[design.records]
    return attack_view(
        target=made_up(len(chosen)),
        references=made_up(len(rows), len(chosen)),
        member=member,
        use=use,
        population_target=made_up(population),
        population_references=made_up(len(rows), population),
        labels=labels[chosen],
    )


def attacked(prepared: Prepared, scratch: Scratch, on_step: OnStep) -> Attacked:
    """The scores of every attack on every target in every case.

    Args:
        prepared: After `tried`.
        scratch: Where large arrays go.
        on_step: Called with the fraction done and what is being done.

    Raises:
        DataError: An answer is not finite or otherwise cannot be, or a target's answers cannot be attacked.
    """
    views = _views(prepared, scratch, on_step)
    doubts = _doubts(prepared, views)
    design = prepared.design
    pairs = [(case, attack) for case in prepared.cases for attack in prepared.attacks_of(case)]
    scores = scratch.allocate((len(pairs), len(design.targets), len(design.records)))
    together = scratch.allocate((len(RELEASES), *scores.shape[1:])) if prepared.joint else None
    chosen: dict[tuple[Case, str], list[np.ndarray]] = {}
    done = 0
    for place, target in enumerate(design.targets):
        rows, use = design.references(target)
        for case in prepared.cases:
            try:
                view = views.of(target, case, rows, use)
                if case.variant != CONTROL:
                    for name, threshold in chosen_thresholds(prepared, view, target, case).items():
                        chosen.setdefault((case, name), []).append(threshold)
                for attack in prepared.attacks_of(case):
                    scores[done % len(pairs), place] = attack(view)
                    done += 1
                    on_step(done / (len(pairs) * len(design.targets)), "attacking")
            except UnfitView as error:
                raise DataError(
                    f"{prepared.answers.source}: target {target}, {case.variant} with {case.reference} references: "
                    f"{error}"
                ) from error
        if together is not None:
            together[:, place] = joint_scores(views, target, rows, use)
    named = {(case, attack.name): scores[index] for index, (case, attack) in enumerate(pairs)}
    full = {name: found for (case, name), found in named.items() if case == Case(FULL, "fp32")}
    return Attacked(
        scores=named,
        correct={} if prepared.answers.kind == "scores" else _correct(views),
        joint=together,
        thresholds={key: np.stack(of) for key, of in chosen.items() if len(of) == len(design.targets)},
        power=tuple(power_rows(prepared, views, full, on_step)) if prepared.power else (),
        memorised=memorised(prepared, views),
        doubts=doubts,
    )


def _doubts(prepared: Prepared, views: Views) -> tuple[str, ...]:
    """Doubts about both files; those about the records and their labels are told once."""
    found = late(prepared.answers, views.signals[FULL], prepared.design, prepared.fprs)
    if prepared.quantized is not None:
        found += coarse(prepared.quantized, views.signals[QUANTIZED], prepared.fprs)
        found += _unpaired(views.signals[FULL], views.signals[QUANTIZED])
    return found


def _unpaired(full: Signals, quantized: Signals) -> tuple[str, ...]:
    rows = np.array([full.names.index(name) for name in quantized.names])
    return (
        *pairing_doubts(full.pool[CONFIDENCE], quantized.pool[CONFIDENCE], rows, quantized.names),
        *population_pairing_doubts(full.population[CONFIDENCE], quantized.population[CONFIDENCE]),
    )


def _views(prepared: Prepared, scratch: Scratch, on_step: OnStep) -> Views:
    design, answers = prepared.design, prepared.answers
    sources = {FULL: answers} | ({QUANTIZED: prepared.quantized} if prepared.quantized else {})
    found: dict[str, Signals] = {}
    for variant, source in sources.items():
        step = partial(_reading_step, on_step, f"reading {variant}")
        found[variant] = signals_of(source, design.records, scratch, step)
    labels = np.zeros(len(design.records), np.int64) if answers.labels is None else answers.labels[design.records]
    count = signals_of_references(prepared.attacks)
    return Views(design, labels, found, {name: References(signals, scratch, count) for name, signals in found.items()})


def _reading_step(on_step: OnStep, what: str, done: float) -> None:
    on_step(done, what)


def _correct(views: Views) -> dict[str, Float64[np.ndarray, "targets records"]]:
    names = views.signals[FULL].names
    rows = [names[target] for target in views.design.targets]
    return {
        variant: np.stack([signals.of(signals.names.index(name))[:, 0, CORRECT] for name in rows])
        for variant, signals in views.signals.items()
    }


def _reading(prepared: Prepared) -> float:
    """Seconds per model and record, from a block of the file."""
    answers, records = prepared.answers, min(len(prepared.design.records), 2000)
    labels = None if answers.labels is None else answers.labels[:records]
    with np.errstate(all="ignore"):  # what is wrong with the numbers is told when they are read
        block = np.nan_to_num(np.ascontiguousarray(answers.pool[0][:records]))
        return _seconds(partial(block_signals, block, answers.kind, labels)) / records


def _measuring(view: AttackView, prepared: Prepared) -> float:
    """Seconds per set of scores of as many records as the view has."""
    scores = np.random.default_rng(0).normal(size=(1, len(view.labels)))
    member = np.arange(len(view.labels))[None] % 2 == 0
    seconds = _seconds(partial(metrics.estimate_metrics, scores, member, fprs=prepared.fprs))
    if member.size >= 4:  # the bound takes two records of a kind
        bound = partial(metrics.epsilon_measures, scores, member, seed=0, delta=DELTA, comparisons=1)
        seconds += _seconds(bound)
    return seconds


def _seconds(call: Callable[[], object]) -> float:
    """The shortest of three calls: the first one warms up, and others may be in the way of any."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
