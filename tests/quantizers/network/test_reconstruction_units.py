from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bitleak.core.errors import QuantizationError
from bitleak.core.types import ModelSpec
from bitleak.models import build
from bitleak.quantizers.network.reconstruction_units import layer_units, trace, units
from bitleak.quantizers.scheme import quantizable


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)
        self.short = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += self.short(x)
        return self.relu(y)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.blocks = nn.Sequential(Block(4, 4), Block(4, 6))
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 5)

    def forward(self, x):
        x = self.blocks(F.relu(self.bn(self.conv(x))))
        x = self.pool(x)
        return self.fc(x.view(x.size(0), -1))


class Attention(nn.Module):
    """Patches, a class token, an attention block, an MLP; `forward` has a second argument."""

    def __init__(self):
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 1, 8))
        self.norm1, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.norm2, self.mlp = (
            nn.LayerNorm(8),
            nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)),
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x, mask=None):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        query, key, value = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.out(F.scaled_dot_product_attention(query, key, value, attn_mask=mask))
        x = x + self.mlp(self.norm2(x))
        return self.head(x[:, 0])


class Dense(nn.Module):
    """Concatenation of everything before; squeeze and excitation; a hand-written swish; channels taken apart."""

    def __init__(self):
        super().__init__()
        self.stem, self.one, self.two = (
            nn.Conv2d(3, 4, 3),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Conv2d(8, 4, 1),
        )
        self.down, self.up = nn.Linear(12, 3), nn.Linear(3, 12)
        self.wide, self.head = nn.Conv2d(12, 8, 3, groups=2), nn.Linear(4, 5)

    def forward(self, x):
        x = self.stem(x)
        x = x * torch.sigmoid(x)
        y = self.one(x)
        z = self.two(torch.cat([x, y], 1))
        x = torch.cat([x, y, z], 1)
        x = x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))[:, :, None, None]
        left, right = self.wide(x).chunk(2, 1)
        return self.head((left * right.sigmoid()).amax((2, 3)))


OWN = {"residual": Residual, "attention": Attention, "dense": Dense}
SMALL = {
    "cnn": {"width": 4},
    "resnet18": {"width": 4},
    "vgg11_bn": {"width": 4},
    "mobilenet_v2": {"width": 0.25},
}
REGISTERED = ["cnn", "resnet18", "resnet20", "vgg11_bn", "mobilenet_v2"]


@pytest.fixture(params=[*OWN, *REGISTERED])
def network(request):
    torch.manual_seed(0)
    if request.param in OWN:
        return OWN[request.param]().eval()
    spec = ModelSpec(request.param, SMALL.get(request.param, {}), 5, 3, 16, (0.5,) * 3, (0.25,) * 3)
    return build(spec, seed=0).eval()


def cuts_by_removal(graph):
    """The nodes without which the output cannot be reached from the input."""
    nodes = list(graph.nodes)
    source = next(node for node in nodes if node.op == "placeholder")
    found = []
    for removed in nodes[1:-1]:
        reached = {source}
        for node in nodes:
            if node is not removed and reached.intersection(node.all_input_nodes):
                reached.add(node)
        if nodes[-1] not in reached:
            found.append(removed.name)
    return found


def test_every_layer_lies_in_exactly_one_unit(network):
    counts = Counter(name for unit in units(network) for name in unit.layers)
    assert counts == dict.fromkeys(quantizable(network), 1)


def test_units_run_one_after_the_other_are_the_network(network):
    images = torch.randn(3, 3, 16, 16)
    values = images.clone()
    with torch.no_grad():
        for unit in units(network):
            values = unit.run(values)
        torch.testing.assert_close(values, network(images))


def test_units_meet_and_have_names_of_their_own(network):
    pieces = units(network)
    assert [unit.output for unit in pieces[:-1]] == [unit.input for unit in pieces[1:]]
    assert len({unit.name for unit in pieces}) == len(pieces)


