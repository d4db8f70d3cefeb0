"""The audit of one target in tiers 0 and 1: checks, baseline, answers, references, attacks."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bitleak.audit.target.blind_baseline import BlindBaseline, blind_baseline
from bitleak.audit.target.file_releases import ReleaseTool
from bitleak.audit.target.image_features import features_of
from bitleak.audit.target.member_check import check_on_members
from bitleak.audit.target.network_answers import (
    Records,
    answered_signals,
    check_answers_alone,
)
from bitleak.audit.target.record_lists import Parts
from bitleak.audit.target.reference_networks import ReferenceRecipe, trained_references
from bitleak.audit.target.release_models import (
    ReleaseModel,
    checked_name,
    is_quantizer,
    quantized_copy,
    release_model,
)
from bitleak.audit.target.release_rows import AttackSettings, Release, Signals, attacked_releases
from bitleak.audit.target.tabular_model import OnStep
from bitleak.audit.target.target_audit import (
    TargetAudit,
    TargetFacts,
    Tier,
    blind_rows,
    without_attacks,
)
from bitleak.audit.target.tier_lines import TrainingWork, swap_warning, tier_lines
from bitleak.core.errors import ConfigError
from bitleak.core.seeds import seed_for
from bitleak.core.types import ReferenceKind
from bitleak.core.variants import FULL
from bitleak.data.stored_files import StoredFiles
from bitleak.metrics import why_unmeasurable
from bitleak.steps.weigh_weights import file_counts


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


def audited_target(target: Target, on_step: OnStep = silent) -> TargetAudit:
    """Return the audit of a target in tier 0 or 1.

    Args:
        target: The target with its records.
        on_step: Called with the fraction done of a stage, and its name.

    Raises:
        ConfigError: The target errs on its own members.
        ModelError: A release cannot be asked.
    """
    # Names and forms first, then the target on its own members, before anything that takes time.
    names = [checked_name(name, f"{target.where}releases") for name in target.releases]
    records, parts, settings = target.records, target.parts, target.settings
    if target.tier == 1:
        check_counts(target)
    check_answers_alone(target.model, records, f"{target.where}model")
    given = _given_releases(target, names)
    check = check_on_members(
        target.model,
        records,
        parts.members,
        seed=settings.seed,
        class_names=target.class_names,
        where=target.where,
    )
    pool = parts.pool
    member = np.isin(pool, parts.members)
    on_step(0.0, "blind baseline")
    baseline = target_baseline(target)
    on_step(1.0, "blind baseline")

    # Answers of full precision, timed for the forecast, and of each release.
    start = time.monotonic()
    asked = np.concatenate([pool, parts.population])
    releases = [Release(FULL, "", None, _answers(target.model, target, FULL, on_step))]
    seconds = (time.monotonic() - start) / (len(asked) * len(records.queries))
    models = [given.get(name) or _release(target, name) for name in names]
    for release in models:
        signals = _answers(release.model, target, release.name, on_step)
        sizes = file_counts(release.facts) if release.facts else {}
        releases.append(
            Release(release.name, release.quantizer, release.levels, signals, sizes=sizes)
        )
    if target.tier == 1:
        releases = with_references(target, models, releases, on_step)
    on_step(0.0, "attacking")
    attacked = attacked_releases(releases, member, records.labels[pool], settings)
    on_step(1.0, "attacking")

    # Rows of attacks only if they say something about the model.
    evaluable = not baseline.separable or target.allow_separable
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
        notes=(check.sentence, *target.facts.notes, *_tool_notes(models, target.tier)),
        warnings=(*target.facts.warnings, *check.warnings, *swap_warning(attacked.rows)),
    )
    return TargetAudit(
        tier=target.tier,
        rows=rows if evaluable else without_attacks(rows),
        curves=attacked.curves if evaluable else (),
        facts=facts,
        settings=settings,
        baseline=baseline,
        evaluable=evaluable,
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
    target: Target,
    models: Sequence[ReleaseModel],
    releases: Sequence[Release],
    on_step: OnStep,
) -> list[Release]:
    """Train the references, and return the releases with their answers.

    References at full precision serve every release; those of a quantizer's release are quantized as it
    is, on their own training records.
    """
    settings, parts = target.settings, target.parts
    references = trained_references(
        target.model,
        target.records,
        parts.training,
        len(parts.members),
        target.plan,
        seed=settings.seed,
        on_step=on_step,
    )
    naive = []
    for index, reference in enumerate(references):
        naive.append(_answers(reference.network, target, f"reference {index}", on_step))
    answered = [replace(releases[0], references={"fp32": naive})]
    for model, release in zip(models, releases[1:], strict=True):
        kinds: dict[ReferenceKind, Sequence[Signals]] = {"fp32": naive}
        if model.source is not None:
            matched = []
            for index, reference in enumerate(references):
                drawn = reference.members[: target.calibration]
                seed = seed_for(settings.seed, "reference quantizing", index)
                quantized, _ = quantized_copy(
                    reference.network, model.source, target.records, drawn, seed
                )
                name = f"reference {index}, {release.name}"
                matched.append(_answers(quantized, target, name, on_step))
            kinds["matched"] = matched
        answered.append(replace(release, references=kinds))
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


def _given_releases(target: Target, names: Sequence[str]) -> dict[str, ReleaseModel]:
    """Return the releases that need no quantizing, tried on a few records."""
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


def _answers(model: Any, target: Target, name: str, on_step: OnStep) -> Signals:
    pool, population = target.parts.pool, target.parts.population
    asked = np.concatenate([pool, population])
    signals = answered_signals(model, target.records, asked, on_step, f"asking {name}")
    return Signals(signals[: len(pool)], signals[len(pool) :])
