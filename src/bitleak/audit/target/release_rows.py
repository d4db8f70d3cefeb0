"""Attacks on one target and its releases: from answers to rows and curves.

Every release is compared with full precision, record by record. There is one target, so intervals are
over records and never over trainings. A last variant, the negative control, has noise in place of
the target's answers.

Cost: that of the attacks, each on every release; nothing is trained.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak import metrics
from bitleak.attacks import (
    RECALIBRATED_SIGNALS,
    RMIA,
    Attack,
    attack_view,
    expand,
    outlying_doubt,
    outlying_references,
    population_view,
    recalibrated,
)
from bitleak.attacks.control import two_class_signals
from bitleak.core.seeds import seed_for
from bitleak.core.types import CORRECT, LOGIT_SCALED, AttackView, Measure, ReferenceKind, Row
from bitleak.core.variants import CONTROL, FULL
from bitleak.metrics import DELTA, PRIORS, Estimates, Measures
from bitleak.report import RocCurve, named_curves
from bitleak.steps.attack_targets import AttackLabel
from bitleak.steps.measure_variant import MeasureVariant
from bitleak.steps.moved_map_attacks import map_error_of
from bitleak.steps.result_rows import Subject, measure_rows

TIER_0_ATTACKS = ("threshold", "signals", "gap", "population")
"""Attacks without references, as words of the registry."""

OFFLINE_ATTACKS = ("lira", "rmia", "reference", "calibrated")
"""Attacks whose offline forms are run with references that were trained on no evaluated record."""

OFFLINE_FACTOR = 0.3
"""The factor `a` of offline RMIA (arXiv 2312.03262, section 3.2: 0.3 for CIFAR-10)."""

TARGET = 0
"""Row of the only target."""


class Signals(NamedTuple):
    """Answers of one model.

    Attributes:
        pool: Signals of the evaluated records.
        population: Signals of the adversary's records.
    """

    pool: Float64[np.ndarray, "records queries signals"]
    population: Float64[np.ndarray, "population queries signals"]


@dataclass(frozen=True)
class Release:
    """One version of the target, with its answers.

    Attributes:
        name: Variant in tables; the first release is `fp32`.
        quantizer: Its quantizer's label; empty if not known.
        levels: Grid points; None if not known.
        signals: Its answers.
        references: Answers of references by kind, for tiers 1 and 2; `recalibrated` is made from
            `fp32`.
        trained_on: True where a reference was trained on an evaluated record; None if none was,
            which leaves offline attacks.
        sizes: Bytes and counts of a file's layers, by metric; empty if it is no file.
    """

    name: str
    quantizer: str
    levels: int | None
    signals: Signals
    references: Mapping[ReferenceKind, Sequence[Signals]] = field(default_factory=dict)
    trained_on: Bool[np.ndarray, "refs records"] | None = None
    sizes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class AttackSettings:
    """Settings of the attacks and of their figures.

    Attributes:
        fprs: False positive rates at which the TPR is reported, ascending.
        priors: Shares of members at which precision is reported.
        delta: The delta at which epsilon is bounded.
        seed: Root of all draws.
    """

    fprs: tuple[float, ...] = (0.001, 0.01)
    priors: tuple[float, ...] = PRIORS
    delta: float = DELTA
    seed: int = 0


@dataclass(frozen=True)
class AttackedReleases:
    """Rows, curves and scores of all releases.

    Attributes:
        rows: Rows of the results table, release by release, the control last.
        curves: ROC curves.
        scores: Scores by variant, kind of references and attack.
    """

    rows: tuple[Row, ...]
    curves: tuple[RocCurve, ...]
    scores: Mapping[tuple[str, str, str], Float64[np.ndarray, "records"]]


def attacked_releases(
    releases: Sequence[Release],
    member: Bool[np.ndarray, "records"],
    labels: Int64[np.ndarray, "records"],
    settings: AttackSettings,
) -> AttackedReleases:
    """Run every attack on every release and on the control, and measure the scores.

    Args:
        releases: Full precision first, under the name `fp32`.
        member: True for the target's members.
        labels: Classes of the evaluated records.
        settings: Settings.
    """
    control = noise_release(releases[0], settings.seed)
    cases = list(_cases([*releases, control]))
    rows: list[Row] = []
    curves: list[RocCurve] = []
    scores: dict[tuple[str, str, str], np.ndarray] = {}
    baselines: dict[str, Estimates] = {}
    for case in cases:
        answered = _view(case, labels)
        of_map, view = None, answered
        if case.kind == "recalibrated":
            of_map, view = map_error_of(answered, member, settings.fprs), recalibrated(answered)
        outside = population_view(view)
        comparisons = sum(len(other.attacks) for other in cases if other.release is case.release)
        step = _measuring(case, settings, comparisons)
        for attack in case.attacks:
            of_attack = attack(view)[None]
            scores[case.release.name, case.kind if attack.uses_references else "", attack.name] = (
                of_attack[0]
            )
            if attack.name not in baselines:
                baselines[attack.name] = metrics.estimate_metrics(
                    of_attack,
                    member[None],
                    fprs=settings.fprs,
                    seed=seed_for(settings.seed, "measure"),
                )
            # The population sets thresholds of attacks without references; the control has none.
            thresholds = None
            if not attack.uses_references and case.release.name != CONTROL:
                thresholds = metrics.thresholds_for(attack(outside), settings.fprs)[None]
            through_map = {}
            if of_map is not None:
                influences = of_map.of(attack, of_attack[0])
                through_map = {metric: [influence] for metric, influence in influences.items()}
            table = step.attack_table(
                AttackLabel(attack.name, attack.uses_references),
                (TARGET,),
                of_attack,
                member[None],
                baseline=baselines[attack.name],
                thresholds=thresholds,
                mode="dedicated",
                map_influence=through_map,
            )
            rows += table.rows
            curves += named_curves(
                case.release.name, case.release.quantizer, case.release.levels, table.curves
            )
        if case.kind == FULL and case.release.name != CONTROL:
            rows += _accuracy_rows(case.release, releases[0], member)
            rows += _size_rows(case.release)
    return AttackedReleases(tuple(rows), tuple(curves), scores)


def release_outliers(releases: Sequence[Release]) -> tuple[str, ...]:
    """Return a sentence per release some of whose references answer far off the others.

    Args:
        releases: Full precision first; its references serve the others too.
    """
    sentences: list[str] = []
    for release in releases:
        kind: ReferenceKind = "fp32" if release is releases[0] else "matched"
        references = release.references.get(kind, ())
        outlying = outlying_references(
            [reference.pool[..., LOGIT_SCALED] for reference in references]
        )
        by_name = {str(row): times for row, times in outlying.items()}
        sentences += outlying_doubt(by_name, release.name)
    return tuple(sentences)


def noise_release(release: Release, seed: int) -> Release:
    """Return a release that knows nothing: noise with the moments of its answers to the population.

    Args:
        release: The target at full precision.
        seed: The audit's seed.
    """
    source = release.signals.population if len(release.signals.population) else release.signals.pool
    confidence = source[..., LOGIT_SCALED]
    generator = np.random.default_rng(seed_for(seed, "control", TARGET))
    parts = []
    for part in release.signals:
        noise = generator.normal(confidence.mean(), confidence.std() or 1.0, size=part.shape[:2])
        parts.append(two_class_signals(noise))
    return replace(release, name=CONTROL, quantizer="", levels=None, signals=Signals(*parts))


class _Case(NamedTuple):
    """A release, attacked with one kind of references; `fp32` also stands for no references."""

    release: Release
    kind: ReferenceKind
    attacks: tuple[Attack, ...]


def _cases(releases: Sequence[Release]) -> Iterator[_Case]:
    for release in releases:
        kinds: list[ReferenceKind] = ["fp32"]
        if release.references and len(release.signals.population) > 1:
            kinds.append("recalibrated")
        if "matched" in release.references and release.name != CONTROL:
            kinds.append("matched")
        for kind in kinds:
            yield _Case(release, kind, tuple(_attacks(release, kind)))


def _attacks(release: Release, kind: ReferenceKind) -> Iterator[Attack]:
    """Yield the attacks of a case: those without references are in the first one only."""
    attacks: list[Attack] = []
    for word in TIER_0_ATTACKS if kind == "fp32" else ():
        attacks += expand(word)
    if release.references:
        attacks += offline_attacks() if release.trained_on is None else online_attacks()
    for attack in attacks:
        fits = kind != "recalibrated" or attack.signal in RECALIBRATED_SIGNALS
        if fits and attack.fewest_population <= len(release.signals.population):
            yield attack


def offline_attacks() -> list[Attack]:
    """Return the attacks of tier 1, which need references outside a record's training set only."""
    attacks: list[Attack] = []
    for word in OFFLINE_ATTACKS:
        attacks += [attack for attack in expand(word) if "online" not in attack.name]
    # The factor of offline RMIA cannot be tuned without references that were trained on the records.
    tuned = [attack for attack in attacks if isinstance(attack, RMIA)]
    for attack in tuned:
        attacks[attacks.index(attack)] = replace(attack, a=OFFLINE_FACTOR)
    return attacks


