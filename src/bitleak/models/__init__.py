"""Networks by name: `build`, `load`, `state` and `profile`.

A network takes standardised float32 images `records channels height width`, or rows of a table
`records columns` (the spec's mean and std are applied by the caller), and answers with logits
`records classes`. Every network of the registry can be traced by `torch.fx`, calls no module twice,
and ends in a linear classifier.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitleak.core.checks import unknown_name
from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec, Weights
from bitleak.models.external import factory_of, split
from bitleak.models.fingerprint import RANDOM_IMAGES, check_fingerprint, random_images
from bitleak.models.global_state import seeded_draws
from bitleak.models.input_rounding import round_inputs
from bitleak.models.network_size import Profile, profile_of, reaches_all_layers
from bitleak.registry import MODELS, find

__all__ = ["Profile", "build", "load", "profile", "state"]


def build(spec: ModelSpec, seed: int | None = None) -> nn.Module:
    """Return the network of a spec, freshly initialised, in training mode, on the CPU.

    Args:
        spec: Name, options and the shape of the data.
        seed: Makes the initialisation reproducible, also draws from Python's and NumPy's global
            generators, all of which are left as they were. None draws from these as they are.

    Raises:
        ModelError: The name or an option is unknown, an option is out of range, or an external
            network cannot be made or does not fit the data.

    Example:
        >>> spec = ModelSpec("cnn", {"width": 8}, classes=10, channels=1, size=8, mean=(0.3,), std=(0.4,))
        >>> build(spec, seed=0)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
        >>> build(ModelSpec("cnn", {"widht": 8}, 10, 1, 8, (0.3,), (0.4,)))
        Traceback (most recent call last):
        ...
        bitleak.core.errors.ModelError: unknown option of model cnn 'widht': did you mean 'width'? Known: depth, width
    """
    if seed is None:
        return _constructed(spec)
    with seeded_draws(seed):
        return _constructed(spec)


def load(weights: Weights, *, allow_external: bool = False) -> nn.Module:
    """Return the network of the weights' spec with these weights, in evaluation mode, on the CPU.

    Args:
        weights: Tensors and spec, and grids of activations, to which the inputs of layers are then
            rounded. A spec that was read from a file is not to be trusted.
        allow_external: Whether the spec may name outside code: its module is imported and its
            factory called.

    Raises:
        ModelError: There is no spec, it names outside code that is not allowed, or a tensor is
            missing, unknown, of another shape or not floating-point; or an outside network answers
            otherwise than when the weights were stored (see `bitleak.models.fingerprint`).

    Example:
        >>> spec = ModelSpec("external", {"factory": "zoo:net"}, 10, 1, 8, (0.3,), (0.4,))
        >>> load(Weights({}, spec))
        Traceback (most recent call last):
        ...
        bitleak.core.errors.ModelError: the weights name outside code: to load them, module 'zoo' would be imported ...
    """
    if weights.spec is None:
        raise ModelError("weights without a spec cannot be loaded: the architecture is not known")
    if not allow_external:
        check_own(weights.spec)
    network = build(weights.spec, seed=0)
    _check_tensors(network.state_dict(), weights.tensors, weights.spec.name)
    # Copied, since arrays read from a store may be read-only and torch would share their memory.
    network.load_state_dict(
        {name: torch.tensor(array) for name, array in weights.tensors.items()}, strict=True
    )
    round_inputs(network, weights.record.get("activations", {}))
    check_fingerprint(network, weights)
    return network.eval()


def check_own(spec: ModelSpec) -> None:
    """Refuse a spec that names code outside this package.

    Raises:
        ModelError: It names such code; the message has the module.
    """
    factory = factory_of(spec)
    if factory is not None:
        module = "timm" if factory.startswith("timm:") else split(factory)[0]
        raise ModelError(
            f"the weights name outside code: to load them, module {module!r} would be imported and {factory!r} called; "
            "if you trust it, load(weights, allow_external=True)"
        )


def state(network: nn.Module) -> dict[str, np.ndarray]:
    """Return the network's state dict as contiguous NumPy copies, by name.

    Example:
        >>> sorted(state(nn.Linear(3, 2)))
        ['bias', 'weight']
    """
    # np.array keeps rank 0 (a batch norm's counter), which np.ascontiguousarray would not.
    return {
        name: np.array(tensor.detach().cpu().numpy(), order="C")
        for name, tensor in network.state_dict().items()
    }


def profile(spec: ModelSpec) -> Profile:
    """Return size and cost of a spec's network, from a fresh one and one image, on the CPU.

    If that image does not reach a layer, which may be an expert that serves few images, random ones
    are evaluated too.

    Raises:
        ModelError: As `build`.

    Example:
        >>> profile(ModelSpec("resnet18", {}, 10, 3, 32, (0.5,) * 3, (0.25,) * 3)).parameters
        11173962
    """
    # Not on the meta device: PyTorch would load modules for longer than one image takes.
    with torch.random.fork_rng(devices=[]):
        network = _constructed(spec)
        first = profile_of(network, torch.zeros(1, *spec.input_shape))
        if reaches_all_layers(network, first.layers):
            return first
        return profile_of(network, random_images(spec, RANDOM_IMAGES))


def _constructed(spec: ModelSpec) -> nn.Module:
    try:
        builder = find(MODELS, spec.name, kind="model")
        _check_options(builder, spec)
        network: nn.Module = builder(spec.classes, spec.channels, spec.size, **spec.options)
    except (ValueError, TypeError) as error:
        raise ModelError(str(error)) from error
    return network


def _check_options(builder: Callable[..., nn.Module], spec: ModelSpec) -> None:
    parameters = inspect.signature(builder).parameters.values()
    known = {
        parameter.name: parameter
        for parameter in parameters
        if parameter.kind == parameter.KEYWORD_ONLY
    }
    for name in spec.options:
        if name not in known:
            raise ModelError(unknown_name(f"option of model {spec.name}", name, known))
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in spec.options:
            raise ModelError(f"model {spec.name} needs the option {name!r}, which is missing")


def _check_tensors(expected: Mapping[str, Tensor], tensors: Mapping[str, Any], model: str) -> None:
    for name in [*expected, *tensors]:
        if name not in tensors:
            raise ModelError(f"tensor {name!r} of model {model} is missing from the weights")
        if name not in expected:
            raise ModelError(f"tensor {name!r} of the weights is not part of model {model}")
        shape, expected_shape = tuple(tensors[name].shape), tuple(expected[name].shape)
        if shape != expected_shape:
            raise ModelError(
                f"tensor {name!r} of model {model} must have shape {expected_shape}, got {shape}"
            )
        if expected[name].is_floating_point() and tensors[name].dtype.kind != "f":
            raise ModelError(
                f"tensor {name!r} of model {model} must hold floating-point numbers, got {tensors[name].dtype}; "
                "codes of quantized weights need their scales: give the weights that they stand for"
            )
