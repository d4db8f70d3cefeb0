"""Weights with noise: its size, what it leaves alone, and that only its length depends on the scale."""

import numpy as np
import pytest

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
        np.testing.assert_array_equal(with_noise(weights, first, 0.0).tensors[name], weights.tensors[name])
        np.testing.assert_array_equal(drawn, again[name])
        assert not np.array_equal(drawn, other[name])


def test_a_negative_scale_and_weights_without_a_spec_are_refused(weights):
    with pytest.raises(ValueError, match="scale"):
        with_noise(weights, noise_for(weights, 0), -0.1)
    with pytest.raises(ModelError, match="without a spec"):
        noise_for(Weights(weights.tensors), 0)
