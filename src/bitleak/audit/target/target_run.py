"""The audit of one target in tiers 0 and 1: checks, baseline, answers, references, attacks."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from bitleak.audit.file_summaries import opened_summary
from bitleak.audit.target.blind_baseline import BlindBaseline, blind_baseline
from bitleak.audit.target.copied_records import copied_record_doubts
from bitleak.audit.target.file_releases import ReleaseTool
from bitleak.audit.target.image_features import features_of
from bitleak.audit.target.list_doubts import check_list, check_list_first, labels_doubt
from bitleak.audit.target.member_check import MemberCheck, check_on_members
from bitleak.audit.target.network_answers import (
    Records,
    answered_signals,
    check_answers_alone,
)
from bitleak.audit.target.record_lists import Parts
from bitleak.audit.target.reference_networks import ReferenceRecipe
from bitleak.audit.target.release_doubts import release_doubts
from bitleak.audit.target.release_models import (
    ReleaseModel,
    checked_name,
    is_quantizer,
    release_model,
)
from bitleak.audit.target.release_rows import (
    AttackSettings,
    Release,
    Signals,
    attacked_releases,
    release_outliers,
)
from bitleak.audit.target.tabular_model import OnStep
from bitleak.audit.target.target_audit import (
    ScoredRecords,
    TargetAudit,
    TargetFacts,
    Tier,
    blind_rows,
    without_attacks,
)
from bitleak.audit.target.tier_lines import TrainingWork, swap_warning, tier_lines
from bitleak.core.errors import ConfigError
from bitleak.core.seeds import seed_for
from bitleak.core.types import CORRECT, LOGIT_SCALED, ReferenceKind
from bitleak.core.variants import FULL
from bitleak.data.stored_files import StoredFiles
from bitleak.metrics import why_unmeasurable
from bitleak.report import FileSummary
from bitleak.steps.weigh_weights import file_counts

AnswerReferences = Callable[[], Mapping[str, Sequence[Signals]]]
"""Trains the references, and returns their answers by the release that they are quantized as; empty
text for full precision."""


def silent(done: float, stage: str) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Target:
    """A target with its records, checked in form only.

    Attributes:
        model: The target at full precision.
        releases: Values of `release_model` by name.
        records: All records.
        parts: The parts that they play.
        stored: Facts on the records' files.
        class_names: Names by label; empty if the classes have none.
        settings: Settings of the attacks.
        allow_separable: Whether figures are reported although members and others differ by
            themselves.
        calibration: Members that a quantizer looks at.
        facts: Facts for the report, as far as they are known.
        work: Work of training one reference, for the forecast of the next tier.
        plan: How references are made, in tier 1.
        tier: 0 or 1.
        where: Put before names of fields in messages.
        file_facts: Facts on the target's layers, and its `bytes`, if it is a file; else empty.
    """

    model: Any
    releases: Mapping[str, Any]
    records: Records
    parts: Parts
    stored: StoredFiles
    class_names: tuple[str, ...]
    settings: AttackSettings
    allow_separable: bool
    calibration: int
    facts: TargetFacts
    work: TrainingWork
    plan: ReferenceRecipe
    tier: Tier = 0
    where: str = ""
    file_facts: Mapping[str, Any] = field(default_factory=dict)


NO_SINGLE_RECORDS = (
    "Single records are not listed in tier 0: without references, the records that the target is surest of are the "
    "easy ones, trained on or not."
)


class CheckedTarget(NamedTuple):
    """Results of the checks that come before everything that takes time.

    Attributes:
        members: The target on its own members.
        baseline: The guess at membership without the model.
        given: Releases that no quantizer makes, by name.
        doubts: Reasons to doubt that these were made from the target.
    """

    members: MemberCheck
    baseline: BlindBaseline
    given: Mapping[str, ReleaseModel]
    doubts: tuple[str, ...] = ()


def checked_target(target: Target, on_step: OnStep = silent) -> CheckedTarget:
    """Check a target's lists and answers, and whether records alone tell its members from others.

    Raises:
        ConfigError: There are too few records, the target errs on its own members, or their list
            counts from 1.
        ModelError: Its answers depend on more than the record.
    """
    names = [checked_name(name, f"{target.where}releases") for name in target.releases]
    if target.tier == 1:
        check_counts(target)
    check_answers_alone(target.model, target.records, f"{target.where}model")
    given = given_releases(target, names)
    members = check_on_members(
        target.model,
        target.records,
        target.parts.members,
        seed=target.settings.seed,
        class_names=target.class_names,
        where=target.where,
    )
    parts = target.parts
    doubts = [*copied_record_doubts(target.records, parts, target.where)]
    for release in given.values():
        doubts += release_doubts(
            release.name, release.model, target.model, target.records, parts.members
        )
    if target.tier == 1:
        check_list_first(
            target.model,
            target.records,
            (parts.evaluated, parts.population, parts.training),
            parts.members,
            seed=target.settings.seed,
            on_step=on_step,
            where=target.where,
        )
    on_step(0.0, "blind baseline")
    baseline = target_baseline(target)
    on_step(1.0, "blind baseline")
    return CheckedTarget(members, baseline, given, tuple(doubts))


def is_evaluable(target: Target, baseline: BlindBaseline) -> bool:
    """Return whether figures of attacks say something about the model, or are shown all the same."""
    return not baseline.separable or target.allow_separable


def audited_target(
    target: Target,
    on_step: OnStep = silent,
    *,
    checked: CheckedTarget | None = None,
    references: AnswerReferences | None = None,
    trained_on: Callable[[], Bool[np.ndarray, "refs records"] | None] = lambda: None,
) -> TargetAudit:
    """Return the audit of a target in tier 0 or 1, or in tier 2 if its references are given.

    Args:
        target: The target with its records.
        on_step: Called with the fraction done of a stage, and its name.
        checked: Results of `checked_target`; None makes the checks here.
        references: Called once for the references, unless attacks are not evaluable.
        trained_on: Called after it; returns True where a reference was trained on an evaluated
            record, or None if none was.

    Raises:
        ConfigError: The target errs on its own members.
        ModelError: A release cannot be asked.
    """
    # The target on its own members comes before anything that takes time.
    checked = checked or checked_target(target, on_step)
    check, baseline = checked.members, checked.baseline
    records, parts, settings = target.records, target.parts, target.settings
    evaluable = is_evaluable(target, baseline)
    pool = parts.pool
    member = np.isin(pool, parts.members)

    # Answers of full precision, timed for the forecast, and of each release.
    start = time.monotonic()
    asked = np.concatenate([pool, parts.population])
    sizes = file_counts(target.file_facts) if target.file_facts else {}
    answers_of_target = _answers(target.model, target, FULL, on_step)
    releases = [Release(FULL, "", None, answers_of_target, sizes=sizes)]
    confidence = answers_of_target.pool[:, 0, LOGIT_SCALED]
    exchanged = check_list(confidence, pool, parts.members, len(records.labels), target.where)
    right = answers_of_target.pool[:, 0, CORRECT] > 0
    list_doubts = labels_doubt(right, records.labels[pool], member) + exchanged
    seconds = (time.monotonic() - start) / (len(asked) * len(records.queries))
    models = [checked.given.get(name) or _release(target, name) for name in target.releases]
    for release in models:
        signals = _answers(release.model, target, release.name, on_step)
        sizes = file_counts(release.facts) if release.facts else {}
        releases.append(
            Release(release.name, release.quantizer, release.levels, signals, sizes=sizes)
        )
    if references is not None and evaluable:
        answers = references()
        releases = with_references(releases, answers, trained_on())
    on_step(0.0, "attacking")
    attacked = attacked_releases(releases, member, records.labels[pool], settings)
    on_step(1.0, "attacking")

    # Rows of attacks only if they say something about the model.
    rows = (*blind_rows(baseline), *attacked.rows)
    facts = replace(
        target.facts,
        members=len(parts.members),
        non_members=len(parts.evaluated),
        population=len(parts.population),
        references=target.plan.count if target.tier else 0,
        training=target.plan.line if target.tier else target.facts.training,
        lead=tier_lines(
            target.tier, seconds, target.work, len(parts.members), len(target.releases)
        ),
        notes=(
            check.sentence,
            *target.facts.notes,
            *((NO_SINGLE_RECORDS,) if target.tier == 0 else ()),
            *_tool_notes(models, target.tier),
        ),
        files=_files(target, models),
        warnings=(
            *target.facts.warnings,
            *check.warnings,
            *checked.doubts,
            *(swap_warning(attacked.rows) or list_doubts),
            *release_outliers(releases),
        ),
    )
    return TargetAudit(
        tier=target.tier,
        rows=rows if evaluable else without_attacks(rows),
        curves=attacked.curves if evaluable else (),
        facts=facts,
        settings=settings,
        baseline=baseline,
        evaluable=evaluable,
        scored=None
        if not releases[0].references
        else ScoredRecords(pool, records.labels[pool], member, attacked.scores, target.class_names),
    )


def check_counts(target: Target) -> None:
    """Refuse too few non-members for three parts and the smallest FPR.

    Raises:
        ConfigError: There are too few, with the numbers.
    """
    parts, fpr = target.parts, target.settings.fprs[0]
    reason = why_unmeasurable(fpr, len(parts.evaluated))
    few = [
        name for name in ("training", "evaluated", "population") if len(getattr(parts, name)) < 10
    ]
    if reason is None and not few:
        return
    total = len(parts.training) + len(parts.evaluated) + len(parts.population)
    raise ConfigError(
        f"tier 1: the {total:,} known non-members are split into {len(parts.training):,} for training references, "
        f"{len(parts.evaluated):,} evaluated and {len(parts.population):,} for the adversary: too few for an FPR of "
        f"{fpr:g}, which takes {math.ceil(1 / fpr):,} evaluated ones, and 10 in each part. Add others, or raise fpr"
    )


def with_references(
    releases: Sequence[Release],
    answers: Mapping[str, Sequence[Signals]],
    trained_on: Bool[np.ndarray, "refs records"] | None = None,
) -> list[Release]:
    """Return the releases with the answers of references.

    Args:
        releases: Full precision first.
        answers: Answers by the release that the references are quantized as. Those at full
            precision, under an empty text, serve every release.
        trained_on: True where a reference was trained on an evaluated record; None if none was.
    """
    naive = answers[""]
    answered = []
    for release in releases:
        kinds: dict[ReferenceKind, Sequence[Signals]] = {"fp32": naive}
        if release.name in answers:
            kinds["matched"] = answers[release.name]
        answered.append(replace(release, references=kinds, trained_on=trained_on))
    return answered


def target_baseline(target: Target) -> BlindBaseline:
    """Return the guess at membership without the model."""
    pool = target.parts.pool
    seed = target.settings.seed
    features = features_of(
        target.records.images,
        target.records.labels,
        pool,
        target.stored,
        seed_for(seed, "blind features"),
    )
    member = np.isin(pool, target.parts.members)
    return blind_baseline(features, member, fprs=target.settings.fprs, seed=seed)


def given_releases(target: Target, names: Sequence[str]) -> dict[str, ReleaseModel]:
    """Return the releases that need no quantizing, tried on a few records.

    Raises:
        ConfigError: A release is of no known form.
        ModelError: Weights do not fit, or answers depend on more than the record.
    """
    models = {}
    for name in names:
        release = target.releases[name]
        if not is_quantizer(release) and not isinstance(release, ReleaseTool):
            models[name] = _release(target, name)
            check_answers_alone(
                models[name].model, target.records, f"{target.where}releases.{name}"
            )
    return models


def _release(target: Target, name: str) -> ReleaseModel:
    """Return a release; quantizers see a seeded draw of members."""
    generator = np.random.default_rng(seed_for(target.settings.seed, "calibration", 0))
    drawn = np.sort(generator.permutation(target.parts.members)[: target.calibration])
    return release_model(
        name,
        target.releases[name],
        target.model,
        target.records,
        drawn,
        seed=target.settings.seed,
        where=f"{target.where}releases.{name}",
    )


def _tool_notes(models: Sequence[ReleaseModel], tier: int) -> tuple[str, ...]:
    """Return a sentence on files whose references are not quantized alike, in tier 1."""
    names = ", ".join(model.name for model in models if model.lacks_tool)
    if not names or not tier:
        return ()
    return (
        f"{names}: a file without the tool that made it, so its references are not quantized; an adversary "
        "who knows the tool may find more. Name the tool, and references are quantized as the file is.",
    )


def _files(target: Target, models: Sequence[ReleaseModel]) -> tuple[FileSummary, ...]:
    """Return the facts of the target and its releases as far as they are files."""
    versions = [(FULL, target.model, target.file_facts)]
    versions += [(release.name, release.model, release.facts) for release in models]
    return tuple(filter(None, (opened_summary(*version) for version in versions)))


def _answers(model: Any, target: Target, name: str, on_step: OnStep) -> Signals:
    pool, population = target.parts.pool, target.parts.population
    asked = np.concatenate([pool, population])
    signals = answered_signals(model, target.records, asked, on_step, f"asking {name}")
    return Signals(signals[: len(pool)], signals[len(pool) :])