def online_attacks() -> list[Attack]:
    """Return the attacks of tier 2, all forms, whose references were trained on half of the records."""
    attacks: list[Attack] = []
    for word in OFFLINE_ATTACKS:
        attacks += expand(word)
    return attacks


def _view(case: _Case, labels: Int64[np.ndarray, "records"]) -> AttackView:
    """Return the view of an attack, not recalibrated; it does not hold the target's membership."""
    signals = case.release.signals
    kind: ReferenceKind = "matched" if case.kind == "matched" else "fp32"
    references = case.release.references.get(kind, ())
    if references:
        pool = np.stack([reference.pool for reference in references])
        population = np.stack([reference.population for reference in references])
    else:
        pool = np.empty((0, *signals.pool.shape))
        population = np.empty((0, *signals.population.shape))
    trained_on = case.release.trained_on
    if trained_on is None or not references:
        trained_on = np.zeros(pool.shape[:2], bool)
    return attack_view(
        target=signals.pool,
        references=pool,
        member=trained_on,
        use=np.ones(pool.shape[:2], bool),
        population_target=signals.population,
        population_references=population,
        labels=labels,
    )


def _measuring(case: _Case, settings: AttackSettings, comparisons: int) -> MeasureVariant:
    return MeasureVariant(
        case.release.name,
        case.release.quantizer,
        levels=case.release.levels,
        reference=case.kind,
        fpr=settings.fprs,
        priors=settings.priors,
        delta=settings.delta,
        comparisons=comparisons,
        seed=settings.seed,
        standalone=True,
    )


def _size_rows(release: Release) -> list[Row]:
    subject = Subject(release.name, release.quantizer, release.levels)
    rows = []
    for metric, size in release.sizes.items():
        for row_target in ("all", str(TARGET)):
            rows.append(Row(*subject, row_target, metric, Measure(size)))
    return rows


def _accuracy_rows(
    release: Release, full: Release, member: Bool[np.ndarray, "records"]
) -> list[Row]:
    """Return the accuracy on members (train) and on evaluated others (test)."""
    correct = release.signals.pool[:, 0, CORRECT][None]
    baseline = None if release is full else full.signals.pool[:, 0, CORRECT][None]
    trained = metrics.accuracy_on_members(
        correct, member[None], mode="dedicated", baseline=baseline
    )
    tested = metrics.accuracy_on_members(
        correct, ~member[None], mode="dedicated", baseline=baseline
    )
    renamed = Measures(
        {"test_accuracy": tested.targets["train_accuracy"]},
        {"test_accuracy": tested.aggregate["train_accuracy"]},
    )
    subject = Subject(release.name, release.quantizer, release.levels)
    return measure_rows(subject, (TARGET,), renamed | trained)
