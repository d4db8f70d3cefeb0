"""Tier 2: a population by the user's recipe around one given target.

The given network is the only dedicated target of an ordinary audit: shadow models are trained on
random halves of the evaluated records, each record being in half of them, and everything that an
audit has runs on the target. Its own checks come first, since the trainings take hours.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from bitleak.audit.graph import PlannedTarget
from bitleak.audit.graph.planned_target import weight_releases
from bitleak.audit.target.file_releases import (
    COMPARED,
    ReleaseFile,
    opened_release,
    read_release,
    record_spec,
)
from bitleak.audit.target.list_doubts import check_list_first
from bitleak.audit.target.member_check import check_on_members
from bitleak.audit.target.network_answers import check_answers_alone
from bitleak.audit.target.release_doubts import release_doubts
from bitleak.audit.target.target_audit import OVERRIDDEN
from bitleak.audit.target.target_run import Target, given_releases, silent, target_baseline
from bitleak.audit.target.tier_lines import tier_lines
from bitleak.config import Config
from bitleak.core.errors import ConfigError
from bitleak.core.types import ModelSpec
from bitleak.runtimes.runtime import runtime_of
from bitleak.steps.assign_members import AssignMembers, packed
from bitleak.steps.load_release import LoadRelease
from bitleak.steps.load_target import LoadTarget, digest_of

TEST_SHARE = 0.1
"""Share of the known non-members that the accuracy is measured on, unless `split.test` is given."""

MOST_TEST = 1000
"""Largest number of them."""


def planned_target(config: Config, target: Target) -> PlannedTarget:
    """Return the target for the plan of its population's audit.

    Args:
        config: The config with its section `target`.
        target: The arrays and networks that this section names, read.

    Raises:
        ConfigError: The known non-members are too few for their parts, or the network takes images in
            another order of channels or sides, which shadows would not.
    """
    section, split, records = config.target, config.split, target.records
    assert section is not None
    if (section.channels, section.layout) != ("rgb", "upright"):
        raise ConfigError(
            "target.channels, layout: tier 2 trains shadows on the images as they are stored; store them as the "
            "target takes them"
        )
    parts = target.parts
    others = np.sort(np.concatenate([parts.evaluated, parts.population, parts.training]))
    test = (
        min(MOST_TEST, max(1, int(TEST_SHARE * len(others)))) if split.test is None else split.test
    )
    held_out = split.calibration + split.population + test
    evaluated = len(others) - held_out
    if evaluated < 2:
        raise ConfigError(
            f"split: calibration {split.calibration} + population {split.population} + test {test} leave "
            f"{evaluated} of {len(others):,} known non-members to be evaluated; lower these, or add others"
        )
    files = {
        variant: release
        for variant, release in target.releases.items()
        if isinstance(release, ReleaseFile)
    }
    count, channels = len(records.labels), records.images.shape[1]
    name, options = config.model
    spec = replace(record_spec(records), name=name, options=dict(options))
    steps, paths = {}, {}
    for variant, release in files.items():
        steps[variant] = _file_step(release, spec, f"target.releases.{variant}")
        paths[steps[variant].digest] = str(Path(release.path).absolute())
    load = LoadTarget(
        digest=digest_of(Path(section.weights)),
        network=name,
        options=dict(options),
        classes=records.classes,
        channels=channels,
        size=records.images.shape[2] if records.images.ndim == 4 else 0,
        mean=spec.mean,
        std=spec.std,
    )
    weights = {}
    for label, path in weight_releases(config).items():
        weights[label] = replace(load, digest=digest_of(Path(path)))
        paths[weights[label].digest] = str(Path(path).absolute())
    return PlannedTarget(
        assign=AssignMembers(
            records=count,
            members=packed(parts.members, count),
            others=packed(others, count),
            calibration=split.calibration,
            population=split.population,
            test=test,
            shadows=split.shadows,
            seed=config.seed,
        ),
        load=load,
        members=len(parts.members),
        evaluated=evaluated,
        releases=steps,
        files=paths,
        weights=weights,
    )


def _file_step(release: ReleaseFile, spec: ModelSpec, where: str) -> LoadRelease:
    """Return the step that reads a file as it is now."""
    file = read_release(release, spec, where)
    return LoadRelease(
        digest=file.digest,
        options=dict(release.runtime),
        made_by=runtime_of(file.runtime, file.options).version(),
        network=spec.name,
        arguments=spec.options,
        classes=spec.classes,
        channels=spec.channels,
        size=spec.size,
        mean=spec.mean,
        std=spec.std,
    )


def checked_lead(config: Config, target: Target) -> tuple[str, ...]:
    """Check the target, its lists and its releases; return the first lines of the report.

    Raises:
        ConfigError: It errs on its own members, their list counts from 1, or members and others
            differ by themselves.
        ModelError: It has no one answer per image, or a release does not fit.
    """
    section = config.target
    assert section is not None
    check_answers_alone(target.model, target.records, f"{target.where}model")
    check = check_on_members(
        target.model,
        target.records,
        target.parts.members,
        seed=target.settings.seed,
        class_names=target.class_names,
        where=target.where,
    )
    parts = target.parts
    doubts = check_list_first(
        target.model,
        target.records,
        (parts.evaluated, parts.population, parts.training),
        parts.members,
        seed=target.settings.seed,
        on_step=silent,
        where=target.where,
    )
    baseline = target_baseline(target)
    if baseline.separable and not target.allow_separable:
        raise ConfigError(
            f"target.others: not evaluable, so nothing is trained. {baseline.sentence} Choose others of the "
            "same source as the members, or set target.allow_separable"
        )
    # Weights and files are opened here, since trainings come before the tasks that read them.
    plain = []
    for variant, release in target.releases.items():
        if isinstance(release, ReleaseFile):
            members = target.parts.members[:COMPARED]
            where = f"{target.where}releases.{variant}"
            opened_release(release, target.model, target.records, members, where)
        else:
            plain.append(variant)
    for model in given_releases(target, plain).values():
        doubts += release_doubts(
            model.name, model.model, target.model, target.records, parts.members
        )
    override = (OVERRIDDEN,) if baseline.separable else ()
    work = target.work
    tier = tier_lines(2, 0.0, work, len(target.parts.members), len(target.releases))
    # How the weights and the recipe were read is said here, as an audit has no other place for it.
    notes = [note for note in target.facts.notes if not note.startswith("data: ")]
    return (*tier, *override, *check.warnings, *doubts, baseline.sentence, check.sentence, *notes)
