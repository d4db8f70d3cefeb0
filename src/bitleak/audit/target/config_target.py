"""The target of a config: its data, weights, members and releases, read and checked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from bitleak import registry
from bitleak.audit.preparation import dataset_of, resolve_device
from bitleak.audit.target.file_releases import configured_release
from bitleak.audit.target.input_spelling import InputSpelling
from bitleak.audit.target.network_answers import Records
from bitleak.audit.target.record_lists import known_records, parted
from bitleak.audit.target.reference_networks import TRAINING_SHARE, ReferenceRecipe
from bitleak.audit.target.release_rows import AttackSettings
from bitleak.audit.target.target_audit import TargetFacts, Tier
from bitleak.audit.target.target_run import Target
from bitleak.audit.target.tier_lines import TrainingWork
from bitleak.config import Config, QuantizeConfig
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
    parameters = sum(tensor.numel() for tensor in network.parameters())
    return Target(
        model=network.to(device),
        releases={key: _release(value) for key, value in section.releases.items()}
        | {entry.variant: _quantizer(entry) for entry in config.quantize},
        records=Records(
            images.pixels,
            images.labels,
            description.classes,
            spelling,
            config.query.augment,
            config.query.batch,
        ),
        parts=parted(known, config.seed, training=TRAINING_SHARE if tier == 1 else 0.0),
        stored=stored,
        class_names=images.class_names,
        settings=AttackSettings(config.fpr, config.priors, config.delta, config.seed),
        allow_separable=section.allow_separable,
        calibration=_calibration(config),
        facts=TargetFacts(
            title=config.title or f"{bare_name(config.data.name)}, {name}, tier {tier}",
            dataset=str(config.data.options.get("path") or bare_name(config.data.name)),
            network=name + "".join(f" {key}={value}" for key, value in options.items()),
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
    )


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
