"""A checked request with its data and weights; whatever does not fit is refused before any work."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int64

from bitleak.core.errors import ConfigError, ModelError, QuantizationError
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, ModelSpec, Weights
from bitleak.data import limited, make_splits
from bitleak.data.augment import channel_statistics
from bitleak.data.data_notes import data_lines, numbering_hint
from bitleak.models import build, load
from bitleak.models.external import factory_of, trial_of
from bitleak.models.fingerprint import RANDOM_IMAGES, random_images
from bitleak.models.network_size import shared_names
from bitleak.models.new_process import check_in_new_process
from bitleak.models.tensor_names import common_prefix, fitted_names, with_shared_names
from bitleak.quantizers.compatibility import check_network
from bitleak.quantizers.coverage import uncoded_weights
from bitleak.quantizers.scheme import Scheme
from bitleak.single_network.option_texts import text_of_model
from bitleak.single_network.quantize_request import (
    DEFAULT_CALIBRATION,
    CheckedRequest,
    QuantizeRequest,
    check_request,
)
from bitleak.single_network.weights_files import read_weights

HELD_OUT = 0.3
"""Share of the records that is kept for the test if the data has no held-out part, as by default in
a config.
"""


@dataclass(frozen=True)
class QuantizationJob:
    """A network with the quantizers, calibration images and test records that it meets.

    Attributes:
        request: The request.
        quantizers: A quantizer per precision.
        weights: The network, with its spec.
        images: The data set.
        calibration: Calibration records, ascending.
        test: Records for the accuracy, ascending; disjoint from `calibration`.
        drawn: Whether the test records were drawn here, from data without a held-out part: a
            network from elsewhere may have been trained on them.
        notes: Changes of tensors' names, and notes from the trial of an outside network.
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
    """Read weights and data, and check that they and the quantizers fit each other; nothing is
    quantized.

    Raises:
        InputError: Something does not fit; the message names the option.
    """
    checked = check_request(request)
    weights = read_weights(request.weights)
    model = _model(checked, weights)

    # The data, and a network of its classes, channels and pixels.
    part = checked.part
    images = limited(checked.dataset.load(None), part.limit, request.seed, held_out=part.held_out)
    calibration, test = draw_records(images, request)
    description = checked.dataset.describe(None)
    hint = numbering_hint(description)
    spec = _spec(checked, weights, model, images, hint)

    # The weights in that network. Those of a state dict may have other names, by the wrapper they
    # were saved from.
    notes: list[str] = []
    try:
        if weights.spec is None:
            fresh = build(spec, seed=0)
            completed = with_shared_names(weights.tensors, shared_names(fresh))
            tensors, renamed = fitted_names(completed, fresh.state_dict())
            weights = replace(weights, tensors=tensors)
            if renamed:
                notes.append(f"weights: {renamed}")
        weights = replace(weights, spec=spec)
        # `_model` has refused outside code that --model does not name.
        network = load(weights, allow_external=True)
        outside = trial_of(spec)
        check_in_new_process(spec)
    except ModelError as error:
        raise ModelError(_placed(error, request, weights, spec) + hint) from None
    # A layer that no quantizer can treat, found on random images: an expert may serve few of them.
    try:
        check_network(network, checked.quantizers[0], random_images(spec, RANDOM_IMAGES))
    except QuantizationError as error:
        option = "--set layers" if str(error).startswith("layers[") else "--model"
        raise ModelError(f"{option}: {error}") from None
    notes += [f"data: {line}" for line in data_lines(description)]
    if outside is not None:
        notes += [f"model: {note}" for note in outside.notes]
    if uncoded := uncoded_weights(network, checked.quantizers[0]):
        notes.append(f"model: {uncoded}")
    drawn = not bool(images.held_out.any())
    return QuantizationJob(
        request, checked.quantizers, weights, images, calibration, test, drawn, tuple(notes)
    )


