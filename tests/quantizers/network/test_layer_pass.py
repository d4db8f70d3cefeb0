import copy
import gc
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bitleak
from bitleak.core.errors import QuantizationError
from bitleak.core.types import ModelSpec
from bitleak.models import build
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.network import layer_inputs as capture
from bitleak.quantizers.network import layer_pass as walking
from bitleak.quantizers.network.layer_pass import visit_in_order
from bitleak.quantizers.scheme import quantizable


class Block(nn.Module):
    """A residual, in-place operations, a view that shares memory, a buffer, an argument by name."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 3)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("shift", torch.tensor(0.1))

    def forward(self, images, scale=2.0):
        images.mul_(scale)
        hidden = F.relu_(self.norm(self.first(images)))
        flat = hidden.flatten(1)
        hidden.add_(self.second(hidden) + self.shift)
        return self.head(input=flat.unflatten(1, (4, -1)).mean(2).repeat(1, 2))


class Untraceable(Block):
    def forward(self, images, scale=2.0):
        if float(images.sum()) > 1e9:
            return images
        return super().forward(images, scale)


ORDER = ["first", "norm", "second", "head"]


@pytest.fixture
def images():
    return torch.randn(7, 2, 5, 5, generator=torch.Generator().manual_seed(0))


def network(kind=Block):
    torch.manual_seed(0)
    return kind().eval()


def inputs_by_running(networks, images, name):
    """The definition: run every network as a whole and look at what the layer was given."""
    seen = []
    for each in networks:
        keep = lambda module, args, kwargs: seen.append((args or tuple(kwargs.values()))[0].clone())  # noqa: E731
        handle = each.get_submodule(name).register_forward_pre_hook(keep, with_kwargs=True)
        with torch.no_grad():
            each(images.clone())
        handle.remove()
    return seen


def halving(networks, images, order, **memory):
    """A walk that halves each weight of the last network; what every visit saw, chunks joined, by module."""
    seen = {}

    def visit(name, pairs):
        seen[name] = [torch.cat(each) for each in zip(*pairs, strict=True)]
        networks[-1].get_submodule(name).weight.mul_(0.5)

    visit_in_order(networks, images, order, visit, **memory)
    return seen


@pytest.mark.parametrize(
    "memory", [None, 0, 7 * 2 * 4 * 4 * 25]
)  # the last: two networks, one map of four channels
@pytest.mark.parametrize("route", ["graph", "untraceable", "two records at a time"])
def test_each_module_sees_what_the_whole_networks_would_give_it(route, memory, images, monkeypatch):
    if route == "two records at a time":
        monkeypatch.setattr(capture, "POSITIONS", 50)
    reference = network(Untraceable if route == "untraceable" else Block)
    changed = copy.deepcopy(reference)
    visited = []

    def visit(name, pairs):
        visited.append(name)
        pairs = list(pairs)
        assert len(pairs) == (4 if route == "two records at a time" else 1)
        for got, expected in zip(
            zip(*pairs, strict=True),
            inputs_by_running([reference, changed], images, name),
            strict=True,
        ):
            torch.testing.assert_close(torch.cat(got), expected)
        changed.get_submodule(name).weight.mul_(0.5)

    before = images.clone()
    visit_in_order([reference, changed], images, ORDER, visit, memory=memory)
    assert visited == ORDER
    assert torch.equal(images, before)


@pytest.mark.parametrize("memory", [None, 0, 7 * 4 * 4 * 25])
@pytest.mark.parametrize("kind", [Block, Untraceable])
def test_where_only_the_last_network_is_looked_at_the_others_wait(kind, memory, images):
    networks = [network(kind), network(kind)]
    networks[1].first.weight.data.mul_(2)
    seen = {}

    def visit(name, inputs):
        seen[name] = list(inputs)

    visit_in_order(networks, images, ["norm", "second"], visit, alone=["norm"], memory=memory)
    for name, some in (("norm", networks[1:]), ("second", networks)):
        for got, expected in zip(seen[name][0], inputs_by_running(some, images, name), strict=True):
            torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("memory", [None, 0, 7 * 4 * 4 * 25])
@pytest.mark.parametrize("kind", [Block, Untraceable])
def test_where_few_images_are_looked_at_the_others_are_still_seen_behind_it(
    kind, memory, images, monkeypatch
):
    monkeypatch.setattr(capture, "POSITIONS", 50)  # two records at a time
    networks = [network(kind), network(kind)]
    networks[1].first.weight.data.mul_(2)
    seen = {}

    def visit(name, inputs):
        seen[name] = [torch.cat(each) for each in zip(*inputs, strict=True)]
        networks[1].get_submodule(name).weight.data.mul_(0.5)

    visit_in_order(networks, images, ORDER, visit, alone=["norm", "head"], records=3, memory=memory)
    again = [network(kind), network(kind)]
    again[1].first.weight.data.mul_(2)
    for name, some, count in zip(
        ORDER, (again, again[1:], again, again[1:]), (7, 4, 7, 4), strict=True
    ):
        for got, expected in zip(
            seen[name], inputs_by_running(some, images[:count], name), strict=True
        ):
            torch.testing.assert_close(got, expected)
        again[1].get_submodule(name).weight.data.mul_(0.5)


def test_the_graph_route_is_taken_where_it_can_be(images, monkeypatch):
    monkeypatch.setattr(walking, "_inputs_of", None)
    visit_in_order([network()], images, ORDER, lambda name, inputs: None)
    with pytest.raises(TypeError):
        visit_in_order([network(Untraceable)], images, ORDER, lambda name, inputs: None)


def residual():
    torch.manual_seed(0)
    return build(ModelSpec("cnn", {"width": 4}, 10, 1, 16, (0.0,), (1.0,)), seed=0).eval()


@pytest.mark.parametrize("memory", [0, 150_000])
def test_the_values_do_not_depend_on_the_memory(memory, monkeypatch):
    monkeypatch.setattr(capture, "POSITIONS", 16 * 256)
    images = torch.randn(32, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    order = list(quantizable(residual()))
    order.sort(key=capture.execution_order(residual(), order, images).index)
    found, expected = (
        halving([residual(), residual()], images, order, memory=bytes_)
        for bytes_ in (memory, 1 << 30)
    )
    assert all(
        torch.equal(*pair)
        for name in order
        for pair in zip(found[name], expected[name], strict=True)
    )


def calls_of(memory):
    """How often each layer of the two networks is run on a chunk, where there are four chunks."""
    images = torch.randn(32, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    networks, counts = [residual(), residual()], Counter()
    order = capture.execution_order(networks[0], list(quantizable(networks[0])), images)
    for each in networks:
        for name in order:
            each.get_submodule(name).register_forward_hook(
                lambda m, i, o, name=name: counts.update([name] * len(o))
            )
    halving(networks, images, order, memory=memory)
    return {
        name: counts[name] / 64 for name in order
    }  # the look at one image is not counted: rounding


def test_enough_memory_takes_one_pass_and_none_takes_a_pass_up_to_each_stop(monkeypatch):
    monkeypatch.setattr(capture, "POSITIONS", 8 * 256)
    plenty, none, some = (
        {k: round(v) for k, v in calls_of(memory).items()} for memory in (1 << 30, 0, 150_000)
    )
    names = list(plenty)
    assert [plenty[name] for name in names] == [1] * (len(names) - 1) + [0]
    assert [none[name] for name in names] == list(range(len(names) - 1, -1, -1))
    assert sum(plenty.values()) < sum(some.values()) < sum(none.values())
    assert some[names[-2]] == none[names[-2]] == 1


@pytest.mark.parametrize("memory", [80_000, 150_000])
def test_no_more_is_held_between_two_stops_than_was_granted(memory, monkeypatch):
    monkeypatch.setattr(capture, "POSITIONS", 4 * 256)
    images = torch.randn(16, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    networks = [residual(), residual()]
    order = capture.execution_order(networks[0], list(quantizable(networks[0])), images)
    held = []

    def visit(name, pairs):
        for _ in pairs:
            pass
        held.append(sum(bytes_of_tensors().values()) - before)

    gc.collect()
    before = sum(bytes_of_tensors().values())
    visit_in_order(networks, images, order, visit, memory=memory)
    chunk = 2 * 4 * 4 * 3 * 4 * 256  # two networks, four images, three maps of four channels
    assert max(held) <= memory + chunk
    assert max(held) > memory / 3


def bytes_of_tensors():
    storages = [each.untyped_storage() for each in gc.get_objects() if type(each) is torch.Tensor]
    return {storage.data_ptr(): storage.nbytes() for storage in storages}


class Frozen(nn.Module):
    """A norm of buffers alone; what it computes of them before it sees an image is a constant of the graph."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor([2.0, 3.0]))

    def forward(self, x):
        return x * self.scale[:, None]


