"""The weight of a layer has its memory for itself, however the other tensor is stored."""

import pytest
import torch
from torch import nn

import bitleak
from bitleak.core.errors import QuantizationError
from bitleak.quantizers.network.shared_memory import shared_weights
from bitleak.quantizers.scheme import Scheme, quantizable


class Tied(nn.Module):
    """Layers `f` (4 to 6) and `head`, and whatever else is tied to the weight of `f`."""

    def __init__(self, tie):
        super().__init__()
        self.f, self.g, self.head = nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(6, 3)
        tie(self)

    def forward(self, x):
        return self.head(self.f(x.flatten(1)).relu())


def embedding(network):
    network.table = nn.Embedding(6, 4)
    network.table.weight = network.f.weight


def transposed_linear(network):
    network.g.weight = nn.Parameter(network.f.weight.data.t())


def transposed_convolution(network):
    network.decoder = nn.ConvTranspose1d(6, 4, 1)
    network.decoder.weight = nn.Parameter(network.f.weight.data[:, :, None])


def buffer(network):
    network.register_buffer("copy", network.f.weight.data[1:3])


def attribute(network):
    network.cache = [network.f.weight.data.reshape(-1)]


def slices_that_meet(network):
    whole = torch.randn(8, 4)
    network.f.weight, network.low = nn.Parameter(whole[:6]), nn.Parameter(whole[5:])


def reinterpreted(network):
    network.register_buffer("bits", network.f.weight.data.view(torch.int32))


TIES = {
    embedding: "table.weight",
    transposed_linear: "g.weight",
    transposed_convolution: "decoder.weight",
    buffer: "copy",
    attribute: "cache",
    slices_that_meet: "low",
    reinterpreted: "bits",
}


def slices_that_do_not_meet(network):
    whole = torch.randn(9, 4)
    network.f.weight, network.low = nn.Parameter(whole[:6]), nn.Parameter(whole[6:])


def interleaved_columns(network):
    whole = torch.randn(6, 8)
    network.f.weight, network.odd = nn.Parameter(whole[:, ::2]), nn.Parameter(whole[:, 1::2])


def tied_biases(network):
    network.f.bias = nn.Parameter(torch.zeros(6))
    network.register_buffer("same", network.f.bias.data)


@pytest.mark.parametrize("tie", TIES, ids=lambda tie: tie.__name__)
def test_a_weight_that_another_tensor_reaches_is_refused_by_both_names_and_with_the_way_out(tie):
    network = Tied(tie)
    assert list(shared_weights(network, ["f"])) == [("f", TIES[tie])]
    message = f"layer 'f' shares the memory of its weight with '{TIES[tie]}'"
    with pytest.raises(QuantizationError, match=message) as refused:
        quantizable(network)
    assert 'layers: {"f": fp32}' in str(refused.value)


@pytest.mark.parametrize("tie", [slices_that_do_not_meet, interleaved_columns, tied_biases])
def test_tensors_of_one_storage_that_do_not_meet_are_no_matter(tie):
    assert list(quantizable(Tied(tie))) == ["f", "g", "head"]


def test_the_shared_layer_may_keep_full_precision():
    assert list(quantizable(Tied(embedding), Scheme(layers={"f": "fp32"}))) == ["g", "head"]


@pytest.mark.parametrize(
    "kind", [bitleak.RoundToNearest, bitleak.AdaRound, bitleak.BRECQ, bitleak.OBC, bitleak.GPTQ]
)
def test_every_quantizer_looks_at_the_network_itself_and_not_at_a_copy(kind):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4))
    network[2].weight = nn.Parameter(network[1].weight.data.t())
    with pytest.raises(QuantizationError, match="layer '1' shares the memory"):
        kind(levels=3)(network, torch.randn(8, 1, 2, 2), torch.Generator())
