"""Answers of an outside network about fixed images, stored with its weights, compared at loading.

Models are stored as state dicts, and every process builds its networks anew. A network of this
package is its state dict; an outside one may hold more (a permutation drawn at import, the order of
a set, an attribute that training changed, code that was edited since). With the same weights it
would then be another network, whose answers look like those of an untrained one, and no figure
would show why.

Cost: `IMAGES` images through the network, once per loading of an outside network's weights.
"""

from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec, QuantizedWeights, Weights
from bitleak.models.answer_difference import differing
from bitleak.models.precision import exact_float32
from bitleak.models.unsaved_values import unsaved

Stored = TypeVar("Stored", Weights, QuantizedWeights)

IMAGES = 4
"""Images of a fingerprint."""
RANDOM_IMAGES = 64
"""Random images that reach all layers of a network, also an expert of a mixture for few of them."""
ANSWER_TOLERANCE = 1e-3
"""Largest difference by another device or release of PyTorch, relative to the largest logit."""
SAVE_REMEDY = (
    "make it a parameter or a saved buffer (`self.register_buffer(name, tensor)`), or draw it from a generator of a "
    "fixed seed"
)


def is_external(spec: ModelSpec) -> bool:
    """Return whether a spec's network is made by code from outside this package."""
    return spec.name == "external"


def random_images(spec: ModelSpec, records: int) -> Float32[Tensor, "records channels *pixels"]:
    """Return standard normal images of a spec's shape, the same ones on every machine."""
    shape = (records, *spec.input_shape)
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))


def answer_fingerprint(
    network: nn.Module, spec: ModelSpec
) -> Float32[np.ndarray, "images classes"]:
    """Return the logits of a few fixed images, which are the same on every machine.

    Args:
        network: Answers with logits; it is left in evaluation mode.
        spec: Its spec, for the shape of the data.
    """
    images = random_images(spec, IMAGES)
    device = next((tensor.device for tensor in network.state_dict().values()), torch.device("cpu"))
    with torch.no_grad(), torch.random.fork_rng(devices=[]), exact_float32():
        answers: Tensor = network.eval()(images.to(device))
    return answers.float().cpu().numpy()


def with_fingerprint(weights: Stored, network: nn.Module) -> Stored:
    """Return the weights with the fingerprint of their network if it is from outside.

    Args:
        weights: Weights with their spec.
        network: The network that holds them; it is left in evaluation mode.
    """
    if weights.spec is None or not is_external(weights.spec):
        return weights
    answers = answer_fingerprint(network, weights.spec)
    # Answers that are not finite are an error of the evaluation, which names the record.
    return replace(weights, fingerprint=answers) if np.isfinite(answers).all() else weights


def check_fingerprint(network: nn.Module, weights: Weights) -> None:
    """Refuse a network that answers otherwise than the one that its weights were stored with.

    Args:
        network: Holds the weights; it is left in evaluation mode.
        weights: Weights with their spec; without a fingerprint, nothing is compared.

    Raises:
        ModelError: Its answers differ; the message has the values outside its state dict.
    """
    if weights.fingerprint is None or weights.spec is None:
        return
    answers = answer_fingerprint(network, weights.spec)
    difference = differing(answers, weights.fingerprint, ANSWER_TOLERANCE)
    if not difference:
        return
    name = weights.spec.options.get("factory") or weights.spec.name
    names = ", ".join(unsaved(network, constants=False))
    candidates = f" (not in its state dict: {names})" if names else ""
    raise ModelError(
        f"{name}: with its stored weights, the network that is made here answers fixed images otherwise than when they "
        f"were stored, {difference}. Its code was changed since, or it depends on what its state dict does not hold "
        f"and what differs between processes{candidates}: {SAVE_REMEDY}; then raise `version` and train again"
    )
