"""Everything that is asked for, checked as text before anything is read."""

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
from bitleak.quant.scheme import Scheme
from bitleak.single_network.option_texts import channel_numbers, data_from_text, model_from_text, whole_numbers

SOURCES = ("members", "holdout", "all")
DEFAULT_CALIBRATION = 1024
_OPTIONS = ("levels", "last", "preset", "calibration")
"""Keys of a config's entry that are options of their own on the command line."""


@dataclass(frozen=True)
class QuantizeRequest:
    """What is asked for, as texts.

    Attributes:
        weights: A `.safetensors` file or the folder of a store's result.
        data: As `data_from_text` reads it.
        quantizer: A name of the registry's `QUANTIZERS`.
        levels: Grid points per weight, with commas between them.
        model: As `model_from_text` reads it; None where the weights say it.
        preset: A preset of the quantizer; empty for none.
        last: Levels of the last layer; None = as the rest.
        calibration: Calibration images; None takes 1,024 or, where there are fewer, all.
        source: Where they come from: the data's training part (`members`), its held-out part
            (`holdout`) or both (`all`).
        settings: `FIELD=VALUE` for the quantizer's fields; the values are read as YAML.
        mean: Per channel, in [0, 1]; None = the weights' or, where they have none, the data's.
        std: Per channel, above 0.
        device: `cpu`, `cuda` or `cuda:N`.
        seed: The root of everything random.
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
    """The same, as checked values.

    Attributes:
        request: What was asked for.
        quantizers: One per number of levels, in their order.
        model: Name and options; None where the weights say it.
        dataset: An entry of the registry's `DATASETS`, made.
        part: How much of it.
        standardisation: Mean and standard deviation per channel, if they were given.
    """

    request: QuantizeRequest
    quantizers: tuple[Scheme, ...]
    model: tuple[str, Mapping[str, Any]] | None
    dataset: Any
    part: DataConfig
    standardisation: tuple[tuple[float, ...], tuple[float, ...]] | None


def check_request(request: QuantizeRequest) -> CheckedRequest:
    """The request, if nothing is wrong with it; reads no file.

    Raises:
        ConfigError: With every mistake, one per line, each with its option, what was expected and what came.
    """
    errors: list[str] = []
    quantizers = _quantizers(request, errors)
    model = _told(errors, lambda: None if request.model is None else model_from_text(request.model))
    dataset, part = _dataset(request, errors)
    standardisation = _told(errors, lambda: _standardisation(request))
    checked_value(one_of, request.source, "--source", errors, SOURCES)
    checked_value(integer_in, request.seed, "--seed", errors, 0, 2**62)
    if request.calibration is not None:
        checked_value(integer_in, request.calibration, "--calibration", errors, 1)
    if errors:
        raise ConfigError("\n".join(errors))
    return CheckedRequest(request, tuple(quantizers), model, dataset, part, standardisation)


def _quantizers(request: QuantizeRequest, errors: list[str]) -> list[Scheme]:
    levels = _told(errors, lambda: whole_numbers(request.levels, "--levels")) or []
    for one in levels:
        checked_value(integer_in, one, "--levels", errors, 2, 256)
    if request.last is not None:
        checked_value(integer_in, request.last, "--last", errors, 2, 256)
    unusable: list[str] = []
    kind = entry_class(
        registry.QUANTIZERS, request.quantizer, "--quantizer", "quantizer", unusable, members=("levels",)
    )
    if kind is None:
        errors += [error.replace("--quantizer.name:", "--quantizer:", 1) for error in unusable]
        return []
    presets = getattr(kind, "PRESETS", {})
    if request.preset and request.preset not in presets:
        errors.append(f"--preset: {unknown_name('preset', request.preset, presets)}")
    settings = _told(errors, lambda: override({}, request.settings)) or {}
    errors += [f"--set {key}: give it as --{key}" for key in settings if key in _OPTIONS]
    own = {key: value for key, value in settings.items() if key not in _OPTIONS}
    fields = {**presets.get(request.preset, {}), **own}
    _section(kind, fields, "--set", errors)
    if errors:
        return []
    return [_section(kind, {**fields, "levels": one, "last": request.last}, "--set", errors) for one in levels]


def _dataset(request: QuantizeRequest, errors: list[str]) -> tuple[Any, Any]:
    found = _told(errors, lambda: data_from_text(request.data))
    if found is None:
        return None, None
    name, options = found
    own = {key: options.pop(key) for key in ("limit", "held_out") if key in options}
    kind = registry.find(registry.DATASETS, name, kind="data set")
    dataset = _section(kind, options, "--data", errors, also=("limit", "held_out"))
    stored = {} if dataset is None else asdict(dataset)
    return dataset, _section(DataConfig, {"name": name, "options": stored, **own}, "--data", errors)


def _standardisation(request: QuantizeRequest) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if request.mean is None and request.std is None:
        return None
    if request.mean is None or request.std is None:
        raise ConfigError("--mean and --std go together, and one of them is missing")
    mean, std = channel_numbers(request.mean, "--mean"), channel_numbers(request.std, "--std")
    try:
        for value in mean:
            number_in("--mean", value, 0, 1)
        for value in std:
            number_in("--std", value, 0, math.inf, ends="(]")
    except ValueError as error:
        raise ConfigError(f"{error} (of pixels from 0 to 1)") from None
    return mean, std


def _section(kind: Any, raw: dict[str, Any], option: str, errors: list[str], *, also: Sequence[str] = ()) -> Any:
    """An instance of the dataclass, or None with the mistakes added to `errors`, as `OPTION field: ...`."""
    found: list[str] = []
    made = section(kind, raw, option, found, also=also)
    errors += [error.replace(f"{option}.", f"{option} ", 1) for error in found]
    return made


def _told(errors: list[str], make: Callable[[], Any]) -> Any:
    """What `make` returns, or None with its message added to `errors`."""
    try:
        return make()
    except ConfigError as error:
        errors.append(str(error))
        return None
