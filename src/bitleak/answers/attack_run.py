"""The attacks on every target in every case, with thresholds, fewer references and memorisation."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from jaxtyping import Float64

from bitleak import metrics
from bitleak.answers.answer_correspondence import pairing_doubts, population_pairing_doubts
from bitleak.answers.answer_doubts import doubts_of_signals
from bitleak.answers.answer_signals import AnswerSignals
from bitleak.answers.attack_design import MODE
from bitleak.answers.attack_preparation import PreparedAttack
from bitleak.answers.coarse_answers import coarse_confidences
from bitleak.answers.joint_releases import RELEASES, joint_scores
from bitleak.answers.scaled_views import (
    ShowStep,
    scale_note,
    standardised_views,
    views_of_answers,
)
from bitleak.answers.serving_models import ReferenceRows, ReferenceUse
from bitleak.answers.strongest_pairs import played_rates
from bitleak.answers.target_views import (
    FULL_BY_FULL,
    PLAYED_CASES,
    QUANTIZED,
    Case,
    TargetViews,
    memorising_of,
    threshold_case,
)
from bitleak.attacks import Attack, Joint, PlayedCase, population_view, recalibrated
from bitleak.core.errors import DataError, UnfitView
from bitleak.core.seeds import seed_for
from bitleak.core.spill import Scratch
from bitleak.core.types import SIGNALS, AttackView
from bitleak.core.variants import CONTROL, FULL
from bitleak.steps.attack_targets import AttackLabel, AttackScores, gathered_influences
from bitleak.steps.choose_thresholds import (
    PlayedThresholds,
    Thresholds,
    gathered_thresholds,
    thresholds_of_cases,
)
from bitleak.steps.measure_memorisation import memorisation_by_block
from bitleak.steps.measure_power import POWER_TARGETS, PowerFigures, power_figures
from bitleak.steps.moved_map_attacks import TargetInfluence, map_error_of
from bitleak.steps.play_targets import PlayedRates


@dataclass(frozen=True)
class AttackOutcome:
    """Scores of all attacks, and everything else that the tables are made from.

    Attributes:
        scores: By case.
        correct: By variant, whether each target classifies each audited record correctly at its first query, as
            0.0 or 1.0; empty for scores, which do not show it.
        joint: Scores of the joint attack by releases; empty if it was not run.
        played: Thresholds of attacks with references, from a reference in the target's place, by `threshold_case`.
        outside: Thresholds of attacks without references, from the population records, by case and attack.
        rates: Players' rates by case, on which the strongest pairs are chosen.
        power: Figures with fewer references.
        memorised: By variant; empty for scores.
        doubts: Reasons to doubt the answers, now that all are read, a sentence each.
        scale: Scale on which the answers were compared, in a sentence.
        memorising: Scores of the positive control, which the first target is replaced by.
    """

    scores: Mapping[Case, AttackScores]
    correct: Mapping[str, Float64[np.ndarray, "targets records"]]
    joint: Mapping[tuple[str, ...], AttackScores] = field(default_factory=dict)
    played: Mapping[Case, Thresholds] = field(default_factory=dict)
    outside: Mapping[tuple[Case, str], Float64[np.ndarray, "targets fprs"]] = field(
        default_factory=dict
    )
    rates: Mapping[Case, PlayedRates] = field(default_factory=dict)
    power: PowerFigures = field(default_factory=lambda: PowerFigures([], {}))
    memorised: Mapping[str, metrics.Memorisation] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    scale: str = ""
    memorising: AttackScores | None = None

    def thresholds(self, case: Case, attack: Attack) -> Float64[np.ndarray, "targets fprs"] | None:
        """Return the thresholds of one attack in one case; None for the control, and if there are none."""
        if case.variant == CONTROL:
            return None
        if not attack.uses_references:
            return self.outside.get((case, attack.name))
        played = self.played[threshold_case(case)]
        return played.thresholds[played.attacks.index(attack.name)]


def run_attacks(prepared: PreparedAttack, scratch: Scratch, on_step: ShowStep) -> AttackOutcome:
    """Return the scores of every attack on every target in every case, and the figures that need answers.

    Args:
        prepared: After `try_attacks`.
        scratch: Where large arrays go.
        on_step: Called with the fraction done of a stage, and its name.

    Raises:
        DataError: An answer is not finite or otherwise impossible, or a target's answers cannot be attacked.
    """
    views = views_of_answers(prepared, scratch, on_step)
    doubts = _doubts(prepared, views)
    views = standardised_views(views, prepared, scratch)
    design = prepared.design
    # One array for all cases, so that it goes into a file as soon as all of it is large.
    pairs = [(case, attack) for case in prepared.cases for attack in prepared.attacks_of(case)]
    places = {(case, attack.name): place for place, (case, attack) in enumerate(pairs)}
    scores = scratch.allocate((len(pairs), len(design.targets), len(design.records)))
    together = scratch.allocate((len(RELEASES), *scores.shape[1:])) if prepared.joint else None
    played: dict[Case, list[PlayedThresholds]] = {case: [] for case in _played_cases(prepared)}
    outside: dict[tuple[Case, str], list[np.ndarray]] = {}
    influences: dict[Case, list[list[TargetInfluence]]] = {}
    done, memorising = 0, None
    for index, target in enumerate(design.targets):
        # The references of a target are drawn once for all of its cases.
        rows, use = design.references(target)
        for case in prepared.cases:
            with _target_named(prepared, target, case):
                answered = views.as_answered(target, case, rows, use)
                view, of_map = answered, None
                if case.recalibrated:
                    view = recalibrated(answered)
                    of_map = map_error_of(answered, design.member[target], prepared.fprs)
                if case in played and not case.recalibrated:
                    # the recalibrated case has the same player and references
                    alike = [key for key in played if key.variant == case.variant]
                    chosen = _played(prepared, view, target, alike)
                    for key, thresholds_of_case in zip(alike, chosen, strict=True):
                        played[key].append(thresholds_of_case)
                for name, thresholds in _outside_thresholds(prepared, view, case).items():
                    outside.setdefault((case, name), []).append(thresholds)
                for attack in prepared.attacks_of(case):
                    place = places[case, attack.name]
                    scores[place, index] = attack(view)
                    if of_map is not None:
                        influences.setdefault(case, [[] for _ in design.targets])[index].append(
                            of_map.of(attack, scores[place, index])
                        )
                    done += 1
                    on_step(done / (len(pairs) * len(design.targets)), "attacking")
        if memorising is None:
            memorising = _memorising(prepared, views, target, rows, use)
        if together is not None:
            together[:, index] = joint_scores(views, target, rows, use)
    by_case = {}
    for case in prepared.cases:
        of_case = _scores_of(prepared, case, scores, places)
        through_map = gathered_influences(influences.get(case, []))
        by_case[case] = replace(of_case, map_influence=through_map)
    return AttackOutcome(
        scores=by_case,
        correct=_correct(prepared, views),
        joint={} if together is None else _joint(prepared, together),
        played=_gathered(prepared, played),
        rates=played_rates(prepared, views, lambda done: on_step(done, "playing the targets")),
        outside={key: np.stack(thresholds) for key, thresholds in outside.items()},
        power=_power(prepared, views, by_case[FULL_BY_FULL], on_step),
        memorised=_memorised(prepared, views),
        doubts=doubts,
        scale=scale_note(prepared, views),
        memorising=memorising,
    )


@contextmanager
def _target_named(prepared: PreparedAttack, target: int, case: Case) -> Iterator[None]:
    """Report answers that an attack cannot take with the target and the case."""
    try:
        yield
    except UnfitView as error:
        raise DataError(
            f"{prepared.answers.source}: target {target}, {case.variant} with {case.reference} references: {error}"
        ) from error


def _doubts(prepared: PreparedAttack, views: TargetViews) -> tuple[str, ...]:
    """Return the doubts about both files; those about the records and their labels are raised once."""
    doubts = doubts_of_signals(
        prepared.answers, views.signals[FULL], prepared.design, prepared.fprs
    )
    if prepared.quantized is not None:
        doubts += coarse_confidences(prepared.quantized, views.signals[QUANTIZED], prepared.fprs)
        doubts += _pairing_doubts(views.signals[FULL], views.signals[QUANTIZED])
    return doubts


def _pairing_doubts(full: AnswerSignals, quantized: AnswerSignals) -> tuple[str, ...]:
    """Return the doubts that quantized answers are about the same models and records."""
    confidence = SIGNALS.index("logit_scaled")
    rows = np.array([full.names.index(name) for name in quantized.names])
    return (
        *pairing_doubts(full.pool[confidence], quantized.pool[confidence], rows, quantized.names),
        *population_pairing_doubts(full.population[confidence], quantized.population[confidence]),
    )


def _scores_of(
    prepared: PreparedAttack,
    case: Case,
    scores: Float64[np.ndarray, "pairs targets records"],
    places: Mapping[tuple[Case, str], int],
) -> AttackScores:
    """Return the scores of one case, whose attacks have consecutive places."""
    labels = tuple(
        AttackLabel(attack.name, attack.uses_references) for attack in prepared.attacks_of(case)
    )
    start = places[case, labels[0].name] if labels else 0
    return AttackScores(scores[start : start + len(labels)], None, labels, prepared.design.targets)


def _memorising(
    prepared: PreparedAttack,
    views: TargetViews,
    target: int,
    rows: ReferenceRows,
    use: ReferenceUse,
) -> AttackScores:
    """Return the scores of all attacks on a target that memorises in the place of this one."""
    design = prepared.design
    view = views.of(target, FULL_BY_FULL, rows, use)
    view = memorising_of(view, design.member[target], design.seed, target)
    attacks = prepared.attacks_of(FULL_BY_FULL)
    labels = tuple(AttackLabel(attack.name, attack.uses_references) for attack in attacks)
    scores = np.stack([attack(view) for attack in attacks])[:, None]
    return AttackScores(scores, None, labels, (target,))


def _joint(
    prepared: PreparedAttack, together: Float64[np.ndarray, "releases targets records"]
) -> dict[tuple[str, ...], AttackScores]:
    label = AttackLabel(Joint().name, references=True)
    scores = {}
    for place, releases in enumerate(RELEASES):
        scores[releases] = AttackScores(
            together[place : place + 1], None, (label,), prepared.design.targets
        )
    return scores


def _played_cases(prepared: PreparedAttack) -> list[Case]:
    """Return the cases in which a reference plays the target; none without references."""
    if not prepared.design.referenced:
        return []
    return [case for case in prepared.cases if case in PLAYED_CASES]


def _played(
    prepared: PreparedAttack, view: AttackView, target: int, cases: list[Case]
) -> list[PlayedThresholds]:
    """Return the thresholds of cases with the same references."""
    generator = np.random.default_rng(seed_for(prepared.design.seed, "player", target))
    played = [PlayedCase(prepared.by_reference(case), case.recalibrated) for case in cases]
    return thresholds_of_cases(view, played, prepared.fprs, generator)


def _gathered(
    prepared: PreparedAttack, played: Mapping[Case, list[PlayedThresholds]]
) -> dict[Case, Thresholds]:
    gathered = {}
    for case, by_target in played.items():
        gathered[case] = gathered_thresholds(
            prepared.by_reference(case), by_target, len(prepared.fprs)
        )
    return gathered


def _outside_thresholds(
    prepared: PreparedAttack, view: AttackView, case: Case
) -> dict[str, Float64[np.ndarray, "fprs"]]:
    """Return the thresholds that the population sets for attacks without references."""
    if case.variant == CONTROL or not len(view.population_target):
        return {}
    outside = population_view(view)
    thresholds = {}
    for attack in prepared.attacks_of(case):
        if not attack.uses_references:
            thresholds[attack.name] = metrics.thresholds_for(attack(outside), prepared.fprs)
    return thresholds


def _power(
    prepared: PreparedAttack, views: TargetViews, scores: AttackScores, on_step: ShowStep
) -> PowerFigures:
    """Return AUC and TPR at full precision by number of references, for the first targets."""
    design = prepared.design
    # The first targets alone: every number of references is a run of all attacks.
    targets, attacks = design.targets[:POWER_TARGETS], prepared.by_reference(FULL_BY_FULL)
    if not (prepared.power and attacks and design.per_side() >= 2):
        return PowerFigures([], {})
    member = design.member[list(targets)]

    def target_views() -> Iterator[AttackView]:
        for place, target in enumerate(targets):
            yield views.of(target, FULL_BY_FULL, *design.references(target))
            on_step((place + 1) / len(targets), "fewer references")

    return power_figures(
        target_views(),
        attacks,
        metrics.doubling_counts(design.per_side()),
        {label.name: scores.of(label.name) for label in scores.attacks},
        member,
        targets=targets,
        fpr=metrics.headline_fpr(prepared.fprs, int((~member).sum(axis=1).min())),
        mode=MODE,
        seed=design.seed,
        clusters=prepared.clusters,
    )


def _memorised(prepared: PreparedAttack, views: TargetViews) -> dict[str, metrics.Memorisation]:
    """Return the memorisation by variant, at the first query; scores give no probability and have none."""
    if prepared.answers.kind == "scores":
        return {}
    memorised = {}
    for variant, signals in views.signals.items():
        rows = [prepared.answers.row(name) for name in signals.names]
        block_of = partial(_probability, signals)
        memorised[variant] = memorisation_by_block(block_of, prepared.design.member[rows])
    return memorised


def _probability(signals: AnswerSignals, records: slice) -> Float64[np.ndarray, "models block"]:
    """Return the probability of the true class at the first query, by every model."""
    return np.exp(np.asarray(signals.log_probability[:, records]))


def _correct(
    prepared: PreparedAttack, views: TargetViews
) -> dict[str, Float64[np.ndarray, "targets records"]]:
    if prepared.answers.kind == "scores":
        return {}
    names = [prepared.answers.names[target] for target in prepared.design.targets]
    correct = {}
    for variant, signals in views.signals.items():
        rows = [signals.names.index(name) for name in names]
        correct[variant] = signals.correct[rows].astype(np.float64)
    return correct