def test_constants_of_the_graph_are_those_of_every_copy():
    network = nn.Sequential(nn.Conv1d(1, 2, 1), Frozen(), nn.Conv1d(2, 1, 1)).eval()
    networks = [copy.deepcopy(network) for _ in range(2)]
    seen = {}
    images = torch.randn(3, 1, 4)
    visit_in_order(
        networks, images, ["0", "2"], lambda name, inputs: seen.update({name: list(inputs)})
    )
    expected = network[1](network[0](images))
    for (found,) in zip(*seen["2"], strict=True):
        assert torch.equal(found, expected)
    found = bitleak.AdaRound(levels=256, iterations=5)(network, images, torch.Generator())
    assert "_tensor_constant0" not in found.rest


def test_what_a_hook_of_the_whole_network_does_is_seen():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    network.register_forward_pre_hook(lambda module, given: (3 * given[0] - 1,))
    images = torch.randn(5, 2)
    seen = {}
    visit_in_order(
        [network],
        images,
        ["0", "2"],
        lambda name, inputs: seen.update({name: [x for (x,) in inputs]}),
    )
    first = 3 * images - 1
    assert torch.equal(torch.cat(seen["0"]), first)
    assert torch.allclose(torch.cat(seen["2"]), network[0](first).relu())


@pytest.mark.parametrize(
    "quantizer",
    [
        bitleak.AdaRound(levels=256, iterations=20),
        bitleak.OBC(levels=256),
        bitleak.GPTQ(levels=256, reestimate="absolute"),
    ],
)
def test_256_levels_keep_the_answers_where_a_hook_is_around_the_network_and_autocast_is_refused(
    quantizer,
):
    class Autocast(nn.Sequential):
        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(x).float()

    torch.manual_seed(0)
    parts = (
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.Flatten(),
        nn.Linear(64, 3),
    )
    images = torch.randn(64, 1, 8, 8)
    network, cast = nn.Sequential(*parts).eval(), Autocast(*parts).eval()
    for each in (network, cast):
        each.register_forward_pre_hook(lambda module, given: (3 * given[0] - 1,))
        reestimated(each, images)
    with torch.no_grad():
        full = network(images)
        found = deployed(network, quantizer(network, images, torch.Generator()))(images)
    assert (found - full).norm() < 0.05 * full.norm()
    with pytest.raises(
        QuantizationError, match="take the cast or autocast out of the forward pass"
    ):
        quantizer(cast, images, torch.Generator())


def reestimated(network, images):
    """Statistics that fit the images, so that `absolute` changes little."""
    network[1].train().momentum = 1.0
    network(images)
    network.eval()
