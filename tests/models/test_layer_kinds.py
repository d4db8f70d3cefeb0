"""A module is taken for its kind only if the code that runs is that of its kind."""

import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bitleak.models.fused_network import fused
from bitleak.models.layer_kinds import deviation


class Masked(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight * (self.weight > 0))


class Standardised(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight - weight.mean(), bias)


class Renamed(nn.Conv2d):
    """A subclass without a forward pass of its own."""


class Called(nn.Linear):
    def __call__(self, x):
        return 2 * super().__call__(x)


class Offset(nn.BatchNorm2d):
    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, 1 + self.weight, self.bias)


@pytest.mark.parametrize(
    "module",
    [
        Renamed(1, 1, 1),
        nn.Conv1d(1, 1, 1),
        nn.Conv3d(1, 1, 1),
        nn.Linear(1, 1),
        nn.BatchNorm1d(1),
        nn.SyncBatchNorm(1),
    ],
)
def test_modules_of_pytorch_and_mere_subclasses_are_of_their_kind(module):
    assert deviation(module) is None


@pytest.mark.parametrize(
    "module", [Masked(1, 1, 1), Standardised(1, 1, 1), Called(1, 1), Offset(1)]
)
def test_a_forward_pass_of_its_own_is_named_by_the_class(module):
    assert deviation(module) == f"its class {type(module).__name__} has a forward pass of its own"


@pytest.mark.parametrize("method", ["forward", "_conv_forward"])
def test_a_method_replaced_on_one_instance_is_seen(method):
    layer = nn.Conv2d(1, 1, 1)
    setattr(layer, method, types.MethodType(lambda self, *given: given[0], layer))
    assert deviation(layer) == f"its method {method} was replaced by another one"


def test_hooks_are_seen_until_they_are_removed():
    layer = nn.Linear(1, 1)
    for register, name in (
        (layer.register_forward_hook, "hook"),
        (layer.register_forward_pre_hook, "pre-hook"),
    ):
        handle = register(lambda *given: None)
        assert deviation(layer) == f"it has a forward {name}, which may change what it computes"
        handle.remove()
    assert deviation(layer) is None


def test_a_norm_of_its_own_is_not_fused_into_the_convolution_before_it():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), Offset(2)).eval()
    images = torch.randn(4, 1, 6, 6)
    expected = network(images)
    assert torch.allclose(fused(network)(images), expected, atol=1e-6)
