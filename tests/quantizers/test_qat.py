"""Quantization-aware training: its gradients, its grids, and what it releases."""

import numpy as np
import pytest
import torch
from torch import nn

from bitleak.core.types import Images
from bitleak.data.augment import Standard
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.grid import Grid, search_grid, to_codes, to_weights
from bitleak.quantizers.qat import (
    FakeQuantized,
    QuantizationAwareTraining,
    in_range,
    straight_through,
)
from bitleak.quantizers.rtn import RoundToNearest
from bitleak.train.fit import records_on, train_network
from bitleak.train.recipe import Recipe


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    ).eval()


def batch(records=32):
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(records) % 3
    images = torch.randn(records, 1, 4, 4, generator=generator) + labels[:, None, None, None]
    return images, labels


def records(count=96):
    """Images of three classes that differ in brightness, as stored pixels."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    pixels = np.clip(
        rng.normal(60 + 60 * labels[:, None, None, None], 40, (count, 1, 4, 4)), 0, 255
    )
    data = Images(pixels.astype(np.uint8), labels, ("a", "b", "c"), np.zeros(count, bool))
    standard = Standard.on(torch.device("cpu"), (0.5,), (0.25,), torch.contiguous_format)
    return records_on(torch.device("cpu"), data, np.arange(count), standard)


def fake(scheme, trained=None):
    return FakeQuantized(scheme, trained or network(), batch()[0])


def test_the_gradient_is_that_of_a_network_whose_weights_are_on_the_grid():
    """An oracle without any straight-through estimator: the quantized weights are the parameters."""
    scheme = QuantizationAwareTraining(levels=4)
    wrapped, (images, labels) = fake(scheme).train(), batch()
    # moved after the search, so that some weights are beyond the ends of their grids
    weights = {name: wrapped.network.get_submodule(name).weight for name in ("0", "4")}
    grids = {name: search_grid(weight.detach(), 4) for name, weight in weights.items()}
    with torch.no_grad():
        for weight in weights.values():
            weight.mul_(2.0)
    nn.functional.cross_entropy(wrapped(images), labels).backward()

    plain = network().train()
    for name, weight in weights.items():
        scale, zero = grids[name].scale, grids[name].zero_point
        shape = (-1, *[1] * (weight.ndim - 1))
        code = torch.round(weight.detach() / scale.view(shape)) + zero.view(shape)
        clipped = code.clamp(0, 3)
        plain.get_submodule(name).weight.data = scale.view(shape) * (clipped - zero.view(shape))
        grids[name] = code == clipped
    nn.functional.cross_entropy(plain(images), labels).backward()
    for name, weight in weights.items():
        expected = plain.get_submodule(name).weight.grad * grids[name]
        torch.testing.assert_close(weight.grad, expected)
        assert 0 < grids[name].float().mean() < 1
    # all other parameters, whose gradients pass through the quantized weights
    for name, parameter in plain.named_parameters():
        if not name.endswith("weight") or name == "1.weight":
            torch.testing.assert_close(
                dict(wrapped.network.named_parameters())[name].grad, parameter.grad
            )


def test_values_and_gradients_are_those_of_pytorchs_own_fake_quantization():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 50, generator=generator)
    grid = search_grid(weight, 16)
    # the search may shrink the range, so that the extremes are clipped
    own, theirs = (weight.clone().requires_grad_() for _ in range(2))
    quantized = straight_through(own, grid)
    reference = torch.fake_quantize_per_channel_affine(
        theirs, grid.scale, grid.zero_point.int(), 0, 0, 15
    )
    torch.testing.assert_close(quantized, reference)
    outer = torch.randn(6, 50, generator=generator)
    (quantized * outer).sum().backward()
    (reference * outer).sum().backward()
    torch.testing.assert_close(own.grad, theirs.grad)
    assert not in_range(weight, grid).all()


@pytest.mark.parametrize("levels", [256, 16, 3])
def test_released_weights_are_those_that_the_last_forward_pass_would_use(levels):
    scheme = QuantizationAwareTraining(levels=levels, last=8)
    wrapped = fake(scheme).train()
    train_network(
        wrapped,
        records(),
        Recipe(epochs=2, batch=16, learning_rate=0.02, augment=()),
        seed=0,
        before_epoch=wrapped.search,
    )
    images, _ = batch()
    quantized = wrapped.released(images)
    assert {name: layer.levels for name, layer in quantized.layers.items()} == {"0": levels, "4": 8}
    for layer in quantized.layers.values():
        assert layer.codes.max() < layer.levels
        for row in layer.dequantize().reshape(len(layer.codes), -1):
            assert len(np.unique(row)) <= layer.levels
    with torch.no_grad():
        answers = wrapped.eval()(images)
    torch.testing.assert_close(deployed(network(), quantized)(images), answers, rtol=0, atol=1e-6)
    assert quantized.record["0"]["relative_weight_change"] > 0


def test_the_network_given_is_not_changed_and_the_rest_is_trained_along():
    given = network()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    wrapped = fake(QuantizationAwareTraining(levels=16), given).train()
    train_network(
        wrapped, records(), Recipe(epochs=1, batch=16, learning_rate=0.02, augment=()), seed=0
    )
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    rest = wrapped.released(batch()[0]).rest
    for name in ("0.bias", "1.weight", "1.running_mean", "4.bias"):
        assert not np.array_equal(rest[name], before[name].numpy()), name


def test_training_at_three_levels_learns_what_rounding_loses():
    full, trained_on = network().train(), records()
    recipe = Recipe(epochs=15, batch=16, learning_rate=0.05, augment=())
    train_network(full, trained_on, recipe, seed=0)
    inputs = trained_on.standard(trained_on.pixels)

    def loss(found):
        with torch.no_grad():
            outputs = deployed(network(), found)(inputs)
        return float(nn.functional.cross_entropy(outputs, trained_on.labels))

    rounded = RoundToNearest(levels=3)(full.eval(), inputs, torch.Generator())
    wrapped = fake(QuantizationAwareTraining(levels=3), full).train()
    train_network(wrapped, trained_on, recipe, seed=0, before_epoch=wrapped.search)
    assert loss(wrapped.released(inputs)) < 0.7 * loss(rounded)


def test_grids_follow_the_weights_between_epochs():
    wrapped = fake(QuantizationAwareTraining(levels=16)).train()
    layer = wrapped.network.get_submodule("4")
    with torch.no_grad():
        layer.weight.mul_(3.0)
    images, _ = batch()
    clipped = wrapped.released(images).layers["4"].dequantize()
    wrapped.search()
    found = wrapped.released(images).layers["4"]
    weight = layer.weight.detach()
    grid = search_grid(weight, 16)
    np.testing.assert_array_equal(found.dequantize(), to_weights(to_codes(weight, grid), grid))
    assert np.abs(clipped).max() < np.abs(found.dequantize()).max()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "epochs must be"),
        ({"learning_rate": 0.0}, "learning_rate must be"),
        ({"activations": 8}, "activations must be null"),
        ({"grid": "output"}, "grid must be zero or paper"),
        ({"levels": 300}, "levels must be an integer from 2 to 256"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        QuantizationAwareTraining(**fields)


def test_a_weight_at_the_end_of_its_grid_still_has_a_gradient():
    weight = torch.tensor([[0.0, 3.4, 3.6]], requires_grad=True)
    straight_through(weight, Grid(torch.ones(1), torch.zeros(1), 4)).sum().backward()
    assert weight.grad.tolist() == [[1.0, 1.0, 0.0]]
