"""Weight gradients by one product against PyTorch's, and where they are used."""

import copy

import pytest
import torch
from torch import nn

from bitleak.train import convolution
from bitleak.train.convolution import Convolution, weight_gradient, with_products

CPU = torch.device("cpu")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [((3, 3), (1, 1), (1, 1), (4, 4)), ((3, 3), (2, 2), (1, 1), (7, 5)), ((1, 1), (2, 2), (0, 0), (6, 6)),
     ((1, 3), (2, 1), (0, 2), (5, 6)), ((5, 2), (1, 3), (3, 1), (6, 8))],
)  # fmt: skip
def test_the_weight_gradient_is_that_of_autograd(kernel, stride, padding, size, layout):
    chance = torch.Generator().manual_seed(0)
    images = torch.randn(3, 4, *size, generator=chance, dtype=torch.float64).to(
        memory_format=layout
    )
    weight = torch.randn(6, 4, *kernel, generator=chance, dtype=torch.float64).requires_grad_()
    outputs = nn.functional.conv2d(images, weight, stride=stride, padding=padding)
    gradient = torch.randn(outputs.shape, generator=chance, dtype=torch.float64).to(
        memory_format=layout
    )
    (expected,) = torch.autograd.grad(outputs, weight, gradient)
    found = weight_gradient(images, gradient, weight, stride, padding)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.ReLU(),  # 12x12: PyTorch's own gradient
        nn.Conv2d(16, 16, 3, stride=2, padding=1, bias=False), nn.ReLU(),  # 6x6
        nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.ReLU(),
        nn.Conv2d(16, 8, 1, bias=True),  # not replaced
        nn.Flatten(), nn.Linear(8 * 36, 5),
    )  # fmt: skip


def test_replaced_convolutions_have_the_same_outputs_and_gradients_up_to_rounding(monkeypatch):
    shapes = []
    monkeypatch.setattr(
        convolution,
        "weight_gradient",
        lambda *given: shapes.append(tuple(given[1].shape)) or weight_gradient(*given),
    )
    plain = network().to(memory_format=torch.channels_last)
    other = with_products(copy.deepcopy(plain), "bfloat16", CPU)
    assert [type(module) is Convolution for module in other[::2][:4]] == [True, True, True, False]
    assert list(other.state_dict()) == list(plain.state_dict())
    found = []
    for each in (plain, other):
        images = torch.randn(
            8, 3, 12, 12, generator=torch.Generator().manual_seed(1)
        ).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = each(images.contiguous(memory_format=torch.channels_last))
        outputs.float().square().mean().backward()
        found.append((outputs, images.grad, [parameter.grad for parameter in each.parameters()]))
    (outputs, images, gradients), (other_outputs, other_images, other_gradients) = found
    assert torch.equal(outputs, other_outputs)
    assert torch.equal(images, other_images)
    for expected, each in zip(gradients, other_gradients, strict=True):
        assert each.dtype == torch.float32
        assert float((each - expected).norm() / expected.norm()) < 0.01
    assert shapes == [(8, 16, 6, 6)] * 2  # not for the large maps


def test_float32_other_devices_hooks_and_subclasses_are_left_alone():
    assert not any(
        isinstance(module, Convolution)
        for module in with_products(network(), "none", CPU).modules()
    )
    meta = with_products(network(), "bfloat16", torch.device("meta"))
    assert not any(isinstance(module, Convolution) for module in meta.modules())
    hooked = network()
    hooked[0].register_forward_hook(lambda layer, given, result: result)
    hooked[2] = nn.Conv2d(16, 16, 3, stride=2, padding=1, bias=False, padding_mode="reflect")
    assert [
        type(module) is Convolution for module in with_products(hooked, "bfloat16", CPU)[:6:2]
    ] == [
        False,
        False,
        True,
    ]
