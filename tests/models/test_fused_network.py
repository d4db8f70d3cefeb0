"""Networks made ready to be asked: the same outputs, and nothing left to do twice."""

import copy

import pytest
import torch
from torch import nn

from bitleak.core.types import ModelSpec
from bitleak.models import build
from bitleak.models.fused_network import fused

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
