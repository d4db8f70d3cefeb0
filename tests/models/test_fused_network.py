"""Networks made ready to be asked: the same outputs, and nothing left to do twice."""

import copy
import gc
import weakref
from dataclasses import replace

import pytest
import torch
from torch import nn

from bitleak.core.types import ModelSpec
from bitleak.models import build, fused_network
from bitleak.models.fused_network import fused, fused_by_spec
from bitleak.models.input_rounding import round_inputs

NETWORKS = {
    "cnn": {"width": 4},
    "resnet18": {"width": 4},
    "resnet20": {},
    "vgg11_bn": {},
    "mobilenet_v2": {},
}


def trained(network, images):
    """Running statistics and batch-norm factors that are not those of a fresh network."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2.0)
                module.bias.normal_()
        for _ in range(3):
            network.train()(images * 2 + 1)
    return network.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_fused_network_answers_as_before_without_batch_norms(name):
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    network = trained(
        build(ModelSpec(name, NETWORKS[name], 10, 3, 32, (0.5,) * 3, (0.2,) * 3), seed=0), images
    )
    before = copy.deepcopy(network.state_dict())
    given = images.clone()
    with torch.no_grad():
        expected, found = network(images), fused(network)(images)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused(network).modules())
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5
    assert torch.equal(images, given)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


class Awkward(nn.Module):
    """What must stay: maps used twice, a norm called twice, a rectified input, a norm without statistics."""

    def __init__(self):
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.shared, self.twice = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.without = nn.BatchNorm2d(4, track_running_stats=False)
        self.relu, self.rectified, self.again = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, images):
        maps = self.conv(self.rectified(images))
        seen = self.relu(self.shared(maps)) + self.again(maps)
        seen = self.again(self.other(seen)) + maps
        return (
            self.without(self.twice(self.other(seen)) + self.twice(self.other(maps)))
            + images[:, :1]
        )


def test_what_is_used_elsewhere_is_neither_folded_nor_overwritten():
    images = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    network = trained(Awkward(), images)
    ready, given = fused(network), images.clone()
    with torch.no_grad():
        assert torch.allclose(ready(images), network(images), atol=1e-6)
    assert torch.equal(images, given)
    assert {
        name for name, module in ready.named_modules() if isinstance(module, nn.BatchNorm2d)
    } == {
        "shared",
        "twice",
        "without",
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_one_spec_are_traced_once_and_answer_bit_for_bit_as_if_fused_alone(
    name, monkeypatch
):
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    spec = ModelSpec(name, NETWORKS[name], 10, 3, 32, (0.5,) * 3, (0.2,) * 3)
    networks = [trained(build(spec, seed=seed), images + seed) for seed in range(3)]
    alone = [fused(network) for network in networks]
    traces, trace = [], fused_network.fx.symbolic_trace
    monkeypatch.setattr(
        fused_network.fx, "symbolic_trace", lambda given: traces.append(given) or trace(given)
    )
    fused_network._traced_spec.cache_clear()
    together = [fused_by_spec(network, replace(spec, std=(0.3,) * 3)) for network in networks]
    assert len(traces) == 1
    assert all(given is not network for given in traces for network in networks)
    with torch.no_grad():
        answers = [ready(images) for ready in together]  # the first one after the last was made
        for found, ready in zip(answers, alone, strict=True):
            assert torch.equal(found, ready(images))
    assert not torch.equal(answers[0], answers[1])


def test_another_size_of_the_images_or_option_is_another_network():
    networks = []
    for width, size, classes in ((4, 32, 10), (4, 16, 10), (8, 32, 10), (4, 32, 3)):
        spec = ModelSpec("cnn", {"width": width}, classes, 3, size, (0.5,) * 3, (0.2,) * 3)
        network = trained(build(spec, seed=0), torch.randn(8, 3, size, size))
        networks.append((network, fused_by_spec(network, spec), torch.randn(8, 3, size, size)))
    with torch.no_grad():
        for network, ready, images in networks:
            torch.testing.assert_close(ready(images), network(images), rtol=1e-4, atol=1e-4)


def test_a_network_with_rounded_inputs_is_fused_by_its_own_hooks():
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    spec = ModelSpec("cnn", {"width": 4}, 10, 3, 32, (0.5,) * 3, (0.2,) * 3)
    network = trained(build(spec, seed=0), images)
    with torch.no_grad():
        plain = fused_by_spec(network, spec)(images)
        round_inputs(network, {"stage1.0.conv1": {"scale": 0.5, "zero_point": 0, "levels": 4}})
        rounded = fused_by_spec(network, spec)
        assert torch.equal(rounded(images), fused(network)(images))
        assert not torch.equal(rounded(images), plain)


def test_no_network_is_kept_after_its_last_use():
    spec = ModelSpec("cnn", {"width": 4}, 10, 3, 32, (0.5,) * 3, (0.2,) * 3)
    network = build(spec, seed=0).eval()
    ready = fused_by_spec(network, spec)
    kept = [weakref.ref(part) for part in (network, ready, ready.get_submodule("classifier"))]
    del network, ready
    gc.collect()
    assert [reference() for reference in kept] == [None] * 3


class Constant(nn.Module):
    """Makes a tensor of its own, and reads a parameter without a module."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.tensor([2.0]))

    def forward(self, images):
        return self.norm(self.conv(images)) * self.scale + torch.tensor([0.25])


def test_constants_and_parameters_of_the_forward_pass_stay():
    images = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    network = trained(Constant(), images)
    with torch.no_grad():
        assert torch.allclose(fused(network)(images), network(images), atol=1e-6)
