import copy

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.network.norm_folding import fold, with_affine_norms


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8, eps=1e-3)
        self.short, self.bn3 = nn.Conv2d(3, 8, 1, 2), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return self.fc(F.relu(y + self.bn3(self.short(x))).mean((2, 3)))


class Preactivation(nn.Module):
    """The first norm is fed by the input, the second by a layer whose output is used twice."""

    def __init__(self):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3)
        self.bn2, self.conv2 = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x):
        x = self.conv1(self.bn1(x).relu())
        return self.conv2(self.bn2(x).relu()) + x


class Repeated(nn.Module):
    """One norm behind two layers."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.bn = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.bn(self.conv2(self.bn(self.conv1(x))))


class Standardized(nn.Conv2d):
    """A layer that does not use its weight as it is."""

    def forward(self, x):
        return F.conv2d(x, self.weight - self.weight.mean(), self.bias)


NETWORKS = {
    "residual": Residual,
    "preactivation": Preactivation,
    "repeated": Repeated,
    "grouped": lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.ReLU6()),
    "not affine": lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, affine=False)),
    "no statistics": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, track_running_stats=False)
    ),
    "own forward": lambda: nn.Sequential(Standardized(3, 6, 3), nn.BatchNorm2d(6)),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 6), nn.BatchNorm1d(6)),
    "one axis": lambda: nn.Sequential(
        nn.Flatten(2), nn.Conv1d(3, 5, 3, dilation=2), nn.BatchNorm1d(5)
    ),
}
FOLDED = {"residual": 3, "grouped": 1, "not affine": 1, "linear": 1, "one axis": 1}


def randomized(network):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 3 + 0.01)
    return network


@pytest.fixture(params=NETWORKS)
def name(request):
    return request.param


def test_folding_changes_no_output_and_no_name(name):
    network = randomized(NETWORKS[name]()).train()
    before = copy.deepcopy(network.state_dict())
    folded = fold(network)
    images = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = copy.deepcopy(network).eval()(images)
        torch.testing.assert_close(
            folded(images), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max())
        )
    assert {key: value.shape for key, value in folded.state_dict().items()} == {
        k: v.shape for k, v in before.items()
    }
    assert network.training
    assert not any(module.training for module in folded.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_folded_norm_adds_its_shift_and_nothing_else(name):
    folded = fold(randomized(NETWORKS[name]()))
    pure = 0
    for module in folded.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None:
            shift = -module.running_mean if module.bias is None else module.bias
            values = torch.randn(
                4, module.num_features, 3, *[3] * isinstance(module, nn.BatchNorm2d)
            )
            moved = values + shift.reshape(-1, *[1] * (values.ndim - 2))
            pure += torch.equal(module(values), moved)
    assert pure == FOLDED.get(name, 0)


def test_the_bias_of_a_folded_layer_moves_into_the_norm():
    folded = fold(randomized(Residual()))
    assert folded.conv2.bias.abs().max() == 0
    assert folded.fc.bias.abs().max() > 0


@pytest.mark.parametrize("tokens", [5, 6])
def test_a_norm_of_tokens_behind_a_linear_layer_is_left_as_it_is(tokens):
    """With 6 tokens, only a run tells it from a norm of the layer's 6 features."""
    layers = [
        nn.Linear(16, 6),
        nn.BatchNorm1d(tokens),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * tokens, 6),
    ]
    network = randomized(nn.Sequential(nn.Flatten(2), *layers, nn.BatchNorm1d(6))).eval()
    images = torch.randn(5, tokens, 4, 4, generator=torch.Generator().manual_seed(2))
    folded = fold(network, images)
    with torch.no_grad():
        torch.testing.assert_close(folded(images), network(images), rtol=1e-5, atol=1e-4)
    assert torch.equal(folded[1].weight, network[1].weight)
    assert not torch.equal(folded[5].weight, network[5].weight)
    assert not any(module._forward_hooks for module in folded.modules())


def test_a_norm_that_cannot_be_of_the_layers_features_is_left_as_it_is_without_images_too():
    network = randomized(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(5))).eval()
    assert torch.equal(fold(network)[0].weight, network[0].weight)


def test_a_network_that_cannot_be_traced_is_refused_with_advice():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(
        QuantizationError, match=r"Branching cannot be traced by torch.fx .*rtn, adaround, obc"
    ):
        fold(Branching())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("folded", [False, True])
def test_norms_written_out_give_the_same_outputs_and_gradients(name, folded):
    network = randomized(NETWORKS[name]()).eval()
    piece = fx.symbolic_trace(fold(network) if folded else network)
    written = with_affine_norms(piece)
    inputs = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    found = []
    for each in (piece, written):
        given = inputs.clone().requires_grad_()
        outputs = each(given)
        found.append((outputs, *torch.autograd.grad(outputs.square().sum(), given)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)


def test_only_norms_of_maps_with_statistics_are_written_out():
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(96, 6), nn.BatchNorm1d(6)
    )
    targets = [
        str(node.target)
        for node in with_affine_norms(fx.symbolic_trace(network.eval())).graph.nodes
    ]
    assert "1" not in targets
    assert "4" in targets
    training = [
        str(node.target)
        for node in with_affine_norms(fx.symbolic_trace(network.train())).graph.nodes
    ]
    assert "1" in training
