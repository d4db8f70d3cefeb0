"""A checked request with its data and weights: everything that can be wrong is found here, before any work."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from bitleak.core.errors import ConfigError, ModelError, QuantizationError
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, ModelSpec, Weights
from bitleak.data import limited, make_splits
from bitleak.data.augment import channel_statistics
from bitleak.data.data_notes import data_lines, numbering_hint
from bitleak.models import build, load
from bitleak.models.external import factory_of, trial_of
from bitleak.models.network_size import shared_names
from bitleak.models.new_process import check_in_new_process
from bitleak.quant.scheme import Scheme
from bitleak.quant.suitable import check_network
from bitleak.single_network.quantize_request import DEFAULT_CALIBRATION, CheckedRequest, QuantizeRequest, check_request
from bitleak.single_network.tensor_names import common_prefix, fitted_names, with_shared_names
from bitleak.single_network.weights_files import read_weights

HELD_OUT = 0.3
"""Share of the records that is kept for the test where the data has no held-out part of its own, as in a config."""


@dataclass(frozen=True)
class QuantizationJob:
    """What is to be quantized, with what, and what it is measured on.

    Attributes:
        request: What was asked for.
        quantizers: One per number of levels.
        weights: The network, with its spec.
        images: The data set.
        calibration: Records that the quantizers are shown, ascending.
        test: Records that the accuracy is measured on, ascending; none of them is in `calibration`.
        drawn: Whether the data has no held-out part, so that the test records were drawn here: a
            network trained elsewhere may have been trained on them.
        notes: How the names of tensors were changed to fit, and what the trial of an outside network found.
    """

    request: QuantizeRequest
    quantizers: tuple[Scheme, ...]
    weights: Weights
    images: Images
    calibration: Int64[np.ndarray, "calibration"]
    test: Int64[np.ndarray, "test"]
    drawn: bool
    notes: tuple[str, ...] = ()


def prepare_job(request: QuantizeRequest) -> QuantizationJob:
    """Reads weights and data and checks that they and the quantizers fit each other; quantizes nothing.

    Raises:
        InputError: Something does not fit; the message names the option.
    """
    asked = check_request(request)
    weights = read_weights(request.weights)
    model = _model(asked, weights)
    images = limited(asked.dataset.load(None), asked.part.limit, request.seed, held_out=asked.part.held_out)
    calibration, test = draw_records(images, request)
    description = asked.dataset.describe(None)
    hint = numbering_hint(description)
    spec = _spec(asked, weights, model, images, hint)
    notes: list[str] = []
    try:
        if weights.spec is None:
            fresh = build(spec, seed=0)
            whole = with_shared_names(weights.tensors, shared_names(fresh))
            tensors, renamed = fitted_names(whole, fresh.state_dict())
            weights = replace(weights, tensors=tensors)
            notes += [f"weights: {renamed}"] if renamed else []
        weights = replace(weights, spec=spec)
        # `_model` has seen to it that outside code is named by --model
        network = load(weights, allow_external=True)
        outside = trial_of(spec)
        check_in_new_process(spec)
    except ModelError as error:
        raise ModelError(_placed(error, request, weights, spec) + hint) from None
    try:
        check_network(network, asked.quantizers[0], torch.zeros(2, spec.channels, spec.size, spec.size))
    except QuantizationError as error:
        option = "--set layers" if str(error).startswith("layers[") else "--model"
        raise ModelError(f"{option}: {error}") from None
    notes += [f"data: {line}" for line in data_lines(description)]
    notes += [] if outside is None else [f"model: {note}" for note in outside.notes]
    drawn = not bool(images.held_out.any())
    return QuantizationJob(request, asked.quantizers, weights, images, calibration, test, drawn, tuple(notes))


def draw_records(
    images: Images, request: QuantizeRequest
) -> tuple[Int64[np.ndarray, "calibration"], Int64[np.ndarray, "test"]]:
    """The calibration records, drawn at random, and the held-out records that are not among them, for the test.

    Where the data has no held-out part, the same share of every class is held out, as in an audit
    with the same seed and limit.

    Raises:
        ConfigError: The source has too few records.
    """
    everything = np.arange(len(images.labels))
    held_out = make_splits(
        images,
        mode="population",
        models=2,
        targets=1,
        calibration=0,
        population=0,
        seed=request.seed,
        held_out=HELD_OUT,
    ).test
    sources = {"members": np.setdiff1d(everything, held_out), "holdout": held_out, "all": everything}
    source = sources[request.source]
    spare = 0 if request.source == "members" else 1  # a held-out record at least is left for the test
    most = len(source) - spare
    count = min(DEFAULT_CALIBRATION, most // (1 + spare)) if request.calibration is None else request.calibration
    if not 1 <= count <= most:
        raise ConfigError(
            f"--calibration: the source {request.source!r} has {most} records to spare, got {count}; ask for fewer, or "
            "give another --source"
        )
    chance = np.random.default_rng(seed_for(request.seed, "calibration"))
    calibration = np.sort(chance.choice(source, count, replace=False))
    test = np.setdiff1d(held_out, calibration)
    if not len(test):
        raise ConfigError("--calibration: no held-out record is left for the test; ask for fewer calibration images")
    return calibration, test


def _model(asked: CheckedRequest, weights: Weights) -> tuple[str, Mapping[str, Any]]:
    """Name and options, from the request or from the weights."""
    spec = weights.spec
    if spec is None and asked.model is None:
        raise ConfigError("--model: missing; a .safetensors file does not say which network it is for")
    if spec is None:
        return asked.model or ("", {})
    own = (spec.name, dict(spec.options))
    if asked.model is None and factory_of(spec) is not None:
        raise ConfigError(
            f"--model: missing; the weights name outside code, which is imported and called only if you name it too: "
            f"if you trust it, add --model {_text(*own)}"
        )
    if asked.model is not None and asked.model != own:
        raise ConfigError(f"--model: the weights are those of {_text(*own)}, got {_text(*asked.model)}; leave it out")
    return own


def _spec(
    asked: CheckedRequest, weights: Weights, model: tuple[str, Mapping[str, Any]], images: Images, hint: str
) -> ModelSpec:
    """The network's spec, made for the data; the weights' own must fit the data, else the hint is added."""
    _, channels, size, _ = images.pixels.shape
    shape = (len(images.class_names), channels, size)
    own = weights.spec
    if own is not None and (own.classes, own.channels, own.size) != shape:
        raise ConfigError(
            f"--data: the weights are for {_shape(own.classes, own.channels, own.size)}, "
            f"got {_shape(*shape)}; give the data that the network was trained on{hint}"
        )
    mean, std = asked.standardisation or _statistics(own, images)
    for option, values in (("--mean", mean), ("--std", std)):
        if len(values) != channels:
            raise ConfigError(f"{option}: expected {channels} numbers, one per channel, got {len(values)}")
    return ModelSpec(model[0], dict(model[1]), *shape, mean=mean, std=std)


def _statistics(own: ModelSpec | None, images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if own is not None:
        return own.mean, own.std
    try:
        return channel_statistics(images, np.flatnonzero(~images.held_out))
    except ValueError as error:
        raise ConfigError(f"--data: {error}; give --mean and --std") from None


def _placed(error: ModelError, request: QuantizeRequest, weights: Weights, spec: ModelSpec) -> str:
    """The message with the option that it is about."""
    text = str(error)
    if text.startswith("tensor "):
        shape = _shape(spec.classes, spec.channels, spec.size)
        prefix = common_prefix(weights.tensors)
        hint = f"; the names of all tensors begin with {prefix!r}, without which they fit no better" if prefix else ""
        return f"--weights {request.weights}: {text} (the network was made for the data's {shape}{hint})"
    return f"--model: {text}"


def _shape(classes: int, channels: int, size: int) -> str:
    return f"{classes} classes, {channels} channels, {size}x{size} pixels"


def _text(name: str, options: Mapping[str, Any]) -> str:
    if name == "external" and set(options) <= {"factory", "options"}:
        return ",".join([options["factory"], *(f"{key}={value}" for key, value in options.get("options", {}).items())])
    return name + (":" if options else "") + ",".join(f"{key}={value}" for key, value in options.items())
