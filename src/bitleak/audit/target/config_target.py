"""The target of a config: its data, weights, members and releases, read and checked."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from bitleak import registry
from bitleak.audit.preparation import dataset_of, resolve_device
from bitleak.audit.target.file_releases import ReleaseFile, configured_release, opened_target
from bitleak.audit.target.input_spelling import InputSpelling
from bitleak.audit.target.network_answers import Records
from bitleak.audit.target.record_lists import known_records, parted
from bitleak.audit.target.reference_networks import TRAINING_SHARE, ReferenceRecipe
from bitleak.audit.target.release_rows import AttackSettings
from bitleak.audit.target.target_audit import TargetFacts, Tier
from bitleak.audit.target.target_run import Target
from bitleak.audit.target.tier_lines import TrainingWork
from bitleak.config import Config, QuantizeConfig
from bitleak.config.schema import FILE
from bitleak.core.errors import ConfigError, ModelError
from bitleak.core.outside import bare_name
from bitleak.core.types import Images, ModelSpec
from bitleak.data.data_notes import data_lines, numbering_hint
from bitleak.data.stored_files import stored_files
from bitleak.models import load
from bitleak.models.checkpoint import Checkpoint, fit_checkpoint, read_checkpoint
from bitleak.models.external import trial_of
from bitleak.train.checkpoint_recipe import guessed_recipe


def read_config_target(
    config: Config, tier: Tier, *, data: Path | None = None, device: str = "auto"
) -> Target:
    """Return the target of a config, with its weights loaded.

    Args:
        config: A validated config with a section `target`.
        tier: The tier, for the title.
        data: Local folder or file that overrides the config's data set.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: The data, the weights or the lists of records cannot be read, or do not fit.
    """
    section = config.target
    if section is None:
        raise ConfigError(
            "--tier: the config has no section target; give it the weights and the members of your model"
        )
    _check_file_target(config, tier)
    device = resolve_device(device)
    # Lists of records and weights are small: they are refused before any image is decoded.
    dataset = dataset_of(config)
    description = dataset.describe(data)
    spelling = _spelling(config, description.channels)
    mean, std = spelling.unit_statistics
    channels = description.channels
    name, options = config.model
    spec = ModelSpec(
        name,
        dict(options),
        description.classes,
        channels,
        description.size,
        mean=mean if len(mean) == channels else mean * channels,
        std=std if len(std) == channels else std * channels,
    )
    network: nn.Module | None = None
    file_facts: Mapping[str, Any] = {}
    notes: tuple[str, ...] = ()
    recipe = config.train
    if not section.is_runtime_file:
        checkpoint = read_checkpoint(Path(section.weights), "target.weights")
        network, notes = _network(spec, checkpoint, numbering_hint(description))
        guess = guessed_recipe(checkpoint.facts, config.train, config.train_given)
        recipe = guess.recipe
        if guess.sentence:
            notes = (guess.sentence, *notes)
    images: Images = dataset.load(data)
    stored = stored_files(dataset, data, images.held_out)
    known = known_records(
        section.members,
        section.others,
        records=len(images.labels),
        names=stored.names,
        where="target.",
    )
    records = Records(
        images.pixels,
        images.labels,
        description.classes,
        spelling,
        config.query.augment,
        config.query.batch,
    )
    if network is None:
        # A file's runtime computes on the CPU.
        opened = opened_target(
            ReleaseFile(section.weights, section.runtime), records, "target.weights"
        )
        network, records, notes, file_facts = opened
        shown, device = Path(section.weights).name, "cpu"
    else:
        network = network.to(device)
        shown = name + "".join(f" {key}={value}" for key, value in options.items())
    parameters = sum(tensor.numel() for tensor in network.parameters())
    return Target(
        model=network,
        releases={key: _release(value) for key, value in section.releases.items()}
        | {entry.variant: _quantizer(entry) for entry in config.quantize},
        records=records,
        parts=parted(known, config.seed, training=TRAINING_SHARE if tier == 1 else 0.0),
        stored=stored,
        class_names=images.class_names,
        settings=AttackSettings(config.fpr, config.priors, config.delta, config.seed),
        allow_separable=section.allow_separable,
        calibration=_calibration(config),
        facts=TargetFacts(
            title=config.title
            or f"{bare_name(config.data.name)}, {shown.partition(' ')[0]}, tier {tier}",
            dataset=str(config.data.options.get("path") or bare_name(config.data.name)),
            network=shown,
            parameters=parameters,
            classes=description.classes,
            members=0,
            non_members=0,
            population=0,
            queries=len(config.query.augment),
            device=device,
            notes=(*notes, *(f"data: {line}" for line in data_lines(description))),
        ),
        work=TrainingWork(recipe.epochs, section.references, config.split.shadows, known=True),
        plan=ReferenceRecipe(
            section.references,
            recipe,
            section.imitated,
        ),
        tier=tier,
        where="target.",
        file_facts=file_facts,
    )


def _check_file_target(config: Config, tier: Tier) -> None:
    """Refuse tiers that need a network, and releases that are made of one, if the target is a file.

    Raises:
        ConfigError: Neither is possible.
    """
    section = config.target
    if section is None or not section.is_runtime_file:
        return
    name = Path(section.weights).name
    if tier == 2:
        raise ConfigError(
            f"target.weights: {name} is a file, and tier 2 compares the target with networks that are trained and "
            "asked as it is: give the weights of its network, and the file under target.releases; or use --tier 0"
        )
    if tier == 1 and not config.model[0]:
        raise ConfigError(
            f"target.weights: {name} is a file, and tier 1 trains references, which takes its network: add the "
            "sections model and train; or use --tier 0"
        )
    made = [f"target.releases.{key}" for key, value in section.releases.items() if _is_made(value)]
    made += [f"quantize: {entry.variant}" for entry in config.quantize if _is_made(entry)]
    if made:
        raise ConfigError(
            f"{made[0]}: {name} is a file, which cannot be quantized or take other weights: give the weights of its "
            "network as target.weights, or releases that are files"
        )


def _is_made(value: Any) -> bool:
    """Return whether a release is made of the target's network, rather than a file of its own."""
    return not isinstance(value, QuantizeConfig) or value.name != FILE


