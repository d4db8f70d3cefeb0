import pytest
import torch
from torch import nn

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.layers.quadratic import quadratic


@pytest.mark.parametrize(
    ("layer", "shape", "positions"),
    [
        (nn.Conv2d(4, 6, 3, padding=1), (5, 4, 6, 6), 180),
        (nn.Conv2d(4, 6, 3, stride=2, groups=2), (5, 4, 7, 7), 45),
        (nn.Conv1d(4, 6, 3), (5, 4, 7), 25),
        (nn.Linear(4, 6), (5, 3, 4), 15),
    ],
)
def test_the_error_is_that_of_the_outputs(layer, shape, positions):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(shape, generator=generator)
    quantized_inputs = inputs + 0.1 * torch.randn(shape, generator=generator)
    weight = layer.weight.detach()
    change = 0.1 * torch.randn(weight.shape, generator=generator)
    chunks = zip(inputs.split(2), quantized_inputs.split(2), strict=True)
    with torch.no_grad():
        loss = quadratic("layer", layer, chunks)
        wanted = layer(inputs)
        layer.weight.add_(change)
        outputs = layer(quantized_inputs)
    axis = -1 if isinstance(layer, nn.Linear) else 1
    errors = (wanted - outputs).double().movedim(axis, 0).flatten(1).square().sum(1)
    bias = layer.bias.reshape(-1, *[1] * (wanted.ndim - 2)) if axis == 1 else layer.bias
    energy = (wanted - bias).double().movedim(axis, 0).flatten(1).square().sum(1)
    torch.testing.assert_close(loss.error(change.flatten(1)), errors.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        loss.energy(weight.flatten(1) - change.flatten(1)), energy.detach(), rtol=1e-4, atol=1e-6
    )
    assert loss.positions == positions


def test_equal_inputs_leave_exactly_no_inherited_error():
    inputs = torch.randn(5, 4)
    loss = quadratic("layer", nn.Linear(4, 2), [(inputs, inputs)])
    assert not loss.constant.any()
    assert not loss.moment.any()


def test_inputs_that_are_not_finite_name_the_layer():
    inputs = torch.tensor([[1.0, float("nan")]])
    with pytest.raises(QuantizationError, match="layer 'head': the calibration input"):
        quadratic("head", nn.Linear(2, 1), [(inputs, inputs)])
