"""Graphs that are traced once per kind of network: files equal those of fresh exports, or are fresh ones."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from onnx_networks import REASON, SPEC, quantized, trained
from torch import nn

from bitleak.core.types import ModelSpec, Weights
from bitleak.models import state
from bitleak.models.fingerprint import random_images
from bitleak.runtimes import traced_graphs
from bitleak.runtimes.network_kinds import network_kind
from bitleak.runtimes.onnx_export import export_network

# the steps of these runs have tests of their own, with the checks
pytestmark = pytest.mark.usefixtures("shapes_unchecked")

OUTSIDE = replace(SPEC, name="external", options={"factory": "zoo:make"})
EXAMPLE = torch.zeros(2, 3, 8, 8)


@pytest.fixture
def traces(monkeypatch):
    """The networks that were traced, in a process that has traced none before."""
    pytest.importorskip("onnxscript", reason=REASON)
    traced, export = [], traced_graphs._export

    def run(network, example, opset):
        traced.append(network)
        return export(network, example, opset)

    monkeypatch.setattr(traced_graphs, "_export", run)
    monkeypatch.setattr(traced_graphs, "_kept", type(traced_graphs._kept)())
    return traced


class Rows(nn.Module):
    """Products of 3 axes, of which the exporter transposes the weight, a norm and a buffer."""

    def __init__(self, seed=0, **attributes):
        super().__init__()
        torch.manual_seed(seed)
        self.mix = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(24)
        self.head = nn.Linear(8, 10)
        self.register_buffer("shift", torch.randn(8))
        for name, value in attributes.items():
            setattr(self, name, value)
        self.eval()

    def forward(self, images):
        return self.classify(self.norm(self.mix(images.flatten(1, 2)) + self.shift))

    def classify(self, rows):
        return self.head(rows.relu().mean(1))


class Branch(Rows):
    """Doubles its rows if the first weight is positive, which no operator shows."""

    def classify(self, rows):
        return super().classify(rows * 2 if self.head.weight.tolist()[0][0] > 0 else rows)


class Number(Rows):
    """Divides by a number computed from a weight."""

    def classify(self, rows):
        return super().classify(rows / float(self.head.weight.detach().numpy().max()))


class Attribute(Rows):
    """Multiplies by an attribute, a number or a tensor."""

    def classify(self, rows):
        return super().classify(rows * self.factor)


class Hidden(Rows):
    """Computes with a tensor that its attributes do not show."""

    def classify(self, rows):
        return super().classify(rows + TABLES[int(self.number)])


class Counting(Attribute):
    """Changes itself and draws in each pass."""

    def classify(self, rows):
        self.calls += 1
        self.shift += torch.rand(())
        return super().classify(rows)


class Shared(Rows):
    """Two names of one weight."""

    def __init__(self, seed, *, tied):
        super().__init__(seed)
        self.again = nn.Linear(8, 10)
        if tied:
            self.again.weight = self.head.weight
        self.eval()

    def classify(self, rows):
        return super().classify(rows) + self.again(rows.mean(1))


TABLES = [torch.full((8,), 3.0), torch.full((8,), -3.0)]


def kind(network):
    return network_kind(network, EXAMPLE)


def content(network, spec=OUTSIDE, **options):
    return export_network(network, Weights(state(network), spec), **options).content


def check_answers(network, exported, spec=OUTSIDE):
    onnxruntime = pytest.importorskip("onnxruntime", reason=REASON)
    images = random_images(spec, 16)
    with torch.no_grad():
        expected = network(images).numpy()
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    answers = session.run(["logits"], {"images": images.numpy()})[0]
    assert np.abs(answers - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("cnn", {"width": 4}, 8),
        pytest.param("resnet18", {}, 32, marks=pytest.mark.slow),
        pytest.param("resnet20", {}, 32, marks=pytest.mark.slow),
        pytest.param("vgg11_bn", {}, 32, marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", {}, 32, marks=pytest.mark.slow),
    ],
)
def test_the_second_network_of_a_kind_has_the_file_of_a_fresh_export(traces, name, options, size):
    spec = ModelSpec(name, options, 10, 3, size, (0.5,) * 3, (0.25,) * 3)
    first, second = trained(spec, 1), trained(spec, 2)
    content(first, spec)
    exported = content(second, spec)
    assert traces == [first]
    check_answers(second, exported, spec)
    traced_graphs.forget_graphs()
    assert content(second, spec) == exported
    assert traces == [first, second]


def test_constants_computed_from_weights_are_computed_for_each_network(traces):
    # The product's weight is folded from that of the network: no initializer has its values.
    first, second = Rows(1), Rows(2)
    contents = [content(first), content(second)]
    codes = quantized(second, OUTSIDE, levels=4)
    for name, layer in codes.layers.items():
        second.get_submodule(name).weight.data = torch.from_numpy(layer.dequantize())
    packed = export_network(second, codes, opset=21).content
    assert traces == [first]
    traced_graphs.forget_graphs()
    assert export_network(second, codes, opset=21).content == packed
    assert content(Rows(2)) == contents[1] != contents[0]
    assert len(traces) == 2
    check_answers(Rows(2), contents[1])


def test_networks_with_other_values_are_of_one_kind():
    assert kind(Rows(1)) == kind(Rows(2)) is not None
    assert kind(trained(SPEC, 1)) == kind(trained(SPEC, 2)) is not None
    assert kind(Shared(1, tied=True)) == kind(Shared(2, tied=True)) is not None


def with_layer(name, layer):
    network = Rows()
    setattr(network, name, layer)
    return network.eval()


def with_transposed_memory():
    network = Rows()
    network.mix.weight.data = network.mix.weight.data.t().contiguous().t()
    return network


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Rows(1), Branch(1)),
        (Rows(1), Rows(1).double()),
        (Rows(1), Rows(1).requires_grad_(False).train()),
        (Rows(), with_layer("norm", nn.BatchNorm1d(24, eps=1e-3))),
        (Rows(), with_layer("mix", nn.Linear(8, 8, bias=False))),
        (Rows(), with_layer("spare", nn.Linear(8, 8))),
        (Rows(), with_transposed_memory()),
        (Branch(1), Branch(2)),
        (Number(1), Number(2)),
        (Attribute(factor=2.0), Attribute(factor=3.0)),
        (Attribute(factor=1), Attribute(factor=True)),
        (Attribute(factor=torch.ones(8)), Attribute(factor=torch.zeros(8))),
        (Hidden(number=0), Hidden(number=0.5)),
        (Hidden(number=torch.tensor(0)), Hidden(number=torch.tensor(1))),
        (Shared(1, tied=True), Shared(1, tied=False)),
    ],
    ids=[
        "class", "type of tensors", "training", "option", "missing tensor", "unused tensor", "strides",
        "branch by a weight", "number from a weight", "number", "type of a number", "tensor",
        "same tensor by another number", "another tensor", "shared weight",
    ],
)  # fmt: skip
def test_every_other_difference_is_another_kind(first, second):
    if isinstance(first, Branch):
        assert (first.head.weight[0, 0] > 0) != (second.head.weight[0, 0] > 0)
    first_kind, second_kind = (
        network_kind(network, EXAMPLE.to(network.shift.dtype)) for network in (first, second)
    )
    assert None not in (first_kind, second_kind)
    assert first_kind != second_kind


def with_hook():
    network = Rows()
    factor = 2.0
    network.mix.register_forward_pre_hook(lambda module, inputs: inputs[0] * factor)
    return network


@pytest.mark.parametrize(
    "network",
    [
        Rows(options=SimpleNamespace(factor=2)),
        Attribute(factor=nn.Parameter),
        with_hook(),
        nn.Sequential(nn.Flatten(), nn.LazyLinear(10)),
    ],
    ids=["object", "failing pass", "hook", "tensor without a shape"],
)
def test_networks_that_cannot_be_compared_have_no_kind(network):
    assert kind(network) is None


def test_the_comparison_changes_neither_the_network_nor_the_generators():
    network = Counting(calls=0, factor=2.0)
    before, draws = state(network), torch.get_rng_state()
    assert kind(network) == kind(network) is not None
    assert network.calls == 0
    assert all((state(network)[name] == values).all() for name, values in before.items())
    assert torch.equal(torch.get_rng_state(), draws)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Attribute(1, factor=torch.ones(8)), Attribute(2, factor=torch.ones(8))),
        (Rows(1, note=SimpleNamespace()), Rows(2, note=SimpleNamespace())),
    ],
    ids=["a constant that no name shows", "no kind"],
)
def test_graphs_of_more_than_named_tensors_are_traced_for_each_network(traces, first, second):
    content(first)
    check_answers(second, content(second))
    assert traces == [first, second]


def test_shared_weights_and_changed_buffers_are_those_of_each_network(traces):
    first, second = Shared(1, tied=True), Shared(2, tied=True)
    content(first)
    check_answers(second, content(second))
    second.shift += 1
    check_answers(second, content(second))
    assert traces == [first]


def test_opset_and_shape_of_the_images_are_part_of_the_kind_and_few_graphs_are_kept(monkeypatch):
    pytest.importorskip("onnx_ir", reason=REASON)
    import onnx_ir as ir

    traced = []

    def empty(network, example, opset):
        traced.append((tuple(example.shape), opset))
        return ir.Model(ir.Graph([], [], nodes=[]), ir_version=10)

    monkeypatch.setattr(traced_graphs, "_export", empty)
    monkeypatch.setattr(traced_graphs, "_kept", type(traced_graphs._kept)())
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    asked = [((2, 3, 8, 8), opset) for opset in (21, 22)] + [((2, 3, 9, 9), 21)]
    for shape, opset in asked * 2:
        traced_graphs.traced_graph(network, torch.zeros(shape), opset)
    assert traced == asked
    for size in range(10, 30):
        traced_graphs.traced_graph(network, torch.zeros(2, 3, size, size), 21)
    assert len(traced_graphs._kept) == traced_graphs._MOST_KEPT
    assert len(traced) == 23
