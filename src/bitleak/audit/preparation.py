"""Preparation of an audit: data set, network and plan are checked, nothing is computed."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bitleak import registry
from bitleak.audit.graph import Plan, PlannedTarget, plan
from bitleak.config import Config, QuantizeConfig, ToolConfig
from bitleak.config.fields import section
from bitleak.core.errors import ConfigError, ModelError, QuantizationError
from bitleak.core.metric_names import Metric
from bitleak.core.types import Description, ModelSpec
from bitleak.data.data_notes import numbering_hint
from bitleak.engine.worker import Runtime
from bitleak.metrics import why_unmeasurable
from bitleak.models import build, given_network, profile
from bitleak.models.external import factory_of, trial_of
from bitleak.models.fingerprint import RANDOM_IMAGES, random_images
from bitleak.models.new_process import check_in_new_process
from bitleak.models.origin import origin
from bitleak.quantizers.compatibility import check_network, uncoded_weights
from bitleak.report.format import count as count_of
from bitleak.runtimes.runtime import runtime_of
from bitleak.steps.scale import NetworkSize, Scale
from bitleak.tools.tool_versions import tool_versions
from bitleak.train.fit import settled
from bitleak.train.recipe import Recipe


@dataclass(frozen=True)
class Prepared:
    """An audit after all checks that need no computation.

    Attributes:
        config: The validated config, `train.autocast` settled for the device.
        description: Description of the data set; no image has been decoded.
        network: Size of the network.
        plan: All tasks.
        runtime: Device and paths, which are not part of the keys.
        notes: Sentences from the trial of an outside network.
        warnings: Reasons to doubt the figures that are known before work, for the report too.
        lead: First lines of the report.
    """

    config: Config
    description: Description
    network: NetworkSize
    plan: Plan
    runtime: Runtime
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    lead: tuple[str, ...] = ()


def prepare(
    config: Config,
    *,
    data: Path | None = None,
    device: str = "auto",
    on_this_machine: bool = True,
    target: PlannedTarget | None = None,
    lead: tuple[str, ...] = (),
) -> Prepared:
    """Check data set, network and sizes, and make the plan.

    Args:
        config: A validated config.
        data: Local folder or file that overrides the config's data set, or None.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        on_this_machine: Whether the device must exist here; False if the tasks are only planned, or
            run on other machines.
        target: A target that was trained elsewhere, the only one; None trains all.
        lead: First lines of the report.

    Raises:
        InputError: The data set cannot be described, the network does not fit, the sizes do not add
            up, or there is no such device.
    """
    # The device decides the dtype of training, which is part of the keys.
    if on_this_machine or device not in ("cpu", "cuda"):
        device = resolve_device(device)
    recipe = (
        settled(config.train, device)
        if on_this_machine
        else _settled_elsewhere(config.train, device)
    )
    config = replace(config, train=recipe)

    # A network of the data's classes and channels, profiled and, if it is an outside one, tried.
    description = dataset_of(config).describe(data)
    network, notes = sized_network(config, description)
    _check_figures(config)
    warnings = _check_quantizers(config, spec_for(config, description)) if config.quantize else ()
    planned = plan(config, description, network, device=device, target=target)
    _check_limits(config, planned.scale)
    runtime = Runtime(
        device=device,
        data=str(data) if data is not None else None,
        path=config.data.options.get("path"),
        network=config.model,
        weights=None if target is None or config.target is None else config.target.weights,
        files={} if target is None else dict(target.files),
    )
    return Prepared(
        config,
        description,
        network,
        planned,
        runtime,
        notes,
        warnings,
        lead,
    )


def sized_network(config: Config, description: Description) -> tuple[NetworkSize, tuple[str, ...]]:
    """Return the size of the config's network on a data set, and sentences from its trial.

    Raises:
        ConfigError: The network does not fit the data.
    """
    spec = spec_for(config, description)
    try:
        size, outside = profile(spec), trial_of(spec)
    except ModelError as error:
        raise ConfigError(f"model: {error}{numbering_hint(description)}") from None
    made_by = "" if outside is None else origin(factory_of(spec) or "").made_by
    network = NetworkSize(size.parameters, size.multiply_adds, tuple(size.layers.values()), made_by)
    return network, () if outside is None else outside.notes


def check_model(prepared: Prepared) -> None:
    """Refuse a network from outside that workers would make differently.

    Raises:
        ConfigError: It is one.
    """
    spec = spec_for(prepared.config, prepared.description)
    # A factory that was handed over as a function is called in this process alone.
    if (factory_of(spec) or "").startswith(f"{given_network.__name__}:"):
        return
    try:
        check_in_new_process(spec)
    except ModelError as error:
        raise ConfigError(f"model: {error}") from None


def dataset_of(config: Config) -> Any:
    """Make the config's data set, an entry of the registry's `DATASETS`; nothing is read."""
    return registry.resolve(registry.DATASETS, config.data.name, kind="data set")(
        **config.data.options
    )


def spec_for(config: Config, description: Description) -> ModelSpec:
    """Return the config's network for a data set, with any standardisation."""
    name, options = config.model
    unit = (0.5,) * description.channels
    return ModelSpec(
        name,
        options,
        description.classes,
        description.channels,
        description.size,
        mean=unit,
        std=unit,
    )