def draw_records(
    images: Images, request: QuantizeRequest
) -> tuple[Int64[np.ndarray, "calibration"], Int64[np.ndarray, "test"]]:
    """Draw calibration records at random; the other held-out records are the test's.

    If the data has no held-out part, the same share of every class is held out, as in an audit with
    the same seed and limit.

    Raises:
        ConfigError: The source has too few records.
    """
    all_records = np.arange(len(images.labels))
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
    members = np.setdiff1d(all_records, held_out)
    source = {"members": members, "holdout": held_out, "all": all_records}[request.source]

    # From held-out records at least one is left for the test; by default at most half of them are
    # taken.
    spare = 0 if request.source == "members" else 1
    largest = len(source) - spare
    count = request.calibration
    if count is None:
        count = min(DEFAULT_CALIBRATION, largest // (1 + spare))
    if not 1 <= count <= largest:
        raise ConfigError(
            f"--calibration: the source {request.source!r} has {largest} records to spare, got {count}; ask for fewer, "
            "or give another --source"
        )
    chance = np.random.default_rng(seed_for(request.seed, "calibration"))
    calibration = np.sort(chance.choice(source, count, replace=False))
    test = np.setdiff1d(held_out, calibration)
    if not len(test):
        raise ConfigError(
            "--calibration: no held-out record is left for the test; ask for fewer calibration images"
        )
    return calibration, test


def _model(checked: CheckedRequest, weights: Weights) -> tuple[str, Mapping[str, Any]]:
    """Return the model's name and options, from the request or from the weights."""
    spec = weights.spec
    if spec is None and checked.model is None:
        raise ConfigError(
            "--model: missing; a .safetensors file does not say which network it is for"
        )
    if spec is None:
        return checked.model or ("", {})
    stored = (spec.name, dict(spec.options))
    if checked.model is None and factory_of(spec) is not None:
        raise ConfigError(
            f"--model: missing; the weights name outside code, which is imported and called only if you name it too: "
            f"if you trust it, add --model {text_of_model(*stored)}"
        )
    if checked.model is not None and checked.model != stored:
        raise ConfigError(
            f"--model: the weights are those of {text_of_model(*stored)}, "
            f"got {text_of_model(*checked.model)}; leave it out"
        )
    return stored


def _spec(
    checked: CheckedRequest,
    weights: Weights,
    model: tuple[str, Mapping[str, Any]],
    images: Images,
    hint: str,
) -> ModelSpec:
    """Return the network's spec for the data; a spec of the weights must fit the data, else the
    hint is added.
    """
    channels = images.channels
    shape = (len(images.class_names), channels, images.size)
    stored = weights.spec
    if stored is not None and (stored.classes, stored.channels, stored.size) != shape:
        raise ConfigError(
            f"--data: the weights are for {_shape(stored.classes, stored.channels, stored.size)}, "
            f"got {_shape(*shape)}; give the data that the network was trained on{hint}"
        )
    mean, std = checked.standardisation or _statistics(stored, images)
    for option, values in (("--mean", mean), ("--std", std)):
        if len(values) != channels:
            raise ConfigError(
                f"{option}: expected {channels} numbers, one per {'channel' if images.size else 'column'}, "
                f"got {len(values)}"
            )
    return ModelSpec(model[0], dict(model[1]), *shape, mean=mean, std=std)


def _statistics(
    stored: ModelSpec | None, images: Images
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel, of the weights or of the data's training
    part.
    """
    if stored is not None:
        return stored.mean, stored.std
    try:
        return channel_statistics(images, np.flatnonzero(~images.held_out))
    except ValueError as error:
        raise ConfigError(f"--data: {error}; give --mean and --std") from None


def _placed(error: ModelError, request: QuantizeRequest, weights: Weights, spec: ModelSpec) -> str:
    """Return the message, led by the option that it is about."""
    text = str(error)
    if text.startswith("tensor "):
        shape = _shape(spec.classes, spec.channels, spec.size)
        prefix = common_prefix(weights.tensors)
        hint = (
            f"; the names of all tensors begin with {prefix!r}, without which they fit no better"
            if prefix
            else ""
        )
        return f"--weights {request.weights}: {text} (the network was made for the data's {shape}{hint})"
    return f"--model: {text}"


def _shape(classes: int, channels: int, size: int) -> str:
    if not size:
        return f"{classes} classes, {channels} columns"
    return f"{classes} classes, {channels} channels, {size}x{size} pixels"
