import numpy as np
import pytest
import torch
from torch import nn

from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.rtn import RoundToNearest


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    )


def quantize(shift=0.0, **fields):
    shifted = network()
    shifted[0].weight.data += shift
    return RoundToNearest(**fields)(shifted, torch.randn(2, 1, 4, 4), torch.Generator())


def test_no_code_is_nearer_than_the_chosen_one():
    quantized = quantize(levels=5)
    for name, layer in quantized.layers.items():
        weight = network().get_submodule(name).weight.detach().numpy()
        grid = layer.scale[:, None] * (np.arange(5) - layer.zero_point[:, None])  # (out, levels)
        shape = (len(weight), *[1] * (weight.ndim - 1), 5)
        nearest = np.abs(weight[..., None] - grid.reshape(shape)).min(-1)
        np.testing.assert_allclose(np.abs(layer.dequantize() - weight), nearest, atol=1e-6)


def test_levels_follow_last_and_patterns():
    quantized = quantize(levels=3, last=256)
    assert {name: layer.levels for name, layer in quantized.layers.items()} == {"0": 3, "4": 256}
    assert quantized.record["0"]["levels"] == 3
    assert all(len(np.unique(row)) <= 3 for row in quantized.layers["0"].codes)


def test_everything_but_the_weights_is_kept():
    quantized, state = quantize(), network().state_dict()
    assert set(quantized.rest) == set(state) - {"0.weight", "4.weight"}
    assert all(np.array_equal(value, state[name].numpy()) for name, value in quantized.rest.items())


def test_the_deployed_network_computes_with_the_dequantized_weights():
    quantized, images = quantize(levels=4), torch.randn(3, 1, 4, 4)
    copied = deployed(network(), quantized)
    manual = network().eval()
    for name, layer in quantized.layers.items():
        manual.get_submodule(name).weight.data = torch.from_numpy(layer.dequantize())
    assert torch.equal(copied(images), manual(images))
    assert not torch.equal(copied(images), network().eval()(images))


def test_256_levels_leave_the_outputs_almost_as_they_were():
    images = torch.randn(3, 1, 4, 4)
    difference = deployed(network(), quantize(levels=256))(images) - network().eval()(images)
    assert 0 < difference.abs().max() < 0.01


@pytest.mark.parametrize(
    "options", [{"symmetric": True}, {"granularity": "tensor"}, {"grid": "paper"}]
)
def test_the_kind_of_grid_is_respected(options):
    weights = [quantize(shift=1.0, **fields).layers["0"].dequantize() for fields in (options, {})]
    assert not np.array_equal(*weights)


def test_each_layer_is_reported():
    calls = []
    RoundToNearest()(
        network(),
        torch.zeros(1, 1, 4, 4),
        torch.Generator(),
        on_layer=lambda *call: calls.append(call),
    )
    assert calls == [("0", 0, 2), ("4", 1, 2)]
