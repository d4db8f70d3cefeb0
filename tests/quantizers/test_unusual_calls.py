"""Layers and batch norms that a network calls otherwise than most do."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.adaround import AdaRound
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.brecq import BRECQ
from bitleak.quantizers.gptq import GPTQ
from bitleak.quantizers.obc import OBC
from bitleak.quantizers.rtn import RoundToNearest

METHODS = {
    "rtn": RoundToNearest(levels=256),
    "adaround": AdaRound(levels=256, iterations=20, grid="zero"),
    "adaround-activation": AdaRound(levels=256, iterations=10, objective="activation", grid="zero"),
    "brecq": BRECQ(levels=256, iterations=10),
    "brecq-output": BRECQ(levels=256, iterations=10, grid="output"),
    "obc": OBC(levels=256),
    "obc-quantized": OBC(levels=256, inputs="quantized"),
    "gptq": GPTQ(levels=256),
}


class Network(nn.Module):
    """Convolution, batch norm, classifier; `call` says how they are called."""

    def __init__(
        self, call: "Callable[[Network, torch.Tensor], torch.Tensor]", **more: nn.Module
    ) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = (
            nn.Conv2d(1, 4, 3, bias=False),
            nn.BatchNorm2d(4),
            nn.Linear(64, 10),
        )
        for name, module in more.items():
            self.add_module(name, module)
        self.call = call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.call(self, x)


def plain(net, x):
    return net.fc(net.bn(net.conv(x)).relu().flatten(1))


def by_keyword(net, x):
    return net.fc(input=net.bn(input=net.conv(input=x)).relu().flatten(1))


def block_by_keyword(net, x):
    maps = net.bn(input=net.conv(input=x)).relu()
    return net.fc(input=(maps + net.more(input=maps)).flatten(1))


def by_view(net, x):
    maps = net.bn(net.conv(x)).relu()
    return net.fc(maps.view(maps.shape[0], -1))


def by_strides(net, x):
    maps = net.bn(net.conv(x)).relu()
    return net.fc(torch.as_strided(maps, (maps.shape[0], 64), (64, 1)))


def norm_twice(net, x):
    return net.fc(net.bn(net.more(net.bn(net.conv(x)).relu())).flatten(1))


CALLS = {
    "keyword": (by_keyword, {}),
    "keyword in a block": (block_by_keyword, {"more": lambda: nn.Conv2d(4, 4, 3, padding=1)}),
    "view": (by_view, {}),
    "strides": (by_strides, {}),
    "a norm that is not used": (plain, {"aux": lambda: nn.BatchNorm2d(4)}),
}


def made(call, more=(), seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Network(call, **{name: make() for name, make in dict(more).items()}).eval()
        with torch.no_grad():
            (
                network.bn.running_mean.normal_(),
                network.bn.running_var.uniform_(0.5, 2),
                network.bn.weight.uniform_(1, 2),
            )
    return network


def images():
    return torch.randn(16, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def error_of(network, method, shown):
    """Largest difference of the logits that 256 levels make, relative to the largest logit."""
    quantized = METHODS[method](network, shown, torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = network(shown), deployed(network, quantized)(shown)
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CALLS)
def test_at_256_levels_the_network_answers_as_at_full_precision(case, method):
    assert 0 < error_of(made(*CALLS[case]), method, images()) < 0.02


@pytest.mark.parametrize("call", [by_keyword, by_view, by_strides])
def test_how_layers_are_called_does_not_change_the_codes(call):
    for method in ("adaround", "brecq", "brecq-output", "obc-quantized"):
        codes = [
            METHODS[method](made(each), images(), torch.Generator().manual_seed(0))
            .layers["conv"]
            .codes.tolist()
            for each in (plain, call)
        ]
        assert codes[0] == codes[1], method


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_norm_behind_two_layers_is_called_one_and_the_way_out_is_named(method):
    network = made(norm_twice, {"more": lambda: nn.Conv2d(4, 4, 3, padding=1)})
    if method in ("obc", "obc-quantized", "gptq"):
        with pytest.raises(
            QuantizationError, match=r"batch norm 'bn' is used 2 times.*`reestimate: none`"
        ):
            error_of(network, method, images())
    else:
        assert 0 < error_of(network, method, images()) < 0.02
    for quantizer in (OBC(levels=256, reestimate="none"), GPTQ(levels=256, reestimate="none")):
        quantized = quantizer(network, images(), torch.Generator())
        assert (quantized.rest["bn.running_mean"] == network.bn.running_mean.numpy()).all()