def _spelling(config: Config, channels: int) -> InputSpelling:
    section = config.target
    assert section is not None
    spelling = InputSpelling(
        section.mean, section.deviation, section.scale, section.channels, section.layout
    )
    try:
        spelling.check_channels(channels)
    except ValueError as error:
        raise ConfigError(f"target.{error}") from None
    return spelling


def _network(
    spec: ModelSpec, checkpoint: Checkpoint, hint: str
) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the target in evaluation mode, and how its weights were read."""
    try:
        fitted, notes = fit_checkpoint(checkpoint, spec, "target.weights")
        outside = trial_of(spec)
        network = load(replace(fitted, fingerprint=None), allow_external=True)
    except ModelError as error:
        text = str(error)
        place = "" if text.startswith("target.weights") else "model: "
        raise ModelError(f"{place}{text}{hint}") from None
    if outside is not None:
        notes = (*notes, *(f"model: {note}" for note in outside.notes))
    return network, notes


def _release(value: Any) -> Any:
    """Return a release of the section as `release_model` takes it."""
    return _quantizer(value) if isinstance(value, QuantizeConfig) else Path(value)


def _quantizer(entry: QuantizeConfig) -> Any:
    if entry.levels is None:
        return configured_release(entry)
    kind = registry.resolve(registry.QUANTIZERS, entry.name, kind="quantizer")
    return kind(**entry.options, levels=entry.levels)


def _calibration(config: Config) -> int:
    """Return the largest number of members that a quantizer of the config looks at."""
    section = config.target
    assert section is not None
    entries = [value for value in section.releases.values() if isinstance(value, QuantizeConfig)]
    counts = [entry.calibration.records for entry in (*entries, *config.quantize)]
    return int(np.max(counts)) if counts else 1024