def _check_figures(config: Config) -> None:
    """Refuse a figure that could not be drawn once all is computed."""
    if not config.figures:
        return
    from bitleak.report.figures import load_figures

    try:
        load_figures(config.figures)
    except ValueError as error:
        raise ConfigError(f"figures: {error}") from None


def _check_limits(config: Config, scale: Scale) -> None:
    """Refuse a limit on a rate that this number of non-members cannot measure."""
    if config.limits is None:
        return
    for limit in config.limits.limits:
        rate = Metric.parse(limit.metric).fpr
        reason = None if rate is None else why_unmeasurable(rate, scale.pool - scale.members)
        if reason:
            raise ConfigError(f"limits: {limit.metric}: {reason}")


def _check_quantizers(config: Config, spec: ModelSpec) -> tuple[str, ...]:
    """Refuse a network that a quantizer would refuse once it is trained.

    Returns:
        A sentence if only a part of its weights becomes codes.
    """
    quantizers: dict[str, Any] = {}
    for entry in config.quantize:
        if entry.levels is None:
            _check_references(config, entry)
            if entry.tool is not None:
                _check_tool(entry.variant, entry.tool)
            continue
        kind = registry.resolve(registry.audit_quantizers(), entry.name, kind="quantizer")
        options = {**entry.options, "levels": entry.levels}
        quantizers[f"quantize: {entry.variant}"] = section(kind, options, "quantize", [])
    return (*check_quantizers(quantizers, spec), *trained_warnings(config))


def trained_warnings(config: Config) -> tuple[str, ...]:
    """Return a sentence on variants that are not quantized after training, but trained on."""
    sentences = []
    for entry in config.quantize:
        if entry.is_trained:
            epochs = count_of(entry.options["epochs"], "epoch")
            sentences.append(
                f"{entry.variant} is quantization-aware training, not quantization after training: each model was "
                f"trained for {epochs} more on its own members with their labels, so that its leakage is that of "
                "more training too."
            )
    return tuple(sentences)


def check_quantizers(quantizers: Mapping[str, Any], spec: ModelSpec) -> tuple[str, ...]:
    """Refuse a network that a quantizer would refuse once it is trained.

    Args:
        quantizers: Quantizers by their place in the config, for messages.
        spec: The network.

    Returns:
        A sentence if only a part of its weights becomes codes.

    Raises:
        ConfigError: It would be refused.
    """
    network, images = build(spec, seed=0), random_images(spec, RANDOM_IMAGES)
    warnings: dict[str, None] = {}
    for place, quantizer in quantizers.items():
        try:
            check_network(network, quantizer, images)
        except QuantizationError as error:
            raise ConfigError(f"{place}: {error}") from None
        warnings[uncoded_weights(network, quantizer)] = None
    return tuple(filter(None, warnings))


def _check_references(config: Config, entry: QuantizeConfig) -> None:
    """Refuse analyses that need references which are quantized as a file is, if its tool is not known."""
    if entry.has_matched_references:
        return
    subject = f"{entry.variant} is a file without the tool that made it, so no reference is quantized as it is"
    if config.partly_quantized:
        raise ConfigError(f"references: {subject}; leave out quantized: N, or name the file's tool")
    if set(config.references) == {"matched"}:
        raise ConfigError(f"references: {subject}; add fp32, or name the file's tool")
    for names in (*config.joint, config.utility_matched):
        if entry.variant in names:
            raise ConfigError(
                f"joint, utility_matched: {subject}; leave it out, or name the file's tool"
            )


def _check_tool(variant: str, tool: ToolConfig) -> None:
    """Refuse a tool whose packages are missing, and options that its runtime does not have.

    Raises:
        ConfigError: It is one.
    """
    try:
        if tool.call in registry.TOOLS:
            module = importlib.import_module(registry.TOOLS[tool.call].partition(":")[0])
            runtime_of(getattr(module, "RUNTIME", "onnx"), tool.runtime)
        else:
            _check_runtime_options(tool.runtime)
        tool_versions(tool.call)
    except ModelError as error:
        raise ConfigError(f"quantize: {variant}: {error}") from None


def _check_runtime_options(options: Mapping[str, Any]) -> None:
    """Refuse options that no runtime has; which one answers an outside tool's file is known once it is there.

    Raises:
        ModelError: As of the first runtime.
    """
    errors = []
    for name in registry.RUNTIMES:
        try:
            runtime_of(name, options)
        except ModelError as error:
            errors.append(error)
    if len(errors) == len(registry.RUNTIMES):
        raise errors[0]


def _settled_elsewhere(recipe: Recipe, device: str) -> Recipe:
    """Like `settled`, for a device of another machine; a GPU there is taken to have bfloat16."""
    if device == "cuda" and recipe.autocast == "auto":
        return replace(recipe, autocast="bfloat16")
    return settled(recipe, device)


def resolve_device(device: str) -> str:
    """Return the device's name, with `auto` resolved.

    Raises:
        ConfigError: There is no such device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"--device must be auto, cpu, cuda or cuda:N, got {device!r}") from None
    if kind.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device must be auto, cpu, cuda or cuda:N, got {device!r}")
    count = torch.cuda.device_count()
    if kind.type == "cuda" and (kind.index or 0) >= count:
        raise ConfigError(
            f"--device {device}: PyTorch finds {count} CUDA devices here; use --device cpu"
        )
    return device
