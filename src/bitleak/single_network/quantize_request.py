"""The request of `bitleak quantize`, checked as text before any file is read."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bitleak import registry
from bitleak.config import DataConfig, override
from bitleak.config.fields import checked_value, entry_class, section
from bitleak.core.checks import integer_in, number_in, one_of, unknown_name
from bitleak.core.errors import ConfigError
from bitleak.quantizers.scheme import Scheme
from bitleak.single_network.option_texts import (
    channel_numbers,
    data_from_text,
    model_from_text,
    whole_numbers,
)

SOURCES = ("members", "holdout", "all")
DEFAULT_CALIBRATION = 1024
_OPTIONS = ("levels", "last", "preset", "calibration")
"""Keys of a config's entry for which the command line has an option each."""


@dataclass(frozen=True)
class QuantizeRequest:
    """A request, as texts of the command line.

    Attributes:
        weights: A `.safetensors` file or the folder of a store's result.
        data: Text of a data set, for `data_from_text`.
        quantizer: A name of the registry's `QUANTIZERS`.
        levels: Grid points per weight, with commas between the precisions.
        model: Text of a model, for `model_from_text`; None if the weights name it.
        preset: A preset of the quantizer, or empty.
        last: Levels of the last layer; None for those of the other layers.
        calibration: Number of calibration images; None takes 1,024 or, if there are fewer, all.
        source: Source of the calibration images: the data's training part (`members`), its held-out
            part (`holdout`) or both (`all`).
        settings: `FIELD=VALUE` for the quantizer's fields; the values are read as YAML.
        mean: Mean per channel, in [0, 1]; None for the weights' or, if they have none, the data's.
        std: Standard deviation per channel, above 0.
        device: `cpu`, `cuda` or `cuda:N`.
        seed: Root of all random draws.
    """

    weights: Path
    data: str
    quantizer: str
    levels: str
    model: str | None = None
    preset: str = ""
    last: int | None = None
    calibration: int | None = None
    source: str = "members"
    settings: Sequence[str] = ()
    mean: str | None = None
    std: str | None = None
    device: str = "cpu"
    seed: int = 0


@dataclass(frozen=True)
class CheckedRequest:
    """A request, as checked values.

    Attributes:
        request: The request.
        quantizers: A quantizer per precision, in the order of the request.
        model: Name and options; None if the weights name it.
        dataset: An instance of an entry of the registry's `DATASETS`.
        part: Limits on its number of records.
        standardisation: Mean and standard deviation per channel, if they were given.
    """

    request: QuantizeRequest
    quantizers: tuple[Scheme, ...]
    model: tuple[str, Mapping[str, Any]] | None
    dataset: Any
    part: DataConfig
    standardisation: tuple[tuple[float, ...], tuple[float, ...]] | None


def check_request(request: QuantizeRequest) -> CheckedRequest:
    """Check a request; no file is read.

    Raises:
        ConfigError: With every mistake, one per line, each with its option, the expected and the
            given value.
    """
    errors: list[str] = []
    quantizers = _quantizers(request, errors)
    model = collected(
        errors, lambda: None if request.model is None else model_from_text(request.model)
    )
    dataset, part = dataset_of_text(request.data, errors)
    standardisation = collected(
        errors, lambda: standardisation_of_texts(request.mean, request.std, dataset)
    )
    checked_value(one_of, request.source, "--source", errors, SOURCES)
    checked_value(integer_in, request.seed, "--seed", errors, 0, 2**62)
    if request.calibration is not None:
        checked_value(integer_in, request.calibration, "--calibration", errors, 1)
    if errors:
        raise ConfigError("\n".join(errors))
    return CheckedRequest(request, tuple(quantizers), model, dataset, part, standardisation)


def _quantizers(request: QuantizeRequest, errors: list[str]) -> list[Scheme]:
    levels = collected(errors, lambda: whole_numbers(request.levels, "--levels")) or []
    for count in levels:
        checked_value(integer_in, count, "--levels", errors, 2, 256)
    if request.last is not None:
        checked_value(integer_in, request.last, "--last", errors, 2, 256)
    # `entry_class` names the section of a config, which is an option here.
    unusable: list[str] = []
    kind = entry_class(
        registry.QUANTIZERS,
        request.quantizer,
        "--quantizer",
        "quantizer",
        unusable,
        members=("levels",),
    )
    if kind is None:
        errors += [error.replace("--quantizer.name:", "--quantizer:", 1) for error in unusable]
        return []
    presets = getattr(kind, "PRESETS", {})
    if request.preset and request.preset not in presets:
        errors.append(f"--preset: {unknown_name('preset', request.preset, presets)}")
    # Fields that hold at every precision; keys with an option of their own are not fields here.
    settings = collected(errors, lambda: override({}, request.settings)) or {}
    fields = dict(presets.get(request.preset, {}))
    for key, value in settings.items():
        if key in _OPTIONS:
            errors.append(f"--set {key}: give it as --{key}")
        else:
            fields[key] = value
    _section(kind, fields, "--set", errors)
    if errors:
        return []
    fields["last"] = request.last
    return [_section(kind, {**fields, "levels": count}, "--set", errors) for count in levels]


def dataset_of_text(text: str, errors: list[str]) -> tuple[Any, Any]:
    """Return the data set and its `DataConfig`; None twice, with the mistakes, if it is wrong."""
    name_and_options = collected(errors, lambda: data_from_text(text))
    if name_and_options is None:
        return None, None
    name, options = name_and_options
    limits = {key: options.pop(key) for key in ("limit", "held_out") if key in options}
    kind = registry.find(registry.DATASETS, name, kind="data set")
    dataset = _section(kind, options, "--data", errors, also=("limit", "held_out"))
    stored = {} if dataset is None else asdict(dataset)
    return dataset, _section(
        DataConfig, {"name": name, "options": stored, **limits}, "--data", errors
    )


def standardisation_of_texts(
    mean_text: str | None, std_text: str | None, dataset: Any
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and deviation per channel as they were given; None if they were not.

    Raises:
        ConfigError: One of them is missing, or a number is out of range.
    """
    if mean_text is None and std_text is None:
        return None
    if mean_text is None or std_text is None:
        raise ConfigError("--mean and --std go together, and one of them is missing")
    mean, std = channel_numbers(mean_text, "--mean"), channel_numbers(std_text, "--std")
    # Columns of a table have units of their own.
    pixels = not getattr(dataset, "is_table", False)
    try:
        for value in mean if pixels else ():
            number_in("--mean", value, 0, 1)
        for value in std:
            number_in("--std", value, 0, math.inf, ends="(]")
    except ValueError as error:
        raise ConfigError(f"{error} (of pixels from 0 to 1)" if pixels else str(error)) from None
    return mean, std


def _section(
    kind: Any, raw: dict[str, Any], option: str, errors: list[str], *, also: Sequence[str] = ()
) -> Any:
    """Return an instance of the dataclass, or None with the mistakes added to `errors`, as `OPTION
    field: ...`.
    """
    mistakes: list[str] = []
    instance = section(kind, raw, option, mistakes, also=also)
    errors += [mistake.replace(f"{option}.", f"{option} ", 1) for mistake in mistakes]
    return instance


def collected(errors: list[str], make: Callable[[], Any]) -> Any:
    """Call `make` and return its result, or None with the message of its error added to
    `errors`.
    """
    try:
        return make()
    except ConfigError as error:
        errors.append(str(error))
        return None
