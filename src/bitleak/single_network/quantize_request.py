"""The request of `bitleak quantize`, checked as text before any file is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitleak import registry
from bitleak.config import DataConfig, override
from bitleak.config.fields import checked_value, entry_class
from bitleak.core.checks import integer_in, one_of, unknown_name
from bitleak.core.errors import ConfigError
from bitleak.core.outside import is_outside
from bitleak.quantizers.scheme import Scheme
from bitleak.single_network.option_texts import (
    model_from_text,
    whole_numbers,
)
from bitleak.single_network.option_values import (
    collected,
    dataset_of_text,
    section_of_option,
    standardisation_of_texts,
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
    if request.quantizer in registry.TRAINED_QUANTIZERS:
        errors.append(
            f"--quantizer: {request.quantizer} trains a network on all its members with their labels, which an audit "
            "knows: name it in the section quantize of a config of bitleak audit"
        )
        return []
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
    section_of_option(kind, fields, "--set", errors)
    if errors:
        return []
    fields["last"] = request.last
    found = [
        section_of_option(kind, {**fields, "levels": count}, "--set", errors) for count in levels
    ]
    if found and not errors and is_outside(request.quantizer):
        from bitleak.quantizers.outside_quantizer import why_not_called  # torch, which takes long

        reason = why_not_called(found[0])
        if reason:
            errors.append(f"--quantizer: {request.quantizer}: {reason}")
    return found
