"""Bytes and bits of weights: packed codes, grids, and each of the other tensors once."""

import numpy as np
import torch
from torch import nn

from bitleak.core.types import QuantizedLayer, QuantizedWeights, Weights
from bitleak.metrics.accuracy_and_size import weights_size
from bitleak.models.network_size import repeated_names


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.b.weight = self.a.weight
        self.act = self.again = nn.PReLU(6)
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("other", torch.zeros(6))


def tensors_of(network):
    return {name: value.numpy() for name, value in network.state_dict().items()}


def test_a_tensor_under_two_names_is_repeated_and_equal_ones_are_not():
    assert repeated_names(Tied()) == {"b.weight", "again.weight"}


def test_a_shared_tensor_counts_once_in_the_bytes():
    network = Tied()
    alone = 4 * (sum(value.numel() for value in network.parameters()) + 12)
    found = weights_size(Weights(tensors_of(network)), repeated=repeated_names(network))
    assert found == {"bytes": alone, "bits_per_weight": 32.0}


def test_a_shared_tensor_counts_once_among_the_layers_of_full_precision():
    network = Tied()
    rest = {name: value for name, value in tensors_of(network).items() if name != "c.weight"}
    codes = QuantizedLayer(
        np.zeros((2, 6), np.uint8), np.ones(2, np.float32), np.zeros(2, np.float32), 4
    )
    weights = QuantizedWeights(
        {"c": codes}, rest, None, {"a": {"levels": "fp32"}, "b": {"levels": "fp32"}}
    )
    assert weights.full_precision == ("a", "b")
    found = weights_size(weights, repeated=repeated_names(network))
    grids = 3 + 2 * 5
    assert found["bytes"] == grids + 4 * (36 + 6 + 6 + 2 + 6 + 12)
    assert found["bits_per_weight"] == 8 * (grids + 4 * 36) / (12 + 36)
