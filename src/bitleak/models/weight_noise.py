"""Weights with Gaussian noise: damage that is not quantization, to compare quantization with.

Every weight w of a convolution or linear layer becomes

    w + scale * std(layer) * z,    z ~ N(0, 1) independent,

with std(layer) the standard deviation of that layer's weights. Biases and batch norm stay as they
are. The draw z depends on the seed and the layer's name alone, so that with another scale only its
length changes.
"""

from collections.abc import Mapping

import numpy as np
from torch import nn

from bitleak.core.checks import number_in
from bitleak.core.errors import ModelError
from bitleak.core.seeds import seed_for
from bitleak.core.types import Weights
from bitleak.models import load

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def noise_for(
    weights: Weights, seed: int, *, allow_external: bool = False
) -> dict[str, np.ndarray]:
    """Return the noise at scale 1, float32, by the name of the tensor that it is added to.

    Raises:
        ModelError: The weights have no spec, or one of outside code that is not allowed, see
            `bitleak.models.load`.
    """
    if weights.spec is None:
        raise ModelError("weights without a spec have no known layers")
    # All of them, whether or not an image reaches them: an expert may serve few.
    network = load(weights, allow_external=allow_external)
    noise = {}
    for layer_name, layer in network.named_modules():
        if not isinstance(layer, _LAYERS):
            continue
        name = f"{layer_name}.weight"
        weight = weights.tensors[name]
        drawn = np.random.default_rng(seed_for(seed, layer_name)).standard_normal(weight.shape)
        noise[name] = (weight.std(dtype=np.float64) * drawn).astype(np.float32)
    return noise


def with_noise(weights: Weights, noise: Mapping[str, np.ndarray], scale: float) -> Weights:
    """Return the weights with `scale` times the noise; at 0 they are the same.

    Raises:
        ValueError: The scale is negative.
    """
    number_in("scale", scale, 0, np.inf, ends="[)")
    # A scalar of float64 would make the weights float64.
    moved = {
        name: weights.tensors[name] + np.float32(scale) * values for name, values in noise.items()
    }
    return Weights({**weights.tensors, **moved}, weights.spec)