def test_units_end_where_the_graph_can_be_cut_and_hold_several_layers_only_where_it_branches(
    network,
):
    graph = trace(network)
    cuts = cuts_by_removal(graph)
    position = {node.name: i for i, node in enumerate(graph.nodes)}
    runs = {
        name: i
        for i, node in enumerate(graph.nodes)
        for name in quantizable(network)
        if node.target == name
    }
    for unit in units(network):
        assert unit.output in cuts
        steps = [runs[name] for name in unit.layers if name in runs]
        assert not any(steps[0] <= position[cut] < steps[-1] for cut in cuts if len(steps) > 1)


def test_a_residual_block_is_one_unit_up_to_its_activation():
    pieces = {unit.name: unit for unit in units(Residual())}
    assert [unit.layers for unit in pieces.values()] == [
        ("conv",),
        ("blocks.0.conv1", "blocks.0.conv2"),
        ("blocks.1.conv1", "blocks.1.conv2", "blocks.1.short"),
        (),
        ("fc",),
    ]
    assert pieces["conv"].output == "relu"
    assert pieces["blocks.0"].output == "blocks_0_relu_1"
    assert pieces["blocks.1"].input == "blocks_0_relu_1"


def test_blocks_of_other_architectures_are_units():
    assert [unit.layers for unit in units(Dense()) if unit.layers] == [
        ("stem",),
        ("one", "two"),
        ("down", "up"),
        ("wide",),
        ("head",),
    ]
    held = [unit.layers for unit in units(Attention()) if unit.layers]
    assert held == [("patch",), ("qkv", "out"), ("mlp.0", "mlp.2"), ("head",)]


def test_pooling_and_reshaping_lie_outside_the_units_with_layers():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(196, 6),
        nn.Hardswish(),
        nn.Linear(6, 2),
        nn.Softmax(1),
    )
    found = [(unit.layers, unit.output) for unit in units(network)]
    assert found == [(("0",), "_0"), ((), "_2"), (("3",), "_4"), (("5",), "_5"), ((), "_6")]


class Calls(nn.Module):
    """Two layers and a forward pass that is given."""

    def __init__(self, calls):
        super().__init__()
        self.first, self.second, self.calls = nn.Linear(3, 3), nn.Linear(3, 3), calls

    def forward(self, x):
        return self.calls(self.first, self.second, x)


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        (lambda first, second, x: second(first(first(x))), "layer 'first' is called 2 times"),
        (lambda first, second, x: first(x), "layer 'second' is never called"),
        (
            lambda first, second, x: second(F.linear(x, first.weight, first.bias)),
            "layer 'first' is never called as a module",
        ),
        (
            lambda first, second, x: F.linear(second(first(x)), first.weight),
            "layer 'first' is also used otherwise",
        ),
        (lambda first, second, x: (first(x), second(x)), "return one tensor"),
        (
            lambda first, second, x: second(first(torch.ones(1, 3))),
            "does not depend on its first argument",
        ),
    ],
)
def test_networks_without_units_are_refused(calls, message):
    with pytest.raises(QuantizationError, match=message):
        units(Calls(calls))


def test_the_unit_of_a_layer_alone_ends_where_another_input_joins():
    network = Residual().eval()
    found = layer_units(network)
    assert list(found) == list(quantizable(network))
    inputs = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(found["conv"].run(inputs), F.relu(network.bn(network.conv(inputs))))
    maps, block = torch.randn(2, 4, 8, 8), network.blocks[1]
    torch.testing.assert_close(
        found["blocks.1.conv1"].run(maps), F.relu(block.bn1(block.conv1(maps)))
    )
    torch.testing.assert_close(
        found["blocks.1.conv2"].run(block.conv1(maps)), block.bn2(block.conv2(block.conv1(maps)))
    )
    torch.testing.assert_close(found["blocks.1.short"].run(maps), block.short(maps))
    assert found["blocks.1.conv2"].layers == ("blocks.1.conv2",)
