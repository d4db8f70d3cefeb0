"""Stages that make, change or ask networks: train, quantize, query."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import nn

from bitleak import registry
from bitleak.core.errors import ModelError
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, ModelSpec, QuantizedWeights, Splits, Weights
from bitleak.data.augment import augmented, channel_statistics, standardize
from bitleak.engine.worker import Runtime
from bitleak.models import load
from bitleak.models.fingerprint import with_fingerprint
from bitleak.models.fused_network import fused
from bitleak.models.origin import origin
from bitleak.models.precision import exact_float32
from bitleak.quantizers.network.operands import check_operands
from bitleak.quantizers.shared_pass import quantize_together
from bitleak.query import outputs
from bitleak.stages.signature import Artifacts, Params, Progress
from bitleak.train.fit import fit
from bitleak.train.recipe import Recipe


def train(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """One model."""
    data: Images = inputs["images"]
    split: Splits = inputs["splits"]
    for one in params:
        check_origin(one)
        recipe = Recipe(**{**one["recipe"], "augment": tuple(one["recipe"]["augment"])})
        spec = specification(data, split, one["network"], one["options"])
        yield fit(
            data,
            split.pool[split.member[one["model"]]],
            recipe,
            spec=spec,
            seed=seed_for(one["seed"], "train", one["model"]),
            device=runtime.device,
            on_epoch=partial(_epoch, progress, recipe.epochs),
        )


def quantize(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """One model by one quantizer, at one or more precisions."""
    weights: Weights = inputs["weights"]
    spec = spec_of(weights)
    network = load_for(weights, runtime).to(runtime.device)
    for _, some in groupby(params, key=lambda one: (one["model"], one["calibration"], one["seed"])):
        alike = list(some)
        quantizers = [_quantizer(one) for one in alike]
        shown = calibration_images(inputs["images"], inputs["splits"], spec, alike[0], runtime.device)
        chances = [torch.Generator().manual_seed(seed_for(one["seed"], "quantize", one["model"])) for one in alike]
        results = quantize_together(quantizers, network, shown, chances)
        for _ in alike:
            with exact_float32():
                found = replace(next(results), spec=spec)
                # The network as it will be asked: made and loaded anew, with all that it ties together by itself.
                anew = load_for(found.dequantize(), runtime).to(runtime.device)
                check_operands(anew, found, shown)
            yield with_fingerprint(found, anew)


def query(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """What one set of weights answers about every record."""
    weights = inputs["weights"]
    weights = weights.dequantize() if isinstance(weights, QuantizedWeights) else weights
    network = ready(load_for(weights, runtime), spec_of(weights))
    for one in params:
        yield outputs(
            network,
            inputs["images"],
            inputs["splits"],
            spec=spec_of(weights),
            queries=one["queries"],
            batch=one["batch"],
            test=one["test"],
            device=runtime.device,
            on_step=progress,
        )


def load_for(weights: Weights, runtime: Runtime) -> nn.Module:
    """The network of the weights; outside code only if a worker has compared the spec with the config's network."""
    return load(weights, allow_external=runtime.network is not None)


def check_origin(params: Mapping[str, Any]) -> None:
    """Refuse to train with another release of an outside network's package than the one that the plan was made with.

    Raises:
        ModelError: This machine has another one.
    """
    expected = params.get("made_by", "")
    here = origin(str(params["options"]["factory"])).made_by if expected else ""
    if here != expected:
        raise ModelError(f"the network was planned with {expected}, but this machine has {here or 'none of it'}")


def ready(network: nn.Module, spec: ModelSpec) -> nn.Module:
    """The network as it is asked: fused, unless it is foreign, since its forward pass may do more than a graph says."""
    return network.eval() if spec.name == "external" else fused(network)


def specification(data: Images, split: Splits, network: str, options: Mapping[str, Any]) -> ModelSpec:
    """The network for this data set, standardising by the pool's statistics."""
    mean, std = channel_statistics(data, split.pool)
    _, channels, size, _ = data.pixels.shape
    return ModelSpec(network, dict(options), len(data.class_names), channels, size, mean=mean, std=std)


def calibration_images(
    data: Images, split: Splits, spec: ModelSpec, params: Mapping[str, Any], device: str
) -> torch.Tensor:
    """The images that a quantizer may look at, standardised, all rounds one after the other.

    The draw depends on the model, not on the quantizer, so that quantizers are compared on the
    same images.
    """
    how, row = params["calibration"], params["model"]
    seed = seed_for(params["seed"], "calibration", row)
    source = split.pool[split.member[row]] if how["source"] == "members" else split.calibration
    chosen = np.sort(np.random.default_rng(seed).choice(source, how["records"], replace=False))
    pixels = torch.from_numpy(data.pixels[chosen]).to(device)
    chance = torch.Generator().manual_seed(seed_for(seed, "augment"))
    rounds = [augmented(pixels, tuple(how["augment"]), chance) for _ in range(how["rounds"])]
    return standardize(torch.cat(rounds), spec.mean, spec.std)


def spec_of(weights: Weights) -> ModelSpec:
    """The spec, which every artifact of the store has."""
    if weights.spec is None:
        raise ModelError("weights without a spec cannot be loaded: the architecture is not known")
    return weights.spec


def _quantizer(params: Mapping[str, Any]) -> Any:
    kind = registry.resolve(registry.QUANTIZERS, params["quantizer"], kind="quantizer")
    return kind(**params["options"], levels=params["levels"])


def _epoch(progress: Progress, epochs: int, epoch: int, loss: float) -> None:
    progress(epoch / epochs)
