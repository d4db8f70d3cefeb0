"""The levels of a layer are those of the weight that its product is given, in the network as it is loaded."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bitleak
from bitleak.core.errors import QuantizationError
from bitleak.core.types import QuantizedWeights
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.network.operands import check_operands

LAYERS = {
    "convolution": lambda: (nn.Conv2d(4, 6, 3, padding="same", padding_mode="circular"), (4, 7, 7)),
    "grouped": lambda: (nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False), (4, 7, 7)),
    "one axis": lambda: (nn.Conv1d(4, 6, 3), (4, 9)),
    "three axes": lambda: (nn.Conv3d(4, 6, 2), (4, 3, 3, 3)),
    "linear": lambda: (nn.Linear(4, 6), (4,)),
    "without a bias": lambda: (nn.Linear(4, 6, bias=False), (4,)),
    "as many images as features": lambda: (nn.Linear(2, 2), (2,)),
    "tokens": lambda: (nn.Linear(4, 6), (5, 4)),
    "tokens without a bias": lambda: (nn.Linear(4, 6, bias=False), (5, 4)),
    "tokens in another memory order": lambda: (
        nn.Sequential(Transpose(), nn.Linear(4, 6, bias=False)),
        (4, 5),
    ),
}


class Transpose(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


def rounded(network, shape, **fields):
    images = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    return bitleak.RoundToNearest(**{"levels": 3, **fields})(
        network, images, torch.Generator()
    ), images


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_loaded_weights_pass_and_others_are_counted_and_refused(kind, granularity):
    torch.manual_seed(0)
    layer, shape = LAYERS[kind]()
    network = nn.Sequential(layer).eval()
    found, images = rounded(network, shape, granularity=granularity)
    name = next(iter(found.layers))
    check_operands(deployed(network, found), found, images)
    weight = network.get_submodule(name).weight
    grids = weight.reshape(len(found.layers[name].scale), -1)
    most = max(len(row.unique()) for row in grids)
    text = f"layer '{name}': {most} different weights reach one of its grids' products, at most 3 were expected"
    if most > 3:
        with pytest.raises(QuantizationError, match=text):
            check_operands(network, found, images)
    with torch.no_grad():
        scaled = deployed(network, found)
        scaled.get_submodule(name).weight.mul_(2)
    with pytest.raises(
        QuantizationError, match=f"layer '{name}': other weights than those of its codes"
    ):
        check_operands(scaled, found, images)


class Changing(nn.Module):
    """Sets the weight of its layer whenever it runs, in one way or another."""

    def __init__(self, way):
        super().__init__()
        self.conv, self.head, self.way = nn.Conv2d(1, 4, 3), nn.Linear(4, 3), way
        self.register_buffer("master", torch.randn(4, 1, 3, 3))

    def forward(self, x):
        self.way(self)
        return self.head(self.conv(x).relu().mean((2, 3)))


def restores(network):
    network.conv.weight.data = network.master.clone()


def standardises(network):
    network.conv.weight.data = network.conv.weight.data - network.conv.weight.data.mean()


@pytest.mark.parametrize("way", [restores, standardises])
@pytest.mark.parametrize(
    "kind", [bitleak.RoundToNearest, bitleak.AdaRound, bitleak.OBC, bitleak.GPTQ]
)
def test_a_network_that_sets_its_weights_when_it_runs_is_refused_by_every_quantizer(kind, way):
    torch.manual_seed(0)
    with pytest.raises(
        QuantizationError,
        match=r"layer 'conv'.* (Something replaces or changes its weight|read or set outside)",
    ):
        kind(levels=3)(Changing(way).eval(), torch.randn(8, 1, 6, 6), torch.Generator())


def test_a_weight_that_is_loaded_over_the_codes_by_another_name_is_seen():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 8), nn.Linear(8, 2)).eval()
    found, images = rounded(network, (8,))
    # as it is loaded where the second linear layer has the first one's weight, transposed
    network[1].weight = nn.Parameter(network[0].weight.data.t())
    with torch.no_grad():
        for name, value in found.dequantize().tensors.items():
            network.state_dict()[name].copy_(torch.from_numpy(value))
    with pytest.raises(
        QuantizationError, match=r"layer '0': .* different weights reach .* layers: {\"0\": fp32}"
    ):
        check_operands(network, found, images)


def test_a_layer_that_multiplies_nothing_is_refused():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).eval()
    found, images = rounded(network, (2,))
    layers = {name: replace(layer) for name, layer in found.layers.items()}
    with pytest.raises(QuantizationError, match=r"layer 'network\.1': no product of it is run"):
        check_operands(
            Half(network), QuantizedWeights({"network.1": layers["1"]}, found.rest), images
        )


class Half(nn.Module):
    """Runs the first of two layers."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return F.relu(self.network[0](x))


def test_the_last_hook_and_mode_are_gone_afterwards():
    network = nn.Sequential(nn.Linear(2, 2)).eval()
    found, images = rounded(network, (2,))
    check_operands(deployed(network, found), found, images)
    assert not network[0]._forward_hooks
    assert not network[0]._forward_pre_hooks


def test_quantizing_does_not_load_the_compiler_of_pytorch():
    code = (
        "import sys, torch; from torch import nn; from bitleak.quantizers.brecq import BRECQ\n"
        "network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))\n"
        "images = torch.randn(8, 1, 4, 4)\n"
        "BRECQ(levels=3, iterations=5)(network, images, torch.Generator())\n"
        "print({'torch._dynamo', 'sympy'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
