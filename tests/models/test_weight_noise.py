"""Weights with noise: its size, what it leaves alone, and that only its length depends on the scale."""

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec, Weights
from bitleak.models import build, profile, state
from bitleak.models.weight_noise import noise_for, with_noise

SPEC = ModelSpec("cnn", {"width": 16}, 10, 1, 8, mean=(0.3,), std=(0.4,))


@pytest.fixture(scope="module")
def weights():
    return Weights(state(build(SPEC, seed=0)), SPEC)


def test_every_layer_has_noise_of_its_own_deviation(weights):
    noise = noise_for(weights, 0)
    assert set(noise) == {f"{layer}.weight" for layer in profile(SPEC).layers}
    for name, drawn in noise.items():
        original = weights.tensors[name]
        assert drawn.dtype == np.float32
        assert drawn.std() / original.std() == pytest.approx(1, abs=5 / np.sqrt(2 * drawn.size))
        changed = with_noise(weights, noise, 0.1).tensors[name] - original
        np.testing.assert_allclose(changed, 0.1 * drawn, atol=1e-6)


def test_biases_and_batch_norm_stay(weights):
    found = with_noise(weights, noise_for(weights, 0), 0.5)
    layers = {f"{layer}.weight" for layer in profile(SPEC).layers}
    assert set(found.tensors) == set(weights.tensors)
    for name in set(weights.tensors) - layers:
        np.testing.assert_array_equal(found.tensors[name], weights.tensors[name])


def test_scale_zero_is_the_network_itself_and_the_seed_decides(weights):
    first, again, other = (noise_for(weights, seed) for seed in (0, 0, 1))
    for name, drawn in first.items():
        np.testing.assert_array_equal(
            with_noise(weights, first, 0.0).tensors[name], weights.tensors[name]
        )
        np.testing.assert_array_equal(drawn, again[name])
        assert not np.array_equal(drawn, other[name])


def test_a_negative_scale_and_weights_without_a_spec_are_refused(weights):
    with pytest.raises(ValueError, match="scale"):
        with_noise(weights, noise_for(weights, 0), -0.1)
    with pytest.raises(ModelError, match="without a spec"):
        noise_for(Weights(weights.tensors), 0)


def test_an_expert_that_no_image_reaches_gets_its_noise_too(monkeypatch):
    module = types.ModuleType("noise_zoo")
    module.Routed = Routed
    monkeypatch.setitem(sys.modules, "noise_zoo", module)
    spec = ModelSpec("external", {"factory": "noise_zoo:Routed"}, 3, 1, 8, (0.5,), (0.5,))
    weights = Weights(state(build(spec, seed=0)), spec)
    noise = noise_for(weights, seed=0, allow_external=True)
    assert set(noise) == {"gate.weight", "experts.0.weight", "experts.1.weight"}
    assert len(profile(spec).layers) == 2 + 1


class Routed(nn.Module):
    """A blank image reaches the first expert alone."""

    def __init__(self, num_classes, in_chans):
        super().__init__()
        self.gate = nn.Linear(64 * in_chans, 1, bias=False)
        self.experts = nn.ModuleList(nn.Linear(64 * in_chans, num_classes) for _ in range(2))

    def forward(self, x):
        x = x.flatten(1)
        second = self.gate(x)[:, 0] > 0
        answers = x.new_zeros(len(x), self.experts[0].out_features)
        for expert, served in zip(self.experts, (~second, second), strict=True):
            if served.any():
                answers = answers.index_put((torch.where(served)[0],), expert(x[served]))
        return answers
