"""Networks and images as the steps that run a network need them.

This is the one module of the room that imports PyTorch, so steps import it inside of `run`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn

from bitleak.config import CalibrationConfig
from bitleak.core.errors import ModelError
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, ModelSpec, NetworkFile, QuantizedWeights, Splits, Weights
from bitleak.data.array_images import channel_statistics
from bitleak.data.augment import augmented, standardize
from bitleak.engine.worker import Runtime
from bitleak.models import load
from bitleak.models.fused_network import fused_by_spec
from bitleak.models.origin import origin
from bitleak.runtimes.file_network import FileNetwork
from bitleak.runtimes.runtime import open_network


def spec_of(weights: Weights | QuantizedWeights) -> ModelSpec:
    """Return the spec, which every artifact of the store has.

    Raises:
        ModelError: The weights come from elsewhere and have none.
    """
    if weights.spec is None:
        raise ModelError("weights without a spec cannot be loaded: the architecture is not known")
    return weights.spec


def network_of(weights: Weights, runtime: Runtime) -> nn.Module:
    """Return the network of the weights; outside code only if the worker has compared the spec with the config's."""
    return load(weights, allow_external=runtime.network is not None)


def query_network(weights: Weights, runtime: Runtime) -> nn.Module:
    """Return the network as it answers: fused, unless it is external, whose forward may do more than its graph."""
    network = network_of(weights, runtime)
    spec = spec_of(weights)
    return network.eval() if spec.name == "external" else fused_by_spec(network, spec)


def answering_network(
    weights: Weights | QuantizedWeights | NetworkFile, runtime: Runtime
) -> tuple[nn.Module, ModelSpec, str]:
    """Return the network as it answers, its spec and its device; a file's runtime is on the CPU."""
    if isinstance(weights, NetworkFile):
        return FileNetwork(open_network(weights)), weights.spec, "cpu"
    floats = weights.dequantize() if isinstance(weights, QuantizedWeights) else weights
    return query_network(floats, runtime), spec_of(floats), runtime.device


def network_spec(
    data: Images, split: Splits, network: str, options: Mapping[str, Any]
) -> ModelSpec:
    """Return the network for a data set, standardising by the pool's statistics."""
    mean, std = channel_statistics(data, split.pool)
    classes = len(data.class_names)
    return ModelSpec(network, dict(options), classes, data.channels, data.size, mean=mean, std=std)


def check_origin(options: Mapping[str, Any], planned_with: str) -> None:
    """Refuse to train with another release of an outside network's package than the one that the plan was made with.

    Raises:
        ModelError: This machine has another one.
    """
    here = origin(str(options["factory"])).made_by if planned_with else ""
    if here != planned_with:
        raise ModelError(
            f"the network was planned with {planned_with}, but this machine has {here or 'none of it'}"
        )


def calibration_records(
    split: Splits, calibration: CalibrationConfig, *, model: int, seed: int
) -> Int64[np.ndarray, "chosen"]:
    """Return the records whose images a quantizer sees, in ascending order.

    The draw depends on the model, not on the quantizer, so that quantizers are compared on the same images.
    """
    source = (
        split.pool[split.member[model]] if calibration.source == "members" else split.calibration
    )
    generator = np.random.default_rng(seed_for(seed, "calibration", model))
    # Sorted: the order of the draw must not decide the order of a quantizer's sums.
    return np.sort(generator.choice(source, calibration.records, replace=False))


def calibration_images(
    data: Images,
    split: Splits,
    spec: ModelSpec,
    calibration: CalibrationConfig,
    *,
    model: int,
    seed: int,
    device: str,
) -> torch.Tensor:
    """Return the images that a quantizer sees, standardised, all rounds one after the other."""
    chosen = calibration_records(split, calibration, model=model, seed=seed)
    seed = seed_for(seed, "calibration", model)
    pixels = torch.from_numpy(data.pixels[chosen]).to(device)
    generator = torch.Generator().manual_seed(seed_for(seed, "augment"))
    rounds = [augmented(pixels, calibration.augment, generator) for _ in range(calibration.rounds)]
    return standardize(torch.cat(rounds), spec.mean, spec.std)
