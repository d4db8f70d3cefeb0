"""A checked request with its data and weights; parts that do not fit are refused before any work."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from bitleak.core.errors import ConfigError, ModelError, QuantizationError
from bitleak.core.outside import shown_name
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, Weights
from bitleak.data import limited, make_splits
from bitleak.data.data_notes import data_lines, numbering_hint
from bitleak.models import load
from bitleak.models.external import trial_of
from bitleak.models.fingerprint import RANDOM_IMAGES, random_images
from bitleak.models.new_process import check_in_new_process
from bitleak.quantizers.compatibility import check_network, uncoded_weights
from bitleak.quantizers.scheme import Scheme
from bitleak.single_network.quantize_request import (
    DEFAULT_CALIBRATION,
    QuantizeRequest,
    check_request,
)
from bitleak.single_network.spec_of_data import spec_for_data
from bitleak.single_network.weights_files import read_weights
from bitleak.single_network.weights_in_network import (
    fitted_weights,
    model_of_weights,
    placed,
)

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

    @property
    def label(self) -> str:
        """Name of the quantizer in files and tables."""
        return shown_name(self.request.quantizer, self.quantizers[0])


def prepare_job(request: QuantizeRequest) -> QuantizationJob:
    """Read weights and data, and check that they and the quantizers fit each other; nothing is
    quantized.

    Raises:
        InputError: Something does not fit; the message names the option.
    """
    checked = check_request(request)
    weights = read_weights(request.weights)
    model = model_of_weights(checked.model, weights)

    # The data, and a network of its classes, channels and pixels.
    part = checked.part
    images = limited(checked.dataset.load(None), part.limit, request.seed, held_out=part.held_out)
    calibration, test = draw_records(images, request)
    description = checked.dataset.describe(None)
    hint = numbering_hint(description)
    spec = spec_for_data(model, checked.standardisation, weights, images, hint)

    # The weights in that network. Those of a state dict may have other names, by the wrapper they
    # were saved from.
    notes: list[str] = []
    try:
        weights, renamed = fitted_weights(weights, spec)
        if renamed:
            notes.append(f"weights: {renamed}")
        # `model_of_weights` has refused outside code that --model does not name.
        network = load(weights, allow_external=True)
        outside = trial_of(spec)
        check_in_new_process(spec)
    except ModelError as error:
        raise ModelError(placed(error, request.weights, weights, spec) + hint) from None
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
